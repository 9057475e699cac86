"""Fit a temperature and choose thresholds on held-out logits; measure the calibration error. Numpy alone.

Trained networks and learned heads are calibrated alike; `recognition.identifier` applies what stands in the bundle.
An answer is as deep as it is sure, so that a threshold is judged by what is then answered at its level, in every source
by itself: a large easy one must not vouch for a hard one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.runtime.intervals import wilson
from carspotter.taxonomy import LEVELS, Level, Taxonomy

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
PRECISION = 0.95
"""What an answer should be right in, of the held-out photos that get one."""
POOLED_PRECISION = 0.97
"""The same of the photos of small sources together, among which an easy one may vouch for a hard one."""
LEAST_PHOTOS = 50
"""Photos that a source needs to be judged by itself, smaller ones being pooled: of fewer one mistake moves too much."""
SURE_Z = 0.8416
"""Quantile 0.8 of the normal distribution: a threshold's promise holds at the lower end of an interval. For a fixed
threshold the truth falls below in one of five cases; the lowest of many is chosen, so that few photos flatter more. Of
14 photos that are all right 0.95 may be promised; the mean promised it of one."""
ABOVE = 1e-4
"""Thresholds have four digits: one that must lie above a confidence lies so much above it."""
LOWEST = 0.5
"""No threshold goes below: a name that is more likely wrong than right is not an answer."""


def softmax(logits: Floats) -> Floats:
    """Return probabilities (n, c) of logits (n, c)."""
    # The largest becomes exp(0): nothing overflows, and the quotient stays the same.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def fit_temperature(
    logits: Floats, targets: Ints, *, members: Bools | None = None, weights: Floats | None = None
) -> float:
    """Return the temperature that makes the truth most likely (Guo et al. 2017), from 0.2 to 5 in 1 % steps.

    `targets` (n,) are classes, or rows of `members` (m, n_classes): sets of classes, any of which may be the truth.
    `weights` (n,) say how much each photo counts.
    """
    # Steps of equal ratio: from 1 to 1.1 changes as much as from 2 to 2.2.
    coarse = np.arange(math.log(0.2), math.log(5.0), 0.1)
    counts = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)

    def loss(log_temperature: float) -> float:
        p = softmax(logits / math.exp(log_temperature))
        # A photo known down to its model is explained by any class of it, so that their probabilities add up.
        true = p[np.arange(len(targets)), targets] if members is None else (p * members[targets]).sum(axis=1)
        return float(-(counts * np.log(true + 1e-12)).sum())

    # The loss has one valley, so that a step of 10 % finds it and steps of 1 % its floor.
    middle = min(coarse, key=loss)
    fine = middle + np.arange(-0.1, 0.1, 0.01)
    return math.exp(min(fine[(fine >= coarse[0]) & (fine < math.log(5.0))], key=loss))


def lowest_threshold(
    confidence: Floats, right: Bools, precision: float = PRECISION, *, least: float = 0.0, z: float = 0.0
) -> float | None:
    """Return the lowest threshold, `least` or more, whose answers are right as often as `precision`; None if none is.

    `confidence` (n,) is the best candidate's probability, `right` (n,) whether it is true. Answered is what reaches the
    threshold, photos of equal confidence together; tried are `least` and the finite confidences that occur. With `z`
    the lower end of Wilson's interval (1927) of that many standard errors must be right as often.
    """
    # Sorted once, each threshold is a place in the order: n log n for all of them.
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    # Between two confidences that occur nothing changes, so that only these need to be tried.
    tried = np.unique([least, *ranked[np.isfinite(ranked) & (ranked > least)]])
    first = np.searchsorted(ranked, tried, side="left")  # the least sure photo that is still answered
    # Right answers from each place on, counted from the surest down.
    hits = np.append(np.cumsum(right[order][::-1])[::-1], 0)[first]
    answered = len(order) - first
    # Where nothing is answered the promise holds. 1e-9 forgives rounding, such as 19/20 against 0.95.
    enough = (answered == 0) | (wilson(hits, answered, z)[0] >= precision - 1e-9)
    return float(tried[enough][0]) if enough.any() else None


def expected_calibration_error(
    confidence: Floats, right: Bools, bins: int = 15, *, weights: Floats | None = None
) -> float:
    """Average |accuracy - confidence| over equal bins of confidence, weighted by their photos (Naeini et al. 2015).

    `weights` (n,) say how many photos each stands for, 1 without them.
    """
    # Bins of equal width, as in the literature: figures can be compared.
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = (right - confidence) * (1 if weights is None else weights / weights.mean())
    # A bin's share times its mean gap is its sum of gaps over all photos; the signs within a bin cancel.
    return float(np.abs(np.bincount(number, weights=gaps)).sum() / max(len(gaps), 1))


def calibrate(
    logits: Floats,
    targets: Ints,
    taxonomy: Taxonomy,
    *,
    members: Bools | None = None,
    sources: Sequence[str] = (),
    weights: Floats | None = None,
) -> tuple[dict[str, Any], float]:
    """Return a bundle's `temperature` and `thresholds` by level, and the calibration error that is left.

    `logits` (n, n_classes) are of photos that were not learnt from, `targets` (n,) their classes, or with `members`
    (m, n_classes) rows of it: sets of classes, for photos of which only the make or the model is known. `weights` (n,)
    say how many photos each stands for, in the temperature and the error (`stands_for`). `sources` (n,) name the market
    of each: thresholds are judged in each by itself, and by the photos as they are, so that rare classes, of which too
    many are held out, count as the strangers that they nearly are.
    """
    # Rounded before it is used, so that thresholds are chosen on what the bundle will calculate.
    temperature = round(fit_temperature(logits, targets, members=members, weights=weights), 4)
    probabilities = softmax(logits / temperature)
    truths = {level: _truth(taxonomy.index(level), targets, members) for level in LEVELS}
    thresholds = choose_thresholds(probabilities, truths, taxonomy, sources=sources)
    # Only a label of a single class says whether the answered class is right.
    known = np.ones(len(targets), bool) if members is None else members[targets].sum(axis=1) == 1
    # Of sets with several classes this names the first one; `known` leaves those out below.
    best = targets if members is None else members[targets].argmax(axis=1)
    right = probabilities.argmax(1) == best
    counts = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    error = expected_calibration_error(probabilities.max(1)[known], right[known], weights=counts[known])
    return {"temperature": temperature, "thresholds": thresholds}, error if known.any() else math.nan


def stands_for(held: Ints, learnt: Ints) -> Floats:
    """Return how many photos each held-out one (n,) stands for, by its target: all of the target through those held.

    `held` (n,) are targets of held-out photos, `learnt` (m,) counts the others of each target. Each target gives whole
    groups, at least one, so that of a class with few photos a large part is held out, and a plain mean over what is
    held out asks too often for what is hardest (Horvitz and Thompson 1952).
    """
    out = np.bincount(held, minlength=len(learnt))
    return np.asarray((out + learnt)[held] / out[held], np.float64)


def choose_thresholds(
    probabilities: Floats, truths: Mapping[Level, Ints], taxonomy: Taxonomy, *, sources: Sequence[str] = ()
) -> dict[Level, float]:
    """Return for each level the lowest threshold whose answers are right as often as `PRECISION` in every source.

    It holds with `SURE_Z` of all photos together, and of a source as far as its photos can show it.

    `probabilities` are (n, n_classes), `truths` (n,) stand in `taxonomy.names(level)`, -1 where unknown. An answer is
    the deepest level that reaches its threshold, so that the deepest is chosen first, and the others for the photos
    that are not answered below. Judged are, in every source of `LEAST_PHOTOS` and in the smaller ones together, what
    is answered at the level, and all that is answered at it or below. A level that no photo can judge is not answered.
    """
    names = np.asarray(sources if len(sources) else [""] * len(probabilities), dtype=str)
    # A level's probability is the sum over its classes: never less than that of a class below it.
    sums = {level: np.asarray(taxonomy.sum_to(level, probabilities), np.float64) for level in LEVELS}
    way = taxonomy.descend(sums)
    rows = np.arange(len(probabilities))
    done = np.zeros(len(probabilities), bool)  # answered at a deeper level
    true = np.zeros(len(probabilities), bool)  # and that answer is right, as far as is known
    thresholds: dict[Level, float] = {}
    for level in reversed(LEVELS):
        right, known = _right(way, truths, level)
        confidence = sums[level][rows, way[level]]
        # A class that ends at its model has no year to answer: its name there only repeats the level above.
        says = ~taxonomy.repeats(level)[way[level]]
        asked = says & ~done
        if (asked & known).sum() >= LEAST_PHOTOS:
            found = _by_source(confidence, right, asked & known, names)
            # What is answered below has no say on this threshold, but its mistakes count for the level as a whole.
            surest = np.where(done, np.inf, confidence)
            found += _by_source(surest, np.where(done, true, right), asked | done, names)
        else:  # too few are left to judge by, so that those answered below judge as well
            found = _by_source(confidence, right, says & known, names)
        # Rounded up, since what lies just below may be wrong.
        thresholds[level] = max((math.ceil(each * 1e4) / 1e4 for each in found), default=1.0)
        # Photos that this level answers are not asked again higher up.
        answered = asked & (confidence >= thresholds[level])
        done, true = done | answered, np.where(answered, right, true)
    return {level: thresholds[level] for level in LEVELS}


def _right(
    way: Mapping[Level, npt.NDArray[np.intp]], truths: Mapping[Level, Ints], level: Level
) -> tuple[Bools, Bools]:
    """Return whether the way (n,) is true down to a level, as far as its truth is known, and whether it is known there.

    A photo of which nothing is known counts as right: it speaks against no threshold.
    """
    above = LEVELS[: LEVELS.index(level) + 1]
    # A wrong make makes the model wrong, even where two makes have a model of one name.
    right = np.all([(truths[each] < 0) | (way[each] == truths[each]) for each in above], axis=0)
    return right, truths[level] >= 0


def _by_source(confidence: Floats, right: Bools, asked: Bools, names: npt.NDArray[np.str_]) -> list[float]:
    """Return the thresholds that these need: each source with enough of the asked photos (n,), the smaller ones, all.

    A source whose confidences are all infinite needs none.
    """
    found, counts = np.unique(names[asked], return_counts=True)
    # The strictest source decides in the end: see `choose_thresholds`.
    large = found[counts >= LEAST_PHOTOS]
    small = asked & ~np.isin(names, large)
    parts = [(asked & (names == name), PRECISION) for name in large]
    if small.sum() >= LEAST_PHOTOS and len(large):
        parts.append((small, POOLED_PRECISION))
    parts = [part for part in parts if np.isfinite(confidence[part[0]]).any()]
    needed = [_of_source(confidence[part], right[part], asks) for part, asks in parts]
    if np.isfinite(confidence[asked]).any():
        whole = lowest_threshold(confidence[asked], right[asked], PRECISION, least=LOWEST, z=SURE_Z)
        # No threshold keeps the promise: 1.0 is only reached by a certain answer, so that the level falls silent.
        needed.append(1.0 if whole is None else whole)
    return needed


def _of_source(confidence: Floats, right: Bools, precision: float) -> float:
    """Return the threshold that one source (n,) needs: the lowest that promises, else the lowest that its photos keep.

    One mistake among few sure answers leaves nothing to promise, and must not silence the level for all the others.
    """
    found = lowest_threshold(confidence, right, precision, least=LOWEST, z=SURE_Z)
    if found is not None:
        return found
    found = lowest_threshold(confidence, right, precision, least=LOWEST)
    # Just above what must not be answered; where even the surest answer is wrong, that is all of them.
    below = confidence[np.isfinite(confidence) & (confidence < (np.inf if found is None else found))]
    return min(1.0, max(LOWEST, float(below.max(initial=0.0)) + ABOVE))


def _truth(index: npt.NDArray[np.intp], targets: Ints, members: Bools | None) -> Ints:
    """Return each photo's taxon at a level (n,), -1 where the classes that it may be differ."""
    if members is None:
        return np.asarray(index[targets], np.int64)
    shared = [index[classes] for classes in members]
    # One set at a time, of which there are few; photos then only look their set up.
    taxa = np.array([found[0] if (found == found[0]).all() else -1 for found in shared], np.int64)
    return np.asarray(taxa[targets], np.int64)
