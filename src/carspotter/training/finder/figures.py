"""Figures of a finder, and its thresholds, from what it found on photos and what is true.

It runs no network. The training's own evaluation and the benchmarks share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.metrics import macro_f1
from carspotter.geometry import iou_matrix
from carspotter.records import KINDS

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
EXTERIOR, DETAIL = KINDS.index("exterior"), KINDS.index("detail")
FOUND_IOU = 0.5
THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.02), 2)
"""Thresholds of the score that are tried."""
GATES, GATE_SPREAD = np.round(np.arange(0.05, 0.96, 0.01), 2), 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinderResult:
    """What was found on one photo and what is true, boxes of both in the same pixels.

    Found: `kind` (4,) probabilities; `boxes` (k, 4), `scores` (k,), `viewpoints` (k, 8), best first. True: `true_kind`;
    `true_boxes` (m, 4), `true_views` (m, 8) the viewpoints a label allows, `ignored` (m,). `boxes_known` is False where
    vehicles may be without a box. `size` (width, height) is that of the picture, in the boxes' pixels.
    """

    source: str
    path: str
    kind: FloatArray
    boxes: FloatArray
    scores: FloatArray
    viewpoints: FloatArray
    true_kind: int
    true_boxes: FloatArray
    true_views: FloatArray
    ignored: npt.NDArray[np.bool_]
    boxes_known: bool
    size: tuple[int, int]

    def above(self, score: float) -> FinderResult:
        """Return the same with the vehicles of at least this score."""
        keep = self.scores >= score
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], viewpoints=self.viewpoints[keep])

    @property
    def own(self) -> int | None:
        """Return the index of the photo's own vehicle, the largest true box, or None."""
        vehicles = np.flatnonzero(~self.ignored)
        if not len(vehicles):
            return None
        # A seller's own car is the one photographed, and so the largest.
        sides = self.true_boxes[vehicles, 2:] - self.true_boxes[vehicles, :2]
        return int(vehicles[sides.prod(axis=1).argmax()])

    @property
    def own_overlaps(self) -> FloatArray:
        """Return the IoU (k,) of each found box with the photo's own vehicle; zeros when there is none."""
        if self.own is None or not len(self.boxes):
            return np.zeros(len(self.boxes))
        return iou_matrix(self.boxes, self.true_boxes[[self.own]])[:, 0]


def exterior_accuracy(told: Sequence[FinderResult], gate: float = 0.5) -> float:
    """Return how often `exterior` against all else is right; photos of the kind `detail` do not count."""
    # A wheel or a lamp may pass the gate or not: both are right.
    counted = [entry for entry in told if entry.true_kind != DETAIL]
    return _mean([(entry.kind[EXTERIOR] >= gate) == (entry.true_kind == EXTERIOR) for entry in counted])


def recall(told: Sequence[FinderResult]) -> float:
    """Return the share of photos' own vehicles that some found box overlaps by FOUND_IOU."""
    return _mean([entry.own_overlaps.max(initial=0) >= FOUND_IOU for entry in told if entry.own is not None])


def mean_iou(told: Sequence[FinderResult]) -> float:
    """Return the mean overlap of the best found box with the photo's own vehicle, 0 where none was found."""
    return _mean([float(entry.own_overlaps.max(initial=0)) for entry in told if entry.own is not None])


def false_alarms(told: Sequence[FinderResult]) -> float:
    """Return the share of photos of interiors and other things in which a vehicle was found."""
    return _mean([len(entry.boxes) > 0 for entry in told if KINDS[entry.true_kind] in ("interior", "other")])


def vehicle_f1(told: Sequence[FinderResult]) -> float:
    """Return F1 over all vehicles, with each true one found at most once and ignored ones left out."""
    hits = n_told = n_true = 0
    for entry in told:
        # Elsewhere a box that was found may be a vehicle that nobody labelled.
        if entry.boxes_known:
            found, said, true = _count(entry)
            hits, n_told, n_true = hits + found, n_told + said, n_true + true
    return 2 * hits / (n_told + n_true) if n_told + n_true else 0.0


