"""Compare two bundles on network inputs: how alike they answer, how large and fast they are, and if it is enough.

Both run through `runtime`, as they will in use. `write_report` writes `parity.json` and `PARITY.md`. It exports nothing
and reads no photos.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter import storage
from carspotter.errors import BundleError
from carspotter.evaluation.predictions import Predictions
from carspotter.geometry import are_boxes, iou_matrix
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.classes import class_probabilities, evidence_of
from carspotter.runtime.session import Session

Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[Any]]

BARS: Mapping[str, Mapping[str, float]] = {
    # Engines add up in another order: 1e-4 of a probability was measured. An answer may differ where two are as likely.
    "float32": {"agreement": 0.995, "found": 0.995, "mean_iou": 0.995, "viewpoint": 0.995, "points_lost": 0.1},
    # 11 bits of a number: as weights the shipped networks have it anyway; as arithmetic it moved no answer of 100.
    "float16": {"agreement": 0.99, "found": 0.99, "mean_iou": 0.99, "viewpoint": 0.99, "points_lost": 0.2},
    # 8 bits of a number, as arithmetic of convolutions and products alone: what is doubtful may turn either way.
    "bfloat16": {"agreement": 0.97, "found": 0.97, "mean_iou": 0.95, "viewpoint": 0.97, "points_lost": 0.5},
    # 256 steps an activation: 99 % of 4047 test photos kept their answer, and those that change are doubtful ones, as
    # many for the better as for the worse. What may be lost is half a point.
    "int8": {"agreement": 0.95, "found": 0.95, "mean_iou": 0.90, "viewpoint": 0.93, "points_lost": 0.5},
}
"""Least share of photos with the same answer, of vehicles found by both, their mean IoU, and the most points lost."""

MATCH = 0.5
"""Boxes that overlap so much are the same vehicle; the usual value of Pascal VOC."""
BATCH = 8
RUNS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How an exported bundle answers beside its reference: figures by name, and the bars of its precision.

    `points_lost` is in points of a hundred, `milliseconds` the median for one photo on one thread, `bytes` the size of
    the network's files; those of the reference stand under `reference`.
    """

    task: str
    precision: str
    engine: str
    photos: int
    figures: Mapping[str, float]
    bars: Mapping[str, float]
    bytes: int
    milliseconds: float
    reference: Mapping[str, Any] = field(default_factory=dict)

    def misses(self) -> list[str]:
        """Return each figure below its bar in words; none where the export is good."""
        missed = []
        for name, bar in self.bars.items():
            value = self.figures.get(name)
            if value is None:
                continue
            # A loss must stay below its bar, every other figure above.
            allowed = _allowance(bar, self.photos) if name == "points_lost" else bar
            is_missed = value > allowed if name == "points_lost" else value < bar
            # NaN is neither above nor below a bar; it must not pass.
            if is_missed or not np.isfinite(value):
                side = "at most" if name == "points_lost" else "at least"
                missed.append(f"{name} is {value:.4g}, the bar of {self.precision} is {side} {allowed:.4g}")
        return missed

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a table: what, the value, the bar."""
        rows = [
            (name, f"{value:.4g}", f"{self.bars[name]:g}" if name in self.bars else "")
            for name, value in self.figures.items()
        ]
        size, before = self.bytes / 1e6, self.reference["bytes"] / 1e6
        rows.append(("megabytes", f"{size:.2f} (before {before:.2f})", ""))
        took, first = self.milliseconds, self.reference["milliseconds"]
        rows.append((f"ms a photo, {self.engine}", f"{took:.2f} (before, {self.reference['engine']}: {first:.2f})", ""))
        return rows


def _allowance(bar: float, photos: int) -> float:
    """Return the most points that may be lost: one photo, where it weighs more than the bar."""
    return max(bar, 100.0 / photos)


def compare(
    reference: ModelBundle,
    exported: ModelBundle,
    images: Images,
    *,
    targets: NDArray[np.int64] | None = None,
    engine: str = "auto",
    precision: str = "float32",
) -> Parity:
    """Compare two bundles on network inputs uint8 (n, h, w, 3); `targets` (n,) are classes of an identifier, -1 none.

    `engine` runs the second, and calculates in `precision`, which may be bfloat16 for a bundle in float32.
    Raises BundleError where there is no image, or the bundles are for different tasks or classes.
    """
    if not len(images):
        raise BundleError(f"parity of {exported.name} needs photos, there is none; give a folder that has some")
    # Figures compare places in the outputs, which mean the same only with the same classes in the same order.
    same = reference.taxonomy is None or reference.taxonomy == exported.taxonomy
    if reference.task != exported.task or not same:
        raise BundleError(f"parity: {exported.name} and {reference.name} have different tasks or classes")
    # One thread for both: with more, times depend on what else the machine does.
    sessions = reference.open_session(threads=1), exported.open_session(engine, threads=1, precision=precision)
    # A bundle in int8 is judged by the bars of int8; bfloat16 is a way to run a float32 one.
    measured = exported.precision if precision == "float32" else precision
    ours, theirs = (_run(session, images) for session in sessions)
    if exported.task == "identifier":
        figures = _identifier_figures((reference, ours), (exported, theirs), targets)
    else:
        figures = _finder_figures((reference, ours), (exported, theirs))
    before = {"name": reference.name, "engine": sessions[0].engine, "bytes": network_bytes(reference)}
    return Parity(
        task=exported.task,
        precision=measured,
        engine=sessions[1].engine,
        # Points can only be lost on photos with a known class, so that one photo's weight follows from their number.
        photos=len(images) if targets is None else int((targets >= 0).sum()),
        figures={name: round(value, 6) for name, value in figures.items()},
        bars=BARS[measured],
        bytes=network_bytes(exported),
        milliseconds=latency(sessions[1], images),
        reference={**before, "milliseconds": latency(sessions[0], images)},
    )


def write_report(parity: Parity, folder: Path) -> None:
    """Write `parity.json` and `PARITY.md` into a folder."""
    content = {**asdict(parity), "missed": parity.misses()}
    storage.write_json(str(folder / "parity.json"), content)
    storage.write(str(folder / "PARITY.md"), report_page(parity).encode())


def report_page(parity: Parity) -> str:
    """Return the report as Markdown."""
    lines = [f"# Parity of {parity.task}, {parity.precision}, with {parity.reference['name']}", ""]
    lines += [
        f"{parity.photos} photos; times are medians on one thread.",
        "",
        "| figure | value | bar |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {value} | {bar} |" for name, value, bar in parity.rows()]
    lines += ["", *(f"Below its bar: {each}." for each in parity.misses())]
    return "\n".join(lines).rstrip() + "\n"


def network_bytes(bundle: ModelBundle) -> int:
    """Return the size of the network's file, with the weights of an `.xml`."""
    path = bundle.model_path
    return path.stat().st_size + (path.with_suffix(".bin").stat().st_size if path.suffix == ".xml" else 0)


