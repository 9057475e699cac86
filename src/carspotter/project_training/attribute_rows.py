"""A project's photos with an attribute's label: what people decided in a review, else what the source says.

Of a plain folder that was reviewed the decisions alone count.

Kind and viewpoint are of a photo. Body and any further column are of an ad, and of each of its photos that shows a
whole vehicle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import DatasetError, suggestion
from carspotter.geometry import BoundingBox
from carspotter.project.folder import SETTINGS, Project
from carspotter.project.locate import versions
from carspotter.records import UNKNOWN_VIEWPOINT
from carspotter.review.decisions import DECISIONS, DecisionStore, Task
from carspotter.review.imported import open_decisions
from carspotter.runtime.bundle import ModelBundle
from carspotter.training.attribute.labels import Labelled, read_folders, read_table

OF_PHOTO = ("kind", "viewpoint")
OF_AD = ("body", "make", "model", "submodel", "year", "source")
"""Columns of the listings besides those that the source adds."""

_PHOTOS = """SELECT p.photo_id, p.ad_id, p.kind, p.viewpoint, l.body, l.make, l.model, l.submodel, l.year, l.source,
l.attributes, f.path, v.passed, v.x1, v.y1, v.x2, v.y2, coalesce(s.split, p.split) AS split,
coalesce(s.group_id, p.ad_id) AS group_id
FROM listing_photos p JOIN listings l USING (ad_id) JOIN files f USING (photo_id)
LEFT JOIN findings v USING (photo_id) LEFT JOIN samples s USING (photo_id)
WHERE f.status = 'ok' ORDER BY p.photo_id"""


_EMBEDDED = """SELECT c.sha256, v.x1, v.y1, v.x2, v.y2, e.embedding FROM embeddings e JOIN checks c USING (photo_id)
JOIN findings v USING (photo_id) WHERE e.status = 'ok' AND c.sha256 IS NOT NULL AND v.x1 IS NOT NULL
AND e.stage_version = ? AND v.stage_version = ?"""


def read_labels(source: Path, task: str) -> list[Labelled]:
    """Return the labelled photos of a project, a CSV or a folder of folders. Raises DatasetError, ProjectError."""
    if (source / SETTINGS).is_file():
        return project_rows(Project.open(source), task)
    if source.is_dir():
        return folder_rows(source, task) if (source / DECISIONS).is_file() else read_folders(source)
    if not source.exists():
        raise DatasetError(f"{source} is not there; name a project, a CSV with photo and label, or a folder of folders")
    return read_table(source, task)


def project_rows(project: Project, task: str) -> list[Labelled]:
    """Return the labelled photos of a project. Raises DatasetError for an unknown column, or where none is labelled."""
    said = reviewed_photos(project)
    with project.catalog() as catalog:
        rows = catalog.rows(_PHOTOS)
    known = {*OF_PHOTO, *OF_AD} | {name for row in rows for name in _further(row)}
    if task not in known:
        raise DatasetError(f"{project.folder}: no column {task!r} in its listings; {suggestion(task, sorted(known))}")
    splits = {row["ad_id"]: row["split"] for row in rows if row["split"]}
    found = []
    for row in rows:
        label = said.get(row["photo_id"], {}).get(task, row[task]) if task in OF_PHOTO else _of_ad(row, task)
        # Whose vehicle was not found, or did not pass the gate, shows nothing that the ad says.
        if label and (task == "kind" or row["x1"] is not None) and (task in OF_PHOTO or row["passed"]):
            found.append(_row(project, row, str(label), splits.get(row["ad_id"], "")))
    if not found:
        raise DatasetError(
            f"{project.folder}: no photo has a {task}; label some with carspotter review {project.folder}, or give a "
            f"source a column {task} (docs/sources.md)"
        )
    return found


def embedded(source: Path, bundle: ModelBundle) -> Iterator[tuple[str, BoundingBox, npt.NDArray[np.float32]]]:
    """Yield what a build has asked an identifier of photos: the SHA-256 of the file, the box, the embedding (d,).

    None where the source is no project, or its build asks another network.
    """
    if not (source / SETTINGS).is_file():
        return
    project = Project.open(source)
    locate = project.settings.locate
    if locate.precision != "float32" or locate.bundle("identifier").version != bundle.version:
        return
    known = versions(locate)
    with project.catalog() as catalog:
        found = catalog.columns(_EMBEDDED, known["embeddings"], known["findings"])
    boxes = zip(*(np.asarray(found[side], np.float64).tolist() for side in ("x1", "y1", "x2", "y2")), strict=True)
    for digest, box, vector in zip(found["sha256"], boxes, found["embedding"], strict=True):
        yield str(digest), BoundingBox(*box), np.asarray(vector, np.float32)


def reviewed_photos(project: Project) -> dict[str, dict[str, str | None]]:
    """Return what people decided of kind and viewpoint by photo; an unknown viewpoint is None, above the source's."""
    return _reviewed(open_decisions(project.labels))


def folder_rows(folder: Path, task: str) -> list[Labelled]:
    """Return the photos of a plain folder that a review labelled. Raises DatasetError where none was."""
    said = _reviewed(DecisionStore(folder / DECISIONS))
    found = [
        Labelled(path=folder / name, label=word) for name, each in sorted(said.items()) if (word := each.get(task))
    ]
    if not found:
        raise DatasetError(
            f"{folder / DECISIONS} has no {task}; decide some with carspotter review {folder} --queue viewpoint or kind"
        )
    return found


def _reviewed(store: DecisionStore) -> dict[str, dict[str, str | None]]:
    found: dict[str, dict[str, str | None]] = {}
    tasks: tuple[Task, ...] = ("kind", "viewpoint")
    for task in tasks:
        for decision in store.settled(task).values():
            if decision.photo_id is not None:
                word = None if decision.says == UNKNOWN_VIEWPOINT else decision.says
                found.setdefault(decision.photo_id, {})[task] = word
    return found


def _row(project: Project, row: Mapping[str, Any], label: str, split: str) -> Labelled:
    box = None if row["x1"] is None else BoundingBox(row["x1"], row["y1"], row["x2"], row["y2"])
    return Labelled(path=project.folder / row["path"], label=label, group=row["group_id"], split=split, box=box)


def _of_ad(row: Mapping[str, Any], task: str) -> Any:
    return row[task] if task in OF_AD else _further(row).get(task)


def _further(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return json.loads(row["attributes"]) if row["attributes"] else {}
