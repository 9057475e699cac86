"""The figures of each market by itself, so that a large easy one does not vouch for a hard one.

A market is a value of the column `source`. Truths are the labels' own words (columns `label_make`, …), so that a car of
a make that the taxonomy lacks counts as wrong; answers are those that were given (`answer`, `answer_level`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.curves import CurvePoint, calibration_error, coverage_at
from carspotter.evaluation.intervals import Estimate, Share, grouped_interval
from carspotter.evaluation.predictions import Predictions, Texts
from carspotter.runtime.calibration import LEAST_PHOTOS
from carspotter.taxonomy import LEVELS, Level, Taxon

SMALL = f"those under {LEAST_PHOTOS} photos"
"""Names the markets that have too few photos each, taken together."""
STRICT = 0.99
"""The precision of the second coverage that is reported; the first is `PRECISION`."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFigures:
    """The figures of a market's photos whose make is labelled.

    `make` and `model` are right at top-1, the latter where the label says it and below the likeliest make;
    `known_model` is that of models that the taxonomy has. `at_95` and `at_99` are the most that can be answered with
    the make right so often. `answered` is what was answered; `right` how much of that is true down to its level, or as
    deep as the label goes, and `by_level` the answers that end at each level whose truth is known there. The last four
    are of photos that were answered or not; they hold nothing where the table has no answers.
    """

    name: str
    photos: int
    top1: Share
    make: Share
    make_by_ad: Estimate
    model: Share
    known_model: Share
    calibration_error: float
    at_95: CurvePoint | None
    at_99: CurvePoint | None
    answered: Share
    right: Share
    right_by_ad: Estimate
    by_level: Mapping[Level, Share]


def market_figures(predictions: Predictions) -> tuple[MarketFigures, ...]:
    """Return the figures of each market, by name, and of those with few photos together; () without markets.

    Counted are the photos whose label says a make.
    """
    if not {"source", "label_make"} <= set(predictions.about):
        return ()
    labelled = predictions.take((predictions.about["label_make"] != "") & (predictions.about["source"] != ""))
    sources = labelled.about["source"]
    names, counts = np.unique(sources, return_counts=True)
    found = [_market(str(name), labelled.take(sources == name)) for name in names]
    # Markets of few photos have wide intervals each; together they say how rare makes fare.
    small = names[counts < LEAST_PHOTOS]
    if len(small) > 1:
        found.append(_market(SMALL, labelled.take(np.isin(sources, small))))
    return tuple(found)


def _market(name: str, table: Predictions) -> MarketFigures:
    # Along the way down, as products answer: the best model of all could be of another make.
    way = _way(table)
    model_known = table.about["label_model"] != ""
    make, model = way["make"] == table.about["label_make"], way["model"] == table.about["label_model"]
    # A model that the taxonomy lacks cannot be named: told apart, it is no mistake of the network.
    is_class = np.isin(table.about["label_model"], table.taxonomy.names("model"))
    # float64: means over many photos lose digits in float32.
    best = table.at("make").max(axis=1).astype(np.float64)
    answered, right, by_level = _answers(table)
    hit, is_labelled = table.right_at()
    return MarketFigures(
        name=name,
        photos=len(table),
        top1=Share.of(hit[is_labelled]),
        make=Share.of(make),
        make_by_ad=_by_ad(make, np.ones(len(table), bool), table),
        model=Share.of((make & model)[model_known]),
        known_model=Share.of((make & model)[model_known & is_class]),
        calibration_error=calibration_error(best, make),
        at_95=coverage_at(best, make),
        at_99=coverage_at(best, make, STRICT),
        answered=Share.of(answered),
        right=Share.of(right[answered]),
        right_by_ad=_by_ad(right, answered, table),
        by_level=by_level,
    )


def _way(table: Predictions) -> dict[Level, Texts]:
    """Return the names on the way down from the likeliest make, (n,) of each level."""
    chosen = table.taxonomy.descend({level: table.at(level) for level in LEVELS})
    return {level: np.array(table.taxonomy.names(level), dtype=str)[chosen[level]] for level in LEVELS}


def _answers(table: Predictions) -> tuple[Bools, Bools, dict[Level, Share]]:
    """Return whether each photo (n,) was answered, whether rightly as far as is known, and the share at each level."""
    if "answer_level" not in table.about:
        nothing = np.zeros(len(table), bool)
        return nothing, nothing, {}
    depth = table.about["answer_level"]
    answered = depth != ""
    right = np.zeros(len(table), bool)
    by_level: dict[Level, Share] = {}
    labels = np.stack([table.about[f"label_{level}"] for level in LEVELS], axis=1)
    for place, level in enumerate(LEVELS):
        # Each photo is judged at the level of its own answer, and at no other.
        here = depth == level
        taxa = {taxon.name(level): taxon.up_to(level) for taxon in table.taxonomy.classes}
        pairs = zip(table.about["answer"][here].tolist(), labels[here, : place + 1].tolist(), strict=True)
        right[here] = [name in taxa and _agrees(taxa[name], label) for name, label in pairs]
        by_level[level] = Share.of(right[here & (labels[:, place] != "")])
    return answered, right, by_level


def _agrees(answer: Taxon, label: Sequence[str]) -> bool:
    """Return whether an answer is what a label says down to its level, "" where it says nothing.

    By the taxonomy and not by the names' beginnings: a Golf Plus is no Golf.
    """
    said = {level: name for level, name in zip(LEVELS, label, strict=False) if name}
    deepest = [*said][-1]
    # A generation that the label lacks agrees: its "C-Class 2015" is "C-Class W205 2015".
    return (answer if "generation" in said else replace(answer, generation=None)).name(deepest) == said[deepest]


def _by_ad(right: Bools, counted: Bools, table: Predictions) -> Estimate:
    """Return a share of the counted photos with an interval that takes their ads into account."""
    # A photo without an ad is an ad of its own: it varies with no other.
    ads = table.about.get("ad_id", table.photos)[counted]
    groups = np.unique(np.where(ads == "", table.photos[counted], ads), return_inverse=True)[1]
    low, high = grouped_interval(right[counted], groups)
    return Estimate(value=Share.of(right[counted]).value, low=low, high=high)
