"""Each recipe that ships for a known backbone, end to end on drawn photos: train, export, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carspotter.cli.main import app
from carspotter.runtime.bundle import ModelBundle

pytestmark = pytest.mark.walk
LAYERS, STAGES = "model.layers=last-40", "model.stages=2"
RECIPES = [
    ("efficientnet-b1", LAYERS),
    ("efficientnet-b2", LAYERS),
    ("efficientnet-b3", LAYERS),
    ("resnet50v2", LAYERS),
    ("resnet50v2", STAGES),
    ("resnet152", LAYERS),
]


def weights_that_learn(run: Path) -> dict[str, int]:
    """Count the weights of a run's backbone: those that its recipe lets learn, and all."""
    from carspotter.training.recipe_file import load_recipe
    from carspotter.training.task import open_task

    task = open_task(load_recipe(run / "recipe.json"), run)
    model = task.build_model()
    model.freeze(0)  # as a phase does that asks for nothing more
    every = list(model.backbone.parameters())
    return {
        "backbone": sum(each.numel() for each in every if each.requires_grad),
        "all": sum(each.numel() for each in every),
    }


@pytest.mark.parametrize(("recipe", "learns"), RECIPES)
def test_a_recipe_becomes_a_bundle_and_its_figures(drawn_data: Path, tmp_path: Path, recipe: str, learns: str) -> None:
    labels, classes = drawn_data / "photos" / "labels.csv", drawn_data / "taxonomy.csv"
    run = tmp_path / "run"
    changes = [
        f"data.labels={labels}",
        f"data.taxonomy={classes}",
        "data.split=train",
        "data.holdout=0.25",
        "model.weights=",  # none are shipped, and a test downloads nothing
        learns,
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
    learnt = weights_that_learn(run)
    assert 0 < learnt["backbone"] < learnt["all"], "a part of the backbone stands still"
    judged = ["evaluate", str(run), "--labels", str(labels), "--classes", str(classes), "--json"]
    done = runner.invoke(app, judged)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["photos"] == 8  # the split test, no photo of which was learnt
    assert ModelBundle.load(run / "bundle").preprocessing.width == 64
    assert (run / "test" / "report.html").is_file()
