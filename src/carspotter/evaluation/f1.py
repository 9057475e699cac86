"""The F1 of classes: its mean over those that occur, with an interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.intervals import Estimate, mean_reach
from carspotter.evaluation.predictions import Ints
from carspotter.runtime.intervals import Z95, wilson


def macro_f1(truth: Ints, answer: Ints, n_classes: int, *, groups: npt.NDArray[np.intp] | None = None) -> Estimate:
    """Return the mean F1 of the classes that occur among `truth`, with its interval.

    The interval is the wider one, on each side, of two. By the delta method (Takahashi et al. 2022) d F1/d p of a photo
    of class i answered j is 2(1 - F_i)/s_i where i = j, else -(F_i/s_i + F_j/s_j), s being the share of photos that are
    of a class or answered so; for many photos. And Wilson's of each class, put together (`_class_reach`): it has a
    width where nothing was wrong, or a class has three photos. With `groups` (n,) those of a group vary together.
    """
    n = len(truth)
    if not n:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    support, size, f1 = class_f1(truth, answer, n_classes)
    # A class without a photo has no recall; to count its F1 as 0 would punish knowing more classes.
    occurs = support > 0
    # 1 / s_i of each class that occurs, over their number: the share of a class in the mean.
    weight = np.where(occurs, 1 / np.maximum(size / n, 1e-12), 0.0) / occurs.sum()
    # The influence of each photo on macro-F1: a right one lifts its class, a wrong one lowers two of them.
    pull = np.where(truth == answer, 2 * (1 - f1[truth]) * weight[truth], 0.0)
    pull -= np.where(truth != answer, f1[truth] * weight[truth] + f1[answer] * weight[answer], 0.0)
    # Influences of photos of one ad are summed before they are squared: their errors are correlated.
    sums = pull if groups is None else np.bincount(groups, weights=pull)
    alone, together = float((pull**2).sum()), float((sums**2).sum())
    # How many photos count as one (Kish 1965). Without a mistake nothing shows how alike a group is: each is one photo.
    effect = max(1.0, together / alone) if alone else n / (n if groups is None else len(np.unique(groups)))
    # The influences have mean 0, so that their sum of squares over n squared is the variance of the mean.
    half = Z95 * math.sqrt(together) / n
    value = float(f1[occurs].mean())
    below, above = _class_reach(f1[occurs], size[occurs] / effect)
    return Estimate(value=value, low=max(0.0, value - max(half, below)), high=min(1.0, value + max(half, above)))


def _class_reach(f1: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return how far a mean of F1 (k,) may be off; `size` (k,) are photos of each class and answers of it together."""
    # F1 = 2 hits / size. Of the photos that are of the class or answered so, size - hits, a share of p = F1 / (2 - F1)
    # are both: F1 = 2 p / (1 + p) grows with p, so that the interval of the share becomes that of F1 (Goutte & Gaussier
    # 2005 have both as random).
    hits = f1 * size / 2
    ends = (2 * p / (1 + p) for p in wilson(hits, size - hits))
    return mean_reach(f1, *ends)


def class_f1(truth: Ints, answer: Ints, n_classes: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the support of each class, its support and answers together, and its F1 (0 where both are 0)."""
    support = np.bincount(truth, minlength=n_classes)
    # F1 = 2 hits / (photos of the class + answers of it), which needs no division by 0 for precision or recall.
    size = support + np.bincount(answer, minlength=n_classes)
    hits = np.bincount(truth[truth == answer], minlength=n_classes)
    return support, size, 2 * hits / np.maximum(size, 1)
