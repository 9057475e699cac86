"""A head on still features: vectors and labels in, logistic regression with its temperature and threshold out.

How much rare labels count, and how strong the penalty is, the validation part decides by macro-F1 and log-loss; the
test part is never seen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.runtime.calibration import LOWEST, lowest_threshold, softmax
from carspotter.training.linear import Doubles, FitSettings, Fitted, Ints, View, fit_vectors

BALANCES = (0.5, 1.0)
"""How much rare labels count: by the root of how rare they are, or each label alike. 0 would be to let them go."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedHead:
    """A fitted head: `held` (m, k) are the calibrated probabilities of the validation part, by a head without it."""

    fitted: Fitted
    held: Doubles
    balance: float
    macro_f1: float
    threshold: float


def fit_head(views: list[View], n_labels: int, chosen: npt.NDArray[np.bool_], settings: FitSettings) -> FittedHead:
    """Fit on vectors (n, d) and their mirrored views; rows of the mask `chosen` (n,) choose. Raises TrainingError."""
    truth = views[0][1][chosen]
    tried = []
    for balance in BALANCES:
        fitted = fit_vectors(views, n_labels, chosen, settings.with_balance(balance))
        held = softmax(fitted.held / fitted.temperature)
        loss = -float(np.log(held[np.arange(len(truth)), truth] + 1e-12).mean())
        tried.append(((macro_f1(truth, held.argmax(1), n_labels), -loss), balance, fitted, held))
    (figure, _), balance, fitted, held = max(tried, key=lambda each: each[0])
    best = held.max(1)
    # None: no threshold keeps 95 % right; then the head is only believed where it is certain.
    threshold = lowest_threshold(best, held.argmax(1) == truth, least=LOWEST)
    return FittedHead(
        fitted=fitted,
        held=held,
        balance=balance,
        macro_f1=figure,
        threshold=round(1.0 if threshold is None else threshold, 4),
    )


def choose_gate(exterior: Doubles, truth: npt.NDArray[np.bool_]) -> float:
    """Return the least probability of `exterior` (n,) by which as many photos as can be are judged right."""
    tried = np.unique(np.append(exterior, 0.5))
    right = [int(((exterior >= least) == truth).sum()) for least in tried]
    best = np.flatnonzero(np.array(right) == max(right))
    # The middle of the best ones: at their edge the next photo may fall to either side.
    return round(float(tried[best[len(best) // 2]]), 4)


def macro_f1(truth: Ints, answer: Ints, n_labels: int) -> float:
    """Return the mean F1 over labels that occur in the truth, to choose by; `evaluation` counts what is reported."""
    hits = np.bincount(truth[truth == answer], minlength=n_labels)
    both = np.bincount(truth, minlength=n_labels) + np.bincount(answer, minlength=n_labels)
    occurs = np.bincount(truth, minlength=n_labels) > 0
    return float((2 * hits / np.maximum(both, 1))[occurs].mean()) if occurs.any() else 0.0
