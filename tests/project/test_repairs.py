"""`check --fix`: what can be saved is saved and looked at, the rest of the project's own files goes to quarantine."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from carspotter.project.fetching import fix_photos
from carspotter.project.folder import Project
from carspotter.project.locate import versions
from carspotter.project.pipeline import build
from tiny_project import make_project, save_photo, tables, write_table

COPIED = "\n[fetch]\ncopy_local = true\n"


@pytest.mark.parametrize("is_copied", [False, True])
def test_photos_are_saved_or_set_aside(tmp_path: Path, is_copied: bool) -> None:
    folder = make_project(tmp_path / "project")
    # Photographs outside of the project are not its own, and must stay as they are.
    shutil.move(folder / "pictures", tmp_path / "pictures")
    text = (folder / "carspotter.toml").read_text().replace('photos = "pictures"', 'photos = "../pictures"')
    (folder / "carspotter.toml").write_text(text + (COPIED if is_copied else ""))
    before = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    build(Project.open(folder), until="locate", workers=0)
    stats = fix_photos(Project.open(folder))
    assert stats == {"saved": 1, "quarantined": int(is_copied), "left where they are": int(not is_copied)}
    assert {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()} == before
    with Project.open(folder).catalog() as catalog:
        row = catalog.rows(
            """SELECT c.status, f.path, v.passed FROM listing_photos p JOIN files f USING (photo_id)
            JOIN checks c USING (photo_id) JOIN findings v USING (photo_id) WHERE p.url LIKE '%9000_broken%'"""
        )[0]
        assert row["status"] == "ok"
        assert row["passed"]
        assert (folder / row["path"]).is_relative_to(folder / "photos")
        statuses = {row["status"] for row in catalog.rows("SELECT status FROM files")}
    assert ("quarantined" in statuses) == is_copied
    assert (folder / "quarantine" / "quarantine.csv").exists() == is_copied
    # The next build takes the saved photo as it is, and does not ask for the other again.
    assert build(Project.open(folder), workers=0)["locate"] == {"done": 0}
    assert fix_photos(Project.open(folder))["saved"] == 0


def test_photos_of_one_name_are_saved_beside_each_other(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    for place, source in (("a", "1000_0.jpg"), ("b", "1100_0.jpg")):
        (folder / "pictures" / place).mkdir()
        whole = (folder / "pictures" / source).read_bytes()
        (folder / "pictures" / place / "1.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    write_table(folder, [("1", "VW", "Golf", "", "a/1.jpg, b/1.jpg")])
    build(Project.open(folder), until="locate", workers=0)
    assert fix_photos(Project.open(folder))["saved"] == 2
    with Project.open(folder).catalog() as catalog:
        rows = catalog.rows("SELECT path, sha256 FROM files")
    assert len({row["path"] for row in rows}) == len({row["sha256"] for row in rows}) == 2
    assert "changed on the disk" not in build(Project.open(folder), until="fetch", workers=0)["fetch"]


def test_photos_that_could_not_be_read_once_are_looked_at_again_and_broken_ones_are_not(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    pictures = folder / "pictures"
    (pictures / "1.jpg").touch()
    write_table(folder, [("1", "VW", "Golf", "", "1.jpg, 1000_0.jpg, 9000_broken.jpg")])

    def located(**steps: Any) -> tuple[Mapping[str, Any], dict[str, list[str]]]:
        said = build(Project.open(folder), workers=0, **steps)["locate"]
        found = tables(folder)
        names = ("checks", "findings", "embeddings")
        return said, {name: sorted(row["status"] for row in found[name]) for name in names}

    build(Project.open(folder), until="fetch", workers=0)
    pictures.rename(folder / "away")
    said, statuses = located(only=("locate",))
    assert said["tried again by the next build"] == 3
    assert {status for found in statuses.values() for status in found} == {"error"}
    (folder / "away").rename(pictures)
    _, statuses = located(until="locate")
    assert statuses["checks"] == ["empty", "ok", "truncated"]
    assert located(until="locate")[0] == {"done": 0}
    save_photo(pictures / "1.jpg", "red", seed=77)
    said, statuses = located(until="locate")
    assert (said["done"], said["changed on disk"]) == (1, 1)
    assert statuses["checks"] == ["ok", "ok", "truncated"]
    assert located(until="locate")[0] == {"done": 0}


def test_rows_of_a_disk_that_was_away_are_made_anew(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    write_table(folder, [("1", "VW", "Golf", "", "1000_0.jpg")])
    build(Project.open(folder), until="fetch", workers=0)
    for parts in (("checks", "findings", "embeddings"), ("embeddings",)):
        with Project.open(folder).catalog() as catalog:
            photo = catalog.rows("SELECT photo_id FROM files")[0]["photo_id"]
            for part in parts:  # as they were written before
                version = versions(Project.open(folder).settings.locate)[part]
                catalog.append(part, [{"photo_id": photo, "status": "storage"}], version=version)
        assert build(Project.open(folder), until="locate", workers=0)["locate"]["done"] == 1
        found = tables(folder)
        assert [found[part][0]["status"] for part in parts] == ["ok"] * len(parts)
