"""The 64-bit perceptual hash of pixels, and how many bits two hashes differ by.

The hash is pHash as Zauner describes it ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010):
the signs of the 8 x 8 lowest frequencies of a 32 x 32 grey picture against their median. It does not see colour and
survives another size, another compression, and a little brightness. It groups nothing: `duplicates` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels of the grey picture that the frequencies are taken from."""
LOW = 8
BITS = LOW * LOW

SAME_BITS, MOST_BITS, BOTH_BITS, SAME_LOOK = 3, 10, 16, 0.985
"""When two photos show the same picture: bits of `phash` within which no witness is needed, and beyond which none
helps; bits of both hashes together within which `dhash` is a witness; cosine of embeddings from which they are one.
Chosen on 1630 listing photographs, 1.3 million pairs, and copies of them (docs/dropped-photos.md)."""

_POWERS = np.uint64(1) << np.arange(BITS - 1, -1, -1, dtype=np.uint64)


def _cosines() -> NDArray[np.float32]:
    """Return the first `LOW` rows of the type II discrete cosine transform of `SIDE` values, (LOW, SIDE)."""
    # Only the rows that are kept, and without the usual scale factors: signs against the median do not need them.
    frequency, place = np.arange(LOW)[:, None], np.arange(SIDE)[None, :]
    return np.cos(math.pi * frequency * (2 * place + 1) / (2 * SIDE)).astype(np.float32)


_COSINES = _cosines()


def greyscale(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return upright sRGB pixels (h, w, 3) as luma (h, w); what is grey already stays as it is.

    Whoever measures a photo several times does this once: it is half of what a hash costs.
    """
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def shrink(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return pixels, grey (h, w) or sRGB (h, w, 3), as a grey picture of `size` (width, height), averaged over areas.

    So a scaled decode and a full one give nearly the same.
    """
    image = Image.fromarray(greyscale(pixels))
    # `reduce` averages whole blocks, many times as fast as a resize that looks at each pixel. The last block may be
    # cut, so that blocks must be small beside the pixels asked for.
    factor = min(image.width // (8 * size[0]), image.height // (8 * size[1]))
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def phash(pixels: NDArray[np.uint8]) -> int:
    """Return the perceptual hash of upright pixels, grey (h, w) or sRGB (h, w, 3): an unsigned number of 64 bits."""
    small = shrink(pixels, (SIDE, SIDE)).astype(np.float32)
    # Row by row and column by column, the transform is two small products: 8x32 @ 32x32 @ 32x8.
    low = (_COSINES @ small @ _COSINES.T).ravel()
    # The first coefficient is the mean brightness; it would only shift the median.
    return int(_POWERS[low > np.median(low[1:])].sum(dtype=np.uint64))


def dhash(pixels: NDArray[np.uint8]) -> int:
    """Return the difference hash of upright pixels, grey or sRGB: which of two neighbours is brighter, 64 bits.

    After Krawetz ("Kind of Like That", 2013): 8 rows of 9 averages. It errs on other pictures than `phash` does.
    """
    small = shrink(pixels, (LOW + 1, LOW)).astype(np.int16)
    # Signs of differences do not move with brightness, nor much with contrast.
    return int(_POWERS[(small[:, 1:] > small[:, :-1]).ravel()].sum(dtype=np.uint64))


def may_repeat(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of (n,) hashable values may occur more than once: all that do, by chance one that does not.

    Eight bytes a value are held, where a set or a sort of millions of texts would hold hundreds.
    """
    hashed = np.fromiter(map(hash, values), np.int64, len(values))
    order = np.argsort(hashed, kind="stable")
    equal = np.diff(hashed[order]) == 0
    again = np.zeros(len(values), bool)
    again[order[:-1][equal]] = again[order[1:][equal]] = True
    return again


def count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the ones in each number."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values), dtype=np.uint8)
    whole = np.ascontiguousarray(values)
    # The order of bytes in memory does not matter for a count.
    bits = np.unpackbits(whole.reshape(-1, 1).view(np.uint8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.uint8).reshape(whole.shape), dtype=np.uint8)
