"""Further heads of an identifier: their loss on a batch, and their temperatures and thresholds on held-out photos.

A head is a column of the labels, such as colour or body; `SUBJECT` is the one that says whether a crop shows a car.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from carspotter.runtime.bundle import CAR, SUBJECT
from carspotter.runtime.calibration import LOWEST, SURE_Z, fit_temperature, lowest_threshold

Batch = dict[str, Tensor]
Ints = npt.NDArray[np.int64]
HEAD = "head "
"""Begins the names of further heads in batches and figures, so that none hides one of ours."""
CARS_LOST = 0.01
"""Share of whole cars that the head `subject` may refuse: a seller would not forgive more."""


def head_loss(logits: Tensor, batch: Batch, name: str) -> Tensor:
    """Return the cross-entropy of a further head, unlabelled photos left out, mixed ones by their share."""
    target, share = batch[HEAD + name], batch["share"]
    own = F.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    other = F.cross_entropy(logits, target[batch["partner"]], ignore_index=-1, reduction="none")
    # A mixed photo counts as far as its parts are labelled, so that few labels are not diluted by many without.
    labelled = share * (target >= 0) + (1 - share) * (target[batch["partner"]] >= 0)
    return (share * own + (1 - share) * other).sum() / labelled.sum().clamp_min(1e-6)


def calibrate_heads(
    answers: Mapping[str, Tensor], truths: Mapping[str, Ints], words: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return `temperatures` of the heads, and under each head's name the probability from which its word is answered.

    `answers` are logits (n, w) of held-out photos, `truths` (n,) the numbers of their words, -1 where unknown.
    """
    found: dict[str, Any] = {"temperatures": {}}
    for name, truth in truths.items():
        known = truth >= 0
        softness = (
            round(fit_temperature(answers[name].double().numpy()[known], truth[known]), 4) if known.any() else 1.0
        )
        found["temperatures"][name] = softness
        chances = (answers[name] / softness).softmax(dim=1).numpy()
        found[name] = _least_car(chances, truth, words[name]) if name == SUBJECT else _least_sure(chances, truth)
    return found


def _least_car(chances: npt.NDArray[np.float32], truth: Ints, words: Sequence[str]) -> float:
    """Return the chance of a whole car that all but `CARS_LOST` of the held-out cars reach, at most one half."""
    car = words.index(CAR)
    cars = chances[truth == car, car]
    return round(min(0.5, float(np.quantile(cars, CARS_LOST))), 4) if len(cars) else 0.5


def _least_sure(chances: npt.NDArray[np.float32], truth: Ints) -> float:
    """Return from where on the best word is right often enough on the held-out photos, 1 where none can say so.

    It is never below `LOWEST`: a word that is more likely wrong than right is not answered.
    """
    known = truth >= 0
    best = chances[known].argmax(axis=1)
    surest = chances[known].max(axis=1).astype(np.float64)
    found = lowest_threshold(surest, best == truth[known], least=LOWEST, z=SURE_Z) if known.any() else None
    return 1.0 if found is None else math.ceil(found * 1e4) / 1e4  # up, since what lies just below may be wrong
