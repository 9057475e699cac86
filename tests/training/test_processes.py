"""Two processes on the CPU, started by torchrun, against one: the same training, each with half of every batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from carspotter.errors import RecipeError
from carspotter.training.checkpoint import LAST, load_checkpoint
from carspotter.training.device import open_fabric
from carspotter.training.recipe import load_recipe
from carspotter.training.trainer import LOG, train

# A network without batch norm, whose statistics each process would take from its own half, and nothing at random.
CHANGES = [
    "model.backbone=test_convnext", "model.dropout=0.0", "phases=[{epochs=2, width=32, height=32}]", "train.clip=100.0",
    "augment={min_area=1.0, zoom_out=0.0, aspect=0.0, rotate=0.0, flip=0.0, color=0.0, gray=0.0, erase=0.0}",
]  # fmt: skip
RUN = "import sys; from carspotter.training.trainer import train; print(train(sys.argv[1], sys.argv[3:], sys.argv[2]))"


def test_two_processes_learn_what_one_does(drawn_data: Path, tmp_path: Path) -> None:
    train(drawn_data / "recipe.toml", CHANGES, tmp_path / "one")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*command, str(drawn_data / "recipe.toml"), str(tmp_path / "two"), *CHANGES],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    logs = [[json.loads(line) for line in (tmp_path / name / LOG).read_text().splitlines()] for name in ("one", "two")]
    assert len(logs[1]) == 2  # one process writes
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    one, two = (load_checkpoint(tmp_path / name / LAST).model for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=2e-3) for name in one)
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["processes"] == 2


def test_a_batch_that_cannot_be_shared_is_refused(drawn_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="3 processes need a multiple of 3"):
        open_fabric(load_recipe(drawn_data / "recipe.toml"))
