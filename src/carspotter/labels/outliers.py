"""Find photos that do not look like their class: another car, a drawing, a photo of a screen.

Each photo is compared with its own class alone: how far its nearest neighbours are, measured by how far they usually
are in that class, and whether it stands in a small cluster apart from the rest. It looks at no label of another class
(`noise` does) and reads no photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import MissingExtraError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MIN_PHOTOS = 10
"""With fewer photos nobody can say what is usual."""
NEIGHBORS = 3
"""A photo's distance is the mean to this many nearest of its class; more than one, since copies are near by
accident."""
FAR = 2.5
"""Robust standard deviations above its class's median that make an outlier. Of wrong photos planted among 4047 of 196
classes it finds 70 to 79 %, and flags 2 % of the others; at 3.5, the usual bound, 31 to 44 % and 0.5 %."""
SMALL = 0.2
"""Share of a class that a cluster may have to be small: a fifth of the photos is one view of a car, no mistake."""
CUT = 0.7
"""Clusters are apart where their mean distance is over that of this share of pairs of the class; 0.3 and 0.5 found
fewer."""

ALONE = "alone"
SMALL_CLUSTER = "small cluster"

_TO_SIGMA = 1.4826  # of a normal distribution, from the median absolute deviation
_LEAST_SIGMA = 0.05  # of log distances; copies in a class would make every other photo an outlier
_LEAST_DISTANCE = 1e-3  # stored embeddings are rounded to float16
_MOST = 4000  # photos whose distances to each other are clustered: 128 MB
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outliers:
    """How unlike their class m photos are, the most unlike first.

    `position` (m,) says where each stood, `classes` (m,) its class; `score` (m,) is 0 for a usual photo, 0.5 at the
    threshold and nears 1; `cluster` (m,) numbers the clusters of a class by size from 0, `cluster_photos` (m,) counts
    them; `flagged` (m,); `reason` (m,) is "alone", "small cluster" or "". `unjudged` are classes of too few photos.
    """

    position: Ints
    classes: Ints
    score: Floats
    cluster: Ints
    cluster_photos: Ints
    flagged: Bools
    reason: npt.NDArray[np.str_]
    unjudged: Ints

    def __len__(self) -> int:
        return len(self.position)

    def rows(self, names: Sequence[str], *, only_flagged: bool = True) -> Iterator[dict[str, Any]]:
        """Yield a row for each photo, the most unlike first, its class by name."""
        for i in range(len(self)):
            if only_flagged and not self.flagged[i]:
                continue
            yield {
                "position": int(self.position[i]),
                "class_name": names[self.classes[i]],
                "score": float(self.score[i]),
                "cluster": int(self.cluster[i]),
                "cluster_photos": int(self.cluster_photos[i]),
                "flagged": bool(self.flagged[i]),
                "reason": str(self.reason[i]),
            }


def find_outliers(
    embeddings: Floats, classes: Ints, *, min_photos: int = MIN_PHOTOS, far: float = FAR, small: float = SMALL
) -> Outliers:
    """Compare photos with the others of their class: embeddings (n, d) of any length over 0, classes (n,) from 0.

    `far` is how many robust standard deviations from its class's median make an outlier, `small` the share of a class
    that a cluster apart may have at most. Raises ValueError for arrays that do not fit together or settings that cannot
    be, MissingExtraError without the extra `train`.
    """
    x, classes = _checked(embeddings, classes, min_photos=min_photos, far=far, small=small)
    # Each class by itself: how near neighbours usually are differs from class to class.
    counts = np.bincount(classes)
    parts = []
    for number in np.flatnonzero(counts >= min_photos):
        members = np.flatnonzero(classes == number)
        parts.append((members, *_judge(x[members], far=far, small=small)))
    position, score, cluster, size, flagged, reason = _joined(parts)
    # Flagged first, then by score, then by position, so that ties come alike in every run.
    order = np.lexsort((position, -score, ~flagged))
    return Outliers(
        position=position[order],
        classes=classes[position][order],
        score=score[order],
        cluster=cluster[order],
        cluster_photos=size[order],
        flagged=flagged[order],
        reason=reason[order],
        unjudged=np.flatnonzero((counts > 0) & (counts < min_photos)),
    )


def _judge(x: Floats, *, far: float, small: float) -> tuple[Floats, Ints, Ints, Bools, npt.NDArray[np.str_]]:
    """Return score, cluster, size of the cluster, flag and reason (m,) of one class's unit vectors (m, d).

    A photo's deviation is the mean of two: of the distance to its nearest neighbours, and of that to the middle of the
    class. The first alone misses groups of wrong photos, the second those of classes with several looks.
    """
    cluster = _clusters(x)
    sizes = np.bincount(cluster)
    # A photo by itself always is a small cluster, even where a fifth of the class is less than one.
    is_small = (sizes <= max(1.0, small * len(x)))[cluster]
    # The standard of the class: all photos with all their neighbours.
    usual = _neighbor_distances(x)
    # Wrong photos of one kind are each other's neighbours: those of a small cluster look for theirs outside of it.
    outside = _neighbor_distances(x, np.where(is_small, cluster, -1))
    # The mean direction of unit vectors; 1e-12 keeps a class whose vectors cancel out from dividing by 0.
    middle = x.sum(axis=0)
    to_middle = 1 - x @ (middle / max(float(np.linalg.norm(middle)), 1e-12))
    # Two scales of their own, both in robust standard deviations, so that neither outweighs the other.
    deviation = (_deviations(outside, usual) + _deviations(to_middle, to_middle)) / 2
    flagged = deviation > far
    reason = np.where(is_small & (sizes[cluster] > 1), SMALL_CLUSTER, ALONE)
    # Maps `far` to exactly 0.5 and infinity to 1; what is nearer than usual is simply 0.
    score = np.maximum(deviation, 0) / (np.maximum(deviation, 0) + far)
    return score, cluster, sizes[cluster], flagged, np.where(flagged, reason, "")


def _neighbor_distances(x: Floats, cluster: Ints | None = None) -> Floats:
    """Return the mean cosine distance (m,) to the nearest neighbours of each, itself and its `cluster` left out.

    Of cluster -1 only the photo itself is left out.
    """
    # A class of three has only two others.
    near = min(NEIGHBORS, len(x) - 1)
    cluster = np.full(len(x), -1) if cluster is None else cluster
    found = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        # Blocks of rows: the full matrix of a class of 100,000 photos would take 40 GB.
        here = cluster[start : start + _BLOCK, None]
        cosines = np.where((here == cluster) & (here >= 0), -1.0, x[start : start + _BLOCK] @ x.T)
        rows = np.arange(len(cosines))
        # Itself would be the nearest at distance 0.
        cosines[rows, start + rows] = -1.0
        # A partition finds the largest cosines in linear time; their order does not matter to the mean.
        found[start : start + _BLOCK] = 1 - np.partition(cosines, -near, axis=1)[:, -near:].mean(axis=1)
    return found


def _deviations(distances: Floats, usual: Floats) -> Floats:
    """Return how many robust standard deviations distances are above the usual ones, of logarithms: they are skew."""
    # Stored vectors are rounded, so that copies have distances of 0 or just below; the floor keeps the logarithm
    # finite.
    logs = np.log(np.maximum(usual, _LEAST_DISTANCE))
    # Median and MAD, since mean and deviation are dragged along by the very outliers looked for.
    middle = np.median(logs)
    sigma = max(_TO_SIGMA * float(np.median(np.abs(logs - middle))), _LEAST_SIGMA)
    deviations: Floats = (np.log(np.maximum(distances, _LEAST_DISTANCE)) - middle) / sigma
    return deviations


def _clusters(x: Floats) -> Ints:
    """Return the cluster (m,) of each, numbered by size; of large classes a sample is clustered and the rest joins."""
    chosen = np.arange(len(x))
    if len(x) > _MOST:
        # A fixed seed: the same photos give the same clusters, and a person's review stays valid.
        chosen = np.sort(np.random.default_rng(0).permutation(len(x))[:_MOST])
    # Rounding gives copies a distance just below 0, which the clustering refuses.
    distances = np.clip(1 - x[chosen] @ x[chosen].T, 0, 2)
    # Each pair once, without the zeros of the diagonal, which would pull the quantile down.
    between = distances[np.triu_indices(len(chosen), 1)]
    labels = _agglomerate(distances, cut=max(float(np.quantile(between, CUT)), _LEAST_DISTANCE))
    # Argsort of argsort is the rank: cluster 0 becomes the largest, whatever sklearn called it.
    labels = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))[labels]
    if len(chosen) < len(x):
        # Photos outside of the sample take the cluster of the sampled photo most like them.
        nearest = [np.argmax(x[start : start + _BLOCK] @ x[chosen].T, axis=1) for start in range(0, len(x), _BLOCK)]
        labels = labels[np.concatenate(nearest)]
    return labels.astype(np.int64)


def _agglomerate(distances: Floats, *, cut: float) -> Ints:
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "review") from error
    clustering = AgglomerativeClustering(
        # Average linkage: single linkage would chain views into one cluster, complete would split a view by its light.
        n_clusters=None,
        metric="precomputed",
        linkage="average",
        distance_threshold=cut,
    )
    labels: Ints = clustering.fit(distances).labels_
    return labels


def _joined(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    if parts:
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    none, whole = np.zeros(0), np.zeros(0, np.int64)
    return whole, none, whole, whole, np.zeros(0, bool), np.zeros(0, "<U13")


def _checked(embeddings: Floats, classes: Ints, *, min_photos: int, far: float, small: float) -> tuple[Floats, Ints]:
    if min_photos < 3:
        raise ValueError(f"min_photos is {min_photos}; it must be at least 3")
    # At half of the class a "small" cluster would be the class itself.
    if far <= 0 or not 0 <= small < 0.5:
        raise ValueError(f"far is {far} and small is {small}; far must be over 0, small from 0 to below 0.5")
    x, classes = np.asarray(embeddings, np.float32), np.asarray(classes)
    if x.ndim != 2 or classes.shape != (len(x),):
        raise ValueError(f"embeddings of {x.shape} and classes of {classes.shape}; they must be (n, d) and (n,)")
    if len(x) and (classes.dtype.kind not in "iu" or classes.min() < 0):
        raise ValueError("classes must be whole numbers from 0")
    # Made unit vectors here, so that every dot product below is a cosine; a zero vector has no direction.
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("embeddings must be finite and longer than 0")
    return x / lengths, classes.astype(np.int64)
