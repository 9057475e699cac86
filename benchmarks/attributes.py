"""What an identifier says besides the name: colour, body, and whether a crop shows a whole car at all.

In: the labels that `prepare_identifier_data.py` writes, whose colours are those of the network that taught them, and
whose bodies are sellers' and Stanford's. Out: how often each attribute agrees, how often it is sure enough to be told,
and how often it is right then; of what shows no whole car, how much is refused, by its source.

    python benchmarks/attributes.py runs/identifier/labels.csv [--split test] [--bundle FOLDER]
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.crops import crop_of
from carspotter.geometry import BoundingBox
from carspotter.recognition.identifier import DEFAULT_SUBJECT
from carspotter.runtime.bundle import CAR, SUBJECT, ModelBundle, shipped
from identifier_figures import share
from measure import parser, report

BATCH = 32
SURE = 0.5
"""From which probability on an attribute is told, where the bundle's calibration says nothing else."""

Row = dict[str, str]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="CSV: path, split, source, box, and a column for each attribute")
    options.add_argument("--split", default="test")
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    with given.labels.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == given.split]
    said = run(bundle, rows, given.labels.parent)
    figures: list[dict[str, Any]] = []
    for name, words in bundle.attributes.items():
        figures += (
            subject_figures(rows, said, bundle) if name == SUBJECT else word_figures(name, words, rows, said, bundle)
        )
    conditions = {"bundle": bundle.name, "split": given.split, "photos": len(rows)}
    report("Attributes", figures, as_json=given.json, conditions=conditions)


def run(bundle: ModelBundle, rows: list[Row], folder: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Return each attribute's probabilities (n, words) of the rows' crops."""
    session = bundle.open_session("onnxruntime", threads=1)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in bundle.attributes}
    for start in range(0, len(rows), BATCH):
        crops = [crop(row, folder, bundle) for row in rows[start : start + BATCH]]
        outputs = session.run(np.stack(crops))
        for name, found in parts.items():
            found.append(outputs[name])
    return {name: np.concatenate(found) for name, found in parts.items()}


def crop(row: Row, folder: Path, bundle: ModelBundle) -> npt.NDArray[np.uint8]:
    """Return a row's vehicle as the network takes it."""
    sides = [float(row[side]) for side in ("x1", "y1", "x2", "y2")] if row["x2"] else None
    box = BoundingBox(*sides) if sides else None
    return crop_of((folder / row["path"]).read_bytes(), bundle.preprocessing, box)


def word_figures(
    name: str, words: tuple[str, ...], rows: list[Row], said: Mapping[str, npt.NDArray[Any]], bundle: ModelBundle
) -> list[dict[str, Any]]:
    """Return agreement with the labels, the share that is told, and agreement where it is told."""
    labelled = np.array([row[name] in words for row in rows])
    truth = np.array([words.index(row[name]) if row[name] in words else -1 for row in rows])[labelled]
    chances = said[name][labelled]
    right, sure = chances.argmax(1) == truth, chances.max(1) >= bundle.share(name, SURE)
    return [
        share(f"{name}: agrees", right),
        share(f"{name}: told", sure),
        share(f"{name}: agrees where told", right[sure]),
    ]


def subject_figures(rows: list[Row], said: Mapping[str, npt.NDArray[Any]], bundle: ModelBundle) -> list[dict[str, Any]]:
    """Return the share of whole cars that is refused, and of everything else, by source."""
    chances = said[SUBJECT][:, bundle.attributes[SUBJECT].index(CAR)]
    refused = chances < bundle.share(SUBJECT, DEFAULT_SUBJECT)
    is_car = np.array([row[SUBJECT] == CAR for row in rows])
    sources = np.array([row["source"] for row in rows])
    figures = [share("whole cars refused", refused[is_car]), share("all else refused", refused[~is_car])]
    return figures + [
        share(f"refused: {source}", refused[~is_car & (sources == source)]) for source in np.unique(sources[~is_car])
    ]


if __name__ == "__main__":
    main()
