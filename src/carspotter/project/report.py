"""A built project in, one HTML page with pictures out: funnel, what was dropped, duplicates, views, classes, accuracy.

It asks the catalogue and the journal and decides nothing. Its pictures show no number plates and faces, unless the
settings say so. The page needs no other file and no network. Where nothing is hidden, a photo opens large from its own
file, while that lies where the build found it; else its picture does, and the page names no file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carspotter import __version__, storage
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.funnel import STAGES, STOPS, funnel
from carspotter.evaluation.mistakes import confusions, worst_mistakes
from carspotter.evaluation.predictions import Predictions
from carspotter.evaluation.report import page_template
from carspotter.project.build import Journal
from carspotter.project.folder import Project
from carspotter.recognition.ad_scores import scored_ads
from carspotter.records import VIEWPOINTS
from carspotter.runtime.blur import Blur, Blurrer
from carspotter.thumbnails import HEIGHT, thumbnail_of

EXAMPLES = 6
"""Pictures for each reason why photos were dropped: one row on a usual screen."""
VIEW_HEIGHT = 210  # pixels: four stand side by side
STRIP_HEIGHT = 84  # pixels: all photos of an ad below its first one
LARGER = 2
"""A picture that opens large itself, since the photo's file would show what is hidden, is so many times as high."""
GROUPS = 8
GROUP_PHOTOS = 4
WORDS = 20
MISTAKES = 12
WEAK, WORST_ADS = 70, 12
"""Score below which an ad is shown as one that a buyer would not click, and how many of them."""

Row = dict[str, Any]

# Any order that does not depend on how rows are stored, and does not show the first ad alone.
_MIXED = "ORDER BY hash(photo_id)"
_BOX = "v.x1, v.y1, v.x2, v.y2"


def write_report(project: Project, catalog: Catalog, journal: Journal) -> Path:
    """Draw the report of a project and return its path.

    Raises MissingExtraError without the extra `data`, BundleError where plates and faces are to be hidden and cannot be
    found.
    """
    template = page_template("carspotter.project")
    html = template.render(report_content(project, catalog, journal))
    storage.write(project.report, html.encode())
    return project.report


