"""The catalogue in; how many photos stand at each step, and why the others stopped there, out.

Nothing is counted while a build runs: the funnel is asked of the tables, so it is true for a build that was killed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carspotter.catalog.catalog import Catalog

STAGES: Mapping[str, str] = {
    "import": "listed by an ad",
    "fetch": "have their file",
    "check": "can be read and are worth reading",
    "locate": "show a whole vehicle",
    "resolve": "have a make and a model",
    "classes": "belong to a class",
    "split": "are in the dataset",
}
"""The steps at which a photo can stop, in order, and what can be said of those that pass."""

# A photo stops at the first step whose condition holds; the reason is the status of the row that says so.
STOPS = """
SELECT p.photo_id,
  CASE
    WHEN l.ad_id IS NULL OR l.status <> 'ok' OR p.status <> 'ok' THEN 'import'
    WHEN f.photo_id IS NULL OR f.status <> 'ok' THEN 'fetch'
    WHEN c.photo_id IS NULL OR c.status <> 'ok' THEN 'check'
    WHEN v.photo_id IS NULL OR v.status <> 'ok' OR NOT v.passed OR v.x1 IS NULL THEN 'locate'
    WHEN r.photo_id IS NULL AND (w.ad_id IS NULL OR w.status <> 'ok') OR r.status <> 'ok' THEN 'resolve'
    WHEN k.taxon IS NULL OR k.status NOT IN ('ok', 'merged') THEN 'classes'
    WHEN s.photo_id IS NULL OR s.status <> 'ok' THEN 'split'
  END AS stage,
  CASE
    WHEN l.ad_id IS NULL THEN 'no-listing'
    WHEN l.status <> 'ok' THEN l.status
    WHEN p.status <> 'ok' THEN p.status
    WHEN f.photo_id IS NULL THEN 'pending'
    WHEN f.status <> 'ok' THEN f.status
    WHEN c.photo_id IS NULL THEN 'pending'
    WHEN c.status <> 'ok' THEN c.status
    WHEN v.photo_id IS NULL THEN 'pending'
    WHEN v.status <> 'ok' THEN v.status
    WHEN NOT v.passed THEN CASE WHEN v.kind = 'exterior' THEN 'unsure' ELSE v.kind END
    WHEN v.x1 IS NULL THEN 'no-vehicle'
    WHEN r.status <> 'ok' THEN r.status
    WHEN r.photo_id IS NULL AND w.ad_id IS NULL THEN 'pending'
    WHEN r.photo_id IS NULL AND w.status <> 'ok' THEN w.status
    WHEN k.taxon IS NULL THEN 'pending'
    WHEN k.status NOT IN ('ok', 'merged') THEN k.status
    WHEN s.photo_id IS NULL OR s.status = 'absent' THEN 'pending'
    WHEN s.status <> 'ok' THEN s.status
    ELSE s.split
  END AS reason
FROM listing_photos p
LEFT JOIN listings l USING (ad_id)
LEFT JOIN files f ON f.photo_id = p.photo_id
LEFT JOIN checks c ON c.photo_id = p.photo_id
LEFT JOIN findings v ON v.photo_id = p.photo_id
LEFT JOIN labels w ON w.ad_id = p.ad_id
LEFT JOIN reviews r ON r.photo_id = p.photo_id
LEFT JOIN classes k ON k.taxon = coalesce(r.name, w.name)
LEFT JOIN samples s ON s.photo_id = p.photo_id
"""
"""SQL: where each photo stopped (`stage`, null when it is in the dataset) and why (`reason`, or its split)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelStage:
    """One step of the funnel: `passed` photos went on; `stopped` maps a reason to how many stopped here for it."""

    name: str
    passed: int
    stopped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How far the photos of a project came; `listings` maps a status to ads, `splits` a split to photos."""

    listings: Mapping[str, int]
    photos: int
    stages: tuple[FunnelStage, ...]
    splits: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the funnel as JSON values."""
        return {
            "listings": dict(self.listings),
            "photos": self.photos,
            "stages": [
                {"name": stage.name, "passed": stage.passed, "stopped": dict(stage.stopped)} for stage in self.stages
            ],
            "splits": dict(self.splits),
        }


def funnel(catalog: Catalog) -> Funnel:
    """Ask a catalogue for its funnel."""
    counted = catalog.rows(f"SELECT stage, reason, count(*) AS n FROM ({STOPS}) GROUP BY ALL ORDER BY n DESC, reason")
    left = photos = sum(row["n"] for row in counted)
    stages = []
    for name in STAGES:
        stopped = {row["reason"]: row["n"] for row in counted if row["stage"] == name}
        left -= sum(stopped.values())
        stages.append(FunnelStage(name=name, passed=left, stopped=stopped))
    ads = catalog.rows("SELECT status, count(*) AS n FROM listings GROUP BY status ORDER BY n DESC, status")
    return Funnel(
        listings={row["status"]: row["n"] for row in ads},
        photos=photos,
        stages=tuple(stages),
        splits={row["reason"]: row["n"] for row in counted if row["stage"] is None},
    )