def latency(session: Session, images: Images, runs: int = RUNS) -> float:
    """Return the median milliseconds of one image in a batch of one, after three runs that warm it up."""
    times = []
    # The median, since a few runs are held up by the system; in turn over the images, so that no cache answers.
    for number in range(runs + 3):
        image = images[number % len(images)][None]
        start = time.perf_counter()
        session.run(image)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times[3:])) * 1000, 3)


def _run(session: Session, images: Images) -> Outputs:
    parts = [session.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# ---- figures


_Answered = tuple[ModelBundle, Outputs]


def _identifier_figures(
    reference: _Answered, exported: _Answered, targets: NDArray[np.int64] | None
) -> dict[str, float]:
    ours, theirs = class_probabilities(*reference), class_probabilities(*exported)
    first, second = (_named(*each, found) for each, found in ((reference, ours), (exported, theirs)))
    # Lengths are divided out: a reference may give embeddings that are not of unit length.
    lengths = np.linalg.norm(reference[1]["embedding"], axis=1) * np.linalg.norm(exported[1]["embedding"], axis=1)
    cosine = (reference[1]["embedding"] * exported[1]["embedding"]).sum(1) / np.maximum(lengths, 1e-9)
    figures = {"agreement": float((first == second).mean())}
    if targets is not None and (targets >= 0).any():
        # Photos without a known class still count for agreement, which needs no truth.
        tables = [_table(reference[0], probabilities, targets) for probabilities in (ours, theirs)]
        top1 = [float(right[known].mean()) for right, known in (table.right_at() for table in tables)]
        figures |= {"top1": top1[1], "top1_before": top1[0], "points_lost": 100 * (top1[0] - top1[1])}
    figures["largest_difference"] = float(np.abs(ours - theirs).max())
    figures["embedding_cosine"] = float(cosine.mean())
    return figures


def _named(bundle: ModelBundle, outputs: Outputs, probabilities: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the likeliest class (n,), -1 where too little speaks for any."""
    evidence = evidence_of(bundle, outputs)
    named = probabilities.argmax(1)
    return named if evidence is None else np.where(evidence < bundle.calibration.get("evidence", -np.inf), -1, named)


def _table(bundle: ModelBundle, probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> Predictions:
    assert bundle.taxonomy is not None
    return Predictions(
        name=bundle.name,
        taxonomy=bundle.taxonomy,
        photos=np.arange(len(targets)).astype(str),
        probabilities=probabilities.astype(np.float32),
        truth=targets,
    )


def _finder_figures(reference: _Answered, exported: _Answered) -> dict[str, float]:
    kinds = [outputs["kind"].argmax(1) for _, outputs in (reference, exported)]
    pairs = [_match(reference, exported, photo) for photo in range(len(kinds[0]))]
    # Over all vehicles of all photos, so that a photo of ten counts ten times.
    found = [value for pair in pairs for value in pair[0]]
    overlaps = [value for pair in pairs for value in pair[1]]
    views = [value for pair in pairs for value in pair[2]]
    extra = sum(pair[3] for pair in pairs)
    figures = {"agreement": float((kinds[0] == kinds[1]).mean()), "found": _mean(found)}
    figures |= {"mean_iou": _mean(overlaps), "viewpoint": _mean(views), "extra": extra / max(1, len(found))}
    figures["largest_difference"] = float(np.abs(reference[1]["kind"] - exported[1]["kind"]).max())
    return figures


def _match(reference: _Answered, exported: _Answered, photo: int) -> tuple[list[float], list[float], list[float], int]:
    """Return of one photo: for each vehicle whether both find it, the IoU and viewpoint of these, and how many more."""
    ours, theirs = _vehicles(*reference, photo), _vehicles(*exported, photo)
    # The overlap of nothing has no maximum: all of one side are missed, or more.
    if not len(ours) or not len(theirs):
        return [0.0] * len(ours), [], [], len(theirs)
    overlap = iou_matrix(reference[1]["boxes"][photo][ours], exported[1]["boxes"][photo][theirs])
    # The nearest box of the other network, which two vehicles may share: parity asks for nearness, not for a matching.
    best, place = overlap.max(1), overlap.argmax(1)
    both = best >= MATCH
    sides = [outputs["viewpoints"][photo].argmax(1) for _, outputs in (reference, exported)]
    same = sides[0][ours] == sides[1][theirs[place]]
    # Vehicles that only the export sees: reported, but without a bar.
    more = int((overlap.max(0) < MATCH).sum())
    return both.astype(float).tolist(), best[both].tolist(), same[both].astype(float).tolist(), more


def _vehicles(bundle: ModelBundle, outputs: Outputs, photo: int) -> NDArray[np.intp]:
    """Return the places of the vehicles that are sure enough to be reported."""
    scores, boxes = outputs["scores"][photo], outputs["boxes"][photo]
    # By each bundle's own threshold, as in use. 0 is an empty place, whatever the threshold.
    sure = (scores >= bundle.share("score", 0.4)) & (scores > 0)
    return np.flatnonzero(sure & are_boxes(boxes))


def _mean(values: Sequence[float]) -> float:
    """Return the mean, 1 without values: where no vehicle is on any photo, none was lost."""
    return float(np.mean(values)) if len(values) else 1.0
