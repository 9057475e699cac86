"""Doubts of a built project: found, written for a person, and what the person decides obeyed by the next build."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import pytest

from carspotter.catalog.funnel import funnel
from carspotter.errors import LabelError, ProjectError
from carspotter.project.folder import Project, create
from carspotter.project.locate import versions
from carspotter.project.pipeline import build
from carspotter.review.apply import PHOTO_LABELS
from carspotter.review.session import ReviewSession

SETTINGS = 'name = "doubted"\n[classes]\nlevel = "model"\nmin_photos = 5\n'
MODELS = (("Audi", "A4"), ("BMW", "X5"), ("Opel", "Astra"))
WRONG = "3"  # an ad of the first model whose seller calls it the second


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project whose photos were looked at: 30 ads of three models, four photos each, far apart in embeddings."""
    project = create(tmp_path / "project", SETTINGS)
    random = np.random.default_rng(0)
    photos = [(f"{ad}/{n}", str(ad), ad % 3) for ad in range(30) for n in range(4)]
    stats = {str(ad): MODELS[1 if str(ad) == WRONG else ad % 3] for ad in range(30)}
    vectors = np.eye(8)[[model for _, _, model in photos]] + random.normal(0, 0.1, (len(photos), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ok = {"status": "ok"}
    with project.catalog() as catalog:
        catalog.append(
            "listings", [{"ad_id": ad, "make": make, "model": model, **ok} for ad, (make, model) in stats.items()]
        )
        catalog.append("listing_photos", [{"photo_id": p, "ad_id": ad, "url": f"{p}.jpg", **ok} for p, ad, _ in photos])
        catalog.append("files", [{"photo_id": p, "path": f"{p}.jpg", **ok} for p, _, _ in photos])
        catalog.append(
            "checks",
            [
                {
                    "photo_id": p,
                    "sha256": p,
                    "phash": int(random.integers(2**63)),
                    "dhash": 1,
                    "width": 800,
                    "height": 600,
                    "contrast": 0.3,
                    "sharpness": 500.0,
                    **ok,
                }
                for p, _, _ in photos
            ],
        )
        catalog.append(
            "findings",
            [
                {"photo_id": p, "kind": "exterior", "passed": True, "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0, **ok}
                for p, _, _ in photos
            ],
        )
        catalog.append(
            "embeddings",
            [{"photo_id": p[0], "embedding": v, **ok} for p, v in zip(photos, vectors, strict=True)],
            version=versions(project.settings.locate)["embeddings"],
        )
    build(project, only=("resolve", "classes", "split"))
    return project


def decide(project: Project, **decisions: str) -> None:
    """Fill the decisions of rows of `doubts.csv` by their ad, as a person does, and save it as `reviewed.csv`."""
    with (project.labels / "doubts.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    with (project.labels / "reviewed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        whole = [row for row in rows if not row["photo_id"]]
        writer.writerows({**row, "decision": decisions.get(f"ad{row['ad_id']}", "")} for row in whole)


def test_the_ad_with_the_wrong_label_is_found_and_set_right(project: Project) -> None:
    stats = build(project, only=("doubts",))["doubts"]
    assert stats["ads"] == 1
    assert (project.labels / "doubts.csv").read_bytes().startswith(BOM_UTF8)  # or spreadsheets misread Škoda
    with (project.labels / "doubts.csv").open(encoding="utf-8-sig") as file:
        row = next(row for row in csv.DictReader(file) if not row["photo_id"])
    assert (row["ad_id"], row["given"], row["becomes_model"]) == (WRONG, "BMW X5", "A4")
    assert stats["text"].endswith(f"next: carspotter review {project.folder} --queue doubts")
    decide(project, ad3="relabel")
    again = build(project, only=("resolve", "classes", "split", "doubts"))
    assert again["resolve"]["reviewed photos"] == 4
    assert again["doubts"]["ads"] == 0
    with project.catalog() as catalog:
        rows = catalog.rows("SELECT DISTINCT class_name FROM samples WHERE ad_id = ?", WRONG)
        assert [row["class_name"] for row in rows] == ["Audi A4"]


def test_a_dropped_ad_leaves_the_dataset_with_a_reason(project: Project) -> None:
    build(project, only=("doubts",))
    decide(project, ad3="drop")
    build(project, only=("resolve", "classes", "split"))
    with project.catalog() as catalog:
        assert catalog.rows("SELECT count(*) AS n FROM samples WHERE ad_id = ? AND status = 'ok'", WRONG)[0]["n"] == 0
        stage = next(stage for stage in funnel(catalog).stages if stage.name == "resolve")
    assert stage.stopped == {"dropped": 4}


def test_what_was_kept_is_not_asked_again(project: Project) -> None:
    build(project, only=("doubts",))
    decide(project, ad3="keep")
    stats = build(project, only=("resolve", "doubts"))
    assert "reviewed photos" not in stats["resolve"]
    assert stats["doubts"]["ads"] == 0
    assert stats["doubts"]["reviewed"] >= 1
    assert (project.labels / "reviewed.csv.imported").exists()


def test_an_ad_is_asked_about_by_a_photo_that_has_its_label(project: Project) -> None:
    def labels() -> dict[str, str]:
        with project.catalog() as catalog:
            rows = catalog.rows(f"SELECT photo_id, name FROM ({PHOTO_LABELS}) ORDER BY photo_id")
        return {row["photo_id"]: row["name"] for row in rows}

    other = {"task": "class", "photo": "3/0", "says": "relabel", "becomes": {"make": "Opel", "model": "Astra"}}
    with ReviewSession(project, person="Ann") as session:
        session.decide({**other, "id": "0" * 16})
    build(project, only=("resolve", "classes", "split"))
    before = labels()
    assert (before["3/0"], before["3/1"]) == ("Opel Astra", "BMW X5")
    assert build(project, only=("doubts",))["doubts"]["ads"] == 1
    with (project.labels / "doubts.csv").open(encoding="utf-8-sig") as file:
        row = next(row for row in csv.DictReader(file) if row["ad_id"] == WRONG)
    assert (row["photo_id"], row["given"], row["shown"]) == ("", "BMW X5", "3/1")
    with ReviewSession(project, person="Ann") as session:
        (item,) = [item for item in session.work(session.query("doubts")).items if item.ad_id == WRONG]
        assert item.given is not None
        assert item.given.name() == "BMW X5"
        session.decide({"task": "class", "ad": WRONG, "says": "keep", "id": "1" * 16})
    build(project, only=("resolve",))
    assert labels() == before


def test_a_list_that_was_filled_in_in_its_place_is_kept(project: Project) -> None:
    build(project, only=("doubts",))
    doubts, reviewed = project.labels / "doubts.csv", project.labels / "reviewed.csv"
    decide(project, ad3="drop")
    reviewed.replace(doubts)
    filled, kept = doubts.read_bytes(), project.labels / "doubts.csv.filled"
    told = f"doubts.csv was filled in; save it as reviewed.csv to have it count; it lies in {kept}"
    assert build(project, only=("doubts",))["doubts"]["warnings"] == [told]
    assert kept.read_bytes() == filled
    with doubts.open(encoding="utf-8-sig") as file:
        assert {row["decision"] for row in csv.DictReader(file)} == {""}
    kept.rename(reviewed)
    doubts.write_bytes(filled)  # what it says is in the file where it belongs
    assert "warnings" not in build(project, only=("doubts",))["doubts"]
    assert not kept.exists()


def test_a_new_photo_of_a_reviewed_ad_follows_the_decision(project: Project) -> None:
    build(project, only=("doubts",))
    decide(project, ad3="relabel")
    build(project, only=("resolve",))
    with project.catalog() as catalog:
        catalog.append("listing_photos", [{"photo_id": "3/9", "ad_id": WRONG, "url": "9.jpg", "status": "ok"}])
    assert build(project, only=("resolve",))["resolve"]["reviewed photos"] == 5


def test_a_wrong_decision_names_its_line(project: Project) -> None:
    build(project, only=("doubts",))
    decide(project, ad3="perhaps")
    with pytest.raises(LabelError, match=r"reviewed\.csv line \d+.*perhaps"):
        build(project, only=("resolve",))


def test_too_little_to_doubt(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="build the project first"):
        build(create(tmp_path / "empty", SETTINGS), only=("doubts",))
