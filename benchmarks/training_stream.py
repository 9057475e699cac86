"""How much memory does a training take that reads its photos as a stream, and how long does it wait for them?

Memory: shards of some thousand photographs, named as often by their manifest as makes 10 k, 100 k, and 1 M rows (hard
links to the same files). Each row is read, decoded, and changed at random once: one epoch, of crops of 32 px, and a
tiny network learns from each tenth batch, since one million of full size would take a day here. The proportional set
sizes (PSS) of all processes are summed, twice a second.

Waiting: the backbone of the identifier that ships, 224 px, crops without loss. The share of an epoch's time in which
the training has no batch, and the share that changing batches takes; beside photos in memory, in turns.

    python benchmarks/training_stream.py ../shared/data/stanford-cars [--rows 10000 100000 1000000] [--json]
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from carspotter.dataset.manifest import MANIFEST, Shard, load_manifest
from carspotter.dataset.shards import ShardSettings, write
from carspotter.pixels import Preprocessing, decode
from carspotter.training.identifier.source import Drawing, Drawn, PhotoSource
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe_file import load_recipe
from carspotter.training.trainer import Training
from measure import parser, report

SMALL, LARGE = 32, 224
PER_SHARD, HELD = 500, 500
RECIPE = """
task = "identifier"
name = "stream"
[data]
shards = "{folder}"
[model]
backbone = "{backbone}"
[input]
width = {size}
height = {size}
[train]
batch = {batch}
precision = "float32"
threads = 1
[[phases]]
epochs = 1
width = {learnt}
height = {learnt}
"""


def main() -> None:
    """Cut shards, measure both, and print two tables."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv (path, split, class_id) and the photographs")
    options.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    options.add_argument(
        "--minutes", type=float, default=1e6, help="draw no longer than this from each, and say how far"
    )
    options.add_argument("--photos", type=int, default=3000)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = cut(given.data, folder / "small", given.photos, ShardSettings(size=SMALL, encoding="jpeg"))
        rows = [memory(repeated(small, folder, count), given) | {"rows": count} for count in given.rows]
        if rows:
            first = rows[0]["median MB"]
            rows = [
                {"rows": row.pop("rows"), **row, "against the first": round(row["median MB"] / first, 3)}
                for row in rows
            ]
            report("memory of a stream", rows, as_json=given.json, conditions={"photos": given.photos})
        if given.steps:
            large = cut(given.data, folder / "large", min(given.photos, 1500), ShardSettings(size=LARGE, pad=0.0))
            conditions = {"size": LARGE, "batch": 64, "threads": 1, "workers": given.workers, "steps": given.steps}
            report("waiting for photos", waiting(large, given), as_json=given.json, conditions=conditions)


def cut(data: Path, folder: Path, count: int, settings: ShardSettings) -> Path:
    """Cut shards of photographs, whole as they are; the last ones are held out."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["split"] == "train"][:count]
    rows = []
    numbers = {name: index for index, name in enumerate(sorted({row["class_id"] for row in found}))}
    for index, row in enumerate(found):
        photo = decode((data / row["path"]).read_bytes())
        box = {"x1": 0.0, "y1": 0.0, "x2": float(photo.width), "y2": float(photo.height)}
        named = {"class_name": row["class_id"], "class_index": numbers[row["class_id"]]}
        # Every n-th: the labels stand in order of their classes.
        split = "validation" if index % (count // HELD) == 0 else "train"
        rows.append({"photo_id": row["path"], "path": row["path"], **box, **named, "split": split})
    network = Preprocessing(width=settings.size, height=settings.size)
    write(rows, replace(settings, per_shard=PER_SHARD), folder, root=data, network=network)
    return folder


def repeated(base: Path, folder: Path, rows: int) -> Path:
    """Make a folder whose manifest names the shards of another as often as makes `rows` to learn from."""
    manifest = load_manifest(str(base))
    train = [shard for shard in manifest.shards if shard.split == "train"]
    target = folder / str(rows)
    target.mkdir()
    shards = [linked(shard, shard.name, base, target) for shard in manifest.shards if shard.split != "train"]
    count = 0
    for number in range(10**9):
        if count >= rows:
            break
        shards.append(linked(train[number % len(train)], f"train-{number:06d}", base, target))
        count += shards[-1].samples
    content = replace(manifest, folder=str(target), shards=tuple(shards)).to_bytes()
    (target / MANIFEST).write_bytes(content)
    return target


def linked(shard: Shard, name: str, base: Path, target: Path) -> Shard:
    """Link a shard's file under another name and describe it."""
    ((file, stated),) = shard.files.items()
    os.link(base / file, target / f"{name}.tar")
    return replace(shard, name=name, files={f"{name}.tar": stated})


