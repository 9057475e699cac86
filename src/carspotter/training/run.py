"""A recipe in, a trained run out: its folder with the recipe, the log and the checkpoints, and a line about it.

The loop is `trainer`; a baseline, which learns in one step, has no loop.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from carspotter import storage
from carspotter.errors import TrainingError
from carspotter.progress import Watch
from carspotter.training.checkpoint import LAST
from carspotter.training.device import open_fabric
from carspotter.training.recipe import BASELINES, Recipe
from carspotter.training.recipe_file import load_recipe
from carspotter.training.task import RECIPE, open_task
from carspotter.training.trainer import Training

HOLDOUT = "predictions.parquet"


def train(
    recipe_path: str | Path,
    changes: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    *,
    watch: Watch | None = None,
) -> str:
    """Train a recipe; return a line with the run's folder and best figures. Raises RecipeError, TrainingError.

    Of several processes, the others than the first return an empty line.
    """
    recipe = load_recipe(recipe_path, changes)
    run = Path(out) if out else Path("runs") / recipe.name
    if ((run / LAST).exists() or (run / HOLDOUT).exists()) and not resume:
        raise TrainingError(f"{run} holds a training already; go on with --resume, or name another folder with --out")
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    if recipe.task in BASELINES:
        return _fit_baseline(recipe, run) if os.environ.get("RANK", "0") == "0" else ""  # one process is enough
    fabric = open_fabric(recipe)
    if fabric.is_global_zero:
        run.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, open_task(recipe, run), run, fabric)
    training.watch = watch or training.watch
    training.go_on(resume)
    training.describe()
    training.fit()
    if not fabric.is_global_zero:
        return ""
    return f"{run}: best {training.task_name} {training.best:.4f} after {training.epoch} epochs"


def _fit_baseline(recipe: Recipe, run: Path) -> str:
    """Fit a baseline and write what it says of the held-out photos, for `carspotter compare`."""
    from carspotter.training.baselines import run_baseline

    table = run_baseline(recipe, method=cast(Any, recipe.task), test=recipe.data.test)
    path = table.save(run / HOLDOUT)
    storage.write_json(run / RECIPE, recipe.to_dict())
    hit, known = table.right_at()
    right = float(hit[known].mean()) if known.any() else math.nan
    return f"{path}: top-1 {right:.4f} of {int(known.sum())} held-out photos"
