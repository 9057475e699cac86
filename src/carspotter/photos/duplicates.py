"""Group photos that show the same picture, within ads and across them, by the hashes of all photos.

Exact duplicates have the same bytes. Near ones have perceptual hashes within a few bits; where those differ more, a
second witness must agree: the difference hash, or the identifier's embedding where a vehicle was located. A mirrored
copy is another photo: it shows the other side. It drops nothing: which copy is used is the split's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import MissingExtraError
from carspotter.hashes import BOTH_BITS, MOST_BITS, SAME_BITS, SAME_LOOK, count_bits, may_repeat
from carspotter.photos.near import MAX_RADIUS, pairs_within

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
Row = dict[str, Any]
Edges = NDArray[np.int64]

_PAIRS_AT_ONCE = 1 << 15  # embeddings of this many pairs are compared at once: 320 MB at 1280 numbers each


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateSettings:
    """From which distances on two photos show the same picture.

    Chosen on 1630 listing photographs, 1.3 million pairs, and copies of them (docs/dropped-photos.md): no pair of two
    ads lies within 8 bits of `phash`, and of those within 14 none is within 23 bits of both hashes.
    """

    same: int = SAME_BITS
    """Bits of the perceptual hash within which no witness is needed; what the leak certificate looks for at most."""
    max_distance: int = MOST_BITS
    """Bits of the perceptual hash beyond which no witness helps."""
    both: int = BOTH_BITS
    """Bits of both hashes together within which the difference hash agrees. 16 finds 95 % of copies that were cut by
    2 % on each side and 76 % of those cut by 3 %."""
    cosine: float = SAME_LOOK
    """Cosine of the embeddings from which they agree; another photo of the same car from the same side reaches 0.97."""
    min_contrast: float = 0.08
    """Photos plainer than this are compared by their bytes alone: the hash of a plain area is noise."""

    def __post_init__(self) -> None:
        for name in ("same", "max_distance"):
            if not 0 <= getattr(self, name) <= MAX_RADIUS:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {MAX_RADIUS}")
        if not -1 <= self.cosine <= 1:
            raise ValueError(f"cosine is {self.cosine}; it must be from -1 to 1")


Embeddings = Callable[[list[str]], tuple[Sequence[str], NDArray[np.floating]]]
"""Give those of some photo ids that have an embedding, and these, (m, d) of unit length: few pairs need be asked."""


def find_duplicates(
    photos: Columns, settings: DuplicateSettings | None = None, *, embeddings: Embeddings | None = None
) -> list[Row]:
    """Return the rows of table `duplicates`, one for each photo that is not alone, sorted by group and photo.

    `photos` has photo_id, ad_id, sha256, and of those that could be read phash and dhash (uint64), width, height,
    contrast and sharpness; null (None or NaN) elsewhere. Which copy is kept: the one of most pixels, then the
    sharpest, then the first by name. The order of rows does not matter.
    """
    settings = settings or DuplicateSettings()
    # By name first, so that groups and the kept copy are the same whatever the order of rows.
    table = {name: _array(values) for name, values in photos.items()}
    names = table["photo_id"]
    if not (names[:-1] <= names[1:]).all():
        order = np.argsort(names, kind="stable")
        table = {name: values[order] for name, values in table.items()}
    exact = _exact(table["sha256"])
    near = _near(table, settings, embeddings)
    # Transitive: a crop of a recompressed copy belongs to both, though the hashes of the two ends may differ more.
    group = _components(len(names), np.concatenate([exact, near]))
    return _rows(table, group, {int(end) for pair in exact for end in pair})


def _array(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Return a column as an array, numbers as they are: a list may hold None, and hashes that no float can hold."""
    if isinstance(values, np.ndarray):
        return values if values.dtype.kind in "iufb" else values.astype(object)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _exact(digests: NDArray[Any]) -> Edges:
    """Return edges from each photo to the first of the same bytes."""
    first: dict[str, int] = {}
    # A star instead of all pairs: n copies need n - 1 edges to be one component. An empty digest was never fetched.
    again = np.flatnonzero(may_repeat(digests)).tolist()
    edges = [(first.setdefault(digest, i), i) for i, digest in zip(again, digests[again], strict=True) if digest]
    found = [edge for edge in edges if edge[0] != edge[1]]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _near(table: Mapping[str, NDArray[Any]], settings: DuplicateSettings, embeddings: Embeddings | None) -> Edges:
    """Return edges between photos whose pictures agree."""
    contrast = _numbers(table["contrast"])
    can = np.flatnonzero(contrast >= settings.min_contrast)  # false for NaN: the photo could not be read
    phash = _hashes(table["phash"][can])
    # The widest radius at once; the two narrower rules below only look at pairs within it.
    pairs, distance = pairs_within(phash, settings.max_distance)
    pairs = can[pairs]
    # Indexed by row of the table; pairs only name rows that have a hash.
    dhash = np.zeros(len(contrast), dtype=np.uint64)
    dhash[can] = _hashes(table["dhash"][can])
    # The two hashes err on different pictures, so that their sum separates better than either.
    agree = distance + count_bits(dhash[pairs[:, 0]] ^ dhash[pairs[:, 1]]) <= settings.both
    agree |= distance <= settings.same
    # Embeddings are asked last and only where bits left it open: comparing them costs most.
    open_ = np.flatnonzero(~agree)
    agree[open_] = _look_alike(pairs[open_], table["photo_id"], embeddings, settings.cosine)
    return np.asarray(pairs[agree], dtype=np.int64)


