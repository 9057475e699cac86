"""From bytes and a box to what the identifier sees: how large photos are decoded, and boxes there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.crops import LONGEST, decode_side, shrunk, to_original
from carspotter.geometry import BoundingBox
from carspotter.pixels import DecodedPhoto, Preprocessing


def test_photos_are_decoded_large_enough_for_both_networks() -> None:
    finder = Preprocessing(width=256, height=192, fit="letterbox")
    assert decode_side(Preprocessing(width=224, height=224), finder) == 448
    assert decode_side(Preprocessing(width=32, height=32), finder) == decode_side(Preprocessing(width=32, height=32))
    assert decode_side(Preprocessing(width=300, height=260)) == 600
    assert decode_side(Preprocessing(width=224, height=224), Preprocessing(width=800, height=640)) == 640


def test_a_photo_is_only_shrunk_by_whole_numbers() -> None:
    pixels = np.zeros((101, 150, 3), np.uint8)
    photo = DecodedPhoto(pixels=pixels, width=150, height=101)
    assert shrunk(photo, 60) is photo
    small = shrunk(photo, 30)
    assert small.pixels.shape == (34, 50, 3)
    assert small.scale == pytest.approx(50 / 150)


def test_a_strip_is_not_kept_long() -> None:
    photo = DecodedPhoto(pixels=np.zeros((10, 5000, 3), np.uint8), width=5000, height=10)
    small = shrunk(photo, 10)
    assert small.pixels.shape[1] <= LONGEST * 10
    assert small.pixels.shape[0] == 1


@given(
    size=st.tuples(st.integers(2, 12_000), st.integers(2, 12_000)),
    part=st.tuples(*[st.floats(0, 1)] * 4),
    factor=st.integers(1, 8),
)
def test_a_box_survives_the_catalogue(
    size: tuple[int, int], part: tuple[float, float, float, float], factor: int
) -> None:
    """A box is stored as float32 and read again as the same number, so that the same pixels are cut later."""
    small = (-(-size[1] // factor), -(-size[0] // factor))
    photo = DecodedPhoto(pixels=np.broadcast_to(np.uint8(0), (*small, 3)), width=size[0], height=size[1])
    x1, x2 = sorted((part[0] * small[1], part[1] * small[1]))
    y1, y2 = sorted((part[2] * small[0], part[3] * small[0]))
    box = to_original(photo, BoundingBox(x1, y1, x2, y2))
    assert [float(np.float32(side)) for side in box.to_list()] == box.to_list()
    assert box.x2 <= size[0]
    assert box.y2 <= size[1]
