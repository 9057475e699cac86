"""Perceptual hashes: what they survive, what they tell apart, and how bits are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter import hashes
from carspotter.hashes import count_bits, dhash, greyscale, phash
from carspotter.pixels import decode
from photo_drawings import copies, jpeg, picture

SEEDS = range(12)


def distance(one: object, other: object) -> np.ndarray:
    """Count the bits in which hashes differ; arrays broadcast."""
    return count_bits(np.bitwise_xor(np.asarray(one, np.uint64), np.asarray(other, np.uint64)))


@pytest.mark.parametrize("name", ["compressed", "half", "double", "brighter", "darker"])
@pytest.mark.parametrize("measure", [phash, dhash])
def test_a_copy_has_nearly_the_same_hash(name: str, measure) -> None:
    for seed in SEEDS:
        original = picture(seed)
        copy = decode(copies(original)[name], min_side=200).pixels
        assert distance(measure(np.asarray(original)), measure(copy)) <= 8, (name, seed)


def test_other_pictures_have_other_hashes() -> None:
    values = np.array([phash(np.asarray(picture(seed))) for seed in SEEDS], dtype=np.uint64)
    apart = distance(values[:, None], values[None, :])[~np.eye(len(values), dtype=bool)]
    assert apart.min() >= 14


def test_a_scaled_decode_gives_the_hash_of_the_full_one() -> None:
    data = jpeg(picture(3, (1600, 1200)))
    full, scaled = decode(data), decode(data, min_side=300)
    assert scaled.pixels.shape[0] < full.pixels.shape[0]
    assert distance(phash(full.pixels), phash(scaled.pixels)) <= 2


@pytest.mark.parametrize("measure", [phash, dhash])
def test_grey_pixels_have_the_hash_of_the_coloured_ones(measure) -> None:
    pixels = np.asarray(picture(4, (640, 480)))
    assert greyscale(pixels).shape == pixels.shape[:2]
    assert measure(greyscale(pixels)) == measure(pixels)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (32, 32), (33, 31)])
def test_any_size_has_a_hash(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 90, dtype=np.uint8)
    assert 0 <= phash(pixels) < 1 << 64
    assert dhash(pixels) == 0  # no neighbour is brighter


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_distance_counts_bits(one: int, other: int) -> None:
    assert int(distance(one, other)) == (one ^ other).bit_count()


def test_bits_are_counted_without_numpys_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, (5, 7), dtype=np.uint64)
    expected = count_bits(values)

    class Older:
        """numpy 1, which cannot count."""

        def __getattr__(self, name: str) -> object:
            if name == "bitwise_count":
                raise AttributeError(name)
            return getattr(np, name)

    monkeypatch.setattr(hashes, "np", Older())
    assert (hashes.count_bits(values) == expected).all()
