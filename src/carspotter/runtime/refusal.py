"""Choose the bar below which a vehicle is of none of a bundle's classes, from photos of its classes and of others.

In: for each way of leaving classes out, the evidence of photos of the classes that stayed and of those that went. Out:
the least evidence of an answer. Whoever makes a network answers by the same rule: what evidence is, is the caller's,
as long as more of it speaks for the classes. Numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Evidence = NDArray[np.float64]
Apart = tuple[Evidence, Evidence]
"""The evidence of photos of learnt classes, and that of photos of classes that were left out, by one network."""

KEPT = 0.95
"""The least share of vehicles of learnt classes that is kept, however alike the others are."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refusal:
    """The evidence below which a vehicle is of no learnt class, and the photos that it was chosen by.

    `known` (n,) is the evidence of photos of learnt classes that were held out, `unknown` (m,) that of classes that
    were left out; either may be empty. `evaluation` counts which shares are kept and refused.
    """

    least: float
    known: Evidence
    unknown: Evidence


def choose_refusal(apart: Sequence[Apart]) -> Refusal | None:
    """Choose the least evidence of an answer; None without photos on both sides.

    As large a share of the unknown is refused as of the known is kept, but never more than a twentieth of these. Folds
    are pooled: of a fold's few known photos the least is no measure of what a new one reaches.
    """
    known, unknown = (np.concatenate([fold[side] for fold in apart] or [np.zeros(0)]) for side in (0, 1))
    if not len(known) or not len(unknown):
        return None
    share = _balance(known, unknown)
    # In the middle of the gap, where there is one: at its upper end the least of the known photos would decide alone.
    middle = (float(np.quantile(unknown, share)) + float(np.quantile(known, 1 - share))) / 2
    return Refusal(least=min(middle, float(np.quantile(known, 1 - KEPT))), known=known, unknown=unknown)


def _balance(known: Evidence, unknown: Evidence) -> float:
    """Return the share of the known that stays where about as large a share of the unknown goes."""
    # Every value at which a share changes.
    tried = np.unique(np.concatenate([known, unknown]))
    kept = 1 - np.searchsorted(np.sort(known), tried) / len(known)
    refused = np.searchsorted(np.sort(unknown), tried) / len(unknown)
    return float(kept[np.abs(kept - refused).argmin()])
