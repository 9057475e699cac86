"""Multinomial logistic regression on vectors: vectors with classes in, a calibrated linear classifier out.

Rows that are set aside choose its strength and its temperature; after that it learns from all. It loads no torch, so
that a head on what a shipped network sees is there before torch would be.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from carspotter.errors import MissingExtraError
from carspotter.runtime.calibration import fit_temperature, softmax

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How classes are learnt from vectors. Raises ValueError for values out of range."""

    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Penalties on the squared weights that are tried: the loss is the mean cross-entropy plus strength / 2 times them,
    the vectors being scaled to a mean square of 1 a number."""
    balance: float = 0.0
    """A photo counts as its class's number of photos to the power of minus this; 1: each class counts alike."""
    mirror: bool = False
    """Learn from a mirrored copy of each photo, too."""
    swapped: tuple[tuple[int, int], ...] = ()
    """Pairs of classes that trade places when a photo is mirrored, such as left and right."""
    holdout: float = 0.15
    """Part of each class that is set aside for choosing."""

    def __post_init__(self) -> None:
        rules = [
            (bool(self.strengths) and min(self.strengths) > 0, f"strengths are {self.strengths}; each is above 0"),
            (0 <= self.balance <= 1, f"balance is {self.balance}; from 0 to 1"),
            (0 < self.holdout < 1, f"holdout is {self.holdout}; it must be between 0 and 1"),
        ]
        for holds, message in rules:
            if not holds:
                raise ValueError(f"baseline: {message}")

    def with_balance(self, balance: float) -> FitSettings:
        """Return the same with another balance."""
        return replace(self, balance=balance)


class Classifier(Protocol):
    """What answers for vectors."""

    def logits(self, vectors: Floats) -> Doubles:
        """Return (n, n_classes) for vectors (n, d); minus infinity for a class that was never seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """Answer `vectors @ weights.T + bias`, with weights (n_classes, d)."""

    weights: Floats
    bias: Floats

    def logits(self, vectors: Floats) -> Doubles:
        """Return (n, n_classes) for vectors (n, d)."""
        return np.asarray(vectors @ self.weights.T + self.bias, np.float64)


View = tuple[Floats, Ints]
"""Vectors (n, d) and their classes (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A classifier with its temperature and strength; `held` (m, n_classes) are logits of the rows that chose them.

    Those are of a classifier that had not learnt from them.
    """

    classifier: Linear
    temperature: float
    chosen: float
    held: Doubles


def fit_vectors(views: list[View], n_classes: int, held: npt.NDArray[np.bool_], settings: FitSettings) -> Fitted:
    """Choose strength and temperature on the rows of the mask `held` (n,), then learn from all.

    Views are vectors (n, d) with classes (n,): first the photos as they are, then their mirrored copies. Raises
    MissingExtraError.
    """
    # Judged on photos as they are: mirrored copies are a help for learning, no photos of their own.
    judge = _gather(views[:1], held, settings.balance)
    outcomes = []
    tried = _gather(views, ~held, settings.balance)
    for value, classifier in _fit_linear(tried, n_classes, settings.strengths):
        logits = classifier.logits(judge.x)
        # Each strength at its own best temperature, so that an overconfident head is not refused for what is curable.
        temperature = fit_temperature(logits, judge.targets)
        # By log-loss, not accuracy: of few photos many strengths have the same accuracy.
        chance = softmax(logits / temperature)[np.arange(len(judge.targets)), judge.targets]
        outcomes.append((float(-(judge.weights * np.log(chance + 1e-12)).mean()), temperature, value, logits))
    # The temperature was fitted to a head of fewer photos; the final one is a little better, so that it errs towards
    # doubt.
    _, temperature, chosen, logits = min(outcomes, key=lambda outcome: outcome[:3])
    ((_, classifier),) = _fit_linear(_gather(views, np.ones(len(held), bool), settings.balance), n_classes, [chosen])
    return Fitted(classifier=classifier, temperature=temperature, chosen=chosen, held=logits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Vectors:
    """Vectors (n, d), their classes (n,) and how much each counts (n,), 1 on average."""

    x: Floats
    targets: Ints
    weights: Doubles


def _gather(views: list[tuple[Floats, Ints]], chosen: npt.NDArray[np.bool_], balance: float) -> _Vectors:
    targets = np.concatenate([classes[chosen] for _, classes in views])
    # Divided by their mean below, so that the strength of the penalty means the same for every balance.
    weights = np.bincount(targets)[targets].astype(np.float64) ** -balance
    vectors = np.concatenate([each[chosen] for each, _ in views])
    return _Vectors(x=vectors, targets=targets, weights=weights / weights.mean())


def _fit_linear(known: _Vectors, n_classes: int, strengths: Sequence[float]) -> list[tuple[float, Linear]]:
    """Fit multinomial logistic regression for each strength, from the strongest, each starting at the one before."""
    logistic, unfinished = _import_sklearn()
    # Centred and scaled by one number for all: strengths then mean the same for HOG and for features of any size.
    mean = known.x.mean(axis=0)
    scale = np.float32(1 / max(float(np.sqrt(np.square(known.x - mean).mean())), 1e-6))
    # One scale, not one a column, which would blow up columns that are nearly constant.
    x = (known.x - mean) * scale
    n_seen = len(np.unique(known.targets))
    model = logistic(solver="lbfgs", warm_start=True, max_iter=200)
    fitted = []
    for strength in sorted(strengths, reverse=True):
        # sklearn sums the losses and weighs the sum by C; of two classes it penalises the difference of their rows,
        # whose square is twice the sum of theirs.
        model.set_params(C=(2 if n_seen == 2 else 1) / (strength * len(x)))
        with warnings.catch_warnings():
            # The held-out part judges what is there after 200 steps; weak penalties need not end sooner.
            warnings.simplefilter("ignore", unfinished)
            model.fit(x, known.targets, sample_weight=known.weights)
        fitted.append((strength, _unscaled(model, n_classes, mean, scale)))
    return fitted


def _unscaled(model: Any, n_classes: int, mean: Floats, scale: np.float32) -> Linear:
    """Take the head of a fitted regression back to vectors as they are, a row for every class."""
    rows, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # then sklearn keeps one row: of the second class against the first
        # Halves of opposite sign have the same difference, which is all that a softmax sees.
        rows, intercepts = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-intercepts / 2, intercepts / 2])
    weights = np.zeros((n_classes, len(mean)), np.float32)
    # A class that was never seen gets the probability 0.
    bias = np.full(n_classes, -np.inf, np.float32)
    # x' = (x - mean) * scale put into w x' + b: the scale goes into the weights, the mean into the bias.
    weights[model.classes_] = rows * scale
    bias[model.classes_] = intercepts - weights[model.classes_] @ mean
    return Linear(weights=weights, bias=bias)


def _import_sklearn() -> tuple[Any, type[Warning]]:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    return LogisticRegression, ConvergenceWarning
