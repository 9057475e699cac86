"""Find every pair within a few bits in a column of 64-bit hashes, also among ten million of them.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Exact Search in Hamming Space", 2014) with a reach for each band
(Qin et al., "GPH: Similarity Search in Hamming Space", 2018): hashes are cut into four bands, and only those are
compared that lie near each other in one of them. No pair is missed. It judges no pair; `duplicates` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from carspotter.hashes import count_bits

BANDS = 4
BAND_BITS = 16
MAX_RADIUS = 4 * BANDS - 1
"""Three bits in a band are 697 buckets to look into, which is as far as comparing by buckets pays."""

_ROWS = 1 << 8
_AT_ONCE = 1 << 16  # hashes that are compared at once: half a megabyte, which a processor's second cache holds
_IN_BUCKET = 5  # 2^5 hashes in a bucket at least, or visiting buckets costs more than comparing what is in them

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]


def pairs_within(hashes: Hashes, radius: int) -> tuple[Pairs, NDArray[np.uint8]]:
    """Return all pairs of positions in `hashes` (n,) within `radius` bits, (m, 2) smaller first, and distances (m,).

    Equal hashes are compared once: of n copies n - 1 pairs at distance 0 are returned, each with the first of them.
    Raises ValueError for a radius outside of 0..15.
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius is {radius}; it must be from 0 to {MAX_RADIUS}")
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    # Copies are returned here and leave the search: a placeholder on 10,000 photos would be 50 million pairs.
    copies = np.flatnonzero(first[inverse] != np.arange(len(hashes)))
    equal = np.stack([first[inverse[copies]], copies], axis=1).astype(np.int64)
    # A pair may agree in several bands and is found in each: the code i * n + j makes it one.
    found = [pair for band, reach in enumerate(_reaches(radius)) for pair in _in_band(unique, band, reach, radius)]
    codes = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
    near = np.stack([first[codes // max(1, len(unique))], first[codes % max(1, len(unique))]], axis=1).astype(np.int64)
    pairs = np.sort(np.concatenate([equal, near]), axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    return pairs, count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])


def _reaches(radius: int) -> list[int]:
    """Return how many bits apart two hashes may be in each band to be compared, -1: the band is not looked at.

    Who is further apart in each of the four is at least (sum of reaches) + 4 = `radius` + 1 bits away.
    """
    least, wider = divmod(radius + 1, BANDS)
    return [least if band < wider else least - 1 for band in range(BANDS)]


def _in_band(hashes: Hashes, band: int, reach: int, radius: int) -> Iterator[Pairs]:
    """Yield pairs of which one band differs in at most `reach` bits, as codes i * n + j."""
    # Of few hashes less of a band is looked at: what is near in sixteen bits is so in any of them.
    width = min(BAND_BITS, max(0, len(hashes).bit_length() - 1 - _IN_BUCKET))
    keys = ((hashes >> np.uint64(band * BAND_BITS)) & np.uint64((1 << width) - 1)).astype(np.int64)
    order = np.argsort(keys, kind="stable")
    ordered = hashes[order]
    # Bucket k is the range starts[k]..starts[k + 1] of the ordered hashes.
    starts = np.searchsorted(keys[order], np.arange((1 << width) + 1)).tolist()
    masks = _masks(reach, width)
    for key in range(1 << width):
        begin, end = starts[key], starts[key + 1]
        # Each pair of buckets once, the bucket itself first: mask 0 leads.
        near = [slice(starts[other], starts[other + 1]) for mask in masks if (other := key ^ mask) >= key]
        if begin == end or not near:
            continue
        others, place = (np.concatenate([of[part] for part in near]) for of in (ordered, order))
        for left, right in _compare(ordered[begin:end], others, radius):
            pair = np.sort(np.stack([order[begin + left], place[right]]), axis=0)
            yield pair[0] * len(hashes) + pair[1]


def _masks(bits: int, width: int) -> list[int]:
    """Return all numbers of `width` bits of which at most `bits` are ones, fewer ones first."""
    return [sum(1 << bit for bit in chosen) for n in range(bits + 1) for chosen in combinations(range(width), n)]


def _compare(hashes: Hashes, others: Hashes, radius: int) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield where hashes lie near others; these begin with the hashes themselves, of which each pair counts once."""
    # Block against block, so that nothing is gathered: the search spends its time here.
    for top in range(0, len(hashes), _ROWS):
        rows = hashes[top : top + _ROWS, None]
        step = max(1, _AT_ONCE // len(rows))
        for start in range(top, len(others), step):
            some = others[None, start : start + step]
            hits = np.flatnonzero(count_bits(rows ^ some) <= radius)
            left, right = top + hits // some.shape[1], start + hits % some.shape[1]
            keep = right > left
            if keep.any():
                yield left[keep], right[keep]
