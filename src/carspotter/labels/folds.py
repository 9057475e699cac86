"""Judge each photo by a probe that learnt from other ads: folds, and the probabilities that the probes give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import LabelError
from carspotter.runtime.calibration import fit_temperature, softmax

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Fit = Callable[[Floats, Ints, int], Callable[[Floats], Floats]]
"""Fits a probe: embeddings (n, d), classes (n,) and the number of classes in, a function, embeddings to logits, out."""


FOLDS = 5
"""Each probe learns from four fifths of the ads; cleanlab's own cross-validation takes as many."""


ALWAYS = -1
"""Stands for a fold: learnt from in every fold and not judged."""

# One number is fitted, for which this many logits are plenty: 2000 photos of 200 classes.
_ENOUGH_LOGITS = 400_000
_LEAST_PHOTOS = 200


def out_of_fold(
    embeddings: Floats,
    classes: Ints,
    groups: npt.NDArray[Any],
    n_classes: int,
    *,
    fit: Fit,
    folds: int = FOLDS,
    seed: int = 0,
) -> Floats:
    """Return class probabilities (n, n_classes) of photos, each by a probe that learnt from other groups alone.

    `embeddings` (n, d), `classes` (n,) from 0, `groups` (n,) of any type: an ad, or ads tied by duplicates, is never
    torn apart. A class that only one group has is always learnt and never judged: rows of NaN. Each fold's logits are
    divided by the temperature that suits the others. Raises LabelError where nothing can be judged, ValueError for
    arrays that do not fit together.
    """
    classes = checked(embeddings, classes, groups, n_classes=n_classes)
    fold = deal_folds(classes, groups, folds=folds, seed=seed)
    # With one class left a probe can only ever agree with the label.
    if len(np.unique(classes[fold != ALWAYS])) < 2:
        raise LabelError(
            "labels cannot be judged: fewer than 2 classes have photos in 2 ads or more; add listings, or choose a "
            "level with fewer classes"
        )
    # NaN stands for "not judged": no probability could be mistaken for one that a probe gave.
    logits = np.full((len(classes), n_classes), np.nan, np.float32)
    for number in np.unique(fold[fold != ALWAYS]):
        # Photos of ALWAYS are in no fold, so that every probe learns from them.
        inside = fold == number
        judge = fit(embeddings[~inside], classes[~inside], n_classes)
        found = np.array(judge(embeddings[inside]), np.float32)
        # Groups of mixed labels can leave a class without a teacher; a probe knows nothing of it, whatever it says.
        taught = np.bincount(classes[~inside], minlength=n_classes) > 0
        found[~taught[classes[inside]]] = np.nan
        logits[inside] = found
    return _tempered(logits, classes, fold)


def deal_folds(classes: Ints, groups: npt.NDArray[Any], *, folds: int = FOLDS, seed: int = 0) -> Ints:
    """Return a fold (n,) for each photo: groups stay whole and each class is spread over the folds as far as it goes.

    Groups of the rarest classes are dealt first, each to the fold with the fewest photos of its rarest class, then
    with the fewest photos. A group with a class that no other group has is `ALWAYS` learnt from.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2")
    # Names of any type become numbers from 0, which `bincount` can count.
    _, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    n_groups = int(group.max()) + 1 if len(group) else 0
    # A group with photos of several classes counts once for each of them.
    pairs = np.unique(np.stack([group, classes], axis=1), axis=0) if len(group) else np.zeros((0, 2), np.int64)
    spread = np.bincount(pairs[:, 1], minlength=int(classes.max(initial=0)) + 1)  # groups of each class
    rarest = np.full(n_groups, -1)
    for place in np.argsort(-spread[pairs[:, 1]], kind="stable"):  # the rarest is written last
        rarest[pairs[place, 0]] = pairs[place, 1]
    # Folds are evened out in photos, not groups: an ad has one photo or forty.
    sizes = np.bincount(group, minlength=n_groups)
    held = np.zeros((folds, len(spread)))
    total = np.zeros(folds)
    dealt = np.full(n_groups, ALWAYS)
    # lexsort is stable, so that the shuffle decides among groups of equal rarity and size.
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    # Large groups first, so that small ones fill the gaps.
    order = shuffled[np.lexsort((-sizes[shuffled], spread[rarest[shuffled]]))]
    # A class of one group cannot be both learnt and judged.
    for each in order[spread[rarest[order]] > 1]:
        fold = int(np.lexsort((total, held[:, rarest[each]]))[0])
        dealt[each] = fold
        held[fold, rarest[each]] += sizes[each]
        total[fold] += sizes[each]
    return dealt[group].astype(np.int64)


def _tempered(logits: Floats, classes: Ints, fold: Ints) -> Floats:
    judged = ~np.isnan(logits).any(axis=1)
    # Fewer photos of many classes: it is the number of logits that costs time and steadies the fit.
    rows = max(_LEAST_PHOTOS, _ENOUGH_LOGITS // logits.shape[1])
    result = np.full_like(logits, np.nan)
    for number in np.unique(fold[judged]):
        inside = judged & (fold == number)
        others = np.flatnonzero(judged & (fold != number))
        # Every k-th one, so that the sample spreads over the whole table whatever its order.
        others = others[:: max(1, len(others) // rows)]
        # Fitted on the other folds' judged photos, so that no photo softens its own verdict.
        temperature = fit_temperature(logits[others].astype(np.float64), classes[others]) if len(others) else 1.0
        result[inside] = softmax(logits[inside].astype(np.float64) / temperature)
    return result


def checked(values: Floats, classes: Ints, groups: npt.NDArray[Any], *, n_classes: int) -> Ints:
    """Return the classes as int64. Raises ValueError for arrays that do not fit together."""
    n = len(values)
    classes = np.asarray(classes)
    if classes.shape != (n,) or np.shape(groups) != (n,):
        raise ValueError(f"{n} photos, but classes of {classes.shape} and ads of {np.shape(groups)}; each needs ({n},)")
    if n and (classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= n_classes):
        raise ValueError(f"classes must be whole numbers from 0 to {n_classes - 1}; given are {np.unique(classes)[:5]}")
    return classes.astype(np.int64)
