"""What people decided of photos in `labels/reviewed.csv` in; rows of the table `reviews` out, which stand above labels.

The label of a photo is that of its ad, unless a person said something else of the photo.
"""

from __future__ import annotations

from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.labels.doubts_page import Decisions

Row = dict[str, Any]

REVIEWED = "reviewed.csv"
DROPPED = "dropped"

PHOTO_LABELS = """SELECT p.photo_id, CASE WHEN r.photo_id IS NULL THEN w.status ELSE r.status END AS status,
CASE WHEN r.name IS NULL THEN w.name ELSE r.name END AS name,
CASE WHEN r.name IS NULL THEN w.make ELSE r.make END AS make,
CASE WHEN r.name IS NULL THEN w.model ELSE r.model END AS model,
CASE WHEN r.name IS NULL THEN w.generation ELSE r.generation END AS generation,
CASE WHEN r.name IS NULL THEN w.year ELSE r.year END AS year,
CASE WHEN r.photo_id IS NULL THEN w.said_by ELSE r.said_by END AS said_by
FROM listing_photos p LEFT JOIN labels w ON w.ad_id = p.ad_id LEFT JOIN reviews r ON r.photo_id = p.photo_id"""
"""The label of each photo: that of its ad, unless a person said something else of the photo."""


def reviewed(catalog: Catalog, decisions: Decisions) -> list[Row]:
    """Return a row of the table `reviews` for each photo of which something was decided, by itself or with its ad."""
    if not len(decisions):
        return []
    rows = []
    for photo in catalog.rows("SELECT photo_id, ad_id FROM listing_photos ORDER BY photo_id"):
        decision = decisions.find(photo["photo_id"], photo["ad_id"])
        if decision is None or decision.action == "keep":
            continue
        row: Row = {"photo_id": photo["photo_id"], "said_by": decision.said_by, "status": OK}
        if decision.action == "relabel" and decision.becomes is not None:
            taxon = decision.becomes
            parts = {"make": taxon.make, "model": taxon.model, "generation": taxon.generation, "year": taxon.year}
            row |= {"name": taxon.name()} | {name: value for name, value in parts.items() if value is not None}
        else:
            row |= {"status": DROPPED, "message": "a person said that it shows no vehicle of its class"}
        rows.append(row)
    return rows
