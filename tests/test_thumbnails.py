"""Small pictures of photos: their height, their box, and what is cut of a panorama."""

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carspotter.geometry import BoundingBox
from carspotter.thumbnails import thumbnail


def read(uri: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_thumbnail_has_its_height_and_its_box() -> None:
    pixels = np.full((400, 600, 3), 255, np.uint8)
    plain = read(thumbnail(pixels, height=200))
    assert plain.shape == (200, 300, 3)
    boxed = read(thumbnail(pixels, box=BoundingBox(100, 100, 500, 300), height=200))
    green = (boxed[..., 1].astype(int) - boxed[..., 0]) > 40
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    assert (rows[0], rows[-1]) == pytest.approx((50, 150), abs=3)
    assert (columns[0], columns[-1]) == pytest.approx((50, 250), abs=3)
    assert read(thumbnail(np.zeros((100, 2000, 3), np.uint8), height=200)).shape[:2] == (200, 480)


def test_a_box_beside_the_picture_does_no_harm() -> None:
    assert thumbnail(np.zeros((40, 60, 3), np.uint8), box=BoundingBox(100, 100, 200, 200))
