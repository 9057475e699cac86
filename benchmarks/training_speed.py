"""How many images a second does our training loop learn from, against the usual one?

The usual loop: ImageFolder, torchvision's transforms, DataLoader with a worker a core, float32. Ours: `training` with
its photos decoded once and its changes made on whole batches. The same backbone, size, batch, threads and optimizer; no
stage stands still. Both run in turn, `--repeats` times; the first turn of each is not counted. The share of time that
each waits for its batches is told as well.

    python benchmarks/training_speed.py ../shared/data/stanford-cars [--size 128] [--steps 20] [--json]
"""

import csv
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe import Recipe
from carspotter.training.recipe_file import load_recipe
from carspotter.training.trainer import Training
from measure import CORES, parser, report

BATCH = 32
BACKBONE = "tf_efficientnet_lite0"
RECIPES = Path(__file__).parent.parent / "recipes"


def main() -> None:
    """Measure both, and print figures."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv (path, split, class_id) and the photographs")
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--threads", type=int, default=CORES)
    options.add_argument("--photos", type=int, default=1500)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        labels = some_labels(given.data, Path(folder), given.photos)
        ways: dict[str, Usual | Ours] = {
            "usual": Usual(labels, given.size),
            "ours": Ours(labels, given.size, Path(folder) / "run"),
        }
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(given.repeats + 1):
            for name, way in ways.items():
                measured = timed(way, given.steps)
                if number:
                    found[name].append(measured)
    rows = [row(name, values) for name, values in found.items()]
    rows[1]["times as fast"] = round(rows[1]["images a second"] / rows[0]["images a second"], 2)
    conditions = {"size": given.size, "batch": BATCH, "threads": given.threads, "backbone": BACKBONE}
    report("training speed", rows, as_json=given.json, conditions=conditions)


def some_labels(data: Path, folder: Path, count: int) -> Path:
    """Write the labels of some photos to learn from, and a tree of links as ImageFolder reads it."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"][:count]
    for row in rows:
        link = folder / "tree" / row["class_id"] / Path(row["path"]).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((data / row["path"]).resolve())
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", "class_id"))
        writer.writerows(((data / row["path"]).resolve(), "train", row["class_id"]) for row in rows)
    return path


class Usual:
    """The loop of most tutorials."""

    def __init__(self, labels: Path, size: int) -> None:
        change = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.5, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.3, 0.3, 0.3),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
                transforms.RandomErasing(0.25),
            ]
        )
        photos = ImageFolder(str(labels.parent / "tree"), change)
        self.loader = DataLoader(
            photos, BATCH, shuffle=True, drop_last=True, num_workers=CORES, persistent_workers=True
        )
        self.model = timm.create_model(BACKBONE, num_classes=196).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def batches(self) -> Iterator[Any]:
        """Yield batches without end."""
        while True:
            yield from self.loader

    def step(self, batch: Any) -> None:
        """Learn from a batch."""
        images, targets = batch
        self.optimizer.zero_grad()
        self.criterion(self.model(images), targets).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()


class Ours:
    """The loop of carspotter."""

    def __init__(self, labels: Path, size: int, run: Path) -> None:
        changes = [
            f"data.labels={labels}",
            f"data.taxonomy={RECIPES / 'stanford-cars.csv'}",
            "model.weights=''",
            f"model.backbone={BACKBONE}",
            "train.precision=float32",
            f"train.batch={BATCH}",
            "train.threads=0",
            f"phases=[{{epochs=1000,width={size},height={size}}}]",
        ]
        recipe: Recipe = load_recipe(RECIPES / "stanford-cars.toml", changes)
        self.training = Training(recipe, IdentifierTask(recipe), run)
        self.training.autocast = False
        self.training.model.train()

    def batches(self) -> Iterator[Any]:
        """Yield batches without end."""
        epoch = 0
        while True:
            yield from self.training.task.batches(self.training.recipe.phases[0], epoch, 0)
            epoch += 1

    def step(self, batch: Any) -> None:
        """Learn from a batch."""
        self.training._train_step(batch)


def timed(way: Usual | Ours, steps: int) -> tuple[float, float]:
    """Return images a second and the share of the time in which the loop waited for batches."""
    batches = way.batches()
    way.step(next(batches))
    waited, start = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        way.step(batch)
    seconds = time.perf_counter() - start
    return steps * BATCH / seconds, waited / seconds


def row(name: str, values: list[tuple[float, float]]) -> dict[str, Any]:
    """Give the medians."""
    return {
        "loop": name,
        "images a second": round(statistics.median(rate for rate, _ in values), 1),
        "waiting for batches": round(statistics.median(share for _, share in values), 3),
    }


if __name__ == "__main__":
    main()
