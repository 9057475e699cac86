"""Comparisons and ensembles against scipy and rules worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from carspotter.errors import EvaluationError
from carspotter.evaluation.compare import compare, ensemble, fit_weights
from carspotter.evaluation.metrics import log_loss
from carspotter.evaluation.predictions import Predictions
from carspotter.taxonomy import Taxon, Taxonomy

Maker = Callable[..., Predictions]


def test_two_models_of_the_same_classes(made: Maker) -> None:
    from scipy.stats import binomtest

    a, b = made(seed=1, name="a"), made(seed=2, name="b", skill=3.2)
    found = compare([a, b.take(np.arange(len(b))[::-1])])
    known = a.truth >= 0
    right = [(table.probabilities.argmax(1) == table.truth)[known] for table in (a, b)]
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.depth, pair.photos) == ("a", "b", "class", known.sum())
    assert pair.only_a == (right[0] & ~right[1]).sum()
    assert pair.only_b == (right[1] & ~right[0]).sum()
    assert pair.difference.value == pytest.approx(right[1].mean() - right[0].mean())
    assert pair.difference.low < pair.difference.value < pair.difference.high
    assert pair.p == pytest.approx(binomtest(pair.only_a, pair.only_a + pair.only_b).pvalue)
    assert [share.count for share in found.accuracy["class"]] == [hits.sum() for hits in right]
    assert found.same_classes
    assert found.evaluations[1].top1.count == right[1].sum()


def test_only_photos_in_common_count(made: Maker) -> None:
    a, b = made(100, seed=1, name="a"), made(100, seed=2, name="b")
    found = compare([a.take(np.arange(60)), b.take(np.arange(20, 100))])
    assert found.photos == 40
    assert found.evaluations[0].photos == 40


def test_all_pairs_are_tested_and_adjusted(made: Maker) -> None:
    found = compare([made(seed=i, name=f"run{i}", skill=2 + i / 3) for i in range(3)])
    assert [(pair.a, pair.b) for pair in found.pairs] == [("run0", "run1"), ("run0", "run2"), ("run1", "run2")]
    assert all(pair.p_holm >= pair.p for pair in found.pairs)
    smallest = min(found.pairs, key=lambda pair: pair.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p))


def test_models_of_other_classes_are_compared_by_name(by_hand: Maker) -> None:
    photos = np.array(["p1", "p2", "p3", "p4"])
    small = Taxonomy((Taxon(make="Audi", model="A4"), Taxon(make="Opel", model="Astra")))
    large = Taxonomy(
        (Taxon(make="Opel", model="Astra"), Taxon(make="Volvo"), Taxon(make="Audi", model="A4", year=2002))
    )
    a = by_hand(
        [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1, -1], photos=photos, taxonomy=small, name="a"
    )
    b = by_hand(
        [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]],
        [2, 0, 0, 1],
        photos=photos,
        taxonomy=large,
        name="b",
    )
    found = compare([a, b])
    assert not found.same_classes
    # The class is the same for p2 and p3 (the Opels), make and model for p1 too; p4 is known to b alone.
    shares = {depth: [(each.count, each.total) for each in shares] for depth, shares in found.accuracy.items()}
    assert shares["class"] == [(1, 2), (1, 2)]
    assert shares["make"] == shares["model"] == [(2, 3), (2, 3)]
    assert shares["year"] == [(1, 2), (1, 2)]
    assert found.pairs[0].depth == "class"


def test_where_only_makes_meet_makes_are_compared(by_hand: Maker) -> None:
    a = by_hand([[0.9, 0.1], [0.8, 0.2]], [0, 1], name="a")
    other = Taxonomy((Taxon(make="A", model="y"), Taxon(make="B", model="y")))
    b = by_hand([[0.9, 0.1], [0.3, 0.7]], [0, 1], name="b", taxonomy=other)
    (pair,) = compare([a, b]).pairs
    assert (pair.depth, pair.photos, pair.only_a, pair.only_b) == ("make", 2, 0, 1)


def test_the_comparison_is_json(made: Maker) -> None:
    content = compare([made(60, seed=1, name="a"), made(60, seed=2, name="b")]).to_dict()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["pairs"][0]["p"] == content["pairs"][0]["p"]
    assert "curve" not in text


def test_what_cannot_be_compared_says_why(made: Maker, by_hand: Maker) -> None:
    a = made(40, name="a")
    with pytest.raises(EvaluationError, match="at least two prediction tables, not 1"):
        compare([a])
    with pytest.raises(EvaluationError, match="two prediction tables are called 'a'"):
        compare([a, a])
    with pytest.raises(EvaluationError, match="no photo in common"):
        compare([a, by_hand([[0.5, 0.5]], [0])])
    stranger = by_hand([[0.5, 0.5]], [0], photos=a.photos[:1], name="b")
    with pytest.raises(EvaluationError, match="the same at any level"):
        compare([a, stranger])


def test_an_ensemble_is_the_weighted_mean(made: Maker) -> None:
    a, b = made(50, seed=1, name="a"), made(50, seed=2, name="b")
    both = ensemble([a, b.take(np.arange(50)[::-1])], [0.25, 0.75], name="both")
    order = np.argsort(a.photos)
    assert both.name == "both"
    assert both.probabilities == pytest.approx((0.25 * a.probabilities + 0.75 * b.probabilities)[order], abs=1e-6)
    assert np.array_equal(both.levels["make"], a.levels["make"][order])
    equal = ensemble([a, b])
    assert equal.probabilities == pytest.approx(((a.probabilities + b.probabilities) / 2)[order], abs=1e-6)


def test_an_ensemble_takes_no_models_answers_for_its_own(made: Maker) -> None:
    first, second = (
        replace(table, about={**table.about, "answer": words, "answer_level": words, "seen": words})
        for table, words in ((made(4, name="a"), ["yes", "yes", "no", "no"]), (made(4, name="b"), ["yes", "no"] * 2))
    )
    both = ensemble([first, second]).about
    assert set(both) == set(first.about) - {"answer", "answer_level"}
    assert both["seen"].tolist() == ["yes", "yes", "yes", "no"]
    assert "seen" not in ensemble([first, made(4, name="c")]).about, "of the third nobody knows"


@pytest.mark.parametrize("weights", [[1.0], [0.7, 0.7], [1.5, -0.5], [np.nan, 1.0]])
def test_impossible_weights_are_refused(made: Maker, weights: list[float]) -> None:
    with pytest.raises(EvaluationError, match="give one a table"):
        ensemble([made(10, name="a"), made(10, name="b")], weights)


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(EvaluationError, match="at least one"):
        ensemble([])


def test_the_weights_are_those_that_a_general_optimiser_finds(made: Maker) -> None:
    from scipy.optimize import minimize

    tables = [made(seed=i, skill=skill, name=f"{i}") for i, skill in enumerate((2.0, 3.0, 2.6, 0.0))]
    weights = fit_weights(tables)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    known = tables[0].truth >= 0
    truth = tables[0].truth[known]
    own = np.stack([table.probabilities[known][np.arange(len(truth)), truth] for table in tables], 1).astype(float)

    def loss(w: np.ndarray) -> float:
        return float(-np.log(own @ w).mean())

    best = minimize(
        loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, tol=1e-10
    )
    assert loss(weights) <= best.fun + 1e-6
    assert weights == pytest.approx(best.x, abs=5e-3)
    mixed = ensemble(tables, weights)
    assert log_loss(mixed.probabilities[mixed.truth >= 0], mixed.truth[mixed.truth >= 0]) == pytest.approx(
        loss(weights), abs=1e-5
    )


def test_a_model_that_adds_nothing_gets_no_weight(made: Maker, by_hand: Maker) -> None:
    good = made(200, skill=5.0, name="good", unlabelled=0.0)
    noise = Predictions(
        name="noise",
        taxonomy=good.taxonomy,
        photos=good.photos,
        truth=good.truth,
        probabilities=np.roll(good.probabilities, 3, axis=1),
        levels=good.levels,
    )
    assert fit_weights([good, noise])[0] > 0.95
    assert fit_weights([good]).tolist() == [1.0]
    with pytest.raises(EvaluationError, match="weights cannot be fitted"):
        fit_weights([by_hand([[0.5, 0.5]], [-1])])
