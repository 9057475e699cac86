"""Selection among detections, the gate, and viewpoints lent to a foreign detector."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.geometry import BoundingBox
from carspotter.recognition.locate import DEFAULT_GATE, SELECTIONS, gate, select, transfer_viewpoints
from carspotter.records import Detection

SIDES = (0.93, *[0.01] * 7)


def detection(*corners: float, score: float = 0.9, viewpoints: tuple[float, ...] | None = None) -> Detection:
    return Detection(box=BoundingBox(*corners), score=score, viewpoints=viewpoints)


BIG_LEFT = detection(0, 100, 300, 400)
SMALL_MIDDLE = detection(350, 200, 450, 300)
MEDIUM_MIDDLE = detection(270, 180, 530, 420)
CORNER = detection(700, 500, 800, 600)


@pytest.mark.parametrize(
    ("how", "found", "expected"),
    [
        ("all", [SMALL_MIDDLE, CORNER, BIG_LEFT], [BIG_LEFT, SMALL_MIDDLE, CORNER]),
        ("largest", [SMALL_MIDDLE, BIG_LEFT, MEDIUM_MIDDLE], [BIG_LEFT]),
        ("center", [SMALL_MIDDLE, BIG_LEFT, MEDIUM_MIDDLE], [MEDIUM_MIDDLE]),
        # A tiny car far behind, exactly in the middle, is not what the photo is about.
        ("center", [detection(395, 295, 405, 305), BIG_LEFT], [BIG_LEFT]),
        ("center", [SMALL_MIDDLE, CORNER], [SMALL_MIDDLE]),
        # Only what is inside of the photo counts.
        ("largest", [detection(-1000, -1000, 10, 10), SMALL_MIDDLE], [SMALL_MIDDLE]),
        (
            "largest",
            [detection(0, 0, 50, 50, score=0.5), detection(100, 0, 150, 50, score=0.8)],
            [detection(100, 0, 150, 50, score=0.8)],
        ),
        ("all", [], []),
        ("largest", [], []),
        ("center", [], []),
    ],
)
def test_select(how: str, found: list[Detection], expected: list[Detection]) -> None:
    assert select(found, how, 800, 600) == tuple(expected)


@pytest.mark.parametrize(("how", "width"), [("larges", 800), ("all", 0), ("center", -1)])
def test_wrong_arguments_are_named(how: str, width: int) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'largest'|must be positive"):
        select([BIG_LEFT], how, width, 600)


sides = st.floats(-50, 850)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda c: detection(min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(found=st.lists(boxes, max_size=6), how=st.sampled_from(SELECTIONS), order=st.randoms())
def test_select_takes_from_what_was_found_whatever_its_order(found: list[Detection], how: str, order: object) -> None:
    chosen = select(found, how, 800, 600)
    assert len(chosen) == (len(found) if how == "all" else min(1, len(found)))
    assert all(one in found for one in chosen)
    shuffled = list(found)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = select(shuffled, how, 800, 600)
    areas = [[d.box.clip(800, 600).area for d in one] for one in (chosen, again)]
    if how != "center":
        assert areas[0] == areas[1]


@given(found=st.lists(boxes, min_size=1, max_size=6))
def test_mirroring_the_photo_changes_no_choice(found: list[Detection]) -> None:
    def mirror(one: Detection) -> Detection:
        return detection(800 - one.box.x2, one.box.y1, 800 - one.box.x1, one.box.y2)

    def worth(one: Detection) -> float:
        return one.box.clip(800, 600).area

    here, there = select(found, "largest", 800, 600), select([mirror(one) for one in found], "largest", 800, 600)
    assert worth(there[0]) == pytest.approx(worth(here[0]), abs=1e-6)


def test_gate_asks_for_exterior() -> None:
    assert gate((0.7, 0.3, 0.0, 0.0), DEFAULT_GATE)
    assert not gate((0.69, 0.31, 0.0, 0.0), DEFAULT_GATE)
    assert gate((0.5, 0.5, 0.0, 0.0), 0.5)
    assert DEFAULT_GATE == 0.7


def test_viewpoints_are_lent_at_the_same_place_only() -> None:
    own = [detection(0, 0, 100, 100, viewpoints=SIDES), detection(300, 300, 400, 400, viewpoints=SIDES[::-1])]
    foreign = [detection(300, 300, 410, 400), detection(50, 50, 200, 200), detection(0, 0, 90, 100, viewpoints=SIDES)]
    lent = transfer_viewpoints(foreign, own)
    assert [one.box for one in lent] == [one.box for one in foreign]
    assert [one.viewpoints for one in lent] == [SIDES[::-1], None, SIDES]
    assert transfer_viewpoints(foreign, []) == tuple(foreign)
    assert transfer_viewpoints([], own) == ()
