"""Named figures of a prediction table with 95 % intervals. Numpy alone; it reads no file and draws nothing.

Each figure leaves out the photos whose truth it would need and does not have, and says how many it counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import EvaluationError
from carspotter.evaluation.ads import AdFigures, ad_figures
from carspotter.evaluation.curves import (
    CurvePoint,
    ReliabilityBin,
    calibration_error,
    coverage_at,
    coverage_curve,
    reliability,
)
from carspotter.evaluation.f1 import class_f1
from carspotter.evaluation.f1 import macro_f1 as macro_f1
from carspotter.evaluation.intervals import Estimate, Share, auroc, grouped_interval
from carspotter.evaluation.markets import MarketFigures, market_figures
from carspotter.evaluation.predictions import DEPTHS, UNLABELLED, Bools, Depth, Floats, Ints, Predictions
from carspotter.records import UNKNOWN_VIEWPOINT, VIEWPOINTS
from carspotter.taxonomy import LEVELS, Level, Taxonomy


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFigures:
    """The figures of a level: `left_out` photos have no truth there.

    `at_precision` is the point that answers most photos at 95 % precision, None where there is none.
    """

    level: Depth
    names: int
    right: Share
    left_out: int
    calibration_error: float
    at_precision: CurvePoint | None
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """The figures of a class: photos that show it, precision of its answers, recall of its photos, F1."""

    name: str
    support: int
    answered: int
    precision: Share
    recall: Share
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewpointFigures:
    """The shares right for one side from which vehicles are seen; `photos` counts unlabelled ones too."""

    name: str
    photos: int
    right: Share
    make_right: Share


SEEN = "seen"
"""Column of a table: `yes` where the network has learnt from the photo, else `no`; lacking where that is not known."""
BY_CHANCE = "one in 200 looks so by chance"
"""Of 6751 photos that were not learnt from the hashes take 36 for seen (RESULTS.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFigures:
    """How many of the photos the network has learnt from, and how often it is right on the others."""

    photos: int
    top1: Share
    levels: Mapping[Level, Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures of a prediction table; `top1_by_ad` is the interval of top-1 that takes ads into account.

    Of an attribute `levels` has the class alone.
    """

    name: str
    photos: int
    labelled: int
    n_classes: int
    top1: Share
    top1_by_ad: Estimate | None
    top5: Share
    macro_f1: Estimate
    log_loss: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    levels: tuple[LevelFigures, ...]
    classes: tuple[ClassFigures, ...]
    viewpoints: tuple[ViewpointFigures, ...]
    ads: AdFigures | None
    markets: tuple[MarketFigures, ...]
    seen: SeenFigures | None = None
    attribute: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a figure that cannot be counted is null."""
        content = plain(self)
        assert isinstance(content, dict)
        return content


def evaluate(predictions: Predictions) -> Evaluation:
    """Return all figures of a table. Raises EvaluationError for one without photos or without any truth."""
    if not len(predictions):
        raise EvaluationError(f"predictions {predictions.name} hold no photo; there is nothing to count")
    if all((predictions.truth_at(depth) == UNLABELLED).all() for depth in DEPTHS):
        raise EvaluationError(f"predictions {predictions.name}: no photo has a truth at any level; label some first")
    # Photos known only down to a make or model count at their level (below), not among the classes.
    labelled = predictions.take(predictions.truth != UNLABELLED)
    # Class figures are of photos with a class alone; `level_figures` and the others get the whole table.
    p, truth = labelled.probabilities, labelled.truth
    answer, best = p.argmax(1), p.max(1).astype(np.float64)
    right = labelled.right_at()[0]
    groups = _groups(labelled)
    by_ad = None
    # Photos of one ad are right or wrong together, so that n photos are fewer independent trials than n.
    if groups is not None and len(truth):
        low, high = grouped_interval(right, groups)
        by_ad = Estimate(value=float(right.mean()), low=low, high=high)
    return Evaluation(
        name=predictions.name,
        photos=len(predictions),
        labelled=len(labelled),
        n_classes=len(predictions.taxonomy),
        top1=Share.of(right),
        top1_by_ad=by_ad,
        top5=Share.of(in_top(p, truth, 5)),
        macro_f1=macro_f1(truth, answer, len(predictions.taxonomy), groups=groups),
        log_loss=log_loss(p, truth),
        calibration_error=calibration_error(best, right),
        reliability=reliability(best, right),
        levels=tuple(level_figures(predictions, depth) for depth in depths_of(predictions)),
        classes=class_figures(truth, answer, class_names(predictions.taxonomy)),
        viewpoints=viewpoint_figures(predictions),
        ads=ad_figures(predictions),
        markets=market_figures(predictions),
        seen=seen_figures(predictions),
        attribute=predictions.attribute,
    )


def depths_of(predictions: Predictions) -> tuple[Depth, ...]:
    """Return the levels at which a table is judged: of an attribute's words the class alone."""
    return ("class",) if predictions.attribute else LEVELS


def seen_figures(predictions: Predictions) -> SeenFigures | None:
    """Count what is right on photos that the network has not learnt from; None where that is not known."""
    if SEEN not in predictions.about:
        return None
    seen = predictions.about[SEEN] == "yes"
    others = predictions.take(~seen)

    def right(depth: Depth) -> Share:
        hit, known = others.right_at(depth)
        return Share.of(hit[known])

    return SeenFigures(photos=int(seen.sum()), top1=right("class"), levels={level: right(level) for level in LEVELS})


def seen_in_words(figures: SeenFigures | None) -> list[str]:
    """Say how many of the photos the network has learnt from, and what is right on the others; nothing for none."""
    if figures is None or not figures.photos:
        return []
    said = [f"the network seems to have learnt from {figures.photos} of them before this training ({BY_CHANCE})"]
    if (rest := figures.top1).total:
        said.append(f"of the other {rest.total} {rest.value:.1%} are right ({rest.low:.1%} to {rest.high:.1%})")
    return said


def class_names(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Return a name for each class that no other has: the full name, with its body where two would be alike."""
    names = [taxon.name() for taxon in taxonomy.classes]
    counts = Counter(names)
    return tuple(
        f"{name} ({taxon.body})" if counts[name] > 1 and taxon.body else name
        for name, taxon in zip(names, taxonomy.classes, strict=True)
    )


def names_at(taxonomy: Taxonomy, depth: Depth) -> tuple[str, ...]:
    """Return the names of the classes, or of a level's taxa."""
    return class_names(taxonomy) if depth == "class" else taxonomy.names(depth)


def in_top(probabilities: Floats, truth: Ints, k: int) -> Bools:
    """Return (n,) whether the truth is among the k most probable; of equal ones the first in order comes first."""
    return np.array([rank_of(p, t) <= k for p, t in zip(probabilities, truth.tolist(), strict=True)], np.bool_)


def rank_of(probabilities: Floats, truth: int) -> int:
    """Return the place from 1 of the truth among probabilities (c,); of equal ones the first in order comes first."""
    own = probabilities[truth]
    # Counting needs no sort, and breaks ties in the same way as `argmax`, so that rank 1 is top-1.
    return int((probabilities > own).sum() + (probabilities[:truth] == own).sum()) + 1


def log_loss(probabilities: Floats, truth: Ints) -> float:
    """Return the mean negative log-probability of the truth, in nats; NaN without photos."""
    if not len(truth):
        return math.nan
    # float64: means over many photos lose digits in float32. 1e-12 bounds one photo's loss to 28 nats.
    own = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(own, 1e-12)).mean())


def class_figures(truth: Ints, answer: Ints, names: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    """Return the figures of each class in their order; F1 is NaN for one that is neither shown nor answered."""
    support, size, f1 = class_f1(truth, answer, len(names))
    hits = np.bincount(truth[truth == answer], minlength=len(names))
    # `size` counts photos of the class and answers of it together, as F1 has them in its denominator.
    answered = size - support
    return tuple(
        ClassFigures(
            name=name,
            support=int(support[i]),
            answered=int(answered[i]),
            precision=Share(count=int(hits[i]), total=int(answered[i])),
            recall=Share(count=int(hits[i]), total=int(support[i])),
            # 0 would say that the class is always wrong; of one that never came up nothing is known.
            f1=float(f1[i]) if size[i] else math.nan,
        )
        for i, name in enumerate(names)
    )


def level_figures(predictions: Predictions, depth: Depth) -> LevelFigures:
    """Return the figures of a level, or of the class, over the photos whose truth is known there."""
    right, known = predictions.right_at(depth)
    # A level's probabilities are sums over its classes, and its answer is the best of these sums.
    p, right = predictions.at(depth)[known], right[known]
    best = p.max(1).astype(np.float64)
    return LevelFigures(
        level=depth,
        names=p.shape[1],
        right=Share.of(right),
        left_out=int((~known).sum()),
        calibration_error=calibration_error(best, right),
        at_precision=coverage_at(best, right),
        curve=coverage_curve(best, right),
    )


def viewpoint_figures(predictions: Predictions) -> tuple[ViewpointFigures, ...]:
    """Return the figures by the column `viewpoint`, in the order of the sides; none without that column."""
    if "viewpoint" not in predictions.about:
        return ()
    texts = predictions.about["viewpoint"]
    # No viewpoint and the viewpoint "unknown" mean the same to a reader of the table.
    views = np.where(texts == "", UNKNOWN_VIEWPOINT, texts)
    # Around the vehicle, then words of other data sets by the alphabet: a table may have any.
    order = [*VIEWPOINTS, UNKNOWN_VIEWPOINT]
    names = sorted(set(views.tolist()), key=lambda name: (order.index(name) if name in order else len(order), name))
    right = {depth: predictions.right_at(depth) for depth in ("class", "make")}
    found = []
    for name in names:
        members = views == name
        shares = [Share.of(hit[members & known]) for hit, known in right.values()]
        found.append(ViewpointFigures(name=name, photos=int(members.sum()), right=shares[0], make_right=shares[1]))
    return tuple(found)


def unknown_score(predictions: Predictions, depth: Depth = "class") -> npt.NDArray[np.float64]:
    """Return (n,) 1 less the best probability: how little looks like what is known (Hendrycks & Gimpel 2017)."""
    return np.asarray(1 - predictions.at(depth).max(1), np.float64)


def unknown_auroc(known: Predictions, unknown: Predictions, depth: Depth = "class") -> Estimate:
    """Return how well the unknown score separates photos of taxa that were left out of the training from the others."""
    return auroc(unknown_score(unknown, depth), unknown_score(known, depth))


def plain(value: Any) -> Any:
    """Return a figure as JSON values: shares with value, interval and counts, NaN as null."""
    if isinstance(value, Share):
        ends = {"value": plain(value.value), "low": value.low, "high": value.high} if value.total else {"value": None}
        return {**ends, "count": value.count, "total": value.total}
    # A Share is one too, and comes first, since its value and interval are properties that fields do not show.
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _groups(predictions: Predictions) -> npt.NDArray[np.intp] | None:
    """Number the groups or ads (n,), a photo without one as its own; None where none has two photos."""
    ids = predictions.about.get("group", predictions.about.get("ad_id"))
    if ids is None:
        return None
    # The zero byte begins no ad id, so that a photo without one shares its group with nobody.
    own = np.array([f"\0{i}" for i in range(len(ids))])
    number: npt.NDArray[np.intp] = np.unique(np.where(ids == "", own, ids), return_inverse=True)[1]
    return number if len(number) and number.max() + 1 < len(number) else None
