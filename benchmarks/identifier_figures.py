"""How well does an identifier name the vehicles of Stanford Cars? Photos with labels in, the figures of RESULTS.md out.

It runs the exported bundle as serving does: `pixels`, the runtime, the bundle's thresholds. The photos
are crops already (the given box plus 16 px, squashed to 224 px), so that published figures, which start from whole
photographs, are not quite comparable.

    python benchmarks/identifier_figures.py ../shared/data/stanford-cars [--bundle FOLDER] [--split test]
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from carspotter.pixels import decode, network_input
from carspotter.recognition.identifier import Identifier
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import Session
from carspotter.taxonomy import LEVELS, Level, Taxonomy
from measure import parser, report

Array = npt.NDArray[Any]
BATCH = 16
BINS = 15  # of confidence, for the expected calibration error, as Guo et al. 2017 use


def main() -> None:
    """Print the figures of one bundle on one split."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv: path, split, class_name, make, …")
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    options.add_argument("--split", default="test")
    options.add_argument("--engine", default="onnxruntime", choices=("onnxruntime", "openvino"))
    options.add_argument("--limit", type=int, help="only so many photos, evenly chosen")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    assert bundle.taxonomy is not None
    rows = read_rows(given.data / "labels.csv", given.split, given.limit)
    session = bundle.open_session(given.engine)
    probabilities, answers = run(bundle, session, [given.data / row["path"] for row in rows])
    # A class is found by its place in the CSV of the taxonomy, which is the order of Stanford's numbers.
    targets = np.array([int(row["class_id"]) - 1 for row in rows])
    figures = measure(bundle.taxonomy, probabilities, targets)
    figures += measure_answers(bundle.taxonomy, answers, targets)
    conditions = {"bundle": bundle.name, "split": given.split, "photos": len(rows), "engine": session.engine}
    report("Identifier figures", figures, as_json=given.json, conditions=conditions)


def read_rows(labels: Path, split: str, limit: int | None) -> list[dict[str, str]]:
    """Read the rows of a split; with `limit` so many of them, evenly spread."""
    with labels.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    if not rows:
        raise SystemExit(f"{labels}: no row with split {split!r}")
    return rows[:: max(1, len(rows) // limit)][:limit] if limit else rows


def run(bundle: ModelBundle, session: Session, paths: list[Path]) -> tuple[Array, list[tuple[Level, str] | None]]:
    """Give probabilities (n, c), and for each photo level and name of the answer, or None where it abstained."""
    identifier = Identifier(bundle, session)
    probabilities, answers = [], []
    for crops in batches(paths, bundle):
        found = identifier.identify(crops)
        probabilities += [each.probabilities for each in found]
        answers += [(cast(Level, each.answer.level), each.answer.name) if each.answer else None for each in found]
    return np.stack(probabilities), answers


def batches(paths: list[Path], bundle: ModelBundle) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode photos into network inputs, some at a time."""
    for start in range(0, len(paths), BATCH):
        photos = [decode(path.read_bytes()).pixels for path in paths[start : start + BATCH]]
        yield np.stack([network_input(pixels, bundle.preprocessing) for pixels in photos])


def measure(taxonomy: Taxonomy, probabilities: Array, targets: Array) -> list[dict[str, Any]]:
    """Give top-1 and top-5, each level, calibration, and the coverage at 95 % precision on the make."""
    order = np.argsort(-probabilities, axis=1)
    right = order[:, 0] == targets
    rows = [share("top-1 (class)", right), share("top-5 (class)", (order[:, :5] == targets[:, None]).any(1))]
    for level in LEVELS:
        summed = taxonomy.sum_to(level, probabilities)
        hits = summed.argmax(1) == taxonomy.index(level)[targets]
        rows.append(share(level, hits))
        if level == "make":
            covered = coverage(summed.max(1), hits, 0.95)
    bodies = np.array([taxon.body or "" for taxon in taxonomy.classes])
    has_body = bodies[targets] != ""
    rows.append(share("body (of the best class)", (bodies[order[:, 0]] == bodies[targets])[has_body]))
    error = calibration_error(probabilities.max(1), right)
    rows.append({"figure": "ECE (class)", "value": round(error, 4), "n": len(right)})
    rows.append({"figure": "coverage at 95 % precision on make", "value": round(covered, 4), "n": len(right)})
    return rows


def measure_answers(
    taxonomy: Taxonomy, answers: list[tuple[Level, str] | None], targets: Array
) -> list[dict[str, Any]]:
    """Give how often the product answers, how deep, and how often that is right."""
    names = {level: taxonomy.names(level) for level in LEVELS}
    places = {level: taxonomy.index(level) for level in LEVELS}
    given = [(answer, target) for answer, target in zip(answers, targets, strict=True) if answer]
    rows = [share("answered at any level", np.array([answer is not None for answer in answers]))]
    right = np.array([names[level][places[level][target]] == name for (level, name), target in given])
    rows.append(share("answers right, at the level answered", right))
    for wanted in LEVELS:
        of_level = np.array([answer is not None and answer[0] == wanted for answer in answers])
        rows.append(share(f"answered at {wanted}", of_level))
    return rows


def share(figure: str, hits: Array) -> dict[str, Any]:
    """Give a share with its 95 % interval after Wilson."""
    n, mean = max(1, len(hits)), float(np.mean(hits)) if len(hits) else 0.0
    middle = (mean + 1.96**2 / (2 * n)) / (1 + 1.96**2 / n)
    half = 1.96 * np.sqrt(mean * (1 - mean) / n + 1.96**2 / (4 * n * n)) / (1 + 1.96**2 / n)
    interval = f"{max(0.0, middle - half):.4f}-{min(1.0, middle + half):.4f}"
    return {"figure": figure, "value": round(mean, 4), "95 %": interval, "n": len(hits)}


def coverage(confidence: Array, right: Array, precision: float) -> float:
    """Give the largest share of photos, surest first, of which `precision` are right."""
    ranked = right[np.argsort(-confidence, kind="stable")]
    precise = np.flatnonzero(np.cumsum(ranked) / np.arange(1, len(ranked) + 1) >= precision)
    return float((precise[-1] + 1) / len(ranked)) if len(precise) else 0.0


def calibration_error(confidence: Array, right: Array) -> float:
    """Average |accuracy - confidence| over equal bins of confidence, weighted by their photos."""
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        (numbers == each).mean() * abs(right[numbers == each].mean() - confidence[numbers == each].mean())
        for each in np.unique(numbers)
    ]
    return float(sum(gaps))


if __name__ == "__main__":
    main()
