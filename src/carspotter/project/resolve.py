"""The step resolve: turn sellers' words into taxa, and list what is not understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from carspotter import storage
from carspotter.catalog.tables import OK, RETIRED
from carspotter.labels.corrections import Corrections, keep_filled, unresolved, unresolved_csv
from carspotter.labels.resolve import Resolver, label_rows
from carspotter.project.build import Build
from carspotter.project.intake import warned
from carspotter.project.settings import known_sources
from carspotter.review.apply import WORDS_FILE, corrections, decision_texts, review_rows
from carspotter.review.imported import open_decisions

Row = dict[str, Any]

LABEL_VERSION = "5"
"""Grows when the known names or the rules of `resolve` change, so that labels are made again."""


LISTED = "SELECT ad_id, source, make, model, submodel, year, title, description FROM listings WHERE status = 'ok'"
AT_ONCE = 50_000
"""Listings whose words are held at a time: two million with their descriptions are gigabytes."""


def resolve_labels(build: Build) -> Mapping[str, Any]:
    """Turn sellers' words into taxa, and list those that are not understood in `labels/unresolved.csv`."""
    catalog, folder = build.catalog, build.project.labels
    store, warnings = open_decisions(folder), list[str]()

    def work() -> Mapping[str, Any]:
        methods, open_ = _label_listings(build, _resolver(build, corrections(folder, store)))
        reviews = review_rows(catalog, store)
        catalog.replace("reviews", reviews)
        warnings.extend(keep_filled(folder / "unresolved.csv", folder / WORDS_FILE))
        text = unresolved_csv(unresolved(open_, open_), folder / WORDS_FILE)
        storage.write(folder / "unresolved.csv", text.encode("utf-8-sig"))
        stats = {"reviewed photos": len(reviews)} if reviews else {}
        found = dict(methods.most_common())
        return {"resolved": methods.total(), "unresolved": len(open_), "methods": found, **stats}

    said = build.whole(
        "resolve",
        reads=(LISTED, "SELECT photo_id, ad_id FROM listing_photos"),
        writes=("SELECT * FROM labels", "SELECT * FROM reviews"),
        settings=[LABEL_VERSION, decision_texts(folder, store)],
        work=work,
    )
    return {**said, **warned(warnings)}  # told once, by the build that met it


def _resolver(build: Build, decided: Corrections) -> Resolver:
    said = build.catalog.rows(f"SELECT make, model, count(*) AS n FROM ({LISTED}) GROUP BY ALL ORDER BY ALL")
    return Resolver(corrections=decided, seen={(row["make"], row["model"]): row["n"] for row in said})


def _label_listings(build: Build, resolver: Resolver) -> tuple[Counter[str], list[Row]]:
    """Append the labels that changed; return how many were found by each method, and what was not understood."""
    catalog, curated = build.catalog, curated_sources(build)
    methods: Counter[str] = Counter()
    open_: list[Row] = []
    for listings in _blocks(build):
        rows = list(label_rows(listings, resolver, curated=curated))
        ends = rows[0]["ad_id"], rows[-1]["ad_id"]
        known = catalog.rows("SELECT * EXCLUDE (stage_version) FROM labels WHERE ad_id BETWEEN ? AND ?", *ends)
        old = {row["ad_id"]: row for row in known}
        fresh = [row for row in rows if not _same(row, old.get(row["ad_id"]))]
        if fresh:
            catalog.append("labels", fresh)
        methods.update(row["method"] for row in rows if row["status"] == OK)
        for listing, row in zip(listings, rows, strict=True):
            if row["status"] != OK:
                words = {name: listing[name] for name in ("ad_id", "make", "model", "submodel", "title")}
                open_.append({**words, "status": row["status"], "message": row.get("message")})
    left = catalog.rows(f"SELECT ad_id FROM labels ANTI JOIN ({LISTED}) USING (ad_id) ORDER BY ad_id")
    if left:
        catalog.append("labels", [{"ad_id": row["ad_id"], "status": RETIRED} for row in left])
    return methods, open_


def _blocks(build: Build) -> Iterator[list[Row]]:
    """Yield the listings by ad_id, so many at once."""
    last = ""
    while rows := build.catalog.rows(f"SELECT * FROM ({LISTED}) WHERE ad_id > ? ORDER BY ad_id LIMIT {AT_ONCE}", last):
        yield rows
        last = rows[-1]["ad_id"]


def curated_sources(build: Build) -> set[str]:
    """Name the sources whose labels are not a seller's words but a data set's."""
    known = known_sources(build.project.folder, build.project.settings.sources)
    return {source.name for source in known if source.kind == "stanford"}


def _same(row: Row, known: Row | None) -> bool:
    """Return whether a row is known already; a score comes back from the catalogue with 24 bits."""
    if known is None:
        return False
    return all(
        np.float32(row.get(name, 0.0)) == np.float32(value or 0.0) if name == "score" else row.get(name) == value
        for name, value in known.items()
    )
