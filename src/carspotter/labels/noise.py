"""Find doubtful labels by embeddings, most doubtful first, and the pairs of classes that sellers mix up.

`out_of_fold` has every photo judged by a probe that learnt from other ads, `find_doubts` compares that with the labels
by confident learning (Northcutt et al. 2021, by cleanlab). Pure functions of arrays: the caller hands in the embeddings
and how a probe is fitted, and a person decides what a doubt is worth (`review`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import MissingExtraError
from carspotter.labels.folds import Fit as Fit
from carspotter.labels.folds import Floats, Ints, checked
from carspotter.labels.folds import deal_folds as deal_folds
from carspotter.labels.folds import out_of_fold as out_of_fold
from carspotter.runtime.intervals import wilson

Bools = npt.NDArray[np.bool_]

Fuse = Callable[[Floats], Floats]
"""Fuses photos of an ad: class probabilities (k, c) in, those of the ad (c,) out. `recognition.fusion` has the rule."""

LEAST_UNITS = 3
"""Ads (or photos) that must say the same of a class pair: one is an accident, two may be one seller."""

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPair:
    """Photos of class `true` are called `given`: in `share` of cases, with its 95 % interval `low` to `high`.

    `count` units (ads where they are known, else photos) show it with confidence; `share` is cleanlab's estimate over
    all units that are truly of the class, the unsure ones among them. Classes are indices.
    """

    true: int
    given: int
    count: int
    share: float
    low: float
    high: float

    def sentence(self, names: Sequence[str]) -> str:
        """Return the finding in words."""
        return f"sellers call {names[self.true]} a {names[self.given]} in {self.share:.0%} of cases"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubts:
    """How far the labels of m judged photos, or ads, are to be doubted, the most doubtful first.

    `position` (m,) says where each stood in the arrays given; `given` and `suggested` (m,) are classes, the second the
    likeliest other one, with their probabilities `given_probability` and `suggested_probability`; `quality` (m,) in
    0…1 is the score, the label's share of the two, below 0.5 where the other is likelier; `flagged` (m,) marks the
    lowest, as many as confident learning counts as wrong. `unjudged` are positions whose class no other ad has. `ads`
    holds the same per ad, where `ad_ids` names them.
    """

    names: tuple[str, ...]
    position: Ints
    given: Ints
    suggested: Ints
    given_probability: Floats
    suggested_probability: Floats
    quality: Floats
    flagged: Bools
    unjudged: Ints
    pairs: tuple[ClassPair, ...] = ()
    ads: Doubts | None = None
    ad_ids: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.position)

    def rows(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield a row for each, the most doubtful first: rank from 1, position, ad_id if known, classes by name."""
        for i in range(len(self) if limit is None else min(limit, len(self))):
            row = {
                "rank": i + 1,
                "position": int(self.position[i]),
                "given": self.names[self.given[i]],
                "suggested": self.names[self.suggested[i]],
                "given_probability": float(self.given_probability[i]),
                "suggested_probability": float(self.suggested_probability[i]),
                "quality": float(self.quality[i]),
                "flagged": bool(self.flagged[i]),
            }
            # `.item()` gives a Python value, which JSON and CSV can write.
            yield row if self.ad_ids is None else {**row, "ad_id": self.ad_ids[self.position[i]].item()}

    def pair_rows(self) -> list[dict[str, Any]]:
        """Return the class pairs with their classes by name and the `unit` that is counted: "ad" or "photo"."""
        # Doubts of ads carry ids themselves; those of photos carry the doubts of their ads.
        unit = "photo" if self.ads is None and self.ad_ids is None else "ad"
        return [
            {
                "true": self.names[pair.true],
                "given": self.names[pair.given],
                "count": pair.count,
                "share": pair.share,
                "low": pair.low,
                "high": pair.high,
                "unit": unit,
            }
            for pair in self.pairs
        ]


