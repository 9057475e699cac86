"""`check --fix`: photos that cannot be read in; what can be saved written anew and looked at, the rest in quarantine.

A saved photo is a new file below the project, and a new fact says that its photo lies there now. Files outside of the
project are read and never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.errors import IMAGE_CODES, StorageError
from carspotter.photos.names import folder_name
from carspotter.photos.repair import quarantine, repair, save_repaired
from carspotter.project.folder import Project
from carspotter.project.look import Look

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
        moved = [fact for row in rows if row["photo_id"] in lost and (fact := _set_aside(project, row)) is not None]
        _append_files(catalog, moved)
    return {"saved": len(saved), "quarantined": len(moved), "left where they are": len(lost) - len(moved)}


def _save(project: Project, row: Row) -> Row | None:
    try:
        data = storage.read(project.folder / row["path"])
    except StorageError:
        return None
    repaired = repair(data)
    if repaired is None:
        return None
    name = Path(row["path"]).stem
    path = save_repaired(repaired, project.photos / folder_name(row["ad_id"]), name=name)
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
    look = Look(folder=str(project.folder), check=project.settings.check, locate=project.settings.locate)
    look.setup()
    lacks = list(look.writes)
    found = look.process([{"photo_id": row["photo_id"], "path": row["path"], "lacks": lacks} for row in saved])
    for table, rows in found.items():
        catalog.append(table, rows, version=look.writes[table])