def recall_by_size(told: Sequence[FinderResult], low: float, high: float) -> tuple[float, int]:
    """Return how many vehicles that cover `low` to `high` of their photo are found by FOUND_IOU, and of how many.

    A box finds one vehicle at most.
    """
    hits = count = 0
    for entry in told:
        found = _found(entry)
        parts = (entry.true_boxes[:, 2:] - entry.true_boxes[:, :2]).prod(axis=1) / (entry.size[0] * entry.size[1])
        asked = ~entry.ignored & (parts >= low) & (parts < high)
        hits, count = hits + int((found & asked).sum()), count + int(asked.sum())
    return hits / count if count else 0.0, count


def precision(told: Sequence[FinderResult]) -> tuple[float, int]:
    """Return the share of boxes that are on a vehicle, and how many boxes there are; ignored ones are left out."""
    counts = np.array([_count(entry)[:2] for entry in told if entry.boxes_known]).reshape(-1, 2)
    hits, count = (int(value) for value in counts.sum(axis=0))
    return hits / count if count else 0.0, count


def viewpoint_pairs(told: Sequence[FinderResult]) -> tuple[IntArray, IntArray]:
    """Return true and answered viewpoint of each own vehicle with a label of eight; -1 where it was not found."""
    pairs = []
    for entry in told:
        # A label such as "side" allows two of the eight: which of them is right is not known.
        if entry.own is not None and entry.true_views[entry.own].sum() == 1:
            best = int(entry.own_overlaps.argmax()) if len(entry.boxes) else -1
            is_found = best >= 0 and entry.own_overlaps[best] >= FOUND_IOU
            said = int(entry.viewpoints[best].argmax()) if is_found else -1
            pairs.append((int(entry.true_views[entry.own].argmax()), said))
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def five_way(viewpoints: IntArray) -> IntArray:
    """Merge left and right: 0 front, 1 front-side, 2 side, 3 back-side, 4 back; -1 stays."""
    # The eight go around the car, 0 front to 4 back: n and 8 - n are each other's mirror image.
    return np.where(viewpoints < 0, -1, np.minimum(viewpoints, 8 - viewpoints))


def view_f1(true: IntArray, told: IntArray) -> float:
    """Return the macro-F1 of viewpoints, 0 for nothing; a vehicle that was not found (-1) is answered wrong."""
    if not len(true):
        return 0.0
    not_found = int(true.max(initial=0) + told.max(initial=0)) + 1  # a number that no viewpoint has
    return macro_f1(true, np.where(told < 0, not_found, told), not_found + 1).value


def figures_of(told: Sequence[FinderResult], gate: float = 0.5) -> dict[str, float]:
    """Return all figures; the first, `mean`, is that of exterior, recall, iou and view8."""
    true, said = viewpoint_pairs(told)
    figures = {
        "exterior": exterior_accuracy(told, gate),
        "recall": recall(told),
        "iou": mean_iou(told),
        "view8": view_f1(true, said),
        "view5": view_f1(five_way(true), five_way(said)),
        "false_alarms": false_alarms(told),
    }
    # One number to choose an epoch by; each of the four failing would make the finder useless.
    mean = _mean([figures[name] for name in ("exterior", "recall", "iou", "view8")])
    return {"mean": mean, **figures, **kind_recalls(told)}


def kind_recalls(told: Sequence[FinderResult]) -> dict[str, float]:
    """Return of each kind that occurs the share of its photos whose likeliest kind it is, as `kind_<name>`."""
    found: dict[str, float] = {}
    for number, name in enumerate(KINDS):
        right = [int(entry.kind.argmax()) == number for entry in told if entry.true_kind == number]
        if right:
            found[f"kind_{name}"] = float(np.mean(right))
    return found


def choose_score(told: Sequence[FinderResult]) -> float:
    """Return the score from which vehicles are reported: the best F1 over all vehicles."""
    return _choose(lambda threshold: vehicle_f1([entry.above(threshold) for entry in told]), len(told))


