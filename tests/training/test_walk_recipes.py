"""Each recipe that ships for a known backbone, end to end on drawn photos: train, export, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carspotter.cli.main import app
from carspotter.runtime.bundle import ModelBundle

pytestmark = pytest.mark.walk
RECIPES = ["efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "resnet50v2", "resnet152"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_becomes_a_bundle_and_its_figures(drawn_data: Path, tmp_path: Path, recipe: str) -> None:
    labels, classes = drawn_data / "photos" / "labels.csv", drawn_data / "taxonomy.csv"
    run = tmp_path / "run"
    changes = [
        f"data.labels={labels}",
        f"data.taxonomy={classes}",
        "data.split=train",
        "data.holdout=0.25",
        "model.weights=",  # none are shipped, and a test downloads nothing
        "model.layers=last-40",
        "model.dropout=0.3",
        "augment=light",
        "train.class_weights=balanced",
        "train.patience=3",
        "train.batch=8",
        "train.threads=1",
        "train.precision=float32",
        "input.width=64",
        "input.height=64",
        "phases=[{epochs=1, width=48, height=48}]",
    ]
    runner = CliRunner()
    done = runner.invoke(app, ["train", recipe, "--out", str(run), *(f"--set={each}" for each in changes)])
    assert done.exit_code == 0, done.output
    judged = ["evaluate", str(run), "--labels", str(labels), "--classes", str(classes), "--json"]
    done = runner.invoke(app, judged)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["photos"] == 8  # the split test, no photo of which was learnt
    assert ModelBundle.load(run / "bundle").preprocessing.width == 64
    assert (run / "test" / "report.html").is_file()
