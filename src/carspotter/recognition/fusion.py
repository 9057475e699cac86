"""Fuse what the photos of one ad say, and find the photos that show another vehicle.

Each photo has one voice. It reads no photo and decides nothing: thresholds are the identifier's, words are `ad`'s.
All constants were chosen on one half of 169 ads and checked on the other (benchmarks/ad_answers.py, docs/serving.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carspotter.taxonomy import LEVELS, Taxonomy

Floats = NDArray[np.floating]

INDEPENDENCE = 0.3
"""How much n photos of one vehicle count: as n to this power. 0 would be the mean of their logarithms, 1 the product,
which takes photos of one car in one yard for independent witnesses and is far too sure. Least loss on the choosing
half, for two photos as for all of an ad."""

LEAST_AGREEMENT = 0.07
"""A photo whose probabilities overlap those of the others less (Bhattacharyya's coefficient, 0..1) may show another
vehicle. With `LEAST_LIKENESS` and calibrated classes: precision 1.0 on the choosing half, at 0.17 found."""

LEAST_LIKENESS = 0.6
"""Nearness (cosine) of two photos' embeddings from which both show one vehicle, whatever else they say: a photo with
such a neighbour is no outlier. Two sides of one car reach 0.45 to 0.80, the same side of two cars 0.5."""

LEAST_COLOUR_AGREEMENT, LEAST_COLOUR = 0.2, 0.6
"""A photo whose colours overlap those of the others less, where both it and they are as sure as the second, shows
another vehicle. Of 159 ads none was flagged, and 0.65 of the planted photos of clearly another colour were."""

FEWEST = 3
"""The fewest photos among which one can be called the odd one."""

_FLOOR = 1e-9  # keeps logarithms finite; from 1e-9 to 1e-3 nothing changes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutlierPhoto:
    """A photo (its row) that shows another vehicle than the `others` (n_classes,) agree on."""

    row: int
    others: Floats


def fuse(probabilities: Floats, taxonomy: Taxonomy, *, independence: float = INDEPENDENCE) -> NDArray[np.float64]:
    """Return the class probabilities (n_classes,) on which photos with probabilities (n, n_classes) agree.

    A logarithmic opinion pool (Genest and Zidek, "Combining Probability Distributions", 1986), taken level by level:
    first which make, then which model of each make, … A pool over classes alone would let photos that name two years of
    one model vote both away. Below a make a photo has as much to say as it believes in that make. One photo gives its
    own probabilities; the order does not matter. Raises ValueError without photos.
    """
    # Two classes may differ in their body alone, so that the classes themselves are the last level.
    indices = (*(taxonomy.index(level) for level in LEVELS), np.arange(len(taxonomy)))
    return _pooled(probabilities, indices, independence)


def fuse_words(probabilities: Floats, *, independence: float = INDEPENDENCE) -> NDArray[np.float64]:
    """Return the probabilities (k,) of the words of one attribute on which photos with probabilities (n, k) agree.

    The pool of `fuse` with a single level. Raises ValueError without photos.
    """
    return _pooled(probabilities, (np.arange(np.shape(probabilities)[-1]),), independence)


def _pooled(probabilities: Floats, levels: Sequence[NDArray[np.intp]], independence: float) -> NDArray[np.float64]:
    """Pool photos (n, k) from the first level down; each level says for every one of the k where it belongs."""
    if not len(probabilities):
        raise ValueError("no photo to fuse; at least one is needed")
    # A zero would be a veto of one photo over all others; a single photo has nobody to veto.
    floor = _FLOOR if len(probabilities) > 1 else 0.0
    # After the floor the probabilities of a photo sum to one again.
    voices: NDArray[np.float64] = np.maximum(np.asarray(probabilities, np.float64), floor)
    voices /= voices.sum(axis=1, keepdims=True)
    if len(voices) == 1:
        one: NDArray[np.float64] = voices[0]
        return one
    # Sorted, so that sums are rounded alike whatever the order of the photos.
    voices = voices[np.lexsort(voices.T[::-1])]
    # The result is a product down the levels: P(make) P(model | make) ..., each factor pooled by itself.
    size = voices.shape[1]
    result: NDArray[np.float64] = np.ones(size)
    above, parent = np.ones_like(voices), np.zeros(size, np.intp)
    for index in levels:
        # (n, k) each photo's probability of the taxon that every class belongs to at this level.
        here = _sums(voices, index)
        # (k,) how many photos speak of the taxon above, and their mean log share of this one in it.
        said = above.sum(axis=0)
        # here / above is P(taxon | its parent); a photo weighs as much as it believes in the parent.
        logs = (above * np.log(here / above)).sum(axis=0) / said
        # n voices count as n ** independence: photos of one car in one light are no independent witnesses.
        result *= _among_siblings(logs * np.maximum(said, 1.0) ** independence, index, parent)
        above, parent = here, index
    result /= result.sum()
    return result


def find_outlier_photos(
    probabilities: Floats,
    embeddings: Floats,
    taxonomy: Taxonomy,
    *,
    agreement: float = LEAST_AGREEMENT,
    likeness: float = LEAST_LIKENESS,
) -> tuple[OutlierPhoto, ...]:
    """Return the photos whose vehicle surely is another one than most of the photos show, the surest first.

    `probabilities` are (n, n_classes), `embeddings` (n, d) of unit length. One is taken away at a time, and more than
    half of the photos always stay. Of fewer than three photos none is the odd one.
    """

    def odd(stay: Sequence[int]) -> Iterator[tuple[float, OutlierPhoto]]:
        # How alike each photo is to the photo most like it: one with a near twin shows the same car.
        likest = _likest(np.asarray(embeddings)[stay])
        for place, row in enumerate(stay):
            if likest[place] >= likeness:
                continue
            others = fuse(probabilities[[other for other in stay if other != row]], taxonomy)
            overlap = _overlap(probabilities[row], others)
            if overlap < agreement:
                yield overlap, OutlierPhoto(row=row, others=others)

    return _one_by_one(len(probabilities), odd)


def find_outlier_colours(probabilities: Floats, near: NDArray[np.bool_]) -> tuple[OutlierPhoto, ...]:
    """Return the photos whose vehicle surely has another colour than most of the photos show, the surest first.

    `probabilities` (n, k) are of the colours, `near` (k, k) says which pairs of them light makes of each other. One is
    taken away at a time, as by `find_outlier_photos`, and more than half of the photos always stay.
    """

    def odd(stay: Sequence[int]) -> Iterator[tuple[float, OutlierPhoto]]:
        for row in stay:
            own, others = probabilities[row], fuse_words(probabilities[[other for other in stay if other != row]])
            overlap = _overlap(own, others)
            # A photo at dusk says a little of every colour: only two clear opinions contradict each other.
            is_sure = min(own.max(), others.max()) >= LEAST_COLOUR and not near[own.argmax(), others.argmax()]
            if is_sure and overlap < LEAST_COLOUR_AGREEMENT:
                yield overlap, OutlierPhoto(row=row, others=others)

    return _one_by_one(len(probabilities), odd)


def mean_direction(embeddings: Floats) -> NDArray[np.float32]:
    """Return the unit vector (d,) in the middle of embeddings (n, d)."""
    total = np.asarray(embeddings, np.float64).sum(axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)


def _one_by_one(
    n_photos: int, odd: Callable[[Sequence[int]], Iterable[tuple[float, OutlierPhoto]]]
) -> tuple[OutlierPhoto, ...]:
    """Take away the oddest photo as long as there is one: `odd` names those among the photos that stay."""
    found: list[OutlierPhoto] = []
    stay = list(range(n_photos))
    while len(stay) >= FEWEST and 2 * (len(stay) - 1) > n_photos:
        # The oddest goes first, since the others' opinion is clearer without it; then all are judged again.
        oddest = min(odd(stay), key=lambda each: each[0], default=None)
        if oddest is None:
            break
        found.append(oddest[1])
        stay.remove(oddest[1].row)
    return tuple(found)


def _overlap(own: Floats, others: Floats) -> float:
    """Return Bhattacharyya's coefficient of two distributions: 1 the same, 0 nothing in common."""
    return float(np.sqrt(np.maximum(own, 0) * others).sum())


def _sums(voices: Floats, index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return for each photo and class the probability of the class's taxon, (n, n_classes)."""
    sums = np.stack([np.bincount(index, weights=voice) for voice in voices])
    return np.asarray(sums[:, index])


def _among_siblings(logs: Floats, index: NDArray[np.intp], parent: NDArray[np.intp]) -> NDArray[np.float64]:
    """Turn logarithms into shares that sum to one over the taxa of each parent; classes of one taxon repeat it."""
    # Back from logarithms; each taxon stands once for every class below it, so that its share is divided by these.
    powers = np.exp(logs)
    total = np.bincount(parent, weights=powers / np.bincount(index)[index])
    return np.asarray(powers / total[parent])


def _likest(embeddings: Floats) -> Sequence[float]:
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -1.0)
    return list(map(float, cosines.max(axis=1)))
