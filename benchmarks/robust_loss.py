"""How many points does label noise cost, with the usual loss and with the robust one?

The first `--classes` classes of Stanford Cars, a part of their training labels made wrong: half of these become another
class of the same make where there is one, half any class. Each loss learns from each noise with the same short recipe
from ImageNet weights; the held-out photos by which the epoch is chosen are as noisy as the rest. Out: top-1 on the test
photos of these classes, whose labels are as they are, and the points lost against no noise.

    CARSPOTTER_WEIGHTS=WEIGHTS python benchmarks/robust_loss.py ../shared/data/stanford-cars --out runs/robust
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.evaluation.evaluating import from_labels, predict
from carspotter.export.onnx import export
from carspotter.runtime.bundle import ModelBundle
from carspotter.training.trainer import train
from measure import parser, report

RECIPES = Path(__file__).parent.parent / "recipes"
NOISES = (0.0, 0.2, 0.4)
WAYS = {
    "cross-entropy": ["train.loss=cross-entropy"],
    "generalized, q 0.2": ["train.loss=generalized", "train.q=0.2", "train.label_smoothing=0.0"],
    "generalized, q 0.5": ["train.loss=generalized", "train.q=0.5", "train.label_smoothing=0.0"],
}


def main() -> None:
    """Train each, and print figures; runs that are there already are not trained again."""
    options = parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--classes", type=int, default=40)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--noise", type=float, nargs="*", default=NOISES)
    given = options.parse_args()
    found: dict[tuple[str, float], float] = {}
    for noise in given.noise:
        labels = noisy_labels(given.data, given.out, noise=noise, classes=given.classes, seed=given.seed)
        for name, changes in WAYS.items():
            found[name, noise] = accuracy(given, labels, name, changes=changes)
            print(json.dumps({"loss": name, "noise": noise, "top1": found[name, noise]}), flush=True)
    rows: list[dict[str, Any]] = [
        {"loss": name, **{f"noise {noise:.0%}": round(found[name, noise], 4) for noise in given.noise}} for name in WAYS
    ]
    conditions = {"classes": given.classes, "epochs": given.epochs, "size": given.size, "seed": given.seed}
    report("robust loss", rows, as_json=given.json, conditions=conditions)


def noisy_labels(data: Path, out: Path, *, noise: float, classes: int, seed: int) -> Path:
    """Write the labels of some classes, a part of those to learn from made wrong."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["class_id"]) <= classes]
    random = np.random.default_rng(seed)
    make = {int(row["class_id"]): row["make"] for row in rows}
    learnt = [row for row in rows if row["split"] == "train"]
    for number, position in enumerate(random.permutation(len(learnt))[: round(noise * len(learnt))]):
        own = int(learnt[position]["class_id"])
        others = [other for other in make if other != own]
        alike = [other for other in others if make[other] == make[own]]
        learnt[position]["class_id"] = str(random.choice(alike if number % 2 and alike else others))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"labels-{noise}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", "class_id"))
        writer.writerows(((data / row["path"]).resolve(), row["split"], row["class_id"]) for row in rows)
    return path


def accuracy(given: Any, labels: Path, name: str, *, changes: list[str]) -> float:
    """Train, export and judge one run; return its top-1 on the test photos."""
    run = given.out / f"{name.replace(', ', '-').replace(' ', '')}-{labels.stem}"
    classes = labels.with_name("classes.csv")
    lines = (RECIPES / "stanford-cars.csv").read_text(encoding="utf-8").splitlines()
    classes.write_text("\n".join(lines[: given.classes + 1]) + "\n", encoding="utf-8")
    if not (run / "bundle" / "bundle.json").exists():
        phases = f"phases=[{{epochs={given.epochs},width={given.size},height={given.size}}}]"
        fixed = [f"data.labels={labels}", f"data.taxonomy={classes}", "train.batch=16", f"seed={given.seed}", phases]
        fixed.append("model.backbone=tf_efficientnet_lite0")
        size = [f"input.width={given.size}", f"input.height={given.size}"]
        train(RECIPES / "stanford-cars.toml", [*fixed, *size, "train.precision=float32", *changes], run, resume=True)
        export(run, run / "bundle")
    table, _ = predict(ModelBundle.load(run / "bundle"), from_labels(labels, split="test", classes=classes))
    return float((table.probabilities.argmax(1) == table.truth).mean())


if __name__ == "__main__":
    main()
