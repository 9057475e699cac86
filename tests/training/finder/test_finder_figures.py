"""The finder's figures and thresholds, on answers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder.data import view_mask
from carspotter.training.finder.figures import (
    FinderResult,
    choose_gate,
    choose_score,
    exterior_accuracy,
    false_alarms,
    figures_of,
    five_way,
    mean_iou,
    precision,
    recall,
    recall_by_size,
    vehicle_f1,
    view_f1,
    viewpoint_pairs,
)

BOX = [10.0, 10.0, 50.0, 30.0]


def told(
    kind: str = "exterior",
    exterior: float = 0.9,
    boxes: list[list[float]] | None = None,
    scores: list[float] | None = None,
    true: list[list[float]] | None = None,
    **changes: object,
) -> FinderResult:
    boxes = [BOX] if boxes is None else boxes
    true = ([BOX] if kind == "exterior" else []) if true is None else true
    values: dict[str, object] = {
        "source": "ads",
        "path": "a.jpg",
        "kind": np.array([exterior, 1 - exterior, 0, 0]),
        "boxes": np.array(boxes).reshape(-1, 4),
        "scores": np.array(scores or [0.9] * len(boxes)),
        "viewpoints": np.tile(view_mask("front-left"), (len(boxes), 1)),
        "true_kind": KINDS.index(kind),
        "true_boxes": np.array(true).reshape(-1, 4),
        "true_views": np.tile(view_mask("front-left"), (len(true), 1)),
        "ignored": np.zeros(len(true), dtype=bool),
        "boxes_known": True,
        "size": (100, 100),
    }
    return FinderResult(**(values | changes))  # type: ignore[arg-type]


def test_perfect_answers_have_perfect_figures() -> None:
    answers = [told(), told("interior", 0.1, boxes=[]), told("other", 0.1, boxes=[])]
    assert figures_of(answers) == {
        "mean": 1,
        "exterior": 1,
        "recall": 1,
        "iou": 1,
        "view8": 1,
        "view5": 1,
        "false_alarms": 0,
        "kind_exterior": 1,
        "kind_interior": 1,
        "kind_other": 0,  # this one was told as an interior
    }


def test_details_do_not_count_for_the_gate() -> None:
    assert exterior_accuracy([told(), told("detail", 0.9, true=[])]) == 1
    assert exterior_accuracy([told(), told("interior", 0.9)]) == 0.5


def test_the_own_vehicle_is_the_largest_that_counts() -> None:
    true = [[0.0, 0.0, 100.0, 100.0], BOX, [0.0, 0.0, 5.0, 5.0]]
    entry = told(true=true, ignored=np.array([True, False, False]))
    assert entry.own == 1
    assert recall([entry]) == 1
    assert told("other", true=[]).own is None


def test_a_missed_vehicle_counts_as_no_overlap_and_no_viewpoint() -> None:
    missed = told(boxes=[[60.0, 60.0, 70.0, 70.0]])
    assert (recall([missed]), mean_iou([missed])) == (0, 0)
    true, said = viewpoint_pairs([missed, told()])
    assert said.tolist() == [-1, VIEWPOINTS.index("front-left")]
    assert true[0] == VIEWPOINTS.index("front-left")
    assert recall([]) == 0


def test_false_alarms_look_at_photos_without_vehicles() -> None:
    assert false_alarms([told("interior", 0.1), told("other", 0.1, boxes=[]), told()]) == 0.5


def test_f1_counts_every_vehicle_once_and_forgives_ignored_ones() -> None:
    twice = told(boxes=[BOX, BOX])
    assert vehicle_f1([twice]) == pytest.approx(2 / 3)
    ignored = told(
        boxes=[BOX, [60.0, 60.0, 80.0, 80.0]], true=[BOX, [55.0, 55.0, 85.0, 85.0]], ignored=np.array([False, True])
    )
    assert vehicle_f1([ignored]) == 1
    assert vehicle_f1([told(boxes_known=False)]) == 0


def test_merged_views_and_macro_f1() -> None:
    assert five_way(np.arange(-1, 8)).tolist() == [-1, 0, 1, 2, 3, 4, 3, 2, 1]
    true = np.array([0, 0, 1, 1])
    assert view_f1(true, true) == 1
    assert view_f1(true, np.array([0, 0, 1, -1])) == pytest.approx((1 + 2 / 3) / 2)


def test_thresholds_part_the_good_from_the_bad() -> None:
    good = [told(scores=[0.7]) for _ in range(5)]
    bad = [told("other", 0.35, boxes=[BOX], scores=[0.3]) for _ in range(5)]
    assert 0.3 < choose_score(good + bad) <= 0.7
    assert 0.35 < choose_gate(good + bad) <= 0.9


def test_the_gate_does_not_hang_on_one_photo_and_counts_both_sides_alike() -> None:
    good = [told(exterior=value) for value in (0.97, 0.98, 0.99) * 20]
    bad = [told("interior", exterior=value, boxes=[]) for value in (0.01, 0.02, 0.03) * 10]
    middle = choose_gate(good + bad)
    assert 0.3 < middle < 0.7, "neither side is nearer to the gate, however many photos it has"
    assert abs(choose_gate([*good, *bad, told("interior", exterior=0.9, boxes=[])]) - middle) < 0.15
    assert choose_gate([*good, *bad, *[told("detail", exterior=0.9, true=[])] * 50]) == middle
    assert choose_gate(good) == 0.5


def test_vehicles_are_counted_by_their_size_and_each_is_found_once() -> None:
    small = [80.0, 80.0, 95.0, 95.0]  # 2.25 % of the picture; BOX has 8 %
    entry = told(boxes=[BOX, BOX], true=[BOX, small])
    assert recall_by_size([entry], 0.05, 1) == (1, 1)
    assert recall_by_size([entry], 0.01, 0.05) == (0, 1)
    assert recall_by_size([entry], 0, 0.01) == (0, 0)
    assert precision([entry]) == (0.5, 2)
    ignored = told(boxes=[BOX, small], true=[BOX, small], ignored=np.array([False, True]))
    assert precision([ignored]) == (1, 1)
    assert recall_by_size([ignored], 0.01, 0.05) == (0, 0)
