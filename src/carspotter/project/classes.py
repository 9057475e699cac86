"""The step classes: choose them among the taxa of usable photos, and suggest merges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from carspotter.catalog.tables import OK
from carspotter.evaluation.mistakes import confused_pairs
from carspotter.labels.classes import MERGED, classes, names_of, read_merges
from carspotter.project.build import Build
from carspotter.review.apply import PHOTO_LABELS
from carspotter.taxonomy import LEVELS, Taxon

USABLE = f"""SELECT p.photo_id, p.ad_id, w.name AS taxon, w.make, w.model, w.generation, w.year
FROM listing_photos p JOIN listings l USING (ad_id) JOIN files f USING (photo_id) JOIN checks c USING (photo_id)
JOIN findings v USING (photo_id) JOIN ({PHOTO_LABELS}) w ON w.photo_id = p.photo_id
WHERE p.status = 'ok' AND l.status = 'ok' AND f.status = 'ok' AND c.status = 'ok' AND v.status = 'ok'
AND v.passed AND v.x1 IS NOT NULL AND w.status = 'ok'"""
"""Every photo that shows a whole vehicle of a known taxon."""


def choose_classes(build: Build) -> Mapping[str, Any]:
    """Choose the classes among the taxa of usable photos, and suggest merges."""
    catalog, settings = build.catalog, build.project.settings.classes
    path = build.project.labels / "classes.csv"

    def work() -> Mapping[str, Any]:
        chosen = classes(catalog.columns(f"{USABLE} ORDER BY p.photo_id"), settings=settings, merges=read_merges(path))
        catalog.replace("classes", list(chosen.rows))
        reasons = Counter(row["status"] for row in chosen.rows if row["status"] != OK)
        stats: dict[str, Any] = {"classes": len(chosen.taxa), "left out or merged": dict(reasons.most_common())}
        counted = catalog.rows("SELECT truth, answer, count(*) AS n FROM predictions GROUP BY ALL ORDER BY ALL")
        hints = confused_pairs({(row["truth"], row["answer"]): row["n"] for row in counted})
        names = {row["class_name"] for row in chosen.rows if row["status"] == OK}
        # They were counted on the classes of the build before, some of which may be merged by now.
        told = [str(hint) for hint in hints if {hint.first, hint.second} <= names]
        return {**stats, "hints": told} if told else stats

    merges = path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else ""
    return build.whole(
        "classes", reads=(USABLE,), writes=("SELECT * FROM classes",), settings=[settings, merges], work=work
    )


def class_taxa(build: Build) -> dict[str, Taxon]:
    """Return the taxon of each class: the one that it names, whichever taxa a person merged into it."""
    rows = build.catalog.rows(f"SELECT class_name, status, {', '.join(LEVELS)} FROM classes ORDER BY class_name, taxon")
    names = names_of(Taxon(**{level: row[level] for level in LEVELS}) for row in rows)
    return {row["class_name"]: names[row["class_name"]] for row in rows if row["status"] in (OK, MERGED)}
