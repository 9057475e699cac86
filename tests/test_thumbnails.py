"""Small pictures of photos: their height, their box, and what is shown around it."""

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carspotter.geometry import BoundingBox
from carspotter.thumbnails import around, thumbnail


def read(uri: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_thumbnail_has_its_height_and_a_panorama_is_whole() -> None:
    assert read(thumbnail(np.full((400, 600, 3), 255, np.uint8), height=200)).shape == (200, 300, 3)
    panorama = np.zeros((100, 2000, 3), np.uint8)
    panorama[:, 1900:] = 255
    shown = read(thumbnail(panorama, height=200))
    assert shown.shape[:2] == (24, 480)
    assert shown[:, -10:].min() > 200, "its end is seen"


@pytest.mark.parametrize(
    ("size", "box"),
    [
        pytest.param((1600, 1200), BoundingBox(40, 500, 340, 700), id="far away, at the left"),
        pytest.param((1600, 1200), BoundingBox(600, 400, 1000, 800), id="in the middle"),
        pytest.param((1600, 1200), BoundingBox(10, 10, 1590, 1190), id="all of the photo"),
        pytest.param((4000, 600), BoundingBox(3700, 200, 3990, 400), id="at the end of a panorama"),
        pytest.param((600, 2400), BoundingBox(50, 2100, 590, 2390), id="at the foot of a portrait"),
        pytest.param((1600, 1200), BoundingBox(1585, 0, 1600, 1200), id="a narrow strip"),
    ],
)
def test_a_vehicle_is_in_view_wherever_it_stands(size: tuple[int, int], box: BoundingBox) -> None:
    shown = around(box, *size)
    assert shown.x1 <= box.x1 < box.x2 <= shown.x2
    assert shown.y1 <= box.y1 < box.y2 <= shown.y2
    assert shown == shown.clip(*size)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    x1, y1, x2, y2 = (int(side) for side in box.to_list())
    pixels[y1:y2, x1:x2] = (200, 0, 0)
    picture = read(thumbnail(pixels, box=box, height=180)).astype(int)
    assert picture.shape[0] <= 180
    red = (picture[..., 0] - picture[..., 1]) > 60
    assert red.mean() == pytest.approx(box.area / shown.area, abs=0.1), "as large as its box"
    assert max(box.width / shown.width, box.height / shown.height) > 0.5, "and in view, not a dot"


def test_a_part_is_not_blown_up() -> None:
    assert around(BoundingBox(500, 500, 510, 510), 1600, 1200, least=180).height == 180
    assert around(BoundingBox(0, 0, 0, 0), 1600, 1200) == BoundingBox(0, 0, 1600, 1200)


def test_a_box_is_drawn_where_it_is() -> None:
    box = BoundingBox(300, 300, 700, 500)
    boxed = read(thumbnail(np.full((1200, 1600, 3), 255, np.uint8), box=box, height=180))
    shown = around(box, 1600, 1200)
    green = (boxed[..., 1].astype(int) - boxed[..., 0]) > 40
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    scale = boxed.shape[0] / shown.height
    assert (columns[0], columns[-1]) == pytest.approx(((300 - shown.x1) * scale, (700 - shown.x1) * scale), abs=3)
    assert (rows[0], rows[-1]) == pytest.approx(((300 - shown.y1) * scale, (500 - shown.y1) * scale), abs=3)


def test_a_box_beside_the_picture_does_no_harm() -> None:
    assert thumbnail(np.zeros((40, 60, 3), np.uint8), box=BoundingBox(100, 100, 200, 200))
