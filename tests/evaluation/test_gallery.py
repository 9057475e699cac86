"""Occlusion maps of networks whose decisive pixels are known, and pictures read back."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carspotter.errors import EvaluationError
from carspotter.evaluation.gallery import crop, occlusion_map, occlusion_map_of, overlay, parse_box
from carspotter.geometry import BoundingBox


def corner_is_white(images: np.ndarray) -> np.ndarray:
    """Answer class 1 by how white the patch at rows 8-12, columns 16-20 is."""
    white = images[:, 8:12, 16:20].astype(float).mean((1, 2, 3)) / 255
    return np.stack([1 - white, white], axis=1)


def spotted(height: int = 24, width: int = 32) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    image[8:12, 16:20] = 255
    return image


def read(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/jpeg;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_pixels_that_decide_are_found() -> None:
    heat = occlusion_map(corner_is_white, spotted(), 1, patch=4, stride=4)
    assert heat.shape == (24, 32)
    assert heat[8:12, 16:20] == pytest.approx(1 - 114 / 255, abs=1e-6)
    heat[8:12, 16:20] = 0
    assert not heat.any()


def test_what_speaks_for_one_class_speaks_against_the_other() -> None:
    one = occlusion_map(corner_is_white, spotted(), 1, patch=6, stride=2)
    none = occlusion_map(corner_is_white, spotted(), 0, patch=6, stride=2)
    assert one == pytest.approx(-none, abs=1e-6)
    assert np.unravel_index(one.argmax(), one.shape)[0] in range(8, 12)


def reference_map(image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Count the map pixel by pixel: the mean drop over the squares that cover it."""
    height, width = image.shape[:2]
    rows = sorted({min(y, max(0, height - patch)) for y in range(0, height, stride)})
    columns = sorted({min(x, max(0, width - patch)) for x in range(0, width, stride)})
    drops: dict[tuple[int, int], list[float]] = {}
    for y in rows:
        for x in columns:
            changed = image.copy()
            changed[y : y + patch, x : x + patch] = 114
            drop = corner_is_white(image[None])[0, 1] - corner_is_white(changed[None])[0, 1]
            for row in range(y, min(y + patch, height)):
                for column in range(x, min(x + patch, width)):
                    drops.setdefault((row, column), []).append(drop)
    return np.array([[np.mean(drops[row, column]) for column in range(width)] for row in range(height)])


@given(st.integers(13, 18), st.integers(21, 26), st.integers(3, 40), st.integers(1, 100))
def test_every_pixel_has_the_mean_drop_of_its_squares(height: int, width: int, patch: int, step: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stride = max(2, min(patch, step))
    heat = occlusion_map(corner_is_white, image, 1, patch=patch, stride=stride, batch=7)
    assert heat == pytest.approx(reference_map(image, patch, stride), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "change", "message"),
    [
        (np.zeros((8, 8, 3)), {}, "must be uint8"),
        (np.zeros((8, 8), np.uint8), {}, r"must be uint8 \(h, w, 3\)"),
        (spotted(), {"stride": 5}, "from 1 to the patch"),
        (spotted(), {"stride": 0}, "from 1 to the patch"),
        (spotted(), {"target": 2}, r"predict answered \(1, 2\) to 1 images; target is 2"),
    ],
)
def test_impossible_maps_are_refused(image: np.ndarray, change: dict[str, int], message: str) -> None:
    given = {"target": 1, "patch": 4, "stride": 4} | change
    with pytest.raises(ValueError, match=message):
        occlusion_map(corner_is_white, image, given.pop("target"), **given)


def test_the_map_of_a_box_is_small_and_of_its_part() -> None:
    sizes = []

    def predict(images: np.ndarray) -> np.ndarray:
        sizes.append(images.shape[1:3])
        bright = images.astype(float).mean((1, 2, 3)) / 255
        return np.stack([bright, 1 - bright], 1)

    pixels = np.zeros((600, 900, 3), np.uint8)
    pixels[100:500, 50:850] = 255
    heat = occlusion_map_of(predict, pixels, 0, box=BoundingBox(50, 100, 850, 500))
    assert heat.shape == (112, 224)
    assert set(sizes) == {(112, 224)}
    assert (heat > 0).all()  # all of the box is white: each square makes it darker


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        (None, (40, 60)),
        (BoundingBox(10, 5, 30, 25), (20, 20)),
        (BoundingBox(-50, -50, 500, 500), (40, 60)),
        (BoundingBox(100, 100, 200, 200), (1, 1)),
        (BoundingBox(5, 5, 5, 5), (1, 1)),
    ],
)
def test_a_crop_is_never_empty(box: BoundingBox | None, shape: tuple[int, int]) -> None:
    assert crop(np.zeros((40, 60, 3), np.uint8), box).shape[:2] == shape


def test_heat_is_orange_where_it_speaks_for_the_answer_and_violet_where_against() -> None:
    pixels = np.full((100, 100, 3), 128, np.uint8)
    heat = np.zeros((10, 10), np.float32)
    heat[:, :3], heat[:, 7:] = 0.5, -0.5
    shown = read(overlay(pixels, heat, height=100)).astype(int)
    left, middle, right = shown[50, 8], shown[50, 50], shown[50, 92]
    assert left[0] > left[2] + 60
    assert right[2] > right[0] + 40
    assert np.ptp(middle) < 12
    faint = read(overlay(pixels, heat / 500, height=100)).astype(int)
    assert np.ptp(faint[50, 8]) < 12


def test_boxes_are_read_from_text() -> None:
    assert parse_box("1 2.5 30 40", "p") == BoundingBox(1, 2.5, 30, 40)
    assert parse_box(" ", "p") is None
    for text in ("1 2 3", "a b c d", "5 5 1 1", "1 2 nan 4"):
        with pytest.raises(EvaluationError, match=r"photo p: box is .* must be 'x1 y1 x2 y2'"):
            parse_box(text, "p")
