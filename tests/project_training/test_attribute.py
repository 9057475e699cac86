"""Tests of attributes of one's own: labels in, a bundle out, and what recognizing and building do with it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carspotter.errors import BundleError, DatasetError, RecipeError
from carspotter.evaluation.compare import compare, ensemble, fit_weights
from carspotter.evaluation.predictions import Predictions
from carspotter.progress import Quiet
from carspotter.project.locate import LocateSettings, versions
from carspotter.project_training.attribute import train_attribute
from carspotter.project_training.attribute_look import NEW, Answers
from carspotter.project_training.attribute_network import recipe_of
from carspotter.project_training.attribute_photos import AttributeSettings
from carspotter.project_training.attribute_rows import read_labels
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Vehicle
from carspotter.review.decisions import DECISIONS, Decision, DecisionStore
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.onnx import OnnxSession
from carspotter.training.attribute.labels import Labelled, deal_out, read_folders, read_table
from tiny_bundles import draw_photo, tiny_finder, tiny_identifier

Box = tuple[int, int, int, int]
BOX: Box = (60, 60, 340, 240)


class Said(Quiet):
    """Keep the lines that a training says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ends: dict[str, str] = {}

    def end(self, step: str, stats: Mapping[str, Any]) -> None:
        """Keep what a step had to say."""
        self.ends[step] = stats["text"]

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


def drawn(folder: Path, labels: Mapping[str, int], n: int, *, seed: int = 0) -> list[tuple[Path, str]]:
    """Draw photos of each label into a folder of its name: a car on grey, in the label's brightness of background."""
    random, found = np.random.default_rng(seed), []
    for label, grey in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(n):
            pixels = draw_photo((400, 300), [("red" if grey > 100 else "blue", BOX)], background=grey)
            noise = random.integers(-15, 15, pixels.shape)
            path = folder / label / f"{label}-{number}.png"
            Image.fromarray((pixels.astype(int) + noise).clip(0, 255).astype(np.uint8)).save(path)
            found.append((path, label))
    return found


def table(path: Path, rows: list[tuple[Path, str]], column: str = "label") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", column, "x1", "y1", "x2", "y2"])
        writer.writerows([photo, label, *BOX] for photo, label in rows)
    return path


def test_a_kind_from_folders_becomes_the_gate(tmp_path: Path) -> None:
    drawn(tmp_path / "kinds", {"exterior": 220, "interior": 20}, 12)
    (tmp_path / "kinds/exterior/words.jpg").write_text("this is no photo")
    said = Said()
    trained = train_attribute(tmp_path / "kinds", tmp_path / "out", AttributeSettings(task="kind"), said)
    assert trained.figures is not None
    assert trained.figures.macro_f1.value == 1.0
    assert [line for line in said.lines if "words.jpg" in line]
    assert (tmp_path / "out/report.html").is_file()

    bundle = ModelBundle.load(tmp_path / "out")
    locate = LocateSettings(attributes=(str(tmp_path / "out"),))
    assert locate.least() == bundle.calibration["gate"]
    assert versions(locate)["findings"] != versions(LocateSettings())["findings"]

    recognizer = open_recognizer(tmp_path, [tmp_path / "out"])
    # The tiny finder calls a photo with a car exterior at any grey; the bundle of one's own knows better.
    answers = [recognizer.recognize(str(tmp_path / f"kinds/{name}/{name}-0.png")) for name in ("exterior", "interior")]
    assert [each.kind.name for each in answers if each.kind] == ["exterior", "interior"]
    assert [len(each.vehicles) for each in answers] == [1, 0]


