"""Two processes on the CPU against one: the same training, each with half of every batch.

In the default ring they are forked from one that has loaded all, which takes a third of the time; torchrun starts them
in the others, as a person would.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from carspotter.errors import RecipeError
from carspotter.training.checkpoint import LAST, load_checkpoint
from carspotter.training.device import open_fabric
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.task import LOG
from carspotter.training.trainer import Training
from waiting import NEVER_S

# A network without batch norm, whose statistics each process would take from its own half, and nothing at random.
CHANGES = [
    "model.backbone=test_convnext",
    "model.dropout=0.0",
    "phases=[{epochs=2, width=32, height=32}]",
    "train.clip=100.0",
    "augment={min_area=1.0, zoom_out=0.0, aspect=0.0, rotate=0.0, flip=0.0, color=0.0, gray=0.0, erase=0.0}",
]
ROOT = Path(__file__).parent.parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = ["-m", "carspotter.cli.main", "train"]


FORKED = """
import os, sys
import lightning_fabric, timm, torch
from carspotter.cli.main import app
from carspotter.training import run
rank = 0 if os.fork() else 1
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
code = 1
try:
    app(sys.argv[1:], standalone_mode=False)
    code = 0
finally:
    sys.stdout.flush()
    if rank:
        os._exit(code)  # what the first one does at its end is done once
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""


def forked(recipe: Path, out: Path, changes: Sequence[str]) -> str:
    """Train by two processes, each as torchrun would set it up; return what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environment = {**os.environ, **meeting, "OMP_NUM_THREADS": "1"}
    words = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-c", FORKED, "train", str(recipe), "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=NEVER_S, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def torchrun(recipe: Path, out: Path, *more: str, changes: Sequence[str] = CHANGES) -> str:
    """Train by two processes, as a person does on the command line; return what they print."""
    words = [word for change in changes for word in ("--set", change)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *TRAIN, str(recipe), "--out", str(out), *words, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=NEVER_S, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return how far two states are from each other, the root of the sum of squares over all weights."""
    return float(sum((one[name].double() - other[name].double()).square().sum() for name in one)) ** 0.5


def test_two_processes_learn_what_one_does(drawn_data: Path, tmp_path: Path) -> None:
    told = train(drawn_data / "recipe.toml", CHANGES, tmp_path / "one")
    printed = forked(drawn_data / "recipe.toml", tmp_path / "two", CHANGES).split("\n")
    assert [line for line in printed if line] == [told.replace("one", "two")]  # one process speaks
    logs = [[json.loads(line) for line in (tmp_path / name / LOG).read_text().splitlines()] for name in ("one", "two")]
    assert len(logs[1]) == 2  # one process writes
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    recipe = load_recipe(drawn_data / "recipe.toml", CHANGES)
    first = Training(recipe, IdentifierTask(recipe), tmp_path / "start").model.state_dict()
    one, two = (load_checkpoint(tmp_path / name / LAST).model for name in ("one", "two"))
    # AdamW steps by a gradient's sign, so that rounding may turn single weights: what counts is the whole way gone.
    assert distance(one, two) < 0.05 * distance(one, first)
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["processes"] == 2


def test_a_batch_that_cannot_be_shared_is_refused(drawn_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="3 processes need a multiple of 3"):
        open_fabric(load_recipe(drawn_data / "recipe.toml"))


# As two hosts see it: each process has a folder of its own, and what is said of the second one.
APART = """
import os, sys
from carspotter.training.run import train
recipe, folder, second, *changes = sys.argv[1:]
rank = os.environ["RANK"]
train(recipe, changes + ([second] if second and rank == "1" else []), f"{folder}/{rank}", resume=True)
"""


def apart(recipe: Path, folder: Path, second: str, changes: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Train by two processes that share no folder; `second` is a change for the second alone."""
    script = folder / "apart.py"
    script.write_text(APART)
    command = [*TORCHRUN, str(script), str(recipe), str(folder), second, *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=NEVER_S, env=environment)


@pytest.mark.slow
def test_all_processes_go_on_from_the_checkpoint_of_the_first(drawn_data: Path, tmp_path: Path) -> None:
    longer = [change.replace("epochs=2", "epochs=3") for change in CHANGES]
    for changes, epochs in ((CHANGES, 2), (longer, 3)):
        done = apart(drawn_data / "recipe.toml", tmp_path, "", changes)
        assert done.returncode == 0, done.stderr[-2000:]
        assert load_checkpoint(tmp_path / "0" / LAST).epoch == epochs
    assert [json.loads(line)["epoch"] for line in (tmp_path / "0" / LOG).read_text().splitlines()] == [1, 2, 3]
    assert not (tmp_path / "1").exists()


@pytest.mark.slow
def test_a_host_with_other_data_is_refused(drawn_data: Path, tmp_path: Path) -> None:
    done = apart(drawn_data / "recipe.toml", tmp_path, "data.holdout=0.5", CHANGES)
    assert done.returncode != 0
    assert "process 1 learns from other data; copy the same to each host" in done.stderr


@pytest.mark.slow
def test_two_hosts_learn_what_one_does(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "two_hosts_train.py"
    done = subprocess.run([sys.executable, str(script), "--json"], capture_output=True, text=True, timeout=400)
    if done.returncode and "needs" in done.stderr.splitlines()[-1]:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout)["rows"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert two["files of the second host"] == 0  # the first one alone writes


@pytest.mark.slow
def test_two_processes_read_one_stream(drawn_data: Path, tmp_path: Path) -> None:
    # The photos of a CSV, which one of them cuts to shards while the other waits.
    changes = [change.replace("epochs=2", "epochs=6") for change in CHANGES]
    torchrun(drawn_data / "recipe.toml", tmp_path / "two", changes=[*changes, "data.memory=0", "data.workers=1"])
    lines = [json.loads(line) for line in (tmp_path / "two" / LOG).read_text().splitlines()]
    assert len(lines) == 6
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert len(list((tmp_path / "two").glob("shards-*"))) == 1
