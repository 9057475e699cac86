"""The second step of a build: photographs onto the disk, and what became of those that were there.

In: the settings of each source, which say whose photographs are where. Out: rows of `files`. `fix_photos` is `check
--fix`: it writes anew what can be saved of unreadable photos and puts the rest of the project's own into quarantine;
files outside of the project are read and never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.errors import IMAGE_CODES, ProjectError, StorageError
from carspotter.photos import disk
from carspotter.photos.fetch import VERSION, Fetch, sweep
from carspotter.photos.names import folder_name
from carspotter.photos.repair import quarantine, repair, save_repaired
from carspotter.photos.rules import SourceRules, merged
from carspotter.project.build import Build
from carspotter.project.folder import Project
from carspotter.project.intake import placed, warned
from carspotter.project.locate import LocateStage
from carspotter.project.settings import SourceSettings, known_sources
from carspotter.sources.table import folder_of_photos
from carspotter.storage_errors import shown

_STATUSES = "SELECT DISTINCT status FROM files UNION SELECT DISTINCT status FROM checks"


def fetch_photos(build: Build) -> Mapping[str, Any]:
    """Fetch the photographs that are not on disk, note where the others lie, and see which of those have changed.

    `build.again` names statuses whose photos are asked for once more; raises ProjectError for one that no photo has.
    """
    sweep(build.project.folder)
    _check(build)
    attempt = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")  # what failed for a while is tried once more in each build
    seen = _look_at_disk(build, attempt)
    rules = source_rules(build.project)
    # A source that was renamed since its ads were read is trusted no more than any of those that there are.
    strictest = reduce(merged, rules.values()) if rules else SourceRules()
    stage = Fetch(
        project=build.project.folder,
        settings=build.project.settings.fetch,
        attempt=attempt,
        again=build.again,
        rules=rules,
        other_rules=strictest,
    )
    # One process, many threads: each process counts a host's requests by itself, and `per_host` is meant as it stands.
    stats = build.rows(stage, workers=1 if build.on == "local" and build.workers is None else None)
    return {**stats, **seen, **warned(_without_photos(build))}


def _without_photos(build: Build) -> list[str]:
    """Say of which sources no single photograph is there."""
    rows = build.catalog.rows(
        """SELECT l.source, f.status, count(*) AS n, any_value(p.url) AS url FROM listings l
        JOIN listing_photos p USING (ad_id) JOIN files f USING (photo_id) WHERE p.status = 'ok'
        AND l.source NOT IN (SELECT source FROM listings JOIN listing_photos USING (ad_id) JOIN files x
          ON x.photo_id = listing_photos.photo_id WHERE x.status = 'ok') GROUP BY ALL ORDER BY ALL"""
    )
    return [
        f"source {row['source']}: not one photo is there, {row['n']} {row['status']}, {shown(row['url'])}"
        for row in rows
    ]


def _check(build: Build) -> None:
    there = sorted(row["status"] for row in build.catalog.rows(_STATUSES)) if build.again else []
    for status in build.again:
        if status not in there:
            known = ", ".join(there) or "none yet"
            raise ProjectError(f"no photo has the status {status!r}; there are: {known}")


def _look_at_disk(build: Build, attempt: str) -> Mapping[str, Any]:
    """Append what the disk says anew of photos that are known; say how many."""
    rows = disk.news(build.project.folder, build.catalog.rows(disk.WATCHED))
    if not rows:
        return {}
    if any(row["status"] != disk.CHANGED for row in rows):
        sums = {row["photo_id"]: row["sha256"] for row in build.catalog.rows("SELECT photo_id, sha256 FROM files")}
        rows = [row if row["status"] == disk.CHANGED else row | {"sha256": sums[row["photo_id"]]} for row in rows]
    build.catalog.append("files", rows, version=f"{VERSION}.{attempt}-disk")
    words = {disk.CHANGED: "changed on the disk", "missing": "no longer there", "ok": "there again"}
    return {word: n for status, word in words.items() if (n := sum(row["status"] == status for row in rows))}


def source_rules(project: Project) -> dict[str, SourceRules]:
    """Return the rules for the photographs of each source, by the name that its ads bear."""
    known = known_sources(project.folder, project.settings.sources)
    return {one.name: _rules_of(project, source) for one, source in zip(known, project.settings.sources, strict=True)}


def _rules_of(project: Project, source: SourceSettings) -> SourceRules:
    settings = placed(project, source)
    match source.kind:
        case "table":
            is_own = storage.local_path(settings.path) is not None
            return SourceRules(is_own=is_own, places=(settings.path, folder_of_photos(settings)))
        case "folders":
            is_own = storage.local_path(settings.path) is not None
            return SourceRules(is_own=is_own, places=(settings.path,))
        case "crawl":
            return SourceRules(
                places=settings.start,
                hosts=settings.hosts,
                contact=settings.contact,
                obeys_robots=True,
                delay_s=settings.delay_s,
                per_host=settings.per_host,
            )
        case _:
            return SourceRules(is_own=True)


Row = dict[str, Any]

QUARANTINED = "quarantined"

_UNREADABLE = f"""SELECT c.photo_id, p.ad_id, f.path, f.modified, f.stage_version, c.status, c.message FROM checks c
JOIN files f USING (photo_id) JOIN listing_photos p USING (photo_id)
WHERE f.status = 'ok' AND c.status IN ({", ".join(f"'{code}'" for code in IMAGE_CODES)}) ORDER BY c.photo_id"""


def fix_photos(project: Project) -> Mapping[str, Any]:
    """Save the photos of a project that cannot be read, as far as possible; says how many of each."""
    with project.catalog() as catalog, catalog.writer():
        rows = catalog.rows(_UNREADABLE)
        saved = [fact for row in rows if (fact := _save(project, row)) is not None]
        _append_files(catalog, saved)
        _look_again(project, catalog, saved)
        lost = {row["photo_id"] for row in rows} - {fact["photo_id"] for fact in saved}
        n_moved = 0
        for row in rows:
            if row["photo_id"] in lost and (fact := _set_aside(project, row)) is not None:
                _append_files(catalog, [fact])  # as it comes: the next one may be refused
                n_moved += 1
    return {"saved": len(saved), "quarantined": n_moved, "left where they are": len(lost) - n_moved}


def _save(project: Project, row: Row) -> Row | None:
    try:
        data = storage.read(project.folder / row["path"])
    except StorageError:
        return None
    repaired = repair(data)
    if repaired is None:
        return None
    name = f"{Path(row['path']).stem}-{row['photo_id'].rpartition('/')[2]}"  # photos of one ad may have one name
    path = save_repaired(repaired, project.photos / folder_name(row["ad_id"]), name=folder_name(name))
    return {
        "photo_id": row["photo_id"],
        "path": path.relative_to(project.folder).as_posix(),
        "bytes": len(repaired.data),
        "sha256": sha256(repaired.data).hexdigest(),
        "modified": row["modified"],  # of the original, should it change
        "status": OK,
        "message": repaired.what,
        "stage_version": row["stage_version"],
    }


def _set_aside(project: Project, row: Row) -> Row | None:
    """Move a file of the project's own to quarantine; one that lies elsewhere stays."""
    path = project.folder / row["path"]
    if not path.is_relative_to(project.photos) or not path.exists():
        return None
    target = quarantine(path, project.quarantine, photo=row)
    return {
        "photo_id": row["photo_id"],
        "path": target.relative_to(project.folder).as_posix(),
        "status": QUARANTINED,
        "message": row["message"],
        "stage_version": row["stage_version"],
    }


def _append_files(catalog: Catalog, facts: list[Row]) -> None:
    """Append facts of files under the version that fetched them, or they would be fetched again."""
    for fact in facts:
        version = fact["stage_version"]
        catalog.append("files", [{k: v for k, v in fact.items() if k != "stage_version"}], version=version)


def _look_again(project: Project, catalog: Catalog, saved: list[Row]) -> None:
    if not saved:
        return
    look = LocateStage(folder=str(project.folder), check=project.settings.check, locate=project.settings.locate)
    look.setup()
    lacks = list(look.writes)
    found = look.process([{"photo_id": row["photo_id"], "path": row["path"], "lacks": lacks} for row in saved])
    for table, rows in found.items():
        catalog.append(table, rows, version=look.writes[table])
