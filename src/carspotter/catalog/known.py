"""Which keys a table already has, so that a part can be marked as having only new ones.

In: keys as text. Out: whether any was there before. Keys are kept as 64-bit hashes, 8 bytes each: two keys with one
hash make a part look as if it superseded a row, which costs readers some time and is never wrong. Nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

# A set of 65,536 ints is 6 MB; sorting them into 2 million takes some 20 ms.
_RECENT = 1 << 16


class KnownKeys:
    """Remember keys; memory is 8 bytes a key and at most 6 MB more, or an eighth."""

    def __init__(self, batches: Iterable[Sequence[str]] = ()) -> None:
        """Begin with those of a table, in batches: sorted once, a thirtieth of the time of `add` in turn."""
        # Python's own hash differs between processes; these never leave this one.
        hashes = [np.fromiter(map(hash, keys), np.int64, len(keys)) for keys in batches]
        self._sorted: npt.NDArray[np.int64] = np.sort(np.concatenate([np.empty(0, np.int64), *hashes]))
        self._recent: set[int] = set()

    def add(self, keys: Iterable[str]) -> bool:
        """Remember keys; return True when none of them was known."""
        # Asked before they are added, so that a key twice in one batch does not count as known.
        hashes = set(map(hash, keys))
        fresh = self._recent.isdisjoint(hashes) and not self._holds_any(hashes)
        self._recent |= hashes
        if len(self._recent) > max(_RECENT, len(self._sorted) // 8):
            # Merged rarely, at an eighth of what is there, so that the sorting costs little for each key in the end.
            self._sorted = np.union1d(self._sorted, np.fromiter(self._recent, np.int64, len(self._recent)))
            self._recent = set()
        return fresh

    def _holds_any(self, hashes: set[int]) -> bool:
        if not len(self._sorted):
            return False
        wanted = np.fromiter(hashes, np.int64, len(hashes))
        # A binary search in a sorted array: 8 bytes a key, where a set of Python ints takes some 90.
        places = np.searchsorted(self._sorted, wanted)
        # Beyond the end stands nothing to compare with; any place will do, since no value there equals the wanted one.
        places[places == len(self._sorted)] = 0
        return bool((self._sorted[places] == wanted).any())
