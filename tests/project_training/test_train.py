"""Training on a project in one command: what it says and makes, how it goes on, and what it refuses in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")

from carspotter.catalog.lock import TRAINING, ProjectLock
from carspotter.dataset.manifest import load_manifest
from carspotter.errors import ProjectError
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.project_training.bundle import _words
from carspotter.runtime.bundle import ModelBundle, shipped
from commands import COMMAND, Said, call
from tiny_project import SETTINGS, UNBLURRED, make_project

TINY = """
task = "identifier"
name = "tiny"

[model]
backbone = "test_efficientnet"

[input]
width = 32
height = 32

[train]
batch = 8
lr = 3e-3
ema = 0.8
precision = "float32"
threads = 1

[[phases]]
epochs = 3
width = 32
height = 32
"""
LONGER = ("--epochs", 12, "--seed", 3)


@pytest.fixture
def project(tiny_built: Path, tmp_path: Path) -> Path:
    return copied(tiny_built, tmp_path)


def copied(project: Path, folder: Path) -> Path:
    """Copy a project below a folder, and write a recipe beside it."""
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    return Path(shutil.copytree(project, folder / "cars"))


def train(project: Path, *words: object, recipe: bool = True) -> Said:
    """Run the command with its stderr a log."""
    return call("train", project, *(("--recipe", project.parent / "tiny.toml") if recipe else ()), *words)


def lines_of(project: Path) -> list[dict[str, float]]:
    text = (project / "runs" / "trained" / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def trained(tiny_built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]], Said]:
    """A project whose training was killed in its second epoch and went on, what its log held then, and what was said.

    Nobody changes it.
    """
    project = copied(tiny_built, tmp_path_factory.mktemp("trained"))
    words = ("--recipe", project.parent / "tiny.toml", *LONGER)
    with subprocess.Popen(
        [*COMMAND, "train", str(project), *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2 of 12"):
                break
        os.kill(process.pid, signal.SIGKILL)
    before = lines_of(project)
    assert not (project / "models" / "trained").exists(), "a bundle is whole or not there"
    return project, before, train(project, *LONGER)


Trained = tuple[Path, list[dict[str, float]], Said]


def test_a_killed_training_goes_on_with_the_same_command(trained: Trained) -> None:
    project, before, done = trained
    assert done.code == 0, done.err
    assert "goes on" in done.err
    assert "epoch 1 of 12" not in done.err
    assert lines_of(project)[: len(before)] == before
    assert lines_of(project)[-1]["epoch"] == 12


def test_a_project_becomes_a_bundle_that_is_judged_and_compared(trained: Trained) -> None:
    project, _, done = trained
    assert "classes to learn from" in done.err
    assert "12 epochs of" in done.err
    assert "epoch 12 of 12: loss" in done.err
    assert "test photos right" in done.out
    assert "models/learned" in done.out
    bundle = ModelBundle.load(project / "models" / "trained")
    assert bundle.taxonomy is not None
    assert set(bundle.taxonomy.classes) == set(ModelBundle.load(project / "models" / "learned").taxonomy.classes)
    assert "project tiny" in str(bundle.card["data"])
    assert (project / "runs" / "trained" / "test" / "report.html").is_file()
    assert (project / "runs" / "trained" / "test" / "losses.svg").is_file(), "the curves of the training"
    assert not list((project / "models").glob(".*"))
    result = json.loads((project / "runs" / "trained" / "result.json").read_text(encoding="utf-8"))
    assert set(result["figures"]) == {"validation", "test"}

    again = train(project, *LONGER)
    assert again.out == done.out, "what is done is said again, not done again"
    assert "--fresh trains anew" in again.err
    other = train(project, "--epochs", 2, "--seed", 3, "--set", "train.lr=1e-3")
    assert other.code == 1
    assert "epochs (was 12, is 2); changes (was [], is ['train.lr=1e-3'])" in other.err
    failed = train(project, "--set", "model.start=nowhere", "--fresh")
    assert failed.code == 1
    assert train(project, *LONGER).out == done.out, "a training that cannot begin costs nothing of the one before"


def test_a_fresh_training_on_a_split_without_validation_holds_photos_of_train_out(
    trained: Trained, tmp_path: Path
) -> None:
    project = copied(trained[0], tmp_path)
    parts = "\n[split]\ntrain = 0.7\nvalidation = 0.0\ntest = 0.3\n"
    (project / "carspotter.toml").write_text(SETTINGS + UNBLURRED + parts, encoding="utf-8")
    shutil.rmtree(project / "catalog" / "samples")  # else photos stay in the part that they were in
    build(Project.open(project), until="shard", workers=0)
    learning = ("--set", "train.class_weights=balanced", "--set", "model.layers=last-2")
    done = train(project, "--minutes", 500, "--size", 48, "--fresh", *learning)
    assert done.code == 0, done.err
    said = re.search(r"(\d+) photos of 3 classes to learn from, (\d+) to choose by, (\d+) to judge on", done.err)
    assert said is not None, done.err
    learnt, held, judged = map(int, said.groups())
    shards = load_manifest(str(project / "shards")).counts
    assert not sum(shards.get("validation", {}).values())
    assert held > 0
    assert learnt + held == sum(shards["train"].values())
    assert judged == sum(shards["test"].values())
    assert "what learns: the head and the last 2 layers; rare classes weigh more, balanced" in done.err
    assert [line["epoch"] for line in lines_of(project)] == [1, 2, 3]
    assert ModelBundle.load(project / "models" / "trained").preprocessing.width == 48
    # Without photos to choose by the test says which bundle is the better one; ties go to the learned one.
    result = json.loads((project / "runs" / "trained" / "result.json").read_text(encoding="utf-8"))
    right = {name: top1["count"] for name, top1 in result["figures"]["test"].items()}
    assert len(right) == 2
    assert (result["chosen"] == "trained") == (right.pop("trained") > min(right.values()))


def test_a_second_training_at_the_same_time_is_refused(project: Path) -> None:
    with ProjectLock(project, TRAINING):
        done = train(project)
    assert done.code == 1
    assert f"is being trained on by process {os.getpid()}; wait until it has finished, or stop it" in done.err
    assert not (project / "runs").exists()


def test_what_cannot_be_trained_is_said_in_one_line(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unbuilt = make_project(tmp_path / "unbuilt")
    few = (project / "carspotter.toml").read_text(encoding="utf-8")
    cases = [
        (train(tmp_path / "empty", recipe=False), "holds no carspotter.toml"),
        (train(unbuilt, recipe=False), f"is not built yet; run: carspotter build {unbuilt}"),
        (train(project, "--backbone", "resnet51", recipe=False), "'resnet51' is unknown; did you mean"),
        (train(project, "--recipe", "fine-tone", recipe=False), "did you mean 'fine-tune'"),
        (train(project, "--set", "train.lrr=1"), "did you mean 'lr'"),
    ]
    (project / "carspotter.toml").write_text(few.replace("min_photos = 4", "min_photos = 400"), encoding="utf-8")
    build(Project.open(project), until="shard", workers=0)
    cases.append((train(project), "0 classes have photos to learn from, 2 are needed"))
    for done, words in cases:
        assert done.code == 1, done.err
        assert words in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


def test_options_of_a_project_are_none_of_a_recipe(project: Path) -> None:
    for words in (
        ("fine-tune", "--epochs", 3),
        ("fine-tune", "--fresh"),
        (project, "--out", "x"),
        (project, "--resume"),
    ):
        done = call("train", *words)
        assert done.code == 2
        assert "a project" in done.err


def test_a_project_named_as_an_identifier_is_the_better_of_its_bundles(project: Path) -> None:
    from carspotter.project.folder import bundle_folder

    learned, trained = project / "models" / "learned", project / "models" / "trained"
    assert bundle_folder(learned) == str(learned), "a bundle's folder stays what it is"
    assert Path(bundle_folder(project)) == learned
    result = project / "runs" / "trained" / "result.json"
    shutil.copytree(learned, trained)
    result.parent.mkdir(parents=True)
    for chosen, better in (("trained", trained), ("learned", learned)):
        result.write_text(json.dumps({"chosen": chosen}), encoding="utf-8")
        assert Path(bundle_folder(project)) == better
    result.write_text(json.dumps({"chosen": "trained"}), encoding="utf-8")
    taxonomy = trained / "taxonomy.json"
    taxonomy.write_text(taxonomy.read_text(encoding="utf-8").replace("Golf", "Polo"), encoding="utf-8")
    assert Path(bundle_folder(project)) == learned, "a build found other classes since"
    shutil.rmtree(learned)
    assert Path(bundle_folder(project)) == trained
    shutil.rmtree(trained)
    with pytest.raises(ProjectError, match="has no bundle yet; make one with: carspotter build"):
        bundle_folder(project)


def test_commands_take_a_project_for_its_bundle(project: Path) -> None:
    judged = call("evaluate", project)
    assert judged.code == 0, judged.err
    assert (project / "models" / "learned" / "test" / "report.html").is_file()
    photo = next((project / "photos").rglob("*.*"), None) or next(project.rglob("*.jpg"))
    words = ["identify", str(photo), "--identifier", str(project), "--finder", str(project / "bundles" / "finder")]
    asked = call(*words, "--json")
    assert asked.code == 0, asked.err
    assert '"learned"' in asked.out


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ({}, []),
        ({"subject": 0.3}, ["whether it is a car at all (30% as before)"]),
        ({"model": 0.4, "body": 0.5}, ["the names of strangers (40% as before), body (50% as before)"]),
    ],
)
def test_what_the_training_lost_is_said(lost: dict[str, float], says: list[str]) -> None:
    agreement = {"model": 0.99, "subject": 0.99, "colour": 0.99, "body": 0.97} | lost
    gallery = SimpleNamespace(refusal=object())
    said = _words(agreement, gallery, 0.95)  # type: ignore[arg-type]
    assert said[0] == f"kept from the shipped identifier: {'colour' if 'body' in lost else 'colour, body'}"
    assert said[1:] == [f"left out, since the training has changed them too much: {words}" for words in says]


def test_what_the_shipped_network_knew_stays_and_strangers_have_a_bar(project: Path) -> None:
    done = train(project, "--epochs", 1, "--size", 96, recipe=False)
    assert done.code == 0, done.err
    bundle, start = ModelBundle.load(project / "models" / "trained"), shipped("identifier")
    assert bundle.head is not None
    assert bundle.head.profiles is not None, "what the start says of models tells strangers best"
    assert "evidence" in bundle.calibration
    assert bundle.seen
    figures = bundle.card["figures"]
    agreement = {name: figures[f"{name} as the network it started from"] for name in start.attributes}
    assert set(bundle.attributes) == {name for name, share in agreement.items() if share >= 0.95}
    for name in ("colour", "body"):
        line = "kept from the shipped identifier" if name in bundle.attributes else "changed them too much"
        assert re.search(f"{line}.*{name}", done.out)
        assert (name in bundle.calibration) == (name in bundle.attributes)
