"""What the panel of one photo says of its levels: each once, and why an answer ends at the make."""

import re

import pytest

from carspotter.cli.tables import show_photo
from carspotter.geometry import BoundingBox
from carspotter.records import Answer, Candidate, Prediction, Vehicle, Viewpoint


def panel(capsys: pytest.CaptureFixture[str], answer: Answer, **levels: dict[str, float]) -> str:
    vehicle = Vehicle(
        box=BoundingBox(0, 0, 10, 10),
        score=0.9,
        viewpoint=Viewpoint(name="front", probability=1.0),
        levels={
            level: tuple(Candidate(name=name, probability=share) for name, share in found.items())
            for level, found in levels.items()
        },
        answer=answer,
        undecided=None,
    )
    show_photo(Prediction(photo="car.jpg", width=10, height=10, vehicles=(vehicle,)))
    return re.sub(r"[│\s]+", " ", capsys.readouterr().out)


def test_an_answer_that_ends_at_the_make_says_which_model_was_not_sure(capsys: pytest.CaptureFixture[str]) -> None:
    said = panel(
        capsys,
        Answer(level="make", name="Ford", probability=0.99),
        make={"Ford": 0.99},
        model={"Ford F-150": 0.96, "Ford Ka": 0.02},
    )
    assert "the model is not sure enough: Ford F-150 0.96" in said


def test_a_model_that_is_not_known_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    said = panel(
        capsys,
        Answer(level="make", name="Audi", probability=0.99),
        make={"Audi": 0.99},
        model={"Audi": 0.91, "Audi A4": 0.03},
    )
    assert "none of the models that it knows of this make" in said
    assert "model Audi, another model █" in said


def test_levels_that_say_no_more_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"Seat Ibiza": 0.8, "Seat Leon": 0.2}
    said = panel(
        capsys,
        Answer(level="model", name="Seat Ibiza", probability=0.8),
        make={"Seat": 1.0},
        model=same,
        generation=same,
        year={"Seat Leon": 0.2},
    )
    assert "generation" not in said
    assert "year" not in said
    assert "not sure enough" not in said
