"""The step deduplicate: group photos that show the same picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carspotter.photos.duplicates import Embeddings, find_duplicates
from carspotter.project.build import Build

AGAIN = "(SELECT sha256 FROM checks GROUP BY sha256 HAVING count(*) > 1)"
"""The digests of more than one photo; those of the others, 64 letters each, need not be held to find copies."""

CHECKED = f"""SELECT c.photo_id, p.ad_id, CASE WHEN c.sha256 IN {AGAIN} THEN c.sha256 END AS sha256,
coalesce(c.phash, 0) AS phash, coalesce(c.dhash, 0) AS dhash, coalesce(c.width, 0) AS width,
coalesce(c.height, 0) AS height, CASE WHEN c.phash IS NOT NULL THEN c.contrast END AS contrast, c.sharpness
FROM checks c JOIN listing_photos p USING (photo_id) JOIN files f USING (photo_id)
WHERE c.sha256 IS NOT NULL AND f.status = 'ok'"""
"""Every photo with bytes, good or bad: a dark copy ties two ads as well as a bright one. One that could not be read has
no contrast, and no numbers are null, since a column with nulls is one of Python's own numbers, five times as large."""


def group_duplicates(build: Build) -> Mapping[str, Any]:
    """Group photos that show the same picture."""
    settings, catalog = build.project.settings.duplicates, build.catalog

    def work() -> Mapping[str, Any]:
        photos = catalog.columns(f"{CHECKED} ORDER BY c.photo_id")
        rows = find_duplicates(photos, settings, embeddings=_embeddings(build))
        catalog.replace("duplicates", rows)
        return {
            "groups": len({row["group_id"] for row in rows}),
            "photos": len(rows),
            "copies": {
                relation: count
                for relation in ("exact", "near")
                if (count := sum(not row["kept"] and row["relation"] == relation for row in rows))
            },
        }

    reads = (CHECKED, "SELECT photo_id, stage_version FROM embeddings WHERE status = 'ok'")
    return build.whole("deduplicate", reads=reads, writes=("SELECT * FROM duplicates",), settings=settings, work=work)


def _embeddings(build: Build) -> Embeddings:
    """Read the embeddings of the few photos that are asked for; all of a million are 5 GB."""

    def read(photo_ids: list[str]) -> tuple[Any, Any]:
        found = build.catalog.columns(
            f"SELECT * FROM {build.embeddings} WHERE photo_id IN (SELECT unnest(?))", photo_ids
        )
        return found["photo_id"], found["embedding"]

    return read
