"""A tiny network's way from the recipe to its evaluation, by the commands a person types."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from carspotter.evaluation.predictions import Predictions
from commands import call

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def trained(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    code, said, wrong = call(
        "train",
        drawn_data / "recipe.toml",
        "--out",
        folder / "run",
        "--set",
        "phases=[{epochs=8, width=64, height=64}]",
    )
    assert code == 0, wrong
    assert "best top1" in said
    return folder / "run"


@pytest.fixture(scope="module")
def evaluated(trained: Path, drawn_data: Path) -> Path:
    code, said, wrong = call(
        "evaluate",
        trained,
        "--labels",
        drawn_data / "photos" / "labels.csv",
        "--classes",
        drawn_data / "taxonomy.csv",
        "--split",
        "test",
        "--out",
        trained / "test",
    )
    assert code == 0, wrong
    assert "top-1" in said
    assert str(trained / "test" / "report.html") in said
    return trained / "test"


def test_an_evaluation_has_table_page_and_figures(evaluated: Path, drawn_data: Path) -> None:
    table = Predictions.load(evaluated / "predictions.parquet")
    with (drawn_data / "photos" / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert sorted(table.photos.tolist()) == sorted(row["path"] for row in rows)
    truth = {row["path"]: int(row["class_id"]) - 1 for row in rows}
    assert [truth[photo] for photo in table.photos.tolist()] == table.truth.tolist()
    figures = json.loads((evaluated / "metrics.json").read_text())
    right = int((table.probabilities.argmax(1) == table.truth).sum())
    assert figures["top1"]["count"] == right
    assert right / len(table) > 0.5  # chance: 0.25
    page = (evaluated / "report.html").read_text()
    assert "Confusions" in page
    assert (evaluated / "review.csv").exists()


def test_runs_are_compared_and_joined(evaluated: Path, tmp_path: Path) -> None:
    table = Predictions.load(evaluated / "predictions.parquet")
    random = np.random.default_rng(0).dirichlet(np.ones(4), len(table)).astype(np.float32)
    other = Predictions(
        name="guesses", taxonomy=table.taxonomy, photos=table.photos, probabilities=random, truth=table.truth
    )
    other.save(tmp_path / "other" / "predictions.parquet")
    code, said, wrong = call("compare", evaluated, tmp_path / "other")
    assert code == 0, wrong
    assert "guesses" in said
    assert "McNemar" in said
    code, said, wrong = call(
        "compare",
        evaluated,
        tmp_path / "other",
        "--ensemble",
        evaluated,
        "--ensemble",
        tmp_path / "other",
        "--json",
        "--out",
        tmp_path / "both.parquet",
    )
    assert code == 0, wrong
    assert json.loads(said)["names"][-1] == "fitted ensemble"
    joined = Predictions.load(tmp_path / "both.parquet")
    assert joined.name == "fitted ensemble"
    # By name: the order in which a shell lists the tables must not give a run another's weight.
    words = ["compare", evaluated, tmp_path / "other", "--out", tmp_path / "again.parquet"]
    swapped = call(*words, "--ensemble", tmp_path / "other", "--ensemble", evaluated)
    assert swapped.code == 0, swapped.err
    assert np.allclose(Predictions.load(tmp_path / "again.parquet").probabilities, joined.probabilities)
    foreign = call(*words, "--ensemble", tmp_path / "both.parquet", "--ensemble", evaluated)
    assert foreign.code == 2
    assert "give one of each run" in foreign.err


def test_a_photo_that_cannot_be_read_is_left_out_and_said(trained: Path, drawn_data: Path, tmp_path: Path) -> None:
    photo = (drawn_data / "photos" / "0.png").resolve()
    (tmp_path / "bad.jpg").write_text("no photo")
    (tmp_path / "labels.csv").write_text(f"path,make\n{photo},Round\nbad.jpg,Flat\nnone.jpg,Flat\n")
    words = ("evaluate", trained, "--labels", tmp_path / "labels.csv", "--split", "", "--out", tmp_path / "out")
    code, said, wrong = call(*words, "--json")
    assert code == 0, wrong
    assert "left out: bad.jpg" in wrong
    assert "left out: none.jpg" in wrong
    figures = json.loads(said)
    assert figures["photos"] == 1
    assert figures["labelled"] == 0  # a make is no class
    assert figures["levels"][0]["right"]["total"] == 1
    lines = "".join(f"gone-{number}.jpg,Flat\n" for number in range(7))
    (tmp_path / "labels.csv").write_text(f"path,make\n{photo},Round\n{lines}")
    assert "left out: 2 more, of 8 photos" in call(*words).err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--split", "nowhere"], "no row with split 'nowhere'"), (["--classes", "none.csv"], "none.csv cannot be read")],
)
def test_wrong_arguments(trained: Path, drawn_data: Path, words: list[str], message: str) -> None:
    code, _, wrong = call("evaluate", trained, "--labels", drawn_data / "photos" / "labels.csv", *words)
    assert code == 1
    assert message in wrong
    assert len(wrong.strip().splitlines()) == 1


def test_labels_and_shards_exclude_each_other(trained: Path) -> None:
    assert call("evaluate", trained)[0] == 2
    assert call("compare", trained / "nothing.parquet", trained / "nothing.parquet")[0] == 1
