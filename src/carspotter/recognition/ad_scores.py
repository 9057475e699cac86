"""A catalogue in, the scores of its ads' photos out: which ads would a buyer not click, and why.

The facts of a build are put together as predictions, and judged as the service judges an ad (`recognition.ad_score`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from carspotter.catalog.catalog import Catalog
from carspotter.geometry import BoundingBox
from carspotter.recognition.ad import role_of
from carspotter.recognition.ad_score import AdScore, score_ad
from carspotter.recognition.declared_attributes import are_near
from carspotter.recognition.fusion import find_outlier_colours
from carspotter.records import Kind, PhotoError, Prediction, Quality, Vehicle, Viewpoint
from carspotter.taxonomy import LEVELS

Row = Mapping[str, Any]

_COLOURS = 14
"""Colours between which identifiers choose."""

MOST_ADS = 2000
"""Ads that are scored: enough to find what is usual, in a second or two."""

_PHOTOS = f"""SELECT p.ad_id, p.photo_id, f.path, c.width, c.height, c.brightness, c.sharpness, c.status AS readable,
c.message, v.kind, v.kind_probability, v.x1, v.y1, v.x2, v.y2, v.score, v.viewpoint, v.viewpoint_probability,
e.colour, e.colour_probability, d.group_id, coalesce(d.kept, true) AS kept
FROM listing_photos p JOIN listings l USING (ad_id) JOIN files f USING (photo_id)
JOIN checks c USING (photo_id) LEFT JOIN findings v USING (photo_id)
LEFT JOIN embeddings e USING (photo_id) LEFT JOIN duplicates d USING (photo_id)
WHERE p.status = 'ok' AND l.status = 'ok' AND f.status = 'ok' AND p.ad_id IN (
  SELECT ad_id FROM listings WHERE status = 'ok' ORDER BY hash(ad_id) LIMIT {MOST_ADS})
ORDER BY p.ad_id, p.position, p.photo_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredAd:
    """An ad, the score of its photos, and the rows of these in the order in which they are shown."""

    ad_id: str
    score: AdScore
    photos: tuple[Row, ...]


def scored_ads(catalog: Catalog) -> list[ScoredAd]:
    """Return the ads whose photos were looked at, the worst first; of a large catalogue a sample of them."""
    rows = catalog.rows(_PHOTOS)
    found = [_scored(ad_id, tuple(photos)) for ad_id, photos in groupby(rows, key=lambda row: str(row["ad_id"]))]
    return sorted(found, key=lambda ad: (ad.score.total, ad.ad_id))


def _scored(ad_id: str, photos: Sequence[Row]) -> ScoredAd:
    predictions = [_prediction(row) for row in photos]
    copies = _copies(photos)
    # A photo without a kind was not looked at yet: nothing speaks against it.
    nothing = {i for i, photo in enumerate(predictions) if photo.error or (photo.kind and role_of(photo) == "other")}
    # As in `answer_ad`: a copy neither votes on the colour nor loses points a second time.
    others = (nothing - copies.keys()) | _other_colours(photos, without=copies).keys()
    return ScoredAd(ad_id=ad_id, score=score_ad(predictions, copies=copies, others=others), photos=tuple(photos))


def _prediction(row: Row) -> Prediction:
    if row["width"] is None:
        return Prediction(photo=row["photo_id"], error=PhotoError(type=row["readable"], message=row["message"] or ""))
    return Prediction(
        photo=row["photo_id"],
        width=row["width"],
        height=row["height"],
        kind=Kind(name=row["kind"], probability=row["kind_probability"]) if row["kind"] else None,
        vehicles=(_vehicle(row),) if row["x1"] is not None else (),
        quality=Quality(brightness=row["brightness"], sharpness=row["sharpness"]),
    )


def _vehicle(row: Row) -> Vehicle:
    return Vehicle(
        box=BoundingBox(row["x1"], row["y1"], row["x2"], row["y2"]),
        score=row["score"],
        viewpoint=Viewpoint(name=row["viewpoint"], probability=row["viewpoint_probability"]),
        answer=None,
        levels=dict.fromkeys(LEVELS, ()),
        undecided="not asked",
    )


def _copies(photos: Sequence[Row]) -> dict[int, int]:
    """Return for each copy of a photo of the same ad the index of that one; copies in other ads count for nothing."""
    first: dict[str, int] = {}
    by_worth = sorted(range(len(photos)), key=lambda index: (not photos[index]["kept"], index))
    copies = {}
    for index in by_worth:
        group = photos[index]["group_id"]
        if group is not None and first.setdefault(group, index) != index:
            copies[index] = first[group]
    return copies


def _other_colours(photos: Sequence[Row], *, without: Container[int]) -> dict[int, str]:
    """Return the photos of a vehicle of clearly another colour than the rest, each with the reason in words."""
    seen = [
        index
        for index, row in enumerate(photos)
        if row["colour"] is not None and row["kind"] == "exterior" and index not in without
    ]
    words = sorted({photos[index]["colour"] for index in seen})
    if len(words) < 2:
        return {}
    # The colours that no photo has most of: what is left of a probability belongs to all of them.
    words += [f"other {number}" for number in range(_COLOURS - len(words))]
    # Of each photo only the likeliest word is known; the rest may be any other colour.
    spread = np.array([_spread(photos[index], words) for index in seen])
    near = np.array([[are_near(one, other) for other in words] for one in words])
    return {
        seen[odd.row]: f"{photos[seen[odd.row]]['colour']} here, {words[int(np.argmax(odd.others))]} on the others"
        for odd in find_outlier_colours(spread, near)
    }


def _spread(row: Row, words: Iterable[str]) -> list[float]:
    names = list(words)
    own = float(row["colour_probability"])
    rest = (1 - own) / max(1, len(names) - 1)
    return [own if name == row["colour"] else rest for name in names]