def choose_gate(told: Sequence[FinderResult]) -> float:
    """Return the probability from which a photo counts as exterior: the least expected error, both sides alike.

    A photo stands for others like it, whose log-odds lie GATE_SPREAD around its own. So the gate goes to the middle of
    the gap between the two, and does not hang on the one or two photos nearest to it. Half where a side is missing.
    """
    # Keeps the log-odds within ± 14.
    chances = np.clip([entry.kind[EXTERIOR] for entry in told], 1e-6, 1 - 1e-6)
    log_odds = np.log(chances / (1 - chances))
    sides = np.array([_side_of_gate(entry.true_kind) for entry in told])
    tried = np.log(GATES / (1 - GATES))
    passing = 1 / (1 + np.exp((tried[:, None] - log_odds) / GATE_SPREAD))  # (gates, photos)
    if not (sides > 0).any() or not (sides < 0).any():
        return 0.5
    # Means of each side, not sums: the choosing part has more exteriors than anything else.
    errors = (1 - passing[:, sides > 0]).mean(axis=1) + passing[:, sides < 0].mean(axis=1)
    return float(GATES[errors.argmin()])


def _side_of_gate(kind: int) -> int:
    """Return 1 for a photo that should pass, -1 for one that should not, 0 for a detail, which may."""
    return 0 if kind == DETAIL else 1 if kind == EXTERIOR else -1


def _choose(figure: Callable[[float], float], n: int) -> float:
    """Return the middle of the thresholds whose figure is within one standard error of the best, over `n` photos.

    The very best of few photos hangs on one or two of them (one-standard-error rule, Breiman et al. 1984).
    """
    values = np.array([figure(float(threshold)) for threshold in THRESHOLDS])
    best = float(values.max())
    # The standard error of a share of n photos, which F1 is not quite: near enough for a tolerance.
    good = THRESHOLDS[values >= best - sqrt(best * (1 - best) / max(n, 1)) - 1e-9]
    # The middle of the plateau is farthest from both of its edges.
    return float(good[len(good) // 2])


def _count(entry: FinderResult) -> tuple[int, int, int]:
    """Return how many vehicles were found, how many boxes and how many vehicles there are, ignored ones left out."""
    vehicle_of = _matches(entry)
    ignored = entry.true_boxes[entry.ignored]
    hits = int((vehicle_of >= 0).sum())
    # A box on an ignored vehicle is neither found nor wrong: it was labelled as doubtful.
    wrong = sum(not _is_inside(box, ignored) for box in entry.boxes[vehicle_of < 0])
    return hits, hits + wrong, int((~entry.ignored).sum())


def _found(entry: FinderResult) -> npt.NDArray[np.bool_]:
    """Return for each true box (m,) whether a found one is on it."""
    found = np.zeros(len(entry.true_boxes), dtype=np.bool_)
    vehicle_of = _matches(entry)
    found[vehicle_of[vehicle_of >= 0]] = True
    return found


def _matches(entry: FinderResult) -> IntArray:
    """Return for each found box (k,), best first, the true vehicle that it is on, -1 for none; each is found once."""
    overlap = iou_matrix(entry.boxes, entry.true_boxes)
    open_vehicles = set(np.flatnonzero(~entry.ignored).tolist())
    vehicle_of = np.full(len(entry.boxes), -1, dtype=np.int64)
    for index in range(len(entry.boxes)):
        # Greedy from the surest box on, as COCO and Pascal VOC match: a second box on one vehicle is a false one.
        best = max(open_vehicles, key=lambda vehicle: float(overlap[index, vehicle]), default=None)
        if best is not None and overlap[index, best] >= FOUND_IOU:
            open_vehicles.remove(best)
            vehicle_of[index] = best
    return vehicle_of


def _is_inside(box: FloatArray, others: FloatArray) -> bool:
    """Return whether at least half of a box lies in one of the others."""
    if not len(others):
        return False
    # The share of the box itself, not IoU: an ignored area may span a whole row of cars.
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return bool((np.clip(shared, 0, None).prod(axis=1) >= 0.5 * (box[2:] - box[:2]).prod()).any())


def _mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if values else 0.0
