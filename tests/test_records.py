"""Records: the documented JSON, there and back, and values that cannot be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import ImageError
from carspotter.geometry import BoundingBox
from carspotter.records import (
    VIEWPOINTS,
    Answer,
    Attribute,
    Candidate,
    Detection,
    Kind,
    PhotoError,
    Prediction,
    Vehicle,
    Viewpoint,
)

# The example of the documentation, letter by letter, with a shorter list of models.
DOCUMENTED = """
{"photo": "a.jpg", "width": 800, "height": 600,
 "kind": {"name": "exterior", "probability": 0.99},
 "vehicles": [{"box": [12.5, 80.0, 760.2, 540.9], "score": 0.98,
               "viewpoint": {"name": "front-left", "probability": 0.93},
               "colour": {"name": "red", "probability": 0.97}, "body": null,
               "answer": {"level": "model", "name": "Audi TTS Coupe", "probability": 0.91},
               "levels": {"make": [{"name": "Audi", "probability": 0.97}], "model": [], "generation": [], "year": []},
               "undecided": null}],
 "error": null,
 "bundles": {"finder": "f", "identifier": "i"}, "milliseconds": {"decode": 4.1, "find": 3.0, "identify": 2.8}}
"""

PREDICTION = Prediction(
    photo="a.jpg",
    width=800,
    height=600,
    kind=Kind(name="exterior", probability=0.99),
    vehicles=(
        Vehicle(
            box=BoundingBox(12.5, 80.0, 760.2, 540.9),
            score=0.98,
            viewpoint=Viewpoint(name="front-left", probability=0.93),
            answer=Answer(level="model", name="Audi TTS Coupe", probability=0.91),
            levels={"make": (Candidate(name="Audi", probability=0.97),), "model": (), "generation": (), "year": ()},
            colour=Attribute(name="red", probability=0.97),
            embedding=(0.6, 0.8),
        ),
    ),
    bundles={"finder": "f", "identifier": "i"},
    milliseconds={"decode": 4.1, "find": 3.0, "identify": 2.8},
)


def test_the_json_is_the_documented_one():
    # Compared as texts, so that the order of the keys counts.
    assert json.dumps(PREDICTION.to_dict()) == json.dumps(json.loads(DOCUMENTED))


def test_the_documented_json_is_read_back():
    copy = Prediction.from_dict(json.loads(DOCUMENTED))
    assert copy.to_dict() == PREDICTION.to_dict()
    assert Prediction.from_dict(PREDICTION.to_dict(with_embedding=True)) == PREDICTION


def test_added_fields_are_passed_over():
    content = json.loads(DOCUMENTED)
    content["new"] = content["kind"]["new"] = content["vehicles"][0]["new"] = 1
    assert Prediction.from_dict(content).to_dict() == PREDICTION.to_dict()


def test_json_from_before_colours_is_read():
    content = json.loads(DOCUMENTED)
    del content["vehicles"][0]["colour"], content["vehicles"][0]["body"]
    (vehicle,) = Prediction.from_dict(content).vehicles
    assert (vehicle.colour, vehicle.body, vehicle.look) == (None, None, "")


@pytest.mark.parametrize(
    ("colour", "body", "look"),
    [("red", "suv", "red suv"), ("red", None, "red"), (None, "suv", "suv"), (None, None, "")],
)
def test_a_look_is_what_is_known(colour, body, look):
    colour, body = (None if word is None else Attribute(name=word, probability=0.9) for word in (colour, body))
    values = {"box": BoundingBox(0, 0, 1, 1), "score": 1, "viewpoint": Viewpoint(), "levels": {}, "answer": None}
    assert Vehicle(**values, colour=colour, body=body).look == look


def test_a_bad_photo_has_an_error_and_no_vehicles():
    failed = Prediction(photo="b.jpg", error=PhotoError.of(ImageError("cut", "truncated")))
    content = failed.to_dict()
    assert content["error"] == {"type": "truncated", "message": "cut"}
    assert (content["vehicles"], content["kind"], content["width"]) == ([], None, None)
    assert Prediction.from_dict(json.loads(json.dumps(content))) == failed


@given(st.floats(0, 1), st.sampled_from(VIEWPOINTS), st.lists(st.floats(0, 1), max_size=3))
def test_there_and_back_changes_nothing_more(probability, side, candidates):
    vehicle = Vehicle(
        box=BoundingBox(0, 0, 100 * probability, 3),
        score=probability,
        viewpoint=Viewpoint(name=side, probability=probability),
        answer=None,
        levels={"make": tuple(Candidate(name="Kia", probability=value) for value in candidates)},
        undecided="not decidable from this photo",
    )
    content = Prediction(photo="c.jpg", width=1, height=1, vehicles=(vehicle,)).to_dict()
    assert Prediction.from_dict(json.loads(json.dumps(content))).to_dict() == content


def test_numbers_of_numpy_become_json():
    one = np.float32(1.0000001)
    kind = Kind(name="other", probability=one)
    assert kind.probability == 1.0
    steps = {"decode": np.float64(1.5)}
    assert json.loads(json.dumps(Prediction(photo="d", kind=kind, milliseconds=steps).to_dict()))["kind"]


def test_a_detection_knows_its_side():
    box = BoundingBox(0, 0, 1, 1)
    sides = tuple(np.eye(8, dtype=np.float32)[3])
    assert Detection(box=box, score=0.5, viewpoints=sides).viewpoint == Viewpoint(name="back-right", probability=1)
    assert Detection(box=box, score=0.5).viewpoint == Viewpoint(name="unknown", probability=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kind(name="exterior", probability=1.1), "0..1"),
        (lambda: Kind(name="exterior", probability=float("nan")), "0..1"),
        (lambda: Kind(name="outside", probability=1), "allowed: exterior"),
        (lambda: Viewpoint(name="top", probability=1), "allowed: front"),
        (lambda: Attribute(name="red", probability=-0.1), "0..1"),
        (lambda: Detection(box=BoundingBox(0, 0, 1, 1), score=-1), "0..1"),
        (lambda: Detection(box=BoundingBox(0, 0, 1, 1), score=1, viewpoints=(1.0,)), "8 viewpoints"),
        (lambda: Prediction(photo="a", width=0), "at least 1"),
        (
            lambda: Prediction(
                photo="a", kind=Kind(name="other", probability=1), error=PhotoError(type="broken", message="")
            ),
            "no kind and no vehicles",
        ),
    ],
)
def test_values_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_answer_excludes_a_reason_against_it():
    values = {"box": BoundingBox(0, 0, 1, 1), "score": 1, "viewpoint": Viewpoint(), "levels": {}}
    with pytest.raises(ValueError, match="not both"):
        Vehicle(**values, answer=Answer(level="make", name="Kia", probability=1), undecided="why")
