"""Rows of a project as a finder's manifest: what is labelled, with the boxes that the finder told."""

from __future__ import annotations

from pathlib import Path

import pytest

from carspotter.errors import ProjectError
from carspotter.project.folder import Project, create
from carspotter.review.finder_rows import write_finder_rows
from carspotter.training.finder.data import read_manifest


def project_with(folder: Path, n: int) -> Project:
    """Make a project of n photos, five an ad: a front, a back without a box, an interior, one unlabelled, one dark."""
    project = create(folder / "project", 'name = "rows"')
    kinds = [("exterior", "front"), (None, "back"), ("interior", None), (None, None), ("exterior", "left")]
    tables: dict[str, list[dict[str, object]]] = {"listing_photos": [], "files": [], "checks": [], "findings": []}
    for number in range(n):
        kind, view = kinds[number % 5]
        row = {"photo_id": f"{number // 5}/{number}", "status": "ok"}
        stats = {name: word for name, word in (("kind", kind), ("viewpoint", view)) if word}
        box = {} if number % 5 in (1, 2) else {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 20.0}
        tables["listing_photos"].append({**row, "ad_id": str(number // 5), **stats})
        tables["files"].append({**row, "path": f"photos/{number}.jpg"})
        tables["checks"].append({**row, "status": "dark" if number % 5 == 4 else "ok"})
        tables["findings"].append({**row, "kind": "exterior", "passed": True, **box})
    with project.catalog() as catalog:
        for name, rows in tables.items():
            catalog.append(name, rows)
    return project


def test_labelled_photos_become_a_manifest(tmp_path: Path) -> None:
    stats = write_finder_rows(project_with(tmp_path, 150), tmp_path / "finder.csv")
    assert stats["kinds"] == {"exterior": 30, "interior": 30}
    photos = read_manifest(tmp_path / "finder.csv")
    assert {photo.part for photo in photos} == {"train", "choose"}
    fronts = [photo for photo in photos if len(photo.boxes)]
    assert len(fronts) == 30
    assert fronts[0].boxes.tolist() == [[1, 2, 30, 20]]
    assert fronts[0].path == "project/photos/0.jpg"


def test_too_few_labels(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"of 4 photos is labelled, 50 are needed"):
        write_finder_rows(project_with(tmp_path, 10), tmp_path / "finder.csv")
