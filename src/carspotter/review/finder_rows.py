"""A project's photos of which a source or a person said the kind or the viewpoint in, a finder's manifest out.

What a person decided in a review stands above what the source says. Boxes are those that the project's finder told: a
teacher for where a vehicle is, not for what a photo shows. Ads are never torn apart: a fifth of them is for choosing,
by a hash of their id.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.csv_rows import csv_text
from carspotter.errors import ProjectError
from carspotter.geometry import SIDES
from carspotter.project.folder import Project
from carspotter.project_training.attribute_rows import reviewed_photos

COLUMNS = ("path", "part", "source", "kind", "viewpoint", *SIDES, "ignore", "ad_id")
CHOOSING = 5
LEAST = 50
"""Photos without which nothing can be learnt: a few hundred are where it begins to be of use."""

LABELLED = """SELECT p.photo_id, p.ad_id, p.kind, p.viewpoint, f.path, v.x1, v.y1, v.x2, v.y2
FROM listing_photos p JOIN files f USING (photo_id) JOIN findings v USING (photo_id) JOIN checks c USING (photo_id)
WHERE (p.kind IS NOT NULL OR p.viewpoint IS NOT NULL OR list_contains(?::VARCHAR[], p.photo_id))
AND f.status = 'ok' AND v.status = 'ok' AND c.status = 'ok'
ORDER BY p.photo_id"""


def write_finder_rows(project: Project, out: Path) -> Mapping[str, Any]:
    """Write the manifest, and return how many photos of each kind and part it has.

    Raises ProjectError for too few labelled photos, StorageError when the file cannot be written.
    """
    said = reviewed_photos(project)
    with project.catalog() as catalog:
        rows = catalog.rows(LABELLED, list(said))
    found = [row for each in rows if (row := _labelled({**each, **said.get(each["photo_id"], {})})) is not None]
    if len(found) < LEAST:
        raise ProjectError(
            f"{project.folder}: the kind or viewpoint of {len(found)} photos is labelled, {LEAST} are needed; "
            "label some with carspotter review, or give a source a column for kind or viewpoint (docs/sources.md)"
        )
    beside = out.resolve().parent
    moved = ({**row, "path": os.path.relpath(project.folder / row["path"], beside)} for row in found)
    storage.write(out, csv_text(moved, COLUMNS).encode())
    return {
        "photos": len(found),
        "kinds": dict(Counter(row["kind"] for row in found).most_common()),
        "parts": dict(Counter(row["part"] for row in found).most_common()),
    }


def _labelled(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a photo's row; None where there is nothing to learn: a whole vehicle without a box, or nothing said."""
    if row["kind"] is None and row["viewpoint"] is None:
        return None
    kind = row["kind"] or "exterior"
    is_vehicle = kind == "exterior"
    if is_vehicle and row["x1"] is None:
        return None
    digest = int(hashlib.sha256(row["ad_id"].encode()).hexdigest(), 16)
    sides = {side: round(row[side], 2) for side in SIDES} if is_vehicle else {}
    return {
        "path": row["path"],
        "part": "choose" if digest % CHOOSING == 0 else "train",
        "source": "photos",
        "kind": kind,
        "viewpoint": (row["viewpoint"] or "") if is_vehicle else "",
        "ad_id": row["ad_id"],
        **sides,
    }
