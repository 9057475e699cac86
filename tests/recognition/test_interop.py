"""Predictions in `supervision`'s own carrier, and drawn by it."""

import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it does without OpenCV
    import supervision

from carspotter.geometry import BoundingBox
from carspotter.recognition.interop import to_supervision
from carspotter.records import Answer, Attribute, Prediction, Vehicle, Viewpoint
from carspotter.taxonomy import LEVELS


def vehicle(left: float, answer: Answer | None) -> Vehicle:
    return Vehicle(
        box=BoundingBox(left, 10, left + 50, 60),
        score=0.9,
        viewpoint=Viewpoint(name="front", probability=0.8),
        answer=answer,
        levels=dict.fromkeys(LEVELS, ()),
        colour=Attribute(name="red", probability=0.9),
    )


def test_vehicles_become_detections_that_supervision_filters_and_draws() -> None:
    known = Answer(level="model", name="Audi TTS Coupe", probability=0.75)
    photo = Prediction(photo="a.jpg", width=200, height=100, vehicles=(vehicle(10, known), vehicle(100, None)))
    found = to_supervision(photo)
    assert found.xyxy.tolist() == [[10, 10, 60, 60], [100, 10, 150, 60]]
    named = found[found.data["class_name"] == "Audi TTS Coupe"]
    assert (len(named), named.data["class_confidence"].tolist(), named.data["colour"].tolist()) == (1, [0.75], ["red"])
    drawn = supervision.BoxAnnotator(color_lookup=supervision.ColorLookup.INDEX).annotate(
        np.zeros((100, 200, 3), np.uint8), found
    )
    assert drawn.any()


def test_a_photo_without_vehicles_is_an_empty_carrier() -> None:
    assert len(to_supervision(Prediction(photo="a.jpg", width=200, height=100))) == 0
