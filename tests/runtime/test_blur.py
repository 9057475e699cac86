"""Plates and faces are hidden so that nothing comes back; what is found on drawn plates, and what a photo keeps."""

from pathlib import Path

import numpy as np
import pytest

from carspotter.errors import BundleError, ImageError
from carspotter.geometry import BoundingBox
from carspotter.runtime.blur import BLOCKS, KINDS, LOOKS, Blurrer, hide, likely, without
from plate_drawings import drawn_plate


@pytest.fixture(scope="module")
def blurrer() -> Blurrer:
    return Blurrer.open(threads=1)


def test_a_drawn_plate_is_found_and_the_same_for_any_number(blurrer: Blurrer) -> None:
    pixels = drawn_plate()
    (plate,) = [find for find in blurrer.find(pixels) if find.kind == "plate"]
    assert plate.box.iou(BoundingBox(188, 202, 292, 224)) > 0.4
    hidden = blurrer.blur(pixels)
    assert hidden.shape == pixels.shape
    part = hidden[204:222, 205:290].reshape(-1, 3)
    # Nine blocks at most touch this part, where the letters had hundreds of pixels of two colours.
    assert len(np.unique(part, axis=0)) <= BLOCKS * BLOCKS
    assert np.array_equal(hidden[:100], pixels[:100])


def test_what_is_hidden_has_few_values_whatever_was_there() -> None:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    hidden = hide(
        pixels, [BoundingBox(20.5, 30.2, 99.7, 50.9), BoundingBox(150, 80, 400, 300), BoundingBox(-5, -5, 0, 0)]
    )
    assert len(np.unique(hidden[30:51, 20:100].reshape(-1, 3), axis=0)) <= BLOCKS * BLOCKS
    assert len(np.unique(hidden[80:, 150:].reshape(-1, 3), axis=0)) <= BLOCKS * BLOCKS
    untouched = np.ones((90, 160), bool)
    untouched[30:51, 20:100] = untouched[80:, 150:] = False
    assert np.array_equal(hidden[untouched], pixels[untouched])


@pytest.mark.parametrize(
    ("scores", "tops", "kept"),
    [
        ((0.7, 0.4, 0.55), (200, 210, 220), (0.7, 0.55)),  # beside a sure plate the unsure is a lamp
        ((0.45, 0.31), (200, 210), (0.45, 0.31)),  # without a sure one all are hidden
        ((0.59, 0.35), (10, 200), (0.35,)),  # a mark up in the photo neither counts nor makes the other less
        ((0.61, 0.35), (10, 200), (0.61,)),
        ((), (), ()),
    ],
)
def test_unsure_plates_are_hidden_where_there_is_no_surer_one(
    scores: tuple[float, ...], tops: tuple[int, ...], kept: tuple[float, ...]
) -> None:
    rows = np.array([(50, top, 110, top + 20, score) for score, top in zip(scores, tops, strict=True)]).reshape(-1, 5)
    assert tuple(likely(rows, LOOKS["plate"], 320)[:, 4]) == kept
    assert tuple(likely(rows, LOOKS["face"], 320)[:, 4]) == scores  # a face is a face beside a surer one


def test_nothing_is_found_on_an_even_wall(blurrer: Blurrer) -> None:
    wall = np.full((200, 300, 3), 128, np.uint8)
    assert blurrer.find(wall) == ()
    assert np.array_equal(without(wall, ()), wall)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (900, 2), (33, 31), (50, 2000)])
def test_any_size_of_photo_passes(size: tuple[int, int], blurrer: Blurrer) -> None:
    assert blurrer.blur(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)


def test_what_is_no_photo_is_said(blurrer: Blurrer) -> None:
    with pytest.raises(ImageError, match="uint8 of shape"):
        blurrer.find(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_network_is_an_error_and_never_an_unblurred_photo(kind: str, tmp_path: Path) -> None:
    from importlib import resources

    for other in set(KINDS) - {kind}:
        (tmp_path / f"{other}s.onnx").write_bytes(
            (resources.files("carspotter") / "models" / "blur" / f"{other}s.onnx").read_bytes()
        )
    with pytest.raises(BundleError, match=f"{kind}s.onnx"):
        Blurrer.open(folder=tmp_path)