def test_a_column_of_ones_own_is_said_of_a_vehicle_and_comes_back_from_json(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels.csv", drawn(tmp_path, {"new": 220, "used": 20}, 12), "state")
    trained = train_attribute(labels, tmp_path / "out", AttributeSettings(task="state"), Said())
    assert trained.bundle is not None
    assert trained.bundle.attributes == {"state": ("new", "used")}

    recognizer = open_recognizer(tmp_path, [tmp_path / "out"])
    vehicle = recognizer.recognize(str(tmp_path / "used/used-3.png")).vehicles[0]
    assert vehicle.own["state"] is not None
    assert vehicle.own["state"].name == "used"
    assert Vehicle.from_dict(vehicle.to_dict()).own["state"] is not None
    assert recognizer.bundles["attribute state"] == "state.head"
    with pytest.raises(BundleError, match="both say 'state'"):
        open_recognizer(tmp_path, [tmp_path / "out", tmp_path / "out"])
    with pytest.raises(BundleError, match="says 'state'; a build takes kind and viewpoint"):
        LocateSettings(attributes=(str(tmp_path / "out"),)).least()


def test_hog_and_a_head_join_in_an_ensemble_that_is_fitted_on_validation(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels.csv", drawn(tmp_path, {"a": 220, "b": 20}, 14))
    for how in ("head", "hog"):
        train_attribute(labels, tmp_path / how, AttributeSettings(task="side", how=how), Said())  # type: ignore[arg-type]
    held = [Predictions.load(tmp_path / how / "validation.parquet") for how in ("head", "hog")]
    test = [Predictions.load(tmp_path / how / "predictions.parquet") for how in ("head", "hog")]
    assert not set(held[0].photos) & set(test[0].photos)
    assert set(held[0].photos) == set(held[1].photos)
    joined = ensemble(test, fit_weights(held))
    assert compare([*test, joined]).photos == len(test[0])
    assert not (tmp_path / "hog/bundle.json").exists()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"how": "head", "backbone": "resnet18"}, r"head takes no --backbone \(resnet18\)"),
        ({"how": "scratch", "backbone": "resnet18"}, "add --how features or fine-tune"),
        ({"how": "features"}, "features needs --backbone NAME, one of timm's, such as resnet50$"),
        ({"how": "hog", "epochs": 3}, "hog has no epochs: leave --epochs out"),
        ({"how": "head", "minutes": 3.0}, "leave --minutes out, or add --how fine-tune or scratch"),
        ({"how": "cnn"}, "way 'cnn' is unknown"),
    ],
)
def test_a_wish_that_would_change_nothing_is_refused(wish: dict[str, Any], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        AttributeSettings(task="side", **wish)


def test_a_head_needs_no_torch() -> None:
    said = "import carspotter.project_training.attribute, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said]).returncode == 0


@pytest.mark.parametrize("how", ["features", "fine-tune"])
def test_weights_that_cannot_be_had_are_an_error_before_a_photo_is_read(
    tmp_path: Path, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("photo,side\n" + "".join(f"gone{n}.jpg,{'ab'[n % 2]}\n" for n in range(8)), encoding="utf-8")
    monkeypatch.setattr("carspotter.training.weights.answers", lambda url: False)  # nobody at the hub
    monkeypatch.setenv("CARSPOTTER_WEIGHTS", str(tmp_path))
    for backbone, says in (("resnet10t", "those of resnet10t cannot be downloaded"), ("resnet5", "did you mean")):
        with pytest.raises(RecipeError, match=says):
            train_attribute(
                labels, tmp_path / "out", AttributeSettings(task="side", how=how, backbone=backbone), Said()
            )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("photo,label\na.png,front\nb.png,front\nc.png,front\n", "all 3 photos say 'front'"),
        ("photo,label\na.png,front\nb.png,front\nc.png,back\nd.png,back\n", "front 2, back 2; at least two labels"),
        ("photo,colour\na.png,red\n", "no column 'side', and none called label"),
        ("file,side\na.png,red\n", "no column photo or path"),
        ("photo,side\na.png,\n", "empty in all 1 rows"),
        ("photo,side,split\na.png,left,tests\n", "line 2: split is 'tests'"),
        ("photo,side,x1,y1,x2,y2\na.png,left,1,2,x,4\n", "line 2: box"),
    ],
)
def test_labels_that_nothing_can_be_learnt_from_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=says):
        train_attribute(tmp_path / "labels.csv", tmp_path / "out", AttributeSettings(task="side"), Said())
    assert not (tmp_path / "out").exists()


