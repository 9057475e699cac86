"""The figures of each market by itself, on answers that are counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from carspotter.evaluation.markets import SMALL, MarketFigures, market_figures
from carspotter.evaluation.metrics import evaluate
from carspotter.evaluation.predictions import Predictions
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy

TAXONOMY = Taxonomy(
    (
        Taxon(make="Audi"),
        Taxon(make="Audi", model="A4", generation="2001-2004", year=2002),
        Taxon(make="Audi", model="A4", generation="2001-2004", year=2004),
        Taxon(make="Opel", model="Corsa"),
    )
)
A4 = "Audi A4"
TT = Taxon(make="Audi", model="TT")
SURE = {"audi": (0.7, 0.1, 0.1, 0.1), "2002": (0.05, 0.8, 0.1, 0.05), "opel": (0.1, 0.05, 0.05, 0.8)}

Photo = tuple[str, str, tuple[str, str, str, str], tuple[str, str]]
"""Source, which probabilities, the label down to each level, and (level, name) of the answer."""


def answers(*photos: Photo) -> Predictions:
    about = {"source": [photo[0] for photo in photos]}
    about |= {f"label_{level}": [photo[2][at] for photo in photos] for at, level in enumerate(LEVELS)}
    about |= {"answer_level": [photo[3][0] for photo in photos], "answer": [photo[3][1] for photo in photos]}
    makes = {"Audi": 0, "Opel": 1}
    return Predictions(
        name="hand",
        taxonomy=TAXONOMY,
        photos=np.array([f"p{at:04}" for at in range(len(photos))]),
        probabilities=np.array([SURE[photo[1]] for photo in photos], np.float32),
        truth=np.full(len(photos), -1),
        levels={"make": np.array([makes.get(photo[2][0], -1) for photo in photos])},
        about={name: np.array(texts, dtype=str) for name, texts in about.items()},
    )


def only(found: tuple[MarketFigures, ...]) -> dict[str, MarketFigures]:
    return {market.name: market for market in found}


def counts(share: Any) -> tuple[int, int]:
    return share.count, share.total


def test_answers_are_judged_as_deep_as_they_go_or_as_the_label_is_known() -> None:
    made = answers(
        ("Here", "2002", ("Audi", A4, "", ""), ("model", A4)),  # right
        ("Here", "2002", ("Audi", "Audi A5", "", ""), ("model", A4)),  # a model that the taxonomy lacks
        ("Here", "2002", ("Audi", "", "", ""), ("model", A4)),  # right as far as is known
        ("Here", "2002", ("Audi", A4, "", "Audi A4 2002"), ("year", "Audi A4 2002")),  # right
        ("Here", "2002", ("Audi", A4, "", "Audi A4 2002"), ("generation", "Audi A4 2001-2004")),  # as far as is known
        ("Here", "2002", ("Audi", A4, "", "Audi A4 2004"), ("year", "Audi A4 2002")),  # wrong
        ("Here", "audi", ("Lada", "", "", ""), ("make", "Audi")),  # a make that the taxonomy lacks
        ("Here", "audi", ("Audi", "", "", ""), ("", "")),  # not answered
        ("Here", "opel", ("Audi", A4, "", ""), ("model", "Opel Corsa")),  # wrong
        ("Here", "audi", ("", "", "", ""), ("make", "Audi")),  # no label: not counted
    )
    here = only(market_figures(made))["Here"]
    assert here.photos == 9
    assert counts(here.make) == (7, 9)
    assert counts(here.model) == (4, 6)
    assert counts(here.known_model) == (4, 5)
    assert counts(here.answered) == (8, 9)
    assert counts(here.right) == (4, 8)
    assert {level: counts(share) for level, share in here.by_level.items()} == {
        "make": (0, 1),
        "model": (1, 3),
        "generation": (0, 0),
        "year": (1, 2),
    }


@pytest.mark.parametrize(
    ("label", "answer", "is_right"),
    [
        (("VW", "VW Golf", "", ""), ("year", "VW Golf Plus 2012"), False),
        (("VW", "VW Golf Plus", "", ""), ("year", "VW Golf Plus 2012"), True),
        (("VW", "", "", ""), ("generation", "VW Golf VI"), True),
        (("VW", "VW Golf", "", "VW Golf 2010"), ("year", "VW Golf VI 2010"), True),
        (("VW", "VW Golf", "", "VW Golf 2011"), ("year", "VW Golf VI 2010"), False),
        (("VW", "VW Golf", "VW Golf V", "VW Golf V 2010"), ("year", "VW Golf VI 2010"), False),
    ],
)
def test_an_answer_lies_below_a_label_by_the_taxonomy(
    label: tuple[str, str, str, str], answer: tuple[str, str], is_right: bool
) -> None:
    golf = Taxon(make="VW", model="Golf", generation="VI", year=2010)
    taxonomy = Taxonomy((golf, Taxon(make="VW", model="Golf Plus", year=2012), Taxon(make="VW", model="Golf"), TT))
    made = replace(answers(("Here", "opel", label, answer)), taxonomy=taxonomy, levels={})
    here = only(market_figures(made))["Here"]
    assert counts(here.right) == (is_right, 1)
    assert counts(here.by_level["year"]) == (is_right and bool(label[3]), bool(label[3]))


def test_each_market_is_apart_and_the_small_ones_are_also_together() -> None:
    right: tuple[Any, ...] = ("opel", ("Opel", "", "", ""), ("make", "Opel"))
    wrong: tuple[Any, ...] = ("audi", ("Opel", "", "", ""), ("make", "Audi"))
    made = answers(*[("Large", *right)] * 60, *[("One", *wrong)] * 3, *[("Two", *right)] * 5, ("", *wrong))
    found = only(market_figures(made))
    assert list(found) == ["Large", "One", "Two", SMALL]
    assert [counts(market.make) for market in found.values()] == [(60, 60), (0, 3), (5, 5), (5, 8)]
    assert [counts(market.right) for market in found.values()] == [(60, 60), (0, 3), (5, 5), (5, 8)]
    large, one = found["Large"].at_95, found["One"].at_95
    assert large is not None
    assert large.coverage.value == 1
    assert one is None
    assert found["One"].calibration_error == pytest.approx(0.9, abs=0.01)  # sure of Audi at 0.9, and never right


def test_the_interval_minds_the_ads() -> None:
    kinds: list[tuple[Any, ...]] = [
        ("opel" if at % 2 else "audi", ("Opel", "", "", ""), ("make", "Opel" if at % 2 else "Audi")) for at in range(20)
    ]
    made = answers(*[("Here", *kind) for kind in kinds for _ in range(5)])
    alone = only(market_figures(made))["Here"]
    tied = replace(made, about={**made.about, "ad_id": np.repeat(np.arange(20), 5).astype(str)})
    together = only(market_figures(tied))["Here"]
    assert alone.make_by_ad.value == together.make_by_ad.value == 0.5
    width = alone.make_by_ad.high - alone.make_by_ad.low
    assert together.make_by_ad.high - together.make_by_ad.low > 1.8 * width


def test_without_markets_or_answers_nothing_is_told(table: Predictions) -> None:
    assert market_figures(table) == ()
    assert evaluate(table).markets == ()


def test_they_stand_in_the_evaluation_as_json() -> None:
    made = answers(("Here", "opel", ("Opel", "", "", ""), ("make", "Opel")))
    (here,) = evaluate(made).to_dict()["markets"]
    assert here["name"] == "Here"
    assert here["make"]["value"] == 1
    assert here["model"]["value"] is None
    assert here["by_level"]["make"]["count"] == 1
