"""A project's own labels become its gate, its viewpoints, and what the service says of a vehicle."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from carspotter.crops import cut, decode_side, read_photo
from carspotter.errors import BundleError, DatasetError
from carspotter.project.folder import Project
from carspotter.project.locate import LocateSettings
from carspotter.project.pipeline import build
from carspotter.project_training.attribute_network import base_of
from carspotter.project_training.attribute_rows import embedded, read_labels
from carspotter.recognition.recognizer import Recognizer
from carspotter.review.decisions import Decision
from carspotter.review.imported import open_decisions
from carspotter.runtime.bundle import READS, ModelBundle, shipped
from carspotter.runtime.manifest import sha256
from carspotter.serving.app import create_app
from carspotter.serving.settings import ServeSettings
from commands import call
from tiny_project import SETTINGS, UNBLURRED, make_project

SIDES = {"10": "front", "11": "right", "12": "back"}
"""The side that a person sees, by the beginning of the ad's number, which is the colour of its car."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built project, whose source knows the state of each car, and whose photos a person has labelled."""
    folder = make_project(tmp_path_factory.mktemp("attribute") / "project")
    with (folder / "cars.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with (folder / "cars.csv").open("w", newline="", encoding="utf-8") as file:
        states = ["state", *("new" if row[0].startswith("10") else "used" for row in rows)]
        csv.writer(file).writerows([*row, state] for row, state in zip([header, *rows], states, strict=True))
    build(Project.open(folder), until="split", workers=0)
    with Project.open(folder).catalog() as catalog:
        photos = catalog.rows("SELECT photo_id, ad_id FROM listing_photos WHERE photo_id IS NOT NULL")
    decisions = open_decisions(Project.open(folder).labels)
    for photo in photos:
        if side := SIDES.get(photo["ad_id"][:2]):
            # In this market the red ones are interiors, whatever the finder says of them.
            kind = "interior" if side == "front" else "exterior"
            for task, says in (("kind", kind), ("viewpoint", side)):
                decisions.append(Decision(task=task, says=says, by="Ann", photo_id=photo["photo_id"]))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def trained(project: Path) -> dict[str, Path]:
    """The folder of each bundle that the command wrote, by its task."""
    for task in ("kind", "viewpoint", "state"):
        code, out, err = call("train", project, "--task", task)
        assert code == 0, err
        assert f"The bundle: {project / 'models' / task}" in out
        # As the settings of the project name it, whichever folder the command was called in.
        assert (f'attributes = ["models/{task}"] under [locate]' in out) == (task != "state")
    return {task: project / "models" / task for task in ("kind", "viewpoint", "state")}


def test_labels_are_those_of_the_review_and_of_the_source(project: Path) -> None:
    kinds = read_labels(project, "kind")
    assert {row.label for row in kinds} == {"exterior", "interior"}
    assert {(row.group[:6], row.label) for row in read_labels(project, "state")} >= {("1000", "new"), ("1100", "used")}
    parts: dict[str, set[str]] = {}
    for row in read_labels(project, "viewpoint"):
        parts.setdefault(row.group, set()).add(row.split)
    assert all(len(each) == 1 for each in parts.values()), "the project's own split is kept"
    with pytest.raises(DatasetError, match=r"no column 'stat'.*did you mean 'state'"):
        read_labels(project, "stat")


def test_the_bundles_say_what_was_labelled(project: Path, trained: dict[str, Path]) -> None:
    assert ModelBundle.load(trained["kind"]).attributes == {"kind": ("exterior", "interior")}
    assert ModelBundle.load(trained["viewpoint"]).attributes == {"viewpoint": ("back", "front", "right")}
    assert ModelBundle.load(trained["state"]).attributes == {"state": ("new", "used")}
    bundles = [word for name in ("finder", "identifier") for word in (f"--{name}", project / "bundles" / name)]
    own = [word for task in ("viewpoint", "state") for word in ("--attribute", trained[task])]
    code, out, err = call("identify", project / "pictures/1101_0.jpg", *bundles, *own, "--json")
    assert code == 0, err
    (vehicle,) = json.loads(out)["vehicles"]
    assert vehicle["viewpoint"]["name"] == "right"
    assert vehicle["attributes"]["state"]["name"] == "used"


def test_what_the_build_has_asked_the_identifier_is_not_asked_again(project: Path) -> None:
    bundle = Project.open(project).settings.locate.bundle("identifier")
    rows = {(sha256(row.path.read_bytes()), row.box): row for row in read_labels(project, "state")}
    known = {(digest, box): vector for digest, box, vector in embedded(project, bundle)}
    assert set(known) >= set(rows)
    (row, vector), *_ = [(row, known[key]) for key, row in rows.items()]
    crop = cut(read_photo(row.path.read_bytes(), decode_side(bundle.preprocessing)), bundle.preprocessing, row.box)
    asked = base_of(bundle, bundle.preprocessing, READS[0], None).describe(crop[None])[0]
    np.testing.assert_allclose(vector, asked, atol=2e-3)  # kept as float16
    assert not list(embedded(project, shipped("identifier"))), "another network has other embeddings"


def test_merged_sides_are_no_viewpoint_of_a_build(project: Path, tmp_path: Path) -> None:
    code, out, err = call("train", project, "--task", "viewpoint", "--merge-sides", "--out", tmp_path / "merged")
    assert code == 0, err
    assert "In a build" not in out
    with pytest.raises(BundleError, match="says the viewpoint 'side'; a build takes the eight sides: front"):
        LocateSettings(attributes=(str(tmp_path / "merged"),)).least()


def test_a_kind_of_ones_own_is_the_gate_of_a_build(project: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    settings = (SETTINGS + UNBLURRED).replace("[locate]", '[locate]\nattributes = ["models/kind", "models/viewpoint"]')
    (project / "carspotter.toml").write_text(settings, encoding="utf-8")
    build(Project.open(project), until="locate", workers=0)
    with closing(Project.open(project).catalog()) as catalog:
        passed = catalog.rows(
            """SELECT left(p.ad_id, 2) AS ads, bool_or(v.passed) AS some, bool_and(v.passed) AS every,
            any_value(v.viewpoint) AS side FROM listing_photos p JOIN findings v USING (photo_id)
            WHERE v.status = 'ok' AND left(p.ad_id, 2) IN ('10', '11', '12') GROUP BY 1 ORDER BY 1"""
        )
    assert [(row["ads"], row["some"], row["every"]) for row in passed] == [
        ("10", False, False),
        ("11", True, True),
        ("12", True, True),
    ]


def test_a_service_says_it(project: Path, trained: dict[str, Path]) -> None:
    recognizer = Recognizer.open(
        finder=project / "bundles/finder",
        identifier=project / "bundles/identifier",
        attributes=[trained["state"], trained["viewpoint"]],
        with_hashes=True,
    )
    with TestClient(create_app(ServeSettings(), recognizer)) as http:
        photo = (project / "pictures/1002_0.jpg").read_bytes()
        answer = http.post("/v1/photos", content=photo, headers={"content-type": "image/jpeg"}).json()
        bundles = http.get("/v1/models").json()["bundles"]
    (vehicle,) = answer["results"][0]["vehicles"] if "results" in answer else answer["vehicles"]
    assert vehicle["attributes"]["state"]["name"] == "new"
    assert vehicle["viewpoint"]["name"] == "front"
    assert [bundle["name"] for bundle in bundles if bundle["task"] == "attribute"] == ["state.head", "viewpoint.head"]
