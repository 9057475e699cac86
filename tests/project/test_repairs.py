"""`check --fix`: what can be saved is saved and looked at, the rest of the project's own files goes to quarantine."""

import shutil
from pathlib import Path

import pytest

from carspotter.project.fetching import fix_photos
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from tiny_project import make_project, write_table

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
