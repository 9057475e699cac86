"""Do two hosts that torchrun joins learn what one process learns, and what does the way between them cost?

Two hosts of network namespaces (`hosts`) with one process each, gloo, and a rendezvous on the first; the second has the
same drawn photographs in a folder of its own. The same recipe is trained by one process. `loss` is of the last epoch,
`largest difference` of any weight at the end. Needs root and the extra `train`; the network is random and tiny, so that
seconds say what starting costs, not how fast hosts train.

    python benchmarks/two_hosts_train.py [--json]
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hosts import hosts, why_not
from measure import parser, report
from two_hosts import environment

PORT = 29500
COLORS = ("red", "green", "blue", "yellow")
PAINTS = ((220, 30, 30), (30, 200, 40), (30, 40, 220), (220, 210, 40))
RECIPE = """
name = "two-hosts"
task = "identifier"

[data]
labels = "photos/labels.csv"
taxonomy = "taxonomy.csv"
holdout = 0.25

[model]
backbone = "test_convnext"
dropout = 0.0

[input]
width = 64
height = 64

# Nothing at random, and no batch norm, whose statistics each process would take from its own half.
[augment]
min_area = 1.0
zoom_out = 0.0
aspect = 0.0
rotate = 0.0
flip = 0.0
color = 0.0
gray = 0.0
erase = 0.0

[train]
batch = 8
lr = 3e-3
clip = 100.0
precision = "float32"
threads = 1

[[phases]]
epochs = 3
width = 48
height = 48
"""


def write_data(folder: Path) -> Path:
    """Draw 64 photographs of four classes; return the recipe."""
    (folder / "photos").mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE)
    with (folder / "taxonomy.csv").open("w", newline="") as file:
        taxa = [(number, "Drawn", color, 2001) for number, color in enumerate(COLORS, start=1)]
        csv.writer(file).writerows([("class_id", "make", "model", "year"), *taxa])
    random, rows = np.random.default_rng(0), [("path", "class_id")]
    for index in range(64):
        picture = random.integers(90, 130, (72, 96, 3), dtype=np.uint8)
        top, left = random.integers(4, 30, 2)
        picture[top : top + 36, left : left + 50] = PAINTS[index % 4]
        Image.fromarray(picture).save(folder / "photos" / f"{index}.png")
        rows.append((f"{index}.png", str(index % 4 + 1)))
    with (folder / "photos" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "recipe.toml"


def training(folder: Path) -> list[str]:
    """Give the words that train a host's recipe into its folder."""
    return ["-m", "carspotter.cli.main", "train", str(folder / "recipe.toml"), "--out", str(folder / "run")]


def train_on_two(folder: Path) -> None:
    """Train on two hosts, each of which sees its own folder alone."""
    names = ("first", "second")
    hidden = {name: [folder / other for other in names if other != name] for name in names}
    with hosts(names, hidden=hidden) as machines:
        address = machines["first"].address
        processes = [
            machines[name].start(
                [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--nnodes=2",
                    "--nproc-per-node=1",
                    "--rdzv-id=one",
                    "--rdzv-backend=c10d",
                    f"--rdzv-endpoint={address}:{PORT}",
                    f"--local-addr={machines[name].address}",
                    *training(folder / name),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment() | {"GLOO_SOCKET_IFNAME": "eth0"},
            )
            for name in names
        ]
        told = [process.communicate(timeout=300) for process in processes]
        if any(process.returncode for process in processes):
            raise SystemExit("the training failed: " + "\n".join(said[1][-1500:] for said in told))
        if told[1][0].strip():
            raise SystemExit(f"the second host printed {told[1][0]!r}")


def result(folder: Path, seconds: float) -> dict[str, Any]:
    """Read what a run wrote."""
    run = folder / "run"
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    known = json.loads((run / "environment.json").read_text())
    return {
        "processes": known["processes"],
        "epochs": len(epochs),
        "loss": epochs[-1]["loss"],
        "seconds": round(seconds, 1),
    }


def largest_difference(one: Path, two: Path) -> float:
    """Compare the weights of two runs."""
    from carspotter.training.checkpoint import LAST, load_checkpoint

    ours, theirs = (load_checkpoint(folder / "run" / LAST).model for folder in (one, two))
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)


def measure(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for one process and one for two hosts."""
    write_data(folder / "one")
    for name in ("first", "second"):
        shutil.copytree(folder / "one", folder / name)
    started = time.monotonic()
    subprocess.run([sys.executable, *training(folder / "one")], check=True, capture_output=True, env=environment())
    yield {"hosts": 1, **result(folder / "one", time.monotonic() - started)}
    started = time.monotonic()
    train_on_two(folder)
    written = folder / "second" / "run"
    yield {
        "hosts": 2,
        **result(folder / "first", time.monotonic() - started),
        "largest difference": f"{largest_difference(folder / 'one', folder / 'first'):.1e}",
        "files of the second host": len(list(written.rglob("*"))) if written.exists() else 0,
    }


def main() -> None:
    """Train both ways and print the table."""
    chosen = parser(__doc__).parse_args()
    if lacking := why_not():
        raise SystemExit(lacking)
    # Not in /tmp, of which each host has its own.
    with tempfile.TemporaryDirectory(prefix="carspotter-hosts-", dir="/var/tmp") as folder:
        rows = list(measure(Path(folder)))
    report("two hosts train", rows, as_json=chosen.json, conditions={"backend": "gloo", "batch": 8})


if __name__ == "__main__":
    main()
