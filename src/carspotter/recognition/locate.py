"""Choose among the detections of one photo those that are asked for.

It selects: which vehicles the answer is about, and whether the photo shows a vehicle's outside at all. It finds nothing
itself (`finder`, `detector`) and names nothing (`recognition`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from carspotter.errors import suggestion
from carspotter.records import KINDS, Detection
from carspotter.runtime.bundle import ModelBundle

Selection = Literal["all", "largest", "center"]
SELECTIONS: tuple[str, ...] = get_args(Selection)

DEFAULT_GATE = 0.7
"""Least probability of `exterior` for a photo to pass `gate`. Over one half, since an interior answered with a make is
worse than a car not answered; a finder's calibration may bring its own `gate`."""

_SAME_VEHICLE = 0.5
"""Least overlap (IoU) of two detectors' boxes of one vehicle; the usual value of Pascal VOC."""


def select(detections: Sequence[Detection], how: str, width: float, height: float) -> tuple[Detection, ...]:
    """Return the vehicles asked for, of a photo of this size in the pixels of the boxes.

    `all`: every one, largest first. `largest`: the one whose box inside the photo has most area. `center`: the one
    whose area, weighted by its nearness to the middle, is largest; the weight falls evenly from 1 for a box centred in
    the photo to 0 for one centred in a corner. Equal ones are taken by score. Raises ValueError for another word or a
    size that is not positive.
    """
    if how not in SELECTIONS:
        raise ValueError(f"select {how!r} is unknown; {suggestion(how, SELECTIONS)}")
    if not (width > 0 and height > 0):
        raise ValueError(f"photo of {width} x {height}: both sides must be positive")

    def rank(detection: Detection) -> tuple[float, float]:
        box = detection.box.clip(width, height)
        weight = _nearness(box.center, width, height) if how == "center" else 1.0
        return (box.area * weight, detection.score)

    ordered = tuple(sorted(detections, key=rank, reverse=True))
    return ordered if how == "all" else ordered[:1]


def gate_of(finder: ModelBundle, given: float | None = None) -> float:
    """Return the gate of a build and of the service: the given one, or the finder's own, or `DEFAULT_GATE`.

    A finder's own is chosen on its held-out photos, where as many are judged right as can be; a number that fits one
    finder fits no other. Raises BundleError.
    """
    return finder.share("gate", DEFAULT_GATE) if given is None else given


def gate(kind_probabilities: Sequence[float], threshold: float) -> bool:
    """Return whether a photo shows a vehicle's outside surely enough, from the probabilities of `KINDS`."""
    return kind_probabilities[KINDS.index("exterior")] >= threshold


def transfer_viewpoints(foreign: Sequence[Detection], own: Sequence[Detection]) -> tuple[Detection, ...]:
    """Return a foreign detector's detections with the viewpoints that the finder saw at the same places.

    Each takes those of the finder's box that overlaps it most, if by at least half (IoU); the others stay as they are.
    """
    return tuple(_transferred(detection, own) for detection in foreign)


def _transferred(detection: Detection, own: Sequence[Detection]) -> Detection:
    if detection.viewpoints is not None or not own:
        return detection
    nearest = max(own, key=lambda other: detection.box.iou(other.box))
    if detection.box.iou(nearest.box) < _SAME_VEHICLE:
        return detection
    return replace(detection, viewpoints=nearest.viewpoints)


def _nearness(point: tuple[float, float], width: float, height: float) -> float:
    """Return 1 in the middle of the photo, 0 in its corners, evenly between."""
    distance = math.hypot(point[0] - width / 2, point[1] - height / 2)
    return max(0.0, 1 - distance / (math.hypot(width, height) / 2))