def memory(shards: Path, given: Any) -> dict[str, Any]:
    """Train an epoch in a process of its own and look at it from outside."""
    text = RECIPE.format(folder=shards, backbone="test_efficientnet", size=SMALL, batch=256, learnt=32)
    (shards / "recipe.toml").write_text(text)
    change = f"data.workers={given.workers}"
    command = [
        sys.executable,
        "-c",
        EPOCH,
        str(shards / "recipe.toml"),
        str(shards / "run"),
        str(given.minutes),
        change,
    ]
    started, found = time.monotonic(), list[int]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()  # the first batch was learnt
        while process.poll() is None:
            found.append(sum(map(pss, family(process.pid))))
            time.sleep(0.5)
        said = json.loads(process.stdout.read() or "{}")
    if process.returncode or not ready:
        raise SystemExit("the training failed")
    seconds = time.monotonic() - started
    print(shards.name, round(statistics.median(found) / 1e6), file=sys.stderr, flush=True)
    while found and not found[-1]:
        found.pop()
    return {
        "drawn": said["photos"],
        "median MB": round(statistics.median(found) / 1e6),
        "of the last quarter": round(statistics.median(found[-len(found) // 4 :]) / 1e6),
        "highest MB": round(max(found) / 1e6),
        "photos a second": round(said["photos"] / seconds),
    }


EPOCH = """
import json, sys, time
from pathlib import Path
import torch
from carspotter.training.recipe_file import load_recipe
from carspotter.training.task import open_task
from carspotter.training.trainer import Training

if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe = load_recipe(sys.argv[1], ["data.memory=0.1", *sys.argv[4:]])
    run = Path(sys.argv[2])
    run.mkdir()
    training = Training(recipe, open_task(recipe, run), run)
    step = training._train_step

    batches, started = 0, time.monotonic()

    def told(batch):
        global batches
        batches += 1
        loss = step(batch) if batches % 10 == 1 else 0.0
        if batches == 1:
            print("ready", flush=True)
        if time.monotonic() - started > 60 * float(sys.argv[3]):
            raise TimeoutError
        return loss

    training._train_step = told
    try:
        training.fit()
    except TimeoutError:
        pass
    print(json.dumps({"photos": batches * recipe.train.batch}), flush=True)
"""


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, path.read_text(encoding="utf-8").split())
            except OSError:
                continue
    return found


def pss(pid: int) -> int:
    """Return the bytes that a process holds, a shared page in parts; 0 for one that went."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Timed:
    """A source that notes how long it lets its training wait."""

    def __init__(self, source: PhotoSource) -> None:
        self.source, self.waited = source, 0.0
        self.mark, self.counts, self.move, self.some = source.mark, source.counts, source.move, source.some

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, drawing: Drawing) -> Iterator[Drawn]:
        """Yield what the source draws."""
        batches = self.source.draw(drawing)
        while True:
            asked = time.perf_counter()
            drawn = next(batches, None)
            self.waited += time.perf_counter() - asked
            if drawn is None:
                return
            yield drawn


def waiting(shards: Path, given: Any) -> list[dict[str, Any]]:
    """Learn from memory and from a stream in turns; return rates and shares."""
    torch.set_num_threads(1)
    text = RECIPE.format(folder=shards, backbone="tf_mobilenetv3_small_100", size=LARGE, batch=64, learnt=LARGE)
    (shards / "recipe.toml").write_text(text)
    ways = {}
    for name, settings in (("memory", "data.memory=4"), ("stream", "data.memory=0.1")):
        recipe = load_recipe(shards / "recipe.toml", [settings, f"data.workers={given.workers}"])
        training = Training(recipe, IdentifierTask(recipe), shards / name)
        training.autocast = False
        training.model.train()
        ways[name] = training
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for number in range(given.repeats + 1):
        for name, training in ways.items():
            measured = timed(training, given.steps, number)
            if number:
                found[name].append(measured)
    rows = []
    for name, values in found.items():
        rate, waited, changed = (statistics.median(column) for column in zip(*values, strict=True))
        share = {"waiting": f"{waited:.1%}", "changing": f"{changed:.1%}"}
        rows.append({"photos in": name, "photos a second": round(rate, 1), **share})
    ratios = [one[0] / other[0] for one, other in zip(found["stream"], found["memory"], strict=True)]
    rows[1]["as fast"] = " ".join(f"{ratio:.2f}" for ratio in ratios)
    return rows


def timed(training: Training, steps: int, epoch: int) -> tuple[float, float, float]:
    """Return photos a second, and the shares of the time for waiting and for changing, behind the first batch."""
    task = training.task
    assert isinstance(task, IdentifierTask)
    source = task.photos.source if isinstance(task.photos, Timed) else task.photos
    task.photos = Timed(source)
    batches = task.batches(training.recipe.phases[0], epoch, 0)
    # Workers start with the epoch, and epochs of large data sets are long: the first batch is not counted.
    training._train_step(next(batches))
    task.photos.waited = 0.0
    got, start = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        got += time.perf_counter() - asked
        training._train_step(batch)
    seconds = time.perf_counter() - start
    waited = task.photos.waited
    batches.close()  # type: ignore[attr-defined]
    return steps * training.recipe.train.batch / seconds, waited / seconds, (got - waited) / seconds


if __name__ == "__main__":
    main()
