"""Predictions as the carrier of another library: `supervision.Detections`, which tools of the field draw and count.

The package `supervision` is asked for when it is used; it is no part of any extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carspotter.errors import MissingExtraError
from carspotter.records import Prediction

if TYPE_CHECKING:
    from supervision import Detections


def to_supervision(prediction: Prediction) -> Detections:
    """Return the vehicles of a photo as `supervision.Detections`.

    `xyxy` are boxes (n, 4) in pixels of the upright photo, `confidence` (n,) how sure the finder is, and `data` has
    `class_name` (the answer, "" where it is undecided), `class_confidence`, `viewpoint`, `colour` and `body`. There are
    no class ids: an answer may stand at any level. Raises MissingExtraError where the package is not installed.
    """
    try:
        from supervision import Detections
    except ModuleNotFoundError as error:
        raise MissingExtraError("supervision", "supervision") from error
    vehicles = prediction.vehicles
    if not vehicles:
        return Detections.empty()
    answers = [vehicle.answer for vehicle in vehicles]
    return Detections(
        xyxy=np.array([vehicle.box.to_list() for vehicle in vehicles], np.float32),
        confidence=np.array([vehicle.score for vehicle in vehicles], np.float32),
        data={
            "class_name": np.array([answer.name if answer else "" for answer in answers]),
            "class_confidence": np.array([answer.probability if answer else 0.0 for answer in answers], np.float32),
            "viewpoint": np.array([vehicle.viewpoint.name for vehicle in vehicles]),
            "colour": np.array([vehicle.colour.name if vehicle.colour else "" for vehicle in vehicles]),
            "body": np.array([vehicle.body.name if vehicle.body else "" for vehicle in vehicles]),
        },
    )
