"""Which photographs a network has learnt from, as hashes of the crops that it saw: `seen.bin` beside it.

Sixteen bytes a photograph, its `phash` and `dhash`, sorted; no pixel can be had from them. So a photo of somebody's
test is found whatever its file is called, in another size and compression, and with a slightly other box. A bundle
without the file says nothing of what its network has seen.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from carspotter.errors import BundleError
from carspotter.hashes import count_bits, dhash, phash

SEEN_FILE = "seen.bin"
WITHIN = 12
"""Bits of both hashes together by which a crop may differ from one that was learnt; RESULTS.md says what that finds."""
_BYTES = 16

Hashes = npt.NDArray[np.uint64]


def hashes_of(crops: Iterable[npt.NDArray[np.uint8]]) -> Hashes:
    """Return both hashes (n, 2) of crops (h, w, 3), as a network takes them."""
    found = [(phash(crop), dhash(crop)) for crop in crops]
    return np.array(found, np.uint64).reshape(-1, 2)


def to_bytes(*parts: Hashes) -> bytes:
    """Return the file of all hashes (n, 2) together, each once, in an order that says nothing."""
    return np.unique(np.concatenate(parts), axis=0).astype("<u8").tobytes()


def from_bytes(content: bytes, where: str = "seen.bin") -> Hashes:
    """Return the hashes (n, 2) of a file. Raises BundleError for one that is cut."""
    if len(content) % _BYTES:
        raise BundleError(
            f"{where} has {len(content)} bytes, no multiple of {_BYTES}: it is cut; copy the folder again"
        )
    return np.frombuffer(content, "<u8").astype(np.uint64).reshape(-1, 2)


def are_seen(hashes: Hashes, seen: Hashes) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each of `hashes` (n, 2) is near one of `seen` (m, 2)."""
    first, second = np.ascontiguousarray(seen[:, 0]), np.ascontiguousarray(seen[:, 1])
    # Row by row: the whole table of n x m differences would be gigabytes.
    return np.array([bool((count_bits(first ^ a) + count_bits(second ^ b) <= WITHIN).any()) for a, b in hashes], bool)