def report_content(project: Project, catalog: Catalog, journal: Journal) -> Row:
    """Return all that the page shows, as plain values."""
    found = funnel(catalog)
    album = _Album(folder=project.folder, blur=Blurrer.open().blur if project.settings.share.blur else None)
    stages = [
        {
            "name": stage.name,
            "about": STAGES[stage.name],
            "passed": stage.passed,
            "stopped": stage.stopped,
            "share": stage.passed / found.photos if found.photos else 0.0,
        }
        for stage in found.stages
    ]
    test = _judged(project)
    return {
        "name": project.settings.name or project.folder.name,
        "version": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "photos": found.photos,
        "ads": sum(found.listings.values()),
        "listings": found.listings,
        "stages": stages,
        "splits": found.splits,
        "dropped": [dropped for name in ("fetch", "check", "locate") for dropped in _dropped(album, catalog, name)],
        "duplicates": _duplicates(album, catalog),
        "n_groups": catalog.rows("SELECT count(DISTINCT group_id) AS n FROM duplicates")[0]["n"],
        "views": _views(album, catalog),
        "ads_scored": _ads(album, catalog),
        "classes": _classes(catalog),
        "left_out": _left_out(catalog),
        "unresolved": _unresolved(catalog),
        "stats": {name: dict(journal.stats(name)) for name in ("deduplicate", "split", "learn", "shard")},
        "mistakes": _mistakes(album, catalog, test),
        "confusions": confusions(test)[:WORDS] if test is not None else (),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Album:
    """Make the page's pictures of photos below a folder; `blur` hides what others may not see."""

    folder: Path
    blur: Blur | None

    def picture(self, row: Row, *, height: int = HEIGHT) -> str | None:
        return thumbnail_of(self.folder, row, height=height * (LARGER if self.blur else 1), blur=self.blur)

    def of(self, rows: Sequence[Row], *, height: int = HEIGHT) -> list[Row]:
        """Return the rows with a small `picture` (None where none can be shown), the link `file`, the `box`.

        Without a link where plates and faces are hidden: the file shows them.
        """
        return [
            {
                **row,
                "picture": self.picture(row, height=height),
                "file": None if self.blur else _link(self.folder, row["path"]),
                "box": [row["x1"], row["y1"], row["x2"], row["y2"]] if row.get("x1") is not None else None,
            }
            for row in rows
        ]


def _link(folder: Path, path: str | None) -> str | None:
    """Return a photo's place as seen from the report, which lies in `folder`; None on another drive of Windows."""
    if not path:
        return None
    try:
        return quote(Path(os.path.relpath(folder / path, folder)).as_posix())
    except ValueError:
        return None


def _dropped(album: _Album, catalog: Catalog, stage: str) -> list[Row]:
    """Return some examples for each reason why photos stopped at a stage, the commonest reason first."""
    reasons = catalog.rows(
        f"SELECT reason, count(*) AS n FROM ({STOPS}) WHERE stage = ? GROUP BY reason ORDER BY n DESC, reason", stage
    )
    found = []
    for reason in reasons:
        if reason["reason"] == "pending":
            continue
        rows = catalog.rows(
            f"""SELECT q.photo_id, f.path, c.message, {_BOX} FROM ({STOPS}) q JOIN files f USING (photo_id)
            LEFT JOIN checks c ON c.photo_id = q.photo_id LEFT JOIN findings v ON v.photo_id = q.photo_id
            WHERE q.stage = ? AND q.reason = ? {_MIXED.replace("photo_id", "q.photo_id")} LIMIT {EXAMPLES}""",
            stage,
            reason["reason"],
        )
        found.append({"stage": stage, **reason, "examples": album.of(rows)})
    return found


def _duplicates(album: _Album, catalog: Catalog) -> list[Row]:
    """Return some groups, those across ads and near ones first: exact copies within an ad are nothing to look at."""
    groups = catalog.rows(
        f"""SELECT group_id, count(*) AS n, bool_or(across_ads) AS across_ads, bool_or(relation = 'near') AS near
        FROM duplicates GROUP BY group_id ORDER BY near DESC, across_ads DESC, hash(group_id) LIMIT {GROUPS}"""
    )
    for group in groups:
        rows = catalog.rows(
            f"""SELECT d.photo_id, d.relation, d.kept, d.distance, f.path FROM duplicates d
            JOIN files f USING (photo_id) WHERE d.group_id = ? ORDER BY kept DESC, photo_id LIMIT {GROUP_PHOTOS}""",
            group["group_id"],
        )
        group["examples"] = album.of(rows)
    return groups


def _views(album: _Album, catalog: Catalog) -> list[Row]:
    """Return the eight viewpoints in their order, each with its number of photos and its surest example."""
    counted = catalog.rows("SELECT viewpoint, count(*) AS n FROM findings WHERE passed GROUP BY viewpoint")
    numbers = {row["viewpoint"]: row["n"] for row in counted}
    views = []
    for name in VIEWPOINTS:
        rows = catalog.rows(
            f"""SELECT v.photo_id, f.path, {_BOX} FROM findings v JOIN files f USING (photo_id)
            WHERE v.passed AND v.viewpoint = ? ORDER BY v.viewpoint_probability DESC, v.photo_id LIMIT 1""",
            name,
        )
        shown = album.of(rows, height=VIEW_HEIGHT) or [{"picture": None}]
        views.append({"name": name, "n": numbers.get(name, 0), **shown[0]})
    return views


def _ads(album: _Album, catalog: Catalog) -> Row:
    """Return how good the photos of ads are as sets, and the worst of them with their faults."""
    ads = scored_ads(catalog)
    totals = [ad.score.total for ad in ads]
    return {
        "n": len(ads),
        "median": sorted(totals)[len(totals) // 2] if totals else None,
        "weak": sum(total < WEAK for total in totals),
        "worst": [
            {
                "ad_id": ad.ad_id,
                "total": ad.score.total,
                "faults": list(dict.fromkeys(part.why for part in ad.score.parts if part.why)),
                "photos": _shots(album, list(map(dict, ad.photos))),
            }
            for ad in ads[:WORST_ADS]
            if ad.score.total < WEAK
        ],
    }


def _shots(album: _Album, photos: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return all photos of an ad in its order, the first that can be shown as large as other pictures.

    A buyer sees whole photos, so that nothing is cut out of them.
    """
    whole = [
        {name: photo[name] for name in ("photo_id", "path", "message")} | {"number": number}
        for number, photo in enumerate(photos, 1)
    ]
    shots = album.of(whole, height=STRIP_HEIGHT)
    first = next((index for index, shot in enumerate(shots) if shot["picture"]), None)
    if first is not None:
        shots[first] = album.of([whole[first]])[0]
    return shots


def _classes(catalog: Catalog) -> list[Row]:
    """Return the classes by size, each with its photos per split."""
    return catalog.rows(
        """SELECT class_name AS name, count(*) FILTER (split = 'train') AS train,
        count(*) FILTER (split = 'validation') AS validation, count(*) FILTER (split = 'test') AS test, count(*) AS n
        FROM samples WHERE status = 'ok' GROUP BY class_name ORDER BY n DESC, name"""
    )


def _left_out(catalog: Catalog) -> list[Row]:
    return catalog.rows(
        f"""SELECT status, count(*) AS taxa, sum(photos) AS photos, string_agg(taxon, ', ' ORDER BY photos DESC, taxon)
        FILTER (rank <= {WORDS}) AS names
        FROM (SELECT *, row_number() OVER (PARTITION BY status ORDER BY photos DESC, taxon) AS rank FROM classes)
        WHERE status NOT IN ('ok', 'merged') GROUP BY status ORDER BY photos DESC"""
    )


def _unresolved(catalog: Catalog) -> list[Row]:
    return catalog.rows(
        f"""SELECT concat_ws(' ', l.make, l.model, l.submodel) AS words, w.status, any_value(w.message) AS message,
        count(*) AS n FROM labels w JOIN listings l USING (ad_id) WHERE w.status <> 'ok'
        GROUP BY ALL ORDER BY n DESC, words LIMIT {WORDS}"""
    )


def _judged(project: Project) -> Predictions | None:
    """Return what the learned bundle says of the test split, None where nothing was learned."""
    if not project.predictions.is_file():
        return None
    table = Predictions.load(project.predictions)
    return table.take(table.about["split"] == "test")


def _mistakes(album: _Album, catalog: Catalog, test: Predictions | None) -> list[Row]:
    """Return the surest wrong answers on the test split."""
    worst = worst_mistakes(test, MISTAKES) if test is not None else ()
    found = []
    for mistake in worst:
        place = catalog.rows(
            f"""SELECT f.photo_id, f.path, {_BOX} FROM files f LEFT JOIN findings v USING (photo_id)
            WHERE f.photo_id = ?""",
            mistake.photo,
        )
        found += [
            {**row, "truth": mistake.truth, "answer": mistake.answer, "probability": mistake.probability}
            for row in place
        ]
    return album.of(found)