def find_doubts(
    probabilities: Floats,
    classes: Ints,
    names: Sequence[str],
    *,
    ads: npt.NDArray[Any] | None = None,
    fuse: Fuse | None = None,
) -> Doubts:
    """Rank labels by how far they are to be doubted and name the class pairs that sellers mix up.

    `probabilities` (n, c) as `out_of_fold` returns them, `classes` (n,) the labels, `names` of the c classes, `ads`
    (n,) the ad of each photo and `fuse` how its photos' probabilities become the ad's. With ads, the class pairs count
    ads, and the result holds the doubts of ads as well; an ad's label is that of its photos. Raises ValueError for
    arrays that do not fit together, MissingExtraError without the extra `train`.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(names):
        raise ValueError(f"probabilities of {probabilities.shape}; they must be (n, {len(names)}), a column a class")
    classes = checked(probabilities, classes, classes if ads is None else ads, n_classes=len(names))
    photos = _doubts(probabilities, classes, tuple(names), with_pairs=ads is None)
    if ads is None:
        return photos
    if fuse is None:
        raise ValueError("ads are given, but not how their photos are fused: `fuse`")
    # One seller's twenty photos are one statement: pairs that count photos would count that seller twenty times.
    ad_ids, fused, given = fuse_ads(probabilities, classes, ads, fuse=fuse)
    of_ads = _doubts(fused, given, tuple(names), with_pairs=True, ad_ids=ad_ids)
    return replace(photos, pairs=of_ads.pairs, ads=of_ads)


def fuse_ads(
    probabilities: Floats, classes: Ints, ads: npt.NDArray[Any], *, fuse: Fuse
) -> tuple[npt.NDArray[Any], Floats, Ints]:
    """Return ad ids (a,), probabilities (a, c) and labels (a,) of ads, out of those of their photos.

    Photos that were not judged count for nothing; an ad of such photos alone has NaN. Where photos of one ad have
    different labels, each label makes a row.
    """
    ids, ad = np.unique(ads, return_inverse=True)
    # A unit is an ad with one of its labels; nearly all ads have a single one.
    pairs, unit = np.unique(np.stack([ad.reshape(-1), classes], axis=1), axis=0, return_inverse=True)
    judged = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    # The judged photos of each ad stand side by side once they are sorted by it.
    judged = judged[np.argsort(unit.reshape(-1)[judged], kind="stable")]
    of = unit.reshape(-1)[judged]
    fused = np.full((len(pairs), probabilities.shape[1]), np.nan)
    for photos in np.split(judged, np.flatnonzero(np.diff(of)) + 1) if len(judged) else ():
        fused[unit.reshape(-1)[photos[0]]] = fuse(probabilities[photos])
    return ids[pairs[:, 0]], fused, pairs[:, 1].astype(np.int64)


# ---- the parts


def _doubts(
    probabilities: Floats, classes: Ints, names: tuple[str, ...], *, with_pairs: bool, ad_ids: Any = None
) -> Doubts:
    is_judged = ~np.isnan(probabilities).any(axis=1)
    position = np.flatnonzero(is_judged)
    judged, given = probabilities[position].astype(np.float64), classes[position]
    rows = np.arange(len(position))
    others = judged.copy()
    # Below every probability, so that the label itself is never the suggestion.
    others[rows, given] = -1.0
    suggested = others.argmax(axis=1) if len(position) else np.zeros(0, np.int64)
    best = judged[rows, suggested]
    # The label's share of the two likeliest: it ranks as their ratio does, and better than cleanlab's two scores, which
    # take a doubt at 0.1 against 0.3 for a smaller one than 0.4 against 0.7.
    quality = judged[rows, given] / np.maximum(judged[rows, given] + best, _TINY)
    # Position breaks ties, so that the list is the same in every run.
    order = np.lexsort((position, quality))
    # As many as confident learning counts, but the most doubtful ones: order and flag never contradict each other.
    flagged = np.arange(len(order)) < _n_wrong(judged, given)
    return Doubts(
        names=names,
        position=position[order],
        given=given[order],
        suggested=suggested[order],
        given_probability=judged[rows, given][order],
        suggested_probability=best[order],
        quality=quality[order],
        flagged=flagged,
        unjudged=np.flatnonzero(~is_judged),
        pairs=_pairs(judged, given) if with_pairs else (),
        ad_ids=ad_ids,
    )


def _n_wrong(probabilities: Floats, classes: Ints) -> int:
    """Count labels that confident learning takes for wrong."""
    if len(np.unique(classes)) < 2:
        return 0
    return int(_cleanlab().num_label_issues(classes, probabilities))


def _pairs(probabilities: Floats, classes: Ints) -> tuple[ClassPair, ...]:
    """Return the pairs that `LEAST_UNITS` units show, those with the highest lower bound first."""
    if len(np.unique(classes)) < 2:
        return ()
    # The confident joint counts a unit labelled `given` under `true` where its probability of `true` reaches the
    # mean that units labelled so have.
    count = _cleanlab()
    sure = count.compute_confident_joint(classes, probabilities, calibrate=False)  # (given, true)
    # Calibrated, its rows sum to the photos of each label, so that shares speak of all of them.
    joint = count.calibrate_confident_joint(sure, classes)
    found = []
    for given, true in np.argwhere(sure >= LEAST_UNITS):
        if given == true:
            continue
        # Out of all that truly are of the class (a column), however they were labelled.
        share = float(joint[given, true] / max(1, joint[:, true].sum()))
        # The interval rests on what was counted with confidence, not on what was estimated from it.
        n_sure = int(sure[:, true].sum())
        low, high = map(float, wilson(share * n_sure, n_sure))
        found.append(
            ClassPair(true=int(true), given=int(given), count=int(sure[given, true]), share=share, low=low, high=high)
        )
    # By the lower bound: three of four photos are no stronger a finding than 70 of 100.
    return tuple(sorted(found, key=lambda pair: (-pair.low, -pair.count, pair.true, pair.given)))


def _cleanlab() -> Any:
    try:
        from cleanlab import count
    except ModuleNotFoundError as error:
        raise MissingExtraError("cleanlab", "review") from error
    return count
