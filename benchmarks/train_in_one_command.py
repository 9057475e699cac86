"""Does `carspotter train PROJECT` reach what a timm script reaches on the same photos, in no more time?

A project is made of some classes of labelled photographs, named in a table as ads of one photo, and built. Its crops
and its split are what both learn from: `carspotter train` in one line, `timm_script.py` from folders of the same crops.
Both start from the same public weights of the same network; a third row starts from the shipped identifier. The test
photos are judged by `evaluation` for all three.

    python benchmarks/train_in_one_command.py ../shared/data/stanford-cars [--classes 6] [--epochs 15] [--json]
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from carspotter.dataset.reader import read_webdataset
from carspotter.evaluation.compare import compare
from carspotter.evaluation.metrics import evaluate
from carspotter.evaluation.predictions import Predictions
from carspotter.training.weights import pretrained
from measure import parser, report

BACKBONE = "tf_efficientnet_lite0"
SCRIPT = Path(__file__).with_name("timm_script.py")
SPLIT = "train = 0.4\nvalidation = 0.1\ntest = 0.5\n"


def main() -> None:
    """Build, train three ways, compare."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv (path, make, model) and the photographs")
    options.add_argument("--classes", type=int, default=6)
    options.add_argument("--photos", type=int, default=60, help="of each class")
    options.add_argument("--epochs", type=int, default=15, help="of both")
    options.add_argument("--size", type=int, default=224, help="pixels of a side, of both")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = made(given.data, folder, given.classes, given.photos)
        same = ("--epochs", str(given.epochs), "--size", str(given.size))
        crops = unpacked(project, folder / "crops")
        save_file(dict(pretrained(BACKBONE).state_dict()), folder / "weights.safetensors")
        found = [timed("carspotter train, the same network", own(project, "--backbone", BACKBONE, *same))]
        table = table_of(project, "carspotter")
        found.append(
            timed(
                "timm script",
                [
                    *(sys.executable, str(SCRIPT), str(crops), "--model", BACKBONE, *same),
                    *("--weights", str(folder / "weights.safetensors"), "--out", str(folder / "answers.json")),
                ],
            )
        )
        peer = of_answers(table, json.loads((folder / "answers.json").read_text())["answers"])
        found.append(timed("carspotter train, the shipped network", own(project, "--fresh", "--size", str(given.size))))
        tables = [table, peer, table_of(project, "shipped")]
    rows = [row(name, seconds, table) for (name, seconds), table in zip(found, tables, strict=True)]
    pairs = [
        {"pair": f"{pair.b} - {pair.a}", "points": round(100 * pair.difference.value, 1)}
        | {"from": round(100 * pair.difference.low, 1), "to": round(100 * pair.difference.high, 1)}
        for pair in compare([peer, table, tables[2]]).pairs
    ]
    conditions = {
        "classes": given.classes,
        "photos a class": given.photos,
        "backbone": BACKBONE,
        "epochs": given.epochs,
        "size": given.size,
    }
    report("train in one command", rows, as_json=given.json, conditions=conditions)
    report("differences", pairs, as_json=given.json, conditions={})


def made(data: Path, folder: Path, n_classes: int, each: int) -> Path:
    """Make and build a project of the classes with most photographs, some of each."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter((row["make"], row["model"]) for row in rows)
    kept = [name for name, _ in counts.most_common(n_classes)]
    chosen = [row for name in kept for row in [r for r in rows if (r["make"], r["model"]) == name][:each]]
    table = [("ad_id", "make", "model", "photos")]
    for number, row in enumerate(chosen):
        link = folder / "photos" / f"{number}{Path(row['path']).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((data / row["path"]).resolve())
        table.append((str(number), row["make"], row["model"], f"photos/{link.name}"))
    with (folder / "cars.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    project = folder / "project"
    run("init", project, "--from", folder / "cars.csv")
    settings = project / "carspotter.toml"
    head, _, tail = settings.read_text(encoding="utf-8").partition("[split]\n")
    kept_lines = [line for line in tail.splitlines() if not line.startswith(("train =", "validation =", "test ="))]
    settings.write_text(f"{head}[split]\n{SPLIT}" + "\n".join(kept_lines) + "\n", encoding="utf-8")
    run("build", project)
    return project


def unpacked(project: Path, folder: Path) -> Path:
    """Write the crops of a project's shards as ImageFolder reads them: split, class, photo."""
    for split in ("train", "validation", "test"):
        for sample in read_webdataset(str(project / "shards"), split=split):
            # The photo's own name, by which the tables know it; it may hold a slash.
            name = str(sample.metadata["photo_id"]).encode().hex()
            path = folder / split / f"{sample.class_index:03}" / f"{name}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sample.image)
    return folder


def own(project: Path, *words: str) -> list[str]:
    """Return the command of our training."""
    return [sys.executable, "-m", "carspotter.cli.main", "train", str(project), *words]


def run(*words: object) -> None:
    """Run a command of ours that prepares the data."""
    subprocess.run([sys.executable, "-m", "carspotter.cli.main", *map(str, words)], check=False, env=os.environ)


def timed(name: str, command: list[str]) -> tuple[str, float]:
    """Run a command; return its name and its seconds."""
    started = time.monotonic()
    subprocess.run(command, check=True)
    return name, time.monotonic() - started


def table_of(project: Path, name: str) -> Predictions:
    """Return what a training of ours says of the test photos, under a name of its own."""
    return replace(Predictions.load(project / "runs" / "trained" / "test" / "predictions.parquet"), name=name)


def of_answers(table: Predictions, answers: dict[str, str]) -> Predictions:
    """Return the script's answers as a table of the same photos; its probabilities are 1 and 0."""
    by_photo = {bytes.fromhex(Path(path).stem).decode(): int(answer) for path, answer in answers.items()}
    order = np.array([by_photo[photo] for photo in table.photos.tolist()])
    probabilities = np.eye(len(table.taxonomy), dtype=np.float32)[order]
    return replace(table, name="timm", probabilities=probabilities)


def row(name: str, seconds: float, table: Predictions) -> dict[str, Any]:
    """Make the row of a way: seconds of the whole command, and the share of test photos right."""
    top1 = evaluate(table).top1
    return {
        "way": name,
        "seconds": round(seconds),
        "right": round(top1.value, 3),
        "from": round(top1.low, 3),
        "to": round(top1.high, 3),
        "photos": top1.total,
    }


if __name__ == "__main__":
    main()
