"""Follow ties between ads through a bipartite graph of numbers, and say which split each ad is held to.

It knows numbers alone: no names, no settings, no photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.dataset.columns import NONE, Numbers, Truths
from carspotter.errors import MissingExtraError
from carspotter.records import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Edges between ads and ties, (n_edges,) each."""

    ad: Numbers
    tie: Numbers
    n_ads: int
    n_ties: int

    @classmethod
    def of(cls, ad: Numbers, tie: Numbers, n_ads: int) -> Graph:
        """Return the edges that photos make: `ad` (n_photos,), `tie` (n_columns, n_photos), NONE where none is."""
        ends, numbers = np.tile(ad, len(tie)), tie.reshape(-1)
        real = numbers != NONE
        return cls(ad=ends[real], tie=numbers[real], n_ads=n_ads, n_ties=int(numbers.max(initial=NONE)) + 1)


def _bits(splits: Numbers) -> npt.NDArray[np.uint8]:
    """Return 1 << split, and 0 for NONE."""
    return np.where(splits == NONE, 0, 1 << np.maximum(splits, 0)).astype(np.uint8)


def untie(graph: Graph, old: Numbers) -> tuple[Numbers, Truths]:
    """Return the old splits without the ads that now share a tie across splits, and those ads.

    New photos can show two old ads to be one. Test is kept before validation, validation before train: what was
    measured stays comparable, and train has most to lose from.
    """
    # The split with the highest number that any ad of the tie stands in: test before validation before train.
    best = np.full(graph.n_ties, NONE, np.intp)
    np.maximum.at(best, graph.tie, old[graph.ad])
    loses = (old[graph.ad] != NONE) & (old[graph.ad] < best[graph.tie])
    lost = np.zeros(graph.n_ads, bool)
    lost[graph.ad[loses]] = True
    return np.where(lost, NONE, old), lost


def follow(graph: Graph, old: Numbers) -> tuple[Numbers, Truths]:
    """Return the split that each ad must have, old or by a tie to one, or NONE; and which ads tie two splits."""
    fresh = old[graph.ad] == NONE
    label = _labels(graph, fresh)
    # A bit for each split that old ads bring into a component of new ones.
    seen = np.zeros(int(label.max(initial=0)) + 1, np.uint8)
    np.bitwise_or.at(seen, label[graph.n_ads + graph.tie[~fresh]], _bits(old[graph.ad[~fresh]]))
    mask = seen[label[: graph.n_ads]]
    # Of the eight sets of splits, those with one member say where the new ads must go.
    one = np.array([NONE, 0, 1, NONE, 2, NONE, NONE, NONE], np.intp)
    held = np.where(old == NONE, one[mask], old)
    several = np.array([bin(bits).count("1") > 1 for bits in range(1 << len(SPLITS))])
    return held, several[mask] & (old == NONE)


def _labels(graph: Graph, edges: Truths) -> Numbers:
    """Return the component of each ad, then of each tie, over the edges given, (n_ads + n_ties,)."""
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    except ImportError as error:
        raise MissingExtraError("scipy", "data") from error
    # Ads and ties are the two sides of one graph; a component holds all ads that share ties, at any distance.
    size = graph.n_ads + graph.n_ties
    ends = (graph.ad[edges], graph.n_ads + graph.tie[edges])
    matrix = coo_array((np.ones(len(ends[0]), np.uint8), ends), shape=(size, size)).tocsr()
    _, label = connected_components(matrix, directed=False)
    return np.asarray(label, dtype=np.intp)


def components(graph: Graph, edges: Truths) -> Numbers:
    """Return for each ad the first ad of its group."""
    label = _labels(graph, edges)[: graph.n_ads]
    # Named by its first ad, not by its number in this graph: another ad elsewhere changes no group's lot.
    first = np.full(int(label.max(initial=0)) + 1, graph.n_ads, np.intp)
    np.minimum.at(first, label, np.arange(graph.n_ads))
    return first[label]
