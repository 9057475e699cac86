"""Whole ads of a prediction table: each ad's photos fused as `fusion` answers an ad, and how often that is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.intervals import Share
from carspotter.evaluation.predictions import DEPTHS, UNLABELLED, Bools, Depth, Floats, Ints, Predictions
from carspotter.recognition.fusion import fuse


@dataclass(frozen=True, slots=True, kw_only=True)
class AdFigures:
    """The accuracy over whole ads, all photos of an ad fused, at each depth.

    `single` is the share of the same ads' photos that are right one by one (at the class). `contradictory` ads name
    more than one class and are left out of it.
    """

    ads: int
    photos: int
    right: Mapping[Depth, Share]
    single: Share
    contradictory: int


def fuse_ads(predictions: Predictions) -> tuple[Floats, npt.NDArray[np.intp]] | None:
    """Return each ad's probabilities (ads, classes) and each photo's ad (n,), -1 without one; None where none is known.

    The rule is `fusion.fuse`, by which ads are answered, so that what is reported is what is served.
    """
    ids = predictions.about.get("ad_id")
    if ids is None or not (ids != "").any():
        return None
    has = ids != ""
    number = np.full(len(ids), -1, dtype=np.intp)
    # Numbers by name, so that the order of photos in the table changes nothing.
    number[has] = np.unique(ids[has], return_inverse=True)[1]
    # Sorted by ad, photos without one (-1) come first and are cut off; each ad is then one run.
    order = np.argsort(number, kind="stable")[np.count_nonzero(~has) :]
    photos_of = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    ads = [fuse(predictions.probabilities[photos], predictions.taxonomy) for photos in photos_of]
    return np.asarray(ads, np.float32), number


def ad_figures(predictions: Predictions) -> AdFigures | None:
    """Return the accuracy over ads by the column `ad_id`, None where no ad is known."""
    fused = fuse_ads(predictions)
    if fused is None:
        return None
    p, number = fused
    right: dict[Depth, Share] = {}
    contradictory, single = 0, Share(count=0, total=0)
    for depth in DEPTHS:
        # An ad whose photos have different truths shows several cars, or a wrong label: it is counted, not judged.
        truth, several = _ad_truth(predictions.truth_at(depth), number, len(p))
        summed = p if depth == "class" else predictions.taxonomy.sum_to(depth, p)
        right[depth] = Share.of((summed.argmax(1) == truth)[truth != UNLABELLED])
        if depth == "class":
            contradictory = int(several.sum())
            hit, known = predictions.right_at(depth)
            # Single photos of the very ads that are judged, so that the gain of an ad over a photo compares like with
            # like. An ad of -1 picks the False that is appended.
            used = known & (number >= 0) & np.append(truth != UNLABELLED, False)[number]
            single = Share.of(hit[used])
    return AdFigures(
        ads=len(p), photos=int((number >= 0).sum()), right=right, single=single, contradictory=contradictory
    )


def _ad_truth(truth: Ints, number: npt.NDArray[np.intp], n_ads: int) -> tuple[Ints, Bools]:
    """Return each ad's truth, -1 where none or several, and whether there are several."""
    known = (truth != UNLABELLED) & (number >= 0)
    # Smallest and largest truth of each ad: equal where all photos agree, whatever their number.
    low, high = np.full(n_ads, np.iinfo(np.int64).max), np.full(n_ads, -1, dtype=np.int64)
    np.minimum.at(low, number[known], truth[known])
    np.maximum.at(high, number[known], truth[known])
    several = (high >= 0) & (low != high)
    return np.where(several, UNLABELLED, high).astype(np.int64), several