def test_photos_that_are_missing_or_no_photos_are_left_out_and_said(tmp_path: Path) -> None:
    rows = drawn(tmp_path, {"a": 220, "b": 20}, 10)
    (tmp_path / "text.jpg").write_text("words", encoding="utf-8")
    labels = table(tmp_path / "labels.csv", [*rows, (tmp_path / "gone.png", "a"), (tmp_path / "text.jpg", "b")])
    with labels.open("a", encoding="utf-8") as file:
        file.write(f"{rows[0][0]},a,500,10,600,60\n")  # the photo is 400 px wide
    said = Said()
    train_attribute(labels, tmp_path / "out", AttributeSettings(task="side"), said)
    left_out = [line for line in said.lines if line.startswith("left out")]
    assert len(left_out) == 3
    assert "gone.png" in left_out[0]
    assert "text.jpg" in left_out[1]
    assert rows[0][0].name in left_out[2]


def test_photos_whose_names_are_no_text_are_left_out_and_said(tmp_path: Path) -> None:
    drawn(tmp_path / "photos", {"exterior": 220, "interior": 20}, 8)
    odd = os.fsdecode(os.fsencode(tmp_path / "photos" / "exterior") + b"/caf\xe9.png")
    shutil.copyfile(tmp_path / "photos" / "exterior" / "exterior-0.png", odd)
    said = Said()
    train_attribute(tmp_path / "photos", tmp_path / "out", AttributeSettings(task="kind"), said)
    (line,) = [line for line in said.lines if line.startswith("left out")]
    assert line.endswith("caf\\udce9.png': its name is no UTF-8; rename it")


def test_a_second_training_asks_no_network_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, settings = drawn(tmp_path, {"a": 220, "b": 20}, 8), AttributeSettings(task="side")
    first = train_attribute(table(tmp_path / "l.csv", rows[:-1]), tmp_path / "out", settings, Said())
    asked: list[int] = []
    run = OnnxSession.run

    def counted(self: OnnxSession, images: Any) -> Any:
        asked.append(len(images))
        return run(self, images)

    monkeypatch.setattr(OnnxSession, "run", counted)
    again = train_attribute(tmp_path / "l.csv", tmp_path / "out", settings, Said())
    assert asked == []
    assert first.figures == again.figures
    train_attribute(table(tmp_path / "l.csv", rows), tmp_path / "out", settings, Said())
    assert asked == [1, 1], "each of two networks sees the one new photo"


def test_a_kill_loses_few_of_a_networks_answers(tmp_path: Path) -> None:
    first = Answers(tmp_path)
    first.put("v", "old", np.zeros(2, np.float32))
    first.save()
    killed = Answers(tmp_path)
    for number in range(NEW + 1):
        killed.put("v", str(number), np.full(2, number, np.float32))
        killed.keep()
    after = Answers(tmp_path)
    assert [after.get("v", key) is not None for key in ("old", "0", str(NEW - 1), str(NEW))] == [
        True,
        True,
        True,
        False,
    ]
    after.save()
    assert Answers(tmp_path).get("v", "5") is None, "a photo that is no longer labelled is forgotten"


