"""Try heads on photos that they did not learn from, to choose among strengths of the penalty.

Photos judge each other in turn, or validation photos judge alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError
from carspotter.recognition.probes import Classes, Floats, fit_probe, fit_prototypes
from carspotter.recognition.unknown import FOLDS, Fit, Seen, profiles
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.taxonomy import Taxonomy

LearnedBy = Literal["probe", "prototypes"]

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Strengths of the L2 penalty to choose from, strongest first: each fit begins where the stronger one ended."""

# Without validation photos each fifth part is judged by a head fitted on the others; of many photos one part will do.
_PARTS = FOLDS
MANY = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One way to fit, judged on photos that were held out."""

    method: LearnedBy
    strength: float
    logits: NDArray[np.float64]
    accuracy: float
    loss: float


Way = tuple[LearnedBy, tuple[float, ...]]
HeldOut = tuple[Seen, Classes]


def tried(
    way: Way, seen: Seen, y: Classes, taxonomy: Taxonomy, *, held: HeldOut | None, parts: Classes | None
) -> list[_Trial]:
    """Fit with each strength and judge each fit by what it did not learn from."""
    method, strengths = way
    x = seen.embeddings
    truth = held[1] if held is not None else y[tested_rows(parts)]
    logits = np.zeros((len(strengths), len(truth), len(taxonomy)), np.float64)
    for learnt, tested, judged in _rounds(x, held, parts):
        start: Head | None = None
        for number, strength in enumerate(strengths):
            # Each weaker penalty starts at the stronger one's optimum, which is near: a fraction of the steps.
            start = _head(method, x[learnt], y[learnt], n_classes=len(taxonomy), strength=strength, start=start)
            logits[number, judged] = start.logits(tested)
    return [_trial(method, strength, logits[number], truth) for number, strength in enumerate(strengths)]


def _rounds(
    x: Floats, held: HeldOut | None, parts: Classes | None
) -> list[tuple[NDArray[np.bool_], Floats, NDArray[np.bool_]]]:
    """Return rows to learn from, embeddings to judge, and which rows of the judged these are."""
    if held is not None or parts is None:
        assert held is not None
        return [(np.ones(len(x), bool), held[0].embeddings, np.ones(len(held[1]), bool))]
    tested = tested_rows(parts)
    # -1 differs from each part, so that a class's only group is always learnt from.
    return [(parts != part, x[parts == part], parts[tested] == part) for part in np.unique(parts[tested]).tolist()]


def tested_rows(parts: Classes | None) -> NDArray[np.bool_]:
    """Return which photos (n,) are judged, of parts (n,) as `deal_parts` gives them."""
    assert parts is not None
    # A fifth of 4000 photos is 800, on which 95 % right is known to 1.5 points; five fits would only cost time.
    return (parts >= 0) if len(parts) < MANY else (parts == 0)


def fitter(method: LearnedBy, strength: float) -> Fit:
    """Return what fits a head to photos of some classes, as `unknown` asks for it."""

    def fit(seen: Seen, y: Classes, rows: Classes) -> Head:
        head = _head(method, seen.embeddings, y, n_classes=len(rows), strength=strength, start=None)
        return head if seen.said is None else replace(head, profiles=profiles(seen.said, y, len(rows)))

    return fit


def _trial(method: LearnedBy, strength: float, logits: NDArray[np.float64], truth: Classes) -> _Trial:
    # At temperature 1: trials are compared before any is calibrated, all alike.
    likelihood = softmax(logits)[np.arange(len(truth)), truth]
    return _Trial(
        method=method,
        strength=strength,
        logits=logits,
        accuracy=float((logits.argmax(axis=1) == truth).mean()),
        loss=float(-np.log(likelihood + 1e-12).mean()),
    )


def _head(method: LearnedBy, x: Floats, y: Classes, *, n_classes: int, strength: float, start: Head | None) -> Head:
    if method == "prototypes":
        return fit_prototypes(x, y, n_classes)
    return fit_probe(x, y, n_classes, strength=strength, start=start)


def deal_parts(y: Classes, groups: Sequence[Any] | None, seed: int) -> Classes:
    """Deal groups of photos out to `_PARTS` parts, class by class; -1 always learns: a class's only group."""
    names = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(names) != len(y):
        raise BundleError(f"{len(names)} groups for {len(y)} photos; each photo needs one")
    # Groups, not photos, are shuffled: photos of one ad must not be learnt and judged at once.
    order = np.random.default_rng(seed).permutation(int(names.max()) + 1)
    part = np.full(len(order), -1, np.int64)
    dealt = 0  # each class begins where the one before ended, so that no part takes the only other photo of all
    for each in np.unique(y).tolist():
        members = np.unique(names[y == each])
        # In the shuffled order within the class, not in that of the names.
        members = members[np.argsort(order[members])]
        if len(members) > 1:
            # A group that an earlier class dealt out stays where it is: it has photos of both classes.
            part[members] = np.where(part[members] < 0, (dealt + np.arange(len(members))) % _PARTS, part[members])
            dealt += len(members)
    return part[names]
