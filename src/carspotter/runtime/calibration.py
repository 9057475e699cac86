"""Calibration: held-out logits and truth in; a temperature, thresholds and the calibration error out. Numpy alone.

Trained networks and learned heads are calibrated alike; `recognition.identifier` applies what stands in the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.taxonomy import LEVELS, Taxonomy

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PRECISION = 0.95
"""What an answer should be right in, of the held-out photos that get one."""
LEAST_PHOTOS = 50
"""Photos that a source needs to have a say in the thresholds: of fewer one more mistake moves them too far."""
LOWEST = 0.5
"""No threshold goes below: an answer that is more likely wrong than right is none."""


def softmax(logits: Floats) -> Floats:
    """Return probabilities (n, c) of logits (n, c)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def fit_temperature(logits: Floats, targets: npt.NDArray[np.int64]) -> float:
    """Return the temperature that makes the truth most likely (Guo et al. 2017), from 0.2 to 5 in 1 % steps."""
    candidates = np.exp(np.arange(np.log(0.2), np.log(5.0), 0.01))
    rows = np.arange(len(targets))
    losses = [-np.log(softmax(logits / each)[rows, targets] + 1e-12).mean() for each in candidates]
    return float(candidates[int(np.argmin(losses))])


def choose_threshold(confidence: Floats, right: Bools, precision: float = PRECISION) -> float:
    """Return the lowest threshold whose answers are right as often as `precision`; 1.0 when none is.

    `confidence` (n,) is the best candidate's probability, `right` (n,) whether it is true.
    """
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= precision)
    if not len(enough):
        return 1.0
    return max(LOWEST, float(confidence[order[enough[-1]]]))


def expected_calibration_error(confidence: Floats, right: Bools, bins: int = 15) -> float:
    """Average |accuracy - confidence| over equal bins of confidence, weighted by their photos (Naeini et al. 2015)."""
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for index in np.unique(number):
        members = number == index
        error += members.mean() * abs(float(right[members].mean()) - float(confidence[members].mean()))
    return error


def calibrate(
    logits: Floats, targets: npt.NDArray[np.int64], taxonomy: Taxonomy, *, sources: Sequence[str] = ()
) -> tuple[dict[str, Any], float]:
    """Return a bundle's `temperature` and `thresholds` by level, and the calibration error that is left.

    `logits` (n, n_classes) are of photos that were not learnt from, `targets` (n,) their classes. With `sources` (n,),
    answers must be right often enough on the photos of each source: a large easy one must not vouch for a hard one.
    """
    temperature = fit_temperature(logits, targets)
    probabilities = softmax(logits / temperature)
    thresholds = {}
    for level in LEVELS:
        summed = taxonomy.sum_to(level, probabilities)
        right = summed.argmax(1) == taxonomy.index(level)[targets]
        parts = [summed.max(1)[part] for part in _parts(sources, len(targets))]
        rights = [right[part] for part in _parts(sources, len(targets))]
        chosen = max(choose_threshold(each, true) for each, true in zip(parts, rights, strict=True))
        thresholds[level] = round(chosen, 3)
    error = expected_calibration_error(probabilities.max(1), probabilities.argmax(1) == targets)
    return {"temperature": round(temperature, 4), "thresholds": thresholds}, float(error)


def _parts(sources: Sequence[str], n: int) -> list[Bools]:
    """Return which photos (n,) each source with enough of them has; all photos are one where no source has."""
    names = np.asarray(sources, dtype=str)
    parts = [names == name for name in np.unique(names)] if len(names) == n else []
    return [part for part in parts if part.sum() >= LEAST_PHOTOS] or [np.ones(n, bool)]
