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
from carspotter.evaluation.intervals import Estimate, Share, auroc, grouped_interval, mean_reach
from carspotter.evaluation.markets import MarketFigures, market_figures
from carspotter.evaluation.predictions import DEPTHS, UNLABELLED, Bools, Depth, Floats, Ints, Predictions
from carspotter.records import UNKNOWN_VIEWPOINT, VIEWPOINTS
from carspotter.runtime.intervals import Z95, wilson
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
    said = [f"the network has learnt from {figures.photos} of them, or from copies, before this training"]
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


def macro_f1(truth: Ints, answer: Ints, n_classes: int, *, groups: npt.NDArray[np.intp] | None = None) -> Estimate:
    """Return the mean F1 of the classes that occur among `truth`, with its interval.

    The interval is the wider one, on each side, of two. By the delta method (Takahashi et al. 2022) d F1/d p of a photo
    of class i answered j is 2(1 - F_i)/s_i where i = j, else -(F_i/s_i + F_j/s_j), s being the share of photos that are
    of a class or answered so; for many photos. And Wilson's of each class, put together (`_class_reach`): it has a
    width where nothing was wrong, or a class has three photos. With `groups` (n,) those of a group vary together.
    """
    n = len(truth)
    if not n:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    support, size, f1 = _f1(truth, answer, n_classes)
    # A class without a photo has no recall; to count its F1 as 0 would punish knowing more classes.
    occurs = support > 0
    # 1 / s_i of each class that occurs, over their number: the share of a class in the mean.
    weight = np.where(occurs, 1 / np.maximum(size / n, 1e-12), 0.0) / occurs.sum()
    # The influence of each photo on macro-F1: a right one lifts its class, a wrong one lowers two of them.
    pull = np.where(truth == answer, 2 * (1 - f1[truth]) * weight[truth], 0.0)
    pull -= np.where(truth != answer, f1[truth] * weight[truth] + f1[answer] * weight[answer], 0.0)
    # Influences of photos of one ad are summed before they are squared: their errors are correlated.
    sums = pull if groups is None else np.bincount(groups, weights=pull)
    alone, together = float((pull**2).sum()), float((sums**2).sum())
    # How many photos count as one (Kish 1965). Without a mistake nothing shows how alike a group is: each is one photo.
    effect = max(1.0, together / alone) if alone else n / (n if groups is None else len(np.unique(groups)))
    # The influences have mean 0, so that their sum of squares over n squared is the variance of the mean.
    half = Z95 * math.sqrt(together) / n
    value = float(f1[occurs].mean())
    below, above = _class_reach(f1[occurs], size[occurs] / effect)
    return Estimate(value=value, low=max(0.0, value - max(half, below)), high=min(1.0, value + max(half, above)))


def _class_reach(f1: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return how far a mean of F1 (k,) may be off; `size` (k,) are photos of each class and answers of it together."""
    # F1 = 2 hits / size. Of the photos that are of the class or answered so, size - hits, a share of p = F1 / (2 - F1)
    # are both: F1 = 2 p / (1 + p) grows with p, so that the interval of the share becomes that of F1 (Goutte & Gaussier
    # 2005 have both as random).
    hits = f1 * size / 2
    ends = (2 * p / (1 + p) for p in wilson(hits, size - hits))
    return mean_reach(f1, *ends)


def class_figures(truth: Ints, answer: Ints, names: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    """Return the figures of each class in their order; F1 is NaN for one that is neither shown nor answered."""
    support, size, f1 = _f1(truth, answer, len(names))
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


def _f1(truth: Ints, answer: Ints, n_classes: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the support of each class, its support and answers together, and its F1 (0 where both are 0)."""
    support = np.bincount(truth, minlength=n_classes)
    # F1 = 2 hits / (photos of the class + answers of it), which needs no division by 0 for precision or recall.
    size = support + np.bincount(answer, minlength=n_classes)
    hits = np.bincount(truth[truth == answer], minlength=n_classes)
    return support, size, 2 * hits / np.maximum(size, 1)


def _groups(predictions: Predictions) -> npt.NDArray[np.intp] | None:
    """Number the groups or ads (n,), a photo without one as its own; None where none has two photos."""
    ids = predictions.about.get("group", predictions.about.get("ad_id"))
    if ids is None:
        return None
    # The zero byte begins no ad id, so that a photo without one shares its group with nobody.
    own = np.array([f"\0{i}" for i in range(len(ids))])
    number: npt.NDArray[np.intp] = np.unique(np.where(ids == "", own, ids), return_inverse=True)[1]
    return number if len(number) and number.max() + 1 < len(number) else None
