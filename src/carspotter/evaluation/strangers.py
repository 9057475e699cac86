"""Figures of what a bundle refuses: photos of its classes and of others in, how well the two are told apart out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.intervals import Estimate, Share, auroc

AT_KEPT = 0.95
"""The share of own photos at which refusals are compared, as in the literature (FPR at 95 % TPR)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerFigures:
    """How the evidence of own photos and of strangers stands to each other, and what a bar makes of it.

    `at_95` is the share of strangers refused where 95 % of own photos are kept, whatever the bundle's own bar; `kept`
    and `refused` are what that bar keeps of own photos and refuses of strangers.
    """

    auroc: Estimate
    at_95: Share
    kept: Share
    refused: Share


def stranger_figures(own: npt.ArrayLike, strangers: npt.ArrayLike, least: float) -> StrangerFigures:
    """Count from the evidence of own photos (n,) and strangers (m,) and the bundle's bar; NaN where a side is empty."""
    mine, others = np.asarray(own, np.float64), np.asarray(strangers, np.float64)
    bar = float(np.quantile(mine, 1 - AT_KEPT)) if len(mine) else np.inf
    return StrangerFigures(
        auroc=auroc(mine, others),
        at_95=Share.of(others < bar),
        kept=Share.of(mine >= least),
        refused=Share.of(others < least),
    )