def _look_alike(pairs: Edges, photo_id: NDArray[Any], embeddings: Embeddings | None, least: float) -> NDArray[np.bool_]:
    """Return for each pair whether its embeddings agree; a pair that lacks one does not."""
    result = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs) if embeddings else 0, _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        names, vectors = embeddings(photo_id[np.unique(part)].tolist())  # type: ignore[misc]
        place = {name: row for row, name in enumerate(names)}
        # The row of the vectors; -1 where no vehicle was located.
        at = np.array([place.get(name, -1) for name in photo_id[part].reshape(-1)], np.int64).reshape(-1, 2)
        known = np.flatnonzero((at >= 0).all(axis=1))
        left, right = (vectors[at[known, side]].astype(np.float32) for side in (0, 1))
        # Unit vectors: the row-wise dot product is the cosine, without the n by n matrix.
        result[start + known] = np.einsum("nd,nd->n", left, right) >= least
    return result


def _components(count: int, edges: Edges) -> NDArray[np.int64]:
    """Return for each of `count` photos the first position of its connected component."""
    try:
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
    except ModuleNotFoundError as error:
        raise MissingExtraError("scipy", "data") from error
    # scipy's labelling is compiled code: there may be millions of edges, too many for a loop in Python.
    graph = coo_matrix((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def _rows(table: Mapping[str, NDArray[Any]], group: NDArray[np.int64], exact: set[int]) -> list[Row]:
    members: dict[int, list[int]] = {}
    for position in np.flatnonzero(np.bincount(group, minlength=len(group))[group] > 1).tolist():
        members.setdefault(int(group[position]), []).append(position)
    contrast = _numbers(table["contrast"])
    rows = []
    for first, positions in members.items():
        # -position prefers the first name where worth is equal.
        kept = max(positions, key=lambda position: (_worth(table, position), -position))
        across = len({table["ad_id"][position] for position in positions}) > 1
        for position in positions:
            row = {
                "photo_id": table["photo_id"][position],
                "group_id": table["photo_id"][first],
                "relation": "exact" if position in exact else "near",
                "kept": position == kept,
                "across_ads": across,
            }
            # The distance to the kept copy, not the nearest one: it is what a person compares the photo with.
            read = not any(np.isnan(contrast[[position, kept]]))
            distance = _bits(table["phash"][position], table["phash"][kept]) if read else None
            rows.append(row if distance is None else {**row, "distance": distance})
    return rows


def _worth(table: Mapping[str, NDArray[Any]], position: int) -> tuple[float, float]:
    width, height, sharpness = (_number(table[name][position]) for name in ("width", "height", "sharpness"))
    return (width * height, sharpness)


def _bits(one: Any, other: Any) -> int | None:
    if one is None or other is None or one != one or other != other:  # NaN is not itself
        return None
    return (int(one) ^ int(other)).bit_count()


def _number(value: Any) -> float:
    return 0.0 if value is None or value != value else float(value)


def _hashes(values: NDArray[Any]) -> NDArray[np.uint64]:
    return np.array(values if values.dtype.kind == "u" else [int(value) for value in values], dtype=np.uint64)


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
