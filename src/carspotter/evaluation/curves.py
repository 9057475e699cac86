"""The reliability plot, its error, and coverage against precision, from best probabilities and what was right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.intervals import Share
from carspotter.runtime.calibration import PRECISION, expected_calibration_error, lowest_threshold

BINS = 15
"""Bins of the reliability plot, as many as in Guo et al. (2017)."""
CURVE_POINTS = 100
"""Points of a curve that a page and a JSON keep; more cannot be seen."""

Bools = npt.NDArray[np.bool_]
Ends = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The share of photos answered at a `threshold`, and the share of these that is right."""

    threshold: float
    coverage: Share
    precision: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The photos whose best probability lies in `low`..`high`: their mean probability and the share right."""

    low: float
    high: float
    mean_probability: float
    right: Share


def reliability(best: npt.ArrayLike, right: Bools, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return the equal bins of the best probability (n,) that hold photos (Niculescu-Mizil & Caruana 2005)."""
    best = np.asarray(best, np.float64)
    # A probability of exactly 1 would fall into a bin beyond the last.
    number = np.minimum((best * bins).astype(int), bins - 1)
    return tuple(
        ReliabilityBin(
            low=float(i / bins),
            high=float((i + 1) / bins),
            mean_probability=float(best[number == i].mean()),
            right=Share.of(right[number == i]),
        )
        # Bins without photos have no mean, and are left out instead of drawn at 0.
        for i in np.unique(number)
    )


def calibration_error(best: npt.ArrayLike, right: Bools) -> float:
    """Return the expected calibration error over the bins of the reliability plot; NaN without photos."""
    best = np.asarray(best, np.float64)
    return float(expected_calibration_error(best, right, BINS)) if len(best) else math.nan


def coverage_curve(best: npt.ArrayLike, right: Bools, *, points: int = CURVE_POINTS) -> tuple[CurvePoint, ...]:
    """Return what each threshold on the best probability (n,) gives, from few answers to all, `points` at most.

    Photos of equal probability are answered together. One less the precision, it is the risk-coverage curve of El-Yaniv
    & Wiener (2010).
    """
    ranked, hits, ends = _ranked(best, right)
    if len(ends) > points:
        # Points at even steps of rank keep both ends; rounding may name one twice.
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, points).round().astype(int))]
    return tuple(_point(ranked, hits, int(end)) for end in ends)


def coverage_at(best: npt.ArrayLike, right: Bools, precision: float = PRECISION) -> CurvePoint | None:
    """Return the point that answers most photos at no less than a precision, or None.

    The threshold is chosen on the photos that it is measured on, so that it flatters a little.
    """
    ranked, hits, _ = _ranked(best, right)
    threshold = lowest_threshold(np.asarray(best, np.float64), right, precision)
    # Photos that tie at the threshold are all answered, so that its point is the last of them.
    return None if threshold is None or not len(ranked) else _point(ranked, hits, int((ranked >= threshold).sum()) - 1)


def _ranked(best: npt.ArrayLike, right: Bools) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], Ends]:
    """Return probabilities from the best on, how many are right up to each, and the last position of each value."""
    values = np.asarray(best, np.float64)
    # Stable, so that photos of one probability keep the table's order on every machine.
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(right[order], dtype=np.intp)
    # A threshold can only lie between two different values; the last photo ends a run whatever it is.
    return ranked, hits, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], np.ones(min(1, len(ranked)), bool)))


def _point(ranked: npt.NDArray[np.float64], hits: npt.NDArray[np.intp], end: int) -> CurvePoint:
    return CurvePoint(
        threshold=float(ranked[end]),
        coverage=Share(count=end + 1, total=len(ranked)),
        precision=Share(count=int(hits[end]), total=end + 1),
    )
