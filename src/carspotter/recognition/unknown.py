"""Choose the evidence below which a learned bundle refuses a vehicle as of none of its classes.

In: embeddings and their classes, and a way to fit a head. Out: the least evidence (`Head.evidence`) of an answer. The
unknown are classes that were left out of a fit, a fifth of the classes in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carspotter.recognition.probes import Classes, Floats
from carspotter.runtime.head import Head

Fit = Callable[[Floats, Classes, int], Head]
Evidence = NDArray[np.float64]
Apart = tuple[Evidence, Evidence]
"""The evidence of photos of learnt classes, and that of photos of classes that were left out, by one head."""

KEPT = 0.9
"""The least share of vehicles of learnt classes that is kept, however alike the others are."""
REFUSED = 0.8
"""Share of the others that is refused where no second photo shows how many of the learnt classes that costs."""
FOLDS = 5


def left_out(
    fit: Fit,
    x: Floats,
    y: Classes,
    *,
    held: tuple[Floats, Classes] | None = None,
    parts: Classes | None = None,
    folds: int = FOLDS,
    most: int | None = None,
    seed: int = 0,
) -> list[Apart]:
    """Return the evidence of photos of learnt classes and of classes that were left out, for each fold of the classes.

    `x` (n, d) and `y` (n,) are learnt from, except the classes of a fold. Of learnt classes the photos of `held` are
    asked, or those of the fold's part in `parts` (n,), which is not learnt from then. At most `most` folds are
    done. There is no fold where fewer than three classes have photos.
    """
    found = np.unique(y)
    # Each class is left out in one fold, so that every class is once a stranger.
    fold_of = np.random.default_rng(seed).permutation(len(found)) % min(folds, len(found))
    apart = []
    for fold in range(int(fold_of.max()) + 1)[:most]:
        is_out = np.isin(y, found[fold_of == fold])
        tested = np.zeros(len(y), bool) if parts is None else parts == fold
        learnt = ~is_out & ~tested
        classes = np.unique(y[learnt])
        if len(classes) < 2:
            continue
        head = fit(x[learnt], np.searchsorted(classes, y[learnt]).astype(np.int64), len(classes))
        asked, shown = (x[tested], y[tested]) if held is None else held
        apart.append((head.evidence(asked[np.isin(shown, classes)]), head.evidence(x[is_out])))
    return apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The evidence below which a vehicle is of no learnt class, and which shares are then kept and refused."""

    least: float
    kept: float
    refused: float


def choose_refusal(apart: Sequence[Apart]) -> Refusal | None:
    """Choose the least evidence of an answer; None without a fold in which photos stand on both sides.

    As large a share of the unknown is refused as of the known is kept, but never more than a tenth of these. Each fold
    has a head of its own, so that shares are averaged, and the evidence that keeps them.
    """
    judged = [(known, unknown) for known, unknown in apart if len(known) and len(unknown)]
    if not judged:
        return None
    kept = max(KEPT, float(np.mean([_balance(known, unknown) for known, unknown in judged])))
    # The evidence that just this share of the known reaches.
    least = [float(np.quantile(known, 1 - kept)) for known, _ in judged]
    refused = [float((unknown < each).mean()) for each, (_, unknown) in zip(least, judged, strict=True)]
    return Refusal(least=float(np.mean(least)), kept=kept, refused=float(np.mean(refused)))


def _balance(known: Evidence, unknown: Evidence) -> float:
    """Return the share of the known that stays where about as large a share of the unknown goes."""
    # Every value at which a share changes.
    tried = np.unique(np.concatenate([known, unknown]))
    kept = 1 - np.searchsorted(np.sort(known), tried) / len(known)
    refused = np.searchsorted(np.sort(unknown), tried) / len(unknown)
    return float(kept[np.abs(kept - refused).argmin()])
