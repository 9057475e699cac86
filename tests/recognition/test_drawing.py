"""Drawings are checked by their pixels: where the labels lie, and that they can be read."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carspotter.geometry import BoundingBox
from carspotter.recognition import letters
from carspotter.recognition.drawing import PALETTE, UNDECIDED, draw
from carspotter.records import Answer, Attribute, Kind, Prediction, Vehicle, Viewpoint

GREY = 120


def vehicle(box: BoundingBox, name: str | None = "Audi TTS Coupe 2012") -> Vehicle:
    return Vehicle(
        box=box,
        score=0.97,
        viewpoint=Viewpoint(name="front-left", probability=0.9),
        answer=Answer(level="year", name=name, probability=0.91) if name else None,
        levels={},
        undecided=None if name else "not decidable from this photo",
    )


def prediction(size: tuple[int, int], *vehicles: Vehicle, kind: str = "exterior") -> Prediction:
    return Prediction(
        photo="a.jpg", width=size[0], height=size[1], kind=Kind(name=kind, probability=0.9), vehicles=vehicles
    )


def drawn(size: tuple[int, int], *vehicles: Vehicle, kind: str = "exterior") -> Image.Image:
    pixels = np.full((size[1], size[0], 3), GREY, np.uint8)
    return draw(pixels, prediction(size, *vehicles, kind=kind))


def has(picture: Image.Image, color: tuple[int, int, int], least: int = 20) -> bool:
    return int((np.asarray(picture) == color).all(axis=-1).sum()) >= least


def luminance(color: tuple[int, int, int]) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("color", [*PALETTE, UNDECIDED])
def test_letters_have_contrast(color: tuple[int, int, int]) -> None:
    contrast = (luminance(color) + 0.05) / (luminance((20, 20, 24)) + 0.05)
    assert contrast >= 4.5  # WCAG 2.1, level AA


@pytest.mark.parametrize("size", [(800, 600), (3000, 2000), (600, 900), (400, 1200)])
def test_the_picture_keeps_its_size_and_the_box_its_place(size: tuple[int, int]) -> None:
    box = BoundingBox(size[0] * 0.2, size[1] * 0.4, size[0] * 0.8, size[1] * 0.9)
    picture = drawn(size, vehicle(box))
    assert picture.size == size
    column = np.asarray(picture)[int(box.center[1])]
    colored = np.flatnonzero((column == PALETTE[0]).all(axis=-1))
    assert colored.min() == pytest.approx(box.x1, abs=8)
    assert colored.max() == pytest.approx(box.x2, abs=8)


def test_a_small_photo_is_enlarged_until_a_label_can_be_read() -> None:
    picture = drawn((96, 64), vehicle(BoundingBox(5, 10, 90, 60)))
    assert picture.size == (480, 320)


def test_a_strip_is_not_enlarged_without_bound() -> None:
    assert max(drawn((1600, 3)).size) == 1600


def test_smaller_pixels_than_the_photo_are_allowed() -> None:
    pixels = np.full((400, 400, 3), GREY, np.uint8)
    picture = draw(pixels, prediction((800, 800), vehicle(BoundingBox(400, 400, 800, 800))))
    left_edge = np.asarray(picture)[300, 200:206]
    assert (left_edge == PALETTE[0]).all(axis=-1).any()


def test_a_label_stays_in_the_picture_where_the_box_fills_it() -> None:
    picture = drawn((800, 600), vehicle(BoundingBox(0, 0, 800, 600)))
    assert has(picture.crop((5, 5, 200, 60)), PALETTE[0], 2000)


def test_a_long_name_is_cut_to_the_width() -> None:
    assert drawn((330, 330), vehicle(BoundingBox(10, 100, 300, 300), "Aston Martin " * 20)).size == (330, 330)


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave Pillow's own font alone, as on a machine without any."""
    monkeypatch.setattr(letters, "FONTS", ())


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Citroën", "Citroen"),
        ("Citroe\u0308n", "Citroen"),
        ("奇瑞", "U+5947 U+745E "),
        ("Лада", "U+041B U+0430 U+0434 U+0430 "),
    ],
)
def test_letters_that_no_font_has_are_spelled_out(name: str, plain: str, no_fonts: None) -> None:
    box = BoundingBox(10, 100, 300, 300)
    assert np.array_equal(drawn((400, 400), vehicle(box, plain)), drawn((400, 400), vehicle(box, name)))


@pytest.mark.parametrize("name", ["Лада Нива", "ავტო", "تويوتا", "奇瑞", "टाटा", "Đà 🚗"])
def test_a_name_of_any_script_shows_no_frames(name: str) -> None:
    text, font = letters.drawable(name, 20)
    frame = font.getmask("\U0010ffff")
    for letter in set(text) - {" "}:
        mask = font.getmask(letter)
        assert (mask.size, bytes(mask)) != (frame.size, bytes(frame)), letter
    assert text.strip()


def test_colour_and_body_stand_on_the_label() -> None:
    plain = vehicle(BoundingBox(100, 200, 500, 400))
    words = [Attribute(name=name, probability=0.9) for name in ("red", "hatchback")]
    above = (0, 150, 800, 198)
    labels = [drawn((800, 600), one) for one in (plain, replace(plain, colour=words[0], body=words[1]))]
    lit = [(np.asarray(label.crop(above)) == PALETTE[0]).all(axis=-1).any(axis=0).sum() for label in labels]
    assert lit[1] > lit[0] + 60, "the label is longer by two words"


def test_vehicles_have_colours_of_their_own_and_undecided_is_grey() -> None:
    left, right = BoundingBox(10, 100, 300, 300), BoundingBox(400, 100, 700, 300)
    picture = drawn((800, 600), vehicle(left), vehicle(right), vehicle(BoundingBox(200, 400, 500, 550), None))
    assert all(has(picture, color) for color in (PALETTE[0], PALETTE[1], UNDECIDED))


def test_labels_of_two_vehicles_at_one_place_do_not_hide_each_other() -> None:
    box = BoundingBox(100, 200, 500, 400)
    picture = drawn((800, 600), vehicle(box), vehicle(box))
    for color in PALETTE[:2]:
        assert has(picture, color, 4000)  # a label's own area, not only lines of a box


def test_a_photo_without_a_vehicle_says_so() -> None:
    assert has(drawn((640, 480), kind="interior"), UNDECIDED, 1000)


sides = st.integers(1, 500)
places = st.floats(-50, 600)


@given(st.tuples(sides, sides), st.lists(st.tuples(places, places, places, places), max_size=4))
def test_whatever_the_size_and_the_boxes_a_picture_comes_out(
    size: tuple[int, int], corners: list[tuple[float, float, float, float]]
) -> None:
    boxes = [BoundingBox(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    picture = drawn(size, *(vehicle(box) for box in boxes))
    assert picture.width >= size[0]
    assert picture.mode == "RGB"
