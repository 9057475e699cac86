"""What do bfloat16, float16, int8 and the engines cost? Both shipped networks in, the parity table of RESULTS.md out.

Each network is exported in each precision for each engine that is installed, int8 calibrated on photos of the training
parts, and compared with the shipped float32 one: the identifier on Stanford Cars' test crops (points lost), the finder
on the part `report` of its manifest (`prepare_finder_data.py`). Times are medians of one photo on one thread.

    python benchmarks/parity.py ../shared/data/stanford-cars --manifest finder.csv [--limit 800] [--only int8]
"""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.crops import crop_of
from carspotter.errors import CarspotterError
from carspotter.export.convert import Inputs, convert
from carspotter.export.parity import Parity, compare
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import is_installed
from carspotter.training.finder.data import read_manifest
from measure import parser, report

CALIBRATED = 300
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
Images = npt.NDArray[np.uint8]


def main() -> None:
    """Print a row for each network, precision and engine."""
    options = parser(__doc__)
    options.add_argument("stanford", type=Path, help="folder with labels.csv: path, split, class_id")
    options.add_argument("--manifest", type=Path, help="the finder's manifest; without it no finder is measured")
    options.add_argument("--limit", type=int, help="only so many photos of each test part, evenly chosen")
    options.add_argument("--only", choices=PRECISIONS, help="one precision")
    given = options.parse_args()
    work = [(shipped("identifier"), identifier_inputs(given.stanford, given.limit))]
    if given.manifest:
        work.append((shipped("finder"), finder_inputs(given.manifest, given.limit)))
    precisions = (given.only,) if given.only else PRECISIONS
    engines = [name for name, package in ENGINES.items() if is_installed(package)]
    rows = [
        measured(bundle, inputs, to=to, precision=precision)
        for bundle, inputs in work
        for precision in precisions
        for to in (engines if precision != "bfloat16" else ["openvino"])
    ]
    report("Parity with the shipped float32 networks in ONNX Runtime", rows, as_json=given.json, conditions={})


def measured(bundle: ModelBundle, inputs: Inputs, *, to: str, precision: str) -> dict[str, Any]:
    """Export, compare, and give the row; what misses its bar says so in its row."""
    row: dict[str, Any] = {"network": bundle.task, "precision": precision, "engine": ENGINES[to]}
    with tempfile.TemporaryDirectory() as folder:
        try:
            if precision == "bfloat16":  # a way to calculate, not to write a file
                targets = inputs.targets
                parity: Parity | None = compare(
                    bundle, bundle, inputs.compared, targets=targets, engine="openvino", precision="bfloat16"
                )
            else:
                parity = convert(bundle, Path(folder) / "bundle", to=to, precision=precision, inputs=inputs)
        except CarspotterError as error:
            return {**row, "figures": str(error)}
    assert parity is not None
    figures = {name: round(value, 4) for name, value in parity.figures.items()}
    size = {"MB": round(parity.bytes / 1e6, 2), "MB before": round(parity.reference["bytes"] / 1e6, 2)}
    took = {"ms": parity.milliseconds, "ms before": parity.reference["milliseconds"], "photos": parity.photos}
    return {**row, **size, **took, "figures": ", ".join(f"{name} {value:g}" for name, value in figures.items())}


def identifier_inputs(folder: Path, limit: int | None) -> Inputs:
    """Read Stanford's test crops with their classes, and crops of its training part to calibrate on."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["split"] == "test"]
    test = test[:: max(1, len(test) // limit)][:limit] if limit else test
    train = sorted(
        (row for row in rows if row["split"] == "train"), key=lambda row: (int(row["class_id"]), row["path"])
    )
    train = [train[int(place)] for place in np.linspace(0, len(train) - 1, CALIBRATED)]
    # Stanford's classes stand first in the taxonomy, in the order of their numbers.
    targets = np.array([int(row["class_id"]) - 1 for row in test])
    bundle = shipped("identifier")
    return Inputs(
        compared=read([folder / row["path"] for row in test], bundle),
        calibration=read([folder / row["path"] for row in train], bundle),
        targets=targets,
    )


def finder_inputs(manifest: Path, limit: int | None) -> Inputs:
    """Read the photos of a manifest's part `report`, and some of its part `train` to calibrate on."""
    parts: dict[str, list[Path]] = {}
    for part in ("train", "report"):
        photos = [
            manifest.parent / photo.path for photo in read_manifest(manifest, parts=(part,)) if photo.source != "crops"
        ]
        parts[part] = [photos[int(place)] for place in np.random.default_rng(0).permutation(len(photos))]
    bundle = shipped("finder")
    return Inputs(compared=read(parts["report"][:limit], bundle), calibration=read(parts["train"][:CALIBRATED], bundle))


def read(paths: list[Path], bundle: ModelBundle) -> Images:
    """Decode photos into network inputs."""
    return np.stack([crop_of(path.read_bytes(), bundle.preprocessing) for path in paths])


if __name__ == "__main__":
    main()
