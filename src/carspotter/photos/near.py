"""Find every pair within a few bits in a column of 64-bit hashes, also among a million of them.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Exact Search in Hamming Space", 2014): hashes are cut into four
bands of 16 bits. Two hashes within r bits agree in some band up to r // 4 bits, so that only buckets so near each
other are compared: no pair is missed. It judges no pair; `duplicates` does.
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

_AT_ONCE = 1 << 22  # candidates that are compared at once: some 200 MB of working arrays

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
    found = [pair for band in range(BANDS) for pair in _in_band(unique, band, radius)] if radius else []
    codes = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
    near = np.stack([first[codes // max(1, len(unique))], first[codes % max(1, len(unique))]], axis=1).astype(np.int64)
    pairs = np.sort(np.concatenate([equal, near]), axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    return pairs, count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])


def _in_band(hashes: Hashes, band: int, radius: int) -> Iterator[Pairs]:
    """Yield pairs that agree in one band up to radius // BANDS bits, as codes i * n + j."""
    keys = ((hashes >> np.uint64(band * BAND_BITS)) & np.uint64((1 << BAND_BITS) - 1)).astype(np.int64)
    order = np.argsort(keys, kind="stable")
    keys, sorted_hashes = keys[order], hashes[order]
    # Bucket k is the range starts[k]..starts[k + 1] of the sorted hashes.
    starts = np.searchsorted(keys, np.arange((1 << BAND_BITS) + 1))
    for mask in _masks(radius // BANDS):
        # The bucket that differs from a hash's own in just the bits of the mask.
        other = keys ^ mask
        # Each pair of buckets once; within a bucket, each position with those behind it.
        begin = np.arange(1, len(keys) + 1) if mask == 0 else starts[other]
        counts = np.where((other > keys) | (mask == 0), starts[other + 1] - begin, 0)
        for low, high in _slices(counts):
            # Candidates agree in the band; the whole hash decides.
            left, right = _cross(low, begin[low:high], counts[low:high])
            is_near = count_bits(sorted_hashes[left] ^ sorted_hashes[right]) <= radius
            pair = np.sort(np.stack([order[left[is_near]], order[right[is_near]]]), axis=0)
            yield pair[0] * len(hashes) + pair[1]


def _masks(bits: int) -> list[int]:
    """Return all numbers of `BAND_BITS` bits of which at most `bits` are ones."""
    return [sum(1 << bit for bit in chosen) for n in range(bits + 1) for chosen in combinations(range(BAND_BITS), n)]


def _slices(counts: Pairs) -> Iterator[tuple[int, int]]:
    """Yield ranges of positions whose candidates fit in memory together; one position alone always does."""
    ends = np.cumsum(counts)
    low = done = 0
    while done < (ends[-1] if len(ends) else 0):
        high = max(low + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        yield low, high
        low, done = high, int(ends[high - 1])


def _cross(offset: int, begin: Pairs, counts: Pairs) -> tuple[Pairs, Pairs]:
    """Return each position with each of its candidates, which lie one behind the other from `begin` on."""
    left = np.repeat(np.arange(offset, offset + len(counts)), counts)
    # The running number of a candidate, less where its row began, is its place in the row's range.
    before = np.cumsum(counts) - counts
    right = np.arange(len(left)) + np.repeat(begin - before, counts)
    return left, right
