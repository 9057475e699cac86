"""Boxes: arithmetic, properties of overlap, suppression of doubles."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.geometry import BoundingBox, iou_matrix, suppress

_NUMBERS = st.floats(-1000, 1000, allow_nan=False, width=32)
_SIZES = st.floats(0, 1000, width=32)
_PLACES = st.tuples(_NUMBERS, _NUMBERS, _SIZES, _SIZES)
BOXES = _PLACES.map(lambda each: BoundingBox(each[0], each[1], each[0] + each[2], each[1] + each[3]))


def test_sizes():
    box = BoundingBox(10, 20, 40, 60)
    assert (box.width, box.height, box.area, box.center) == (30, 40, 1200, (25, 40))
    assert box == BoundingBox.from_list(box.to_list())
    assert box.relative(100, 200) == BoundingBox(0.1, 0.1, 0.4, 0.3)
    assert box.pad(0.1) == BoundingBox(7, 16, 43, 64)
    assert box.scale(2, 0.5).shift(1, -1) == BoundingBox(21, 9, 81, 29)


def test_numbers_of_numpy_become_json():
    corners = np.array([1, 2, 3, 4], dtype=np.float32)
    assert json.dumps(BoundingBox(*corners).to_list()) == "[1.0, 2.0, 3.0, 4.0]"


@pytest.mark.parametrize("corners", [(1, 0, 0, 1), (0, 1, 1, 0), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)])
def test_impossible_boxes_are_refused(corners):
    with pytest.raises(ValueError, match="box"):
        BoundingBox(*corners)


def test_cells_are_four_numbers_or_empty():
    cells = {"path": "a.jpg", "x1": "1", "y1": "2", "x2": "3.5", "y2": "4"}
    assert BoundingBox.of_cells(cells) == BoundingBox(1, 2, 3.5, 4)
    assert BoundingBox.of_cells({**dict.fromkeys(cells, ""), "path": "a.jpg"}) is None
    assert BoundingBox.of_cells({"path": "a.jpg"}) is None
    for name, wrong in (("x1", "left"), ("y1", ""), ("x2", "nan"), ("y2", "1")):
        with pytest.raises(ValueError, match=r"^box .*; give four numbers x1, y1, x2, y2 in pixels"):
            BoundingBox.of_cells({**cells, name: wrong})


def test_a_list_needs_four_numbers():
    with pytest.raises(ValueError, match="4 numbers"):
        BoundingBox.from_list([1, 2, 3])


@given(BOXES, st.integers(1, 500), st.integers(1, 500))
def test_clip_stays_inside_and_changes_nothing_twice(box, width, height):
    clipped = box.clip(width, height)
    assert 0 <= clipped.x1 <= clipped.x2 <= width
    assert 0 <= clipped.y1 <= clipped.y2 <= height
    assert clipped.clip(width, height) == clipped


def test_a_box_outside_clips_to_nothing():
    assert BoundingBox(200, 200, 300, 300).clip(100, 100).area == 0


@given(BOXES, st.floats(-2, 2))
def test_pad_keeps_the_center(box, fraction):
    padded = box.pad(fraction)
    assert padded.center == pytest.approx(box.center, abs=1e-3)
    assert padded.width == pytest.approx(max(box.width * (1 + 2 * fraction), 0), abs=1e-3)


@given(BOXES, BOXES)
def test_overlap_is_symmetric_and_at_most_one(a, b):
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert 0 <= a.iou(b) <= 1
    assert a.iou(a) == (1 if a.area > 0 else 0)


@given(st.lists(BOXES, min_size=1, max_size=5), st.lists(BOXES, min_size=1, max_size=5))
def test_the_matrix_agrees_with_the_boxes(a, b):
    matrix = iou_matrix(np.array([box.to_list() for box in a]), np.array([box.to_list() for box in b]))
    assert matrix == pytest.approx(np.array([[one.iou(other) for other in b] for one in a]), abs=1e-9)


def test_suppress_keeps_the_best_of_each_heap():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 9]], dtype=float)
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.4]), 0.5).tolist() == [1, 2]
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.4]), 1.0).tolist() == [1, 2, 0, 3]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


@given(st.lists(st.tuples(BOXES, st.floats(0, 1)), min_size=1, max_size=12), st.floats(0.1, 0.9))
def test_what_suppress_keeps_does_not_overlap(scored, threshold):
    boxes = np.array([box.to_list() for box, _ in scored])
    kept = suppress(boxes, np.array([score for _, score in scored]), threshold)
    overlap = iou_matrix(boxes[kept], boxes[kept])
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= threshold


def test_boxes_whose_area_overflows_float32_still_overlap() -> None:
    far = np.float32(1.8e19)
    boxes = np.array([[0, 0, far, far], [0, 0, far, far / 2]], dtype=np.float32)
    assert iou_matrix(boxes, boxes) == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