def test_where_no_photo_can_be_learnt_from_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("photo,side\n" + "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(8)))
    with pytest.raises(DatasetError, match=r"none of 8 photos can be learnt from; .*0\.jpg"):
        train_attribute(tmp_path / "l.csv", tmp_path / "out", AttributeSettings(task="side"), Said())


def test_a_photo_with_two_labels_is_left_out_and_one_that_stands_twice_counts_once(tmp_path: Path) -> None:
    rows = drawn(tmp_path, {"a": 220, "b": 20}, 8)
    labels = table(tmp_path / "labels.csv", [*rows, rows[1], (rows[0][0], "b")])
    said = Said()
    train_attribute(labels, tmp_path / "out", AttributeSettings(task="side"), said)
    assert f"left out: {rows[0][0]}: labelled a and b; keep one" in said.lines
    tables = [Predictions.load(tmp_path / "out" / name) for name in ("validation.parquet", "predictions.parquet")]
    assert tables[0].attribute == "side"
    figures = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert (figures["attribute"], [level["level"] for level in figures["levels"]]) == ("side", ["class"])
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<td>side</td>" in page
    assert figures["learnt"] == {"a": 5, "b": 6}
    assert "Learnt from 11 photos, of the commonest class 6, of the rarest 5." in page


def test_kinds_are_kinds(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels.csv", drawn(tmp_path, {"exterior": 220, "inside": 20}, 4), "kind")
    with pytest.raises(DatasetError, match="kind 'inside' is none"):
        train_attribute(labels, tmp_path / "out", AttributeSettings(task="kind"), Said())
    named = {"exterior": 220, "interior": 20, "detail": 90}
    rows = drawn(tmp_path, named, 4)
    for path, label in rows:
        if label == "exterior":
            path.write_text("words", encoding="utf-8")
    labels = table(tmp_path / "more.csv", rows, "kind")
    with pytest.raises(DatasetError, match="exterior"):
        train_attribute(labels, tmp_path / "o", AttributeSettings(task="kind"), Said())


def test_another_bundle_is_not_written_over(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels.csv", drawn(tmp_path, {"a": 220, "b": 20}, 4))
    shutil.copytree(str(shipped("finder").folder), tmp_path / "out")
    with pytest.raises(DatasetError, match="holds another bundle"):
        train_attribute(labels, tmp_path / "out", AttributeSettings(task="side"), Said())


def test_a_network_that_takes_one_size_alone_gets_it(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    recipe = recipe_of(AttributeSettings(task="side", how="fine-tune", backbone="vit_tiny_patch16_384"), tmp_path)
    assert {(part.width, part.height) for part in (recipe.input, *recipe.phases)} == {(384, 384)}


def test_labels_to_choose_by_and_words_tell_runs_apart(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from carspotter.training.attribute.task import AttributeTask
    from carspotter.training.recipe_file import load_recipe

    rows = [("a", "train"), ("b", "train"), ("a", "validation"), ("b", "validation"), ("b", "test")]
    crops = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    recipe = load_recipe("small-cnn", [f"data.labels={tmp_path / 'l.csv'}"])

    def mark(changed: int | None = None, label: str = "", pixels: np.ndarray = crops) -> str:
        said = [(label if number == changed else word, part) for number, (word, part) in enumerate(rows)]
        lines = [f"{number}.png,{word},{part}" for number, (word, part) in enumerate(said)]
        (tmp_path / "l.csv").write_text("\n".join(["photo,label,split", *lines]), encoding="utf-8")
        return AttributeTask(recipe, pixels, pixels).fingerprint

    seen = np.where(np.arange(5)[:, None, None, None] == 3, 255, crops).astype(np.uint8)
    marks = [mark(), mark(1, "a"), mark(3, "a"), mark(3, "c"), mark(4, "c"), mark(pixels=seen)]
    assert len(set(marks)) == len(marks)
    assert mark() == mark(4, "a") == marks[0], "what is judged on at the end decides nothing"


def test_groups_and_equal_files_are_never_torn_apart(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"same" if number in (3, 25) else str(number).encode())
        rows.append(Labelled(path=path, label="ab"[number % 2], group=f"ad{number // 4}"))
    dealt = deal_out(rows)
    parts = {row.group: {other.split for other in dealt if other.group == row.group} for row in dealt}
    assert all(len(each) == 1 for each in parts.values())
    assert dealt[3].group == dealt[25].group  # the ads of both, since they show one photo
    assert {row.split for row in dealt} == {"train", "validation", "test"}
    assert deal_out(rows) == dealt


def test_a_split_that_is_given_stays(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("photo,side,split\na,x,test\nb,x,train\nc,x,val\n", encoding="utf-8")
    assert [row.split for row in deal_out(read_table(tmp_path / "l.csv", "side"))] == ["test", "train", "validation"]


def test_folders_need_folders(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="make one folder a label"):
        read_folders(tmp_path)


def test_a_reviewed_folder_needs_no_project(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / DECISIONS)
    for name, says in (("1.jpg", "front"), ("deep/2.jpg", "back"), ("3.jpg", "unknown")):
        store.append(Decision(task="viewpoint", says=says, by="Ann", photo_id=name))
    found = read_labels(tmp_path, "viewpoint")
    assert [(row.path, row.label) for row in found] == [
        (tmp_path / "1.jpg", "front"),
        (tmp_path / "deep/2.jpg", "back"),
    ]
    with pytest.raises(DatasetError, match="has no kind; decide some with carspotter review"):
        read_labels(tmp_path, "kind")


def open_recognizer(tmp_path: Path, attributes: list[Path]) -> Recognizer:
    """Open the tiny networks, which see the drawn cars, with attributes of one's own."""
    finder, identifier = tmp_path / "finder", tmp_path / "identifier"
    if not finder.exists():
        tiny_finder(finder)
        tiny_identifier(identifier)
    return Recognizer.open(finder=finder, identifier=identifier, attributes=attributes)


class StoppedError(Exception):
    """A kill, as far as a test can have one: nothing is written after it."""


class Stops(Said):
    """Stop at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def advance(self, done: int, total: int) -> None:
        """Stop there, of steps alone: photos are eight."""
        if done == self.at and total == 3:
            raise StoppedError


@pytest.mark.slow
def test_a_training_goes_on_where_it_was_stopped_and_begins_anew_with_more_labels(tmp_path: Path) -> None:
    rows, settings = drawn(tmp_path, {"a": 220, "b": 20}, 24), AttributeSettings(task="side", how="scratch", epochs=3)
    labels = table(tmp_path / "labels.csv", rows[:-1])
    with pytest.raises(StoppedError):
        train_attribute(labels, tmp_path / "out", settings, Stops(at=3))
    said = Said()
    train_attribute(labels, tmp_path / "out", settings, said)
    assert "the run was stopped and goes on after epoch 2" in said.ends["plan"]
    whole = train_attribute(labels, tmp_path / "whole", settings, Said())
    logs = [(tmp_path / name / "run/log.jsonl").read_text(encoding="utf-8") for name in ("out", "whole")]
    figures = [[{**json.loads(line), "seconds": 0} for line in log.splitlines()] for log in logs]
    assert figures[0] == figures[1], "as if it had not been stopped"
    assert whole.bundle is not None
    said = Said()
    train_attribute(labels, tmp_path / "out", settings, said)
    assert any("trained already on these photos" in line for line in said.lines)
    train_attribute(table(labels, rows), tmp_path / "out", settings, said)
    assert any("it begins anew" in line for line in said.lines)


@pytest.mark.slow
def test_a_small_network_is_trained_and_goes_into_a_bundle(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels.csv", drawn(tmp_path, {"a": 220, "b": 20}, 24))
    settings = AttributeSettings(task="side", how="scratch", epochs=2)
    trained = train_attribute(labels, tmp_path / "out", settings, Said())
    assert trained.bundle is not None
    assert trained.bundle.preprocessing.width == 64
    recognizer = open_recognizer(tmp_path, [tmp_path / "out"])
    assert "side" in recognizer.recognize(str(tmp_path / "a/a-0.png")).vehicles[0].own
