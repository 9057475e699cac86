"""95 % intervals of shares and p-values of tests, from counts and in closed form.

Numpy and the standard library alone; it knows no photos and no classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.runtime.intervals import Z95, wilson

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval; all three are NaN where there is nothing to count."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` of `total`, its value, and its interval after Wilson.

    Raises ValueError for a count outside 0..total.
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"a share of {self.count} in {self.total}; the count must be from 0 to the total")

    @classmethod
    def of(cls, right: npt.NDArray[np.bool_]) -> Share:
        """Return the share of a mask (n,) that is true."""
        return cls(count=int(right.sum()), total=len(right))

    @property
    def value(self) -> float:
        """Return count / total, NaN for 0 of 0."""
        return self.count / self.total if self.total else math.nan

    @property
    def low(self) -> float:
        """Return the lower end of the interval."""
        return float(wilson(self.count, self.total)[0])

    @property
    def high(self) -> float:
        """Return the upper end of the interval."""
        return float(wilson(self.count, self.total)[1])


def grouped_interval(right: npt.NDArray[np.bool_], groups: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Return the interval of a share whose photos come in groups: photos of one ad are right or wrong together.

    `right` (n,) and `groups` (n,), numbers from 0. Wilson's interval with the effective number of photos, n over the
    design effect (Kish 1965; Dean & Pagano 2015); never narrower than without groups.
    """
    n, share = len(right), float(right.mean()) if len(right) else 0.0
    # A group's sum of deviations is large only where its photos err together.
    counts = np.bincount(groups, weights=right - share)
    n_groups = len(np.unique(groups))
    if share in (0.0, 1.0) or n_groups < 2:
        # Nothing varies, so that nothing shows how alike a group's photos are: take each group as one.
        low, high = wilson(share * n_groups, n_groups)
        return float(low), float(high)
    # Variance of the share with ads as the unit; g / (g - 1), since the mean was estimated from the same ads.
    clustered = float((counts**2).sum()) * n_groups / (n_groups - 1) / n**2
    # Beside the binomial variance s (1 - s) / n. Below 1 is luck of few ads, no reason for a narrower interval.
    effect = max(1.0, clustered / (share * (1 - share) / n))
    # Wilson, not the normal interval: shares near 1 are usual here, and it stays inside 0..1.
    low, high = wilson(share * n / effect, n / effect)
    return float(low), float(high)


def mean_reach(values: Floats, lows: Floats, highs: Floats) -> tuple[float, float]:
    """Return how far the interval of a mean reaches below and above it, from values (k,) with their own intervals.

    The method of variance estimates recovery (Zou & Donner 2008): each side's squared distances add up, as variances
    do. The values are taken as independent.
    """
    below, above = (float(np.sqrt(((end - values) ** 2).sum())) / len(values) for end in (lows, highs))
    return below, above


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: do two models differ, or do coins fall so?

    `only_a` photos are right by the one model alone, `only_b` by the other alone. Under the null hypothesis each is
    either with probability 1/2, so that p = 2 P(X <= min) of Binomial(n, 1/2), at most 1 (McNemar 1947; exact form:
    Fay 2010).
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    # Both tails meet in the middle, where doubling one of them would exceed 1.
    if only_a == only_b:
        return 1.0
    # In logarithms: 2**-n leaves the range of floats from n = 1075 on.
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for testing many pairs at once (Holm 1979)."""
    # Holm steps down from the smallest p: the k-th one is judged against the m - k that are left.
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        # Never below an earlier one: a weaker result cannot be more significant than a stronger one.
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def paired_difference(only_a: int, only_b: int, total: int, z: float = Z95) -> Estimate:
    """Return the share of model b less that of model a on the same photos, with its interval.

    The adjusted Wald interval of Bonett & Price (2012): one photo is added to each kind of disagreement.
    """
    if total == 0:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    # Without the added photos the interval has no width where the models never disagree.
    p_a, p_b = (only_a + 1) / (total + 2), (only_b + 1) / (total + 2)
    middle = p_b - p_a
    half = z * math.sqrt((p_a + p_b - middle**2) / (total + 2))
    # The value itself is the plain difference; only the interval uses the shrunk shares.
    return Estimate(value=(only_b - only_a) / total, low=max(-1.0, middle - half), high=min(1.0, middle + half))


def auroc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Estimate:
    """Return how often a positive has the higher score than a negative, ties counting half, with DeLong's interval.

    This is the area under the ROC curve (Mann & Whitney 1947; Hanley & McNeil 1982). The interval (DeLong et al. 1988)
    is taken on the logit scale, so that it stays inside 0..1. NaN where a side is empty.
    """
    up, down = np.sort(np.asarray(positives, np.float64)), np.sort(np.asarray(negatives, np.float64))
    if not len(up) or not len(down):
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    # DeLong's placement values: how each score stands among those of the other side.
    of_up, of_down = _below(up, down), 1 - _below(down, up)
    value = float(of_up.mean())
    # One score has no variance of its own, so that nothing is known but the range.
    if min(len(up), len(down)) < 2:
        return Estimate(value=value, low=0.0, high=1.0)
    # Both samples vary independently, so that the variances of their two means add up.
    error = math.sqrt(float(of_up.var(ddof=1)) / len(up) + float(of_down.var(ddof=1)) / len(down))
    if value in (0.0, 1.0):  # all apart: the variance is 0 and says nothing; the rule of three does (Hanley 1983)
        reach = min(1.0, 3 / min(len(up), len(down)))
        return Estimate(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach))
    # The delta method: d logit / d value is 1 / (value (1 - value)).
    middle, half = math.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    return Estimate(value=value, low=_logistic(middle - half), high=_logistic(middle + half))


def _below(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of the others (sorted) that it exceeds, ties counting half."""
    # The mean of both sides counts a tie as half, in n log n instead of n times m comparisons.
    less = np.searchsorted(others, scores, side="left")
    not_more = np.searchsorted(others, scores, side="right")
    return np.asarray((less + not_more) / (2 * len(others)), np.float64)


def _logistic(x: float) -> float:
    # Each branch takes the exponential of a negative number, which cannot overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
