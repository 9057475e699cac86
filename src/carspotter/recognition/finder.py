"""Find the kind of each photo, and every vehicle's box, score and viewpoint, by our own network.

Each photo is resized once and the network sees the whole of it; which of its boxes say the same vehicle it decides
itself. Decoding photos and choosing among the vehicles is for
others (`pixels`, `locate`); naming them is for `recognition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError
from carspotter.geometry import BoundingBox, are_boxes
from carspotter.pixels import Preprocessing, network_input, to_photo_box
from carspotter.records import KINDS, Detection, Kind
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.session import Session

DEFAULT_SCORE = 0.4
"""Least score of a vehicle when the bundle's calibration has no `score`: a start, a trained bundle brings its own."""

MAX_DETECTIONS = 20
"""The most vehicles reported of one photo: a dealer's yard has more, but they are a few pixels wide."""

_MIN_SIDE = 1.0
"""Pixels of the photo: a box narrower or lower holds nothing that could be cropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the finder says of one photo.

    `kind_probabilities` has the order of `KINDS`; `detections` are best first, boxes in pixels of the array given.
    """

    kind: Kind
    kind_probabilities: tuple[float, ...]
    detections: tuple[Detection, ...]


class Finder:
    """Find the kind of photos and the vehicles on them."""

    def __init__(
        self, bundle: ModelBundle, session: Session, *, score: float | None = None, max_detections: int = MAX_DETECTIONS
    ) -> None:
        """Take a bundle for the task `finder` and a session on its network.

        `score` (0..1) overrides the bundle's calibration. Raises BundleError for another task or a calibration outside
        of 0..1, ValueError for an override outside of it.
        """
        if bundle.task != "finder":
            raise BundleError(
                f"bundle {bundle.name}: task is {bundle.task!r}, but a finder is needed; "
                "`carspotter models` lists the bundles"
            )
        self.bundle = bundle
        if score is not None and not 0 <= score <= 1:
            raise ValueError(f"score={score}: must be from 0 to 1")
        # The bundle's own score was calibrated with its weights; one of another bundle would mean another precision.
        self.score = bundle.share("score", DEFAULT_SCORE) if score is None else score
        self.max_detections = max_detections
        self.session = session

    def find(self, photos: Sequence[NDArray[np.uint8]]) -> list[Finding]:
        """Find kind and vehicles of photos, each upright sRGB uint8 (h, w, 3) of any size, in one batch and in order.

        Raises ImageError for an array that is no photo.
        """
        if not photos:
            return []
        preprocessing = self.bundle.preprocessing
        # One run for all photos: an engine's fixed costs are paid once.
        batch = np.stack([network_input(photo, preprocessing) for photo in photos])
        outputs = self.session.run(batch)
        return [self._finding({key: outputs[key][i] for key in _OUTPUTS}, photo) for i, photo in enumerate(photos)]

    def _finding(self, outputs: Mapping[str, NDArray[Any]], photo: NDArray[np.uint8]) -> Finding:
        kinds = tuple(float(value) for value in outputs["kind"])
        # The likeliest kind, without a threshold: what is too doubtful to use is for the gate of `locate`.
        best = int(np.argmax(outputs["kind"]))
        height, width = photo.shape[:2]
        return Finding(
            kind=Kind(name=KINDS[best], probability=kinds[best]),
            kind_probabilities=kinds,
            detections=self._detections(outputs, (width, height)),
        )

    def _detections(self, outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> tuple[Detection, ...]:
        """Read the places of one photo, best first: `scores` (k,), `boxes` (k, 4) relative, `viewpoints` (k, 8)."""
        boxes, scores = outputs["boxes"], outputs["scores"]
        detections = []
        # A place without a vehicle has the score 0, whatever the least score is.
        for place in np.flatnonzero((scores >= self.score) & (scores > 0) & are_boxes(boxes)):
            box = photo_box(boxes[place], size, self.bundle.preprocessing)
            if box is not None:
                sides = tuple(float(value) for value in outputs["viewpoints"][place])
                detections.append(Detection(box=box, score=float(scores[place]), viewpoints=sides))
        # The network returns them best first, so that the worst ones fall away.
        return tuple(detections[: self.max_detections])


def photo_box(relative: NDArray[Any], size: tuple[int, int], preprocessing: Preprocessing) -> BoundingBox | None:
    """Return where a box (4,), relative to the network's input, lies in a photo of `size` (width, height), clipped.

    None where less than a pixel of it is inside, as of a box in a letterbox's bars.
    """
    x1, y1, x2, y2 = (float(value) for value in relative)
    # Relative to the input with its bars, not to the photo: so in two steps.
    inside = BoundingBox(x1, y1, x2, y2).scale(preprocessing.width, preprocessing.height)
    box = to_photo_box(inside, size, preprocessing).clip(*size)
    return box if min(box.width, box.height) >= _MIN_SIDE else None


_OUTPUTS = ("kind", "scores", "boxes", "viewpoints")
