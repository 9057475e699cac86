"""The score of an ad's photos: each fault costs points, says so with its photo, and nothing else is blamed."""

from dataclasses import replace

import numpy as np
import pytest

from carspotter.geometry import BoundingBox
from carspotter.recognition.ad_score import AdScore, score_ad
from carspotter.recognition.fusion import find_outlier_colours
from carspotter.records import Kind, PhotoError, Prediction, Quality, Vehicle, Viewpoint
from carspotter.taxonomy import LEVELS

SIDES = ("front-left", "left", "back-left", "back", "back-right", "right", "front")


def photo(side: str, *, brightness: float = 0.45, sharpness: float = 2000.0) -> Prediction:
    """A photo of 800 x 600 pixels: a side of a vehicle, or a kind of another photo."""
    is_side = side in SIDES or side == "front-right"
    vehicle = Vehicle(
        box=BoundingBox(100, 100, 700, 500),
        score=0.95,
        viewpoint=Viewpoint(name=side if is_side else "unknown", probability=0.9 if is_side else 0.0),
        answer=None,
        levels=dict.fromkeys(LEVELS, ()),
    )
    return Prediction(
        photo=f"{side}.jpg",
        width=800,
        height=600,
        kind=Kind(name="exterior" if is_side else side, probability=0.95),
        vehicles=(vehicle,) if is_side else (),
        quality=Quality(brightness=brightness, sharpness=sharpness),
    )


def score(*photos: Prediction, copies: tuple[int, ...] = (), others: tuple[int, ...] = ()) -> AdScore:
    return score_ad(photos, copies=copies, others=others)


WHOLE = (*map(photo, SIDES), photo("interior"))


def faults(found: AdScore) -> dict[str, str]:
    return {part.name: part.why for part in found.parts if part.why}


def test_a_complete_set_has_all_points() -> None:
    found = score(*WHOLE)
    assert (found.total, faults(found)) == (100, {})
    assert sum(part.most for part in found.parts) == 100


def test_photos_that_were_not_measured_lose_nothing_for_it() -> None:
    bare = [Prediction(photo=p.photo, width=800, height=600, kind=p.kind, vehicles=p.vehicles) for p in WHOLE]
    assert score(*bare).total == 100


@pytest.mark.parametrize(
    ("photos", "part", "why"),
    [
        (WHOLE[:-1], "views", "no photo shows the interior"),
        (WHOLE[:1], "number", "only 1 different photo"),
        ((*WHOLE, photo("left", sharpness=100)), "sharpness", "photo 9 blurred"),
        ((*WHOLE, photo("left", brightness=0.12)), "light", "photo 9 too dark or too bright"),
        ((WHOLE[3], WHOLE[0], *WHOLE[1:3], *WHOLE[4:]), "lead photo", "photo 2 should come first"),
        ((WHOLE[0], WHOLE[-1], *WHOLE[1:-1]), "order", "photos of the inside and of details stand before"),
    ],
)
def test_each_fault_costs_points_and_is_named(photos: tuple[Prediction, ...], part: str, why: str) -> None:
    found = score(*photos)
    assert found.total < 100
    assert faults(found)[part].startswith(why)


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ([photo("detail")] * 3, ""),  # dashboards from near are told so
        ([replace(photo("interior"), kind=Kind(name="interior", probability=0.4))], ""),
        ([], "no photo shows the interior"),
        ([photo("other")], "no photo shows the interior"),
    ],
)
def test_the_interior_is_missed_only_where_no_photo_may_show_it(last: list[Prediction], why: str) -> None:
    assert faults(score(*WHOLE[:-1], *last)).get("views", "") == why


def test_a_detail_of_another_car_shows_no_interior_of_this_one() -> None:
    assert faults(score(*WHOLE[:-1], photo("detail"), others=(7,)))["views"] == "no photo shows the interior"


def test_copies_and_other_cars_are_named_and_count_for_nothing_else() -> None:
    found = score(*WHOLE, WHOLE[0], photo("left"), copies=(8,), others=(9,))
    assert faults(found) == {"copies": "photo 9 repeats another photo", "this car": "photo 10 does not show this car"}
    assert found.total == 95


def test_an_unreadable_photo_is_no_photo_of_the_car() -> None:
    broken = Prediction(photo="b.jpg", error=PhotoError(type="broken", message="damaged"))
    assert faults(score(*WHOLE, broken, others=(8,)))["this car"] == "photo 9 does not show this car"


@pytest.mark.parametrize("photos", [(), (photo("interior"),), (photo("detail"),)])
def test_an_ad_that_does_not_show_its_car_is_worth_next_to_nothing(photos: tuple[Prediction, ...]) -> None:
    assert score(*photos).total <= 10


def test_as_json_the_parts_sum_to_the_total() -> None:
    found = score(*WHOLE[:3]).to_dict()
    assert round(sum(part["points"] for part in found["parts"])) == found["total"]
    assert {part["why"] for part in found["parts"] if part["points"] == part["most"]} == {None}


# ---- another colour

# Fourteen colours, of which the first three are named; light makes black and brown of each other.
RED, BLACK, BROWN = (np.eye(14) * 0.9 + 0.1 / 14)[:3]
UNSURE = (RED + BLACK) / 2
NEAR = np.eye(14, dtype=bool)
NEAR[1, 2] = NEAR[2, 1] = True


def test_a_black_car_among_red_ones_is_another_one() -> None:
    (odd,) = find_outlier_colours(np.array([RED, RED, BLACK, RED]), NEAR)
    assert (odd.row, int(odd.others.argmax())) == (2, 0)


@pytest.mark.parametrize(
    "photos",
    [
        [BROWN, BROWN, BLACK, BROWN],  # light makes one of the other
        [RED, BLACK],  # nobody knows which of two is the odd one
        [RED, RED, UNSURE, RED],  # not sure
        [RED, RED, BLACK, BLACK],  # more than half must stay
    ],
)
def test_no_other_car_without_a_clear_majority_and_two_clear_opinions(photos: list[np.ndarray]) -> None:
    assert find_outlier_colours(np.array(photos), NEAR) == ()
