"""Fixtures of more than one folder.

Drawn training data: discs and bars in two colours, four classes of two makes, learnt in seconds by a tiny network.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Property tests draw the same examples on every machine, every time: nothing found is kept, and no clock decides.
# CARSPOTTER_FUZZ=2000 draws as many at random instead; what fails is told with a line that draws it again.
FUZZ = int(os.environ.get("CARSPOTTER_FUZZ", "0"))
COMMON: dict[str, Any] = {"database": None, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, max_examples=30, **COMMON)
settings.register_profile("wide", print_blob=True, max_examples=max(FUZZ, 1), **COMMON)
settings.load_profile("wide" if FUZZ else "same")

RECIPE = """
task = "identifier"
name = "tiny"

[data]
labels = "photos/labels.csv"
taxonomy = "taxonomy.csv"
split = "train"
holdout = 0.25

[model]
backbone = "test_efficientnet"

[input]
width = 64
height = 64

[train]
batch = 8
lr = 3e-3
ema = 0.8
precision = "float32"
threads = 1

[[phases]]
epochs = 2
width = 32
height = 32

[[phases]]
epochs = 2
width = 48
height = 48
frozen = 1
"""

CLASSES = [("1", "Round", "Red"), ("2", "Round", "Blue"), ("3", "Flat", "Red"), ("4", "Flat", "Blue")]


def drawn(make: str, color: str, random: np.random.Generator) -> np.ndarray:
    """Draw a disc or a bar of a colour at a random place on grey noise, as uint8 (72, 96, 3)."""
    picture = random.integers(90, 130, (72, 96, 3), dtype=np.uint8)
    y, x = np.mgrid[:72, :96]
    top, left = random.integers(26, 46), random.integers(30, 66)
    shape = (y - top) ** 2 + (x - left) ** 2 < 400 if make == "Round" else (abs(y - top) < 8) & (abs(x - left) < 28)
    picture[shape] = (220, 30, 30) if color == "Red" else (30, 40, 220)
    return picture


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `recipe.toml`, `taxonomy.csv` and 64 labelled pictures, 8 of them of another split."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("drawn")
    (folder / "photos").mkdir()
    located = RECIPE.replace("photos/labels.csv", f"{folder}/photos/labels.csv")
    located = located.replace('"taxonomy.csv', f'"{folder}/taxonomy.csv')
    (folder / "recipe.toml").write_text(located)
    with (folder / "taxonomy.csv").open("w", newline="") as file:
        rows = [(number, make, f"{color} one", 2001) for number, make, color in CLASSES]
        csv.writer(file).writerows([("class_id", "make", "model", "year"), *rows])
    random = np.random.default_rng(0)
    rows = [("path", "split", "class_id", "color")]
    for index in range(64):
        number, make, color = CLASSES[index % 4]
        Image.fromarray(drawn(make, color, random)).save(folder / "photos" / f"{index}.png")
        rows.append((f"{index}.png", "test" if index < 8 else "train", number, color))
    with (folder / "photos" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a tiny finder and a tiny identifier."""
    from tiny_bundles import tiny_finder, tiny_identifier

    folder = tmp_path_factory.mktemp("bundles")
    tiny_finder(folder / "finder")
    tiny_identifier(folder / "identifier")
    return {"finder": folder / "finder", "identifier": folder / "identifier"}


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder once for all workers of a run, by its name and a function of its path; nobody changes it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = base / "once" / name, base / "once" / f"{name}.whole"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(base / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                make(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_run(drawn_data: Path, once: Once) -> Path:
    """The run of a short training on the drawn data, with a head for colours; nobody changes it."""
    from carspotter.training.run import train

    changes = ["card.licence=free for tests", 'model.heads=["color"]']
    return once("tiny-run", lambda folder: train(drawn_data / "recipe.toml", changes, folder))


# As if these were not installed: an export needs its own extra alone.
EXPORT = """
import sys
for name in "lightning_fabric tensorboard sklearn skimage cleanlab duckdb pyarrow scipy".split():
    sys.modules[name] = None
from carspotter.export.onnx import export
print(export(*sys.argv[1:]).name)
"""


@pytest.fixture(scope="session")
def tiny_exported(tiny_run: Path, once: Once) -> Path:
    """The bundle of the tiny run, exported by a program without the packages that an export does not need."""
    from waiting import NEVER_S

    def make(folder: Path) -> None:
        program = [sys.executable, "-c", EXPORT, str(tiny_run), str(folder)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=NEVER_S)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["tiny"]

    return once("tiny-exported", make)


@pytest.fixture(scope="session")
def tiny_built(once: Once) -> Path:
    """A tiny project, built in this process, with what the steps said in `said.json`; whoever changes it copies it."""
    from carspotter.project.folder import Project
    from carspotter.project.pipeline import build
    from tiny_project import make_project

    def make(folder: Path) -> None:
        said = build(Project.open(make_project(folder)), workers=0)
        (folder / "said.json").write_text(json.dumps({name: dict(stats) for name, stats in said.items()}))

    return once("tiny-project", make)


@pytest.fixture(scope="session")
def showroom_walk(once: Once) -> Path:
    """A folder where docs/get-started.md was walked: `my-cars`, built of the showroom, and `said.json`.

    That holds a row a command: its words, what the page shows, what was said. Whoever changes something copies it.
    """
    from get_started import walk

    return once("showroom-walk", walk)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as Playwright gives it, or a skip where there is none.

    One a module: as long as Playwright runs, nothing else in the thread may run a loop of asyncio.
    """
    pytest.importorskip("playwright.sync_api")
    from browsers import CHROMIUM, started

    if CHROMIUM is None:
        pytest.skip("there is no chromium to drive")
    with started() as found:
        yield found
