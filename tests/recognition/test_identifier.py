"""The identifier's arithmetic and its abstention, with a session that answers by rule."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from carspotter.errors import BundleError
from carspotter.pixels import Preprocessing
from carspotter.recognition.identifier import DEFAULT_THRESHOLD, NO_CAR, Identification, Identifier
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.runtime.session import TensorSpec
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy

TAXONOMY = Taxonomy(
    (
        Taxon(make="Audi", model="A4", generation="B8", year=2010),
        Taxon(make="Audi", model="A4", generation="B8", year=2012),
        Taxon(make="Audi", model="A6", generation="C7", year=2012),
        Taxon(make="Bentley", model="Continental", year=2012),
        Taxon(make="BMW", model="X5"),
    )
)
CARD = dict.fromkeys(("use", "licence", "data", "recipe", "figures", "retrain"), "made by a test")
CROPS = np.zeros((1, 8, 8, 3), np.uint8)


class RuleSession:
    """A session that answers the same probabilities whatever it sees."""

    engine = "rule"
    input_name = "image"
    output_names = ("probabilities", "embedding", *LEVELS)
    input_form = TensorSpec(name="image", shape=(None, 8, 8, 3), dtype="uint8")
    output_forms = ()

    def __init__(self, *probabilities: float, **attributes: tuple[float, ...]) -> None:
        self.probabilities = np.array(probabilities, np.float32)
        self.attributes = {name: np.array(values, np.float32) for name, values in attributes.items()}

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        levels = {level: TAXONOMY.sum_to(level, self.probabilities) for level in LEVELS}
        each = {"probabilities": self.probabilities, "embedding": np.float32([0.6, 0.8]), **levels, **self.attributes}
        return {name: np.tile(values, (len(batch), 1)) for name, values in each.items()}


ATTRIBUTES = {"colour": ("red", "blue"), "subject": ("other", "car")}


def bundle(**calibration: Any) -> ModelBundle:
    return ModelBundle(
        task="identifier",
        name="rule",
        preprocessing=Preprocessing(width=8, height=8),
        card=CARD,
        calibration=calibration,
        taxonomy=TAXONOMY,
    )


def identify(*probabilities: float, threshold: float | None = 0.6, **calibration: Any) -> Identification:
    return Identifier(bundle(**calibration), RuleSession(*probabilities), threshold=threshold).identify(CROPS)[0]


@pytest.mark.parametrize(
    ("probabilities", "level", "name", "probability"),
    [
        ((0.9, 0.1, 0.0, 0.0, 0.0), "year", "Audi A4 B8 2010", 0.9),
        ((0.5, 0.4, 0.1, 0.0, 0.0), "generation", "Audi A4 B8", 0.9),
        ((0.3, 0.2, 0.4, 0.1, 0.0), "make", "Audi", 0.9),
        # No generation: its level repeats the model, and the year is deeper.
        ((0.1, 0.0, 0.0, 0.9, 0.0), "year", "Bentley Continental 2012", 0.9),
        # Neither generation nor year: the deepest thing said is the model.
        ((0.0, 0.0, 0.1, 0.0, 0.9), "model", "BMW X5", 0.9),
    ],
)
def test_the_answer_is_the_deepest_level_sure_enough(
    probabilities: tuple[float, ...], level: str, name: str, probability: float
) -> None:
    found = identify(*probabilities)
    assert found.answer is not None
    assert (found.answer.level, found.answer.name) == (level, name)
    assert found.answer.probability == pytest.approx(probability, abs=1e-4)
    assert found.undecided is None


def test_below_the_threshold_it_abstains_and_says_by_how_much() -> None:
    found = identify(0.2, 0.1, 0.1, 0.3, 0.3, threshold=0.6)
    assert found.answer is None
    # 0.4 in float32 may be a hair below, and is cut, not rounded.
    assert found.undecided in {
        f"not decidable from this photo: best guess Audi ({value}) is below 0.60" for value in ("0.39", "0.40")
    }


def test_the_reason_never_reads_as_equal() -> None:
    assert "(0.59) is below 0.60" in str(identify(0.598, 0.0, 0.0, 0.402, 0.0).undecided)


def test_a_deeper_answer_stays_in_the_branch_of_the_best_make() -> None:
    # The best class by itself is the Bentley (0.4), the best make Audi (0.6).
    found = identify(0.25, 0.0, 0.35, 0.4, 0.0, threshold=0.3)
    assert found.answer is not None
    assert found.answer.name == "Audi A6 C7 2012"


def test_thresholds_come_by_level_then_single_then_default() -> None:
    unsure = (0.55, 0.15, 0.1, 0.2, 0.0)  # year 0.55, generation and model 0.7, make 0.8
    names = {"make": 0.75, "model": 0.75, "generation": 0.75, "year": 0.5}
    assert identify(*unsure, threshold=None, thresholds=names).answer.level == "year"  # type: ignore[union-attr]
    assert identify(*unsure, threshold=None, thresholds={"make": 0.5}).answer.level == "generation"  # type: ignore[union-attr]
    assert identify(*unsure, threshold=0.75, thresholds=names).answer.level == "make"  # type: ignore[union-attr]
    assert 0.55 < DEFAULT_THRESHOLD < 0.7
    found = Identifier(bundle(threshold=0.9), RuleSession(*unsure)).identify(CROPS)[0]
    assert found.answer is None


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"threshold": 7}, "threshold is 7; it must be from 0 to 1"),
        ({"thresholds": 0.5}, "must be a mapping"),
        ({"thresholds": {"make": 7}}, "thresholds.make is 7"),
        ({"thresholds": {"make": {"a": 1}}}, "from 0 to 1"),
        ({"thresholds": {"mke": 0.5}}, "did you mean 'make'?"),
        ({"subject": 2}, "subject is 2; it must be from 0 to 1"),
    ],
)
def test_a_calibration_that_cannot_be(calibration: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        Identifier(bundle(**calibration), RuleSession(1, 0, 0, 0, 0))
    assert message in str(caught.value)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_of_its_range(threshold: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Identifier(bundle(), RuleSession(1, 0, 0, 0, 0), threshold=threshold)


def test_top_bounds_the_candidates_and_they_are_ranked() -> None:
    found = Identifier(bundle(), RuleSession(0.1, 0.2, 0.3, 0.25, 0.15), top=2).identify(CROPS)[0]
    assert list(found.levels) == list(LEVELS)
    assert [c.name for c in found.levels["make"]] == ["Audi", "Bentley"]
    assert all(len(ranked) <= 2 for ranked in found.levels.values())


def test_no_crops_no_run() -> None:
    assert Identifier(bundle(), RuleSession(1, 0, 0, 0, 0)).identify(np.zeros((0, 8, 8, 3), np.uint8)) == []


def test_a_finder_is_refused() -> None:
    finder = ModelBundle(task="finder", name="f", preprocessing=Preprocessing(width=8, height=8), card=CARD)
    with pytest.raises(BundleError, match="task is 'finder'"):
        Identifier(finder, RuleSession(1, 0, 0, 0, 0))


logits = arrays(np.float32, (2, 5), elements=st.floats(-50, 50, width=32))


@given(logits, st.floats(0.1, 5))
def test_a_head_answers_in_place_of_the_networks_classes(values: NDArray[np.float32], temperature: float) -> None:
    head = Head(weights=np.zeros((5, 2)), bias=values[0])
    with_head = replace(bundle(temperature=temperature), head=head)
    found = Identifier(with_head, RuleSession(1, 0, 0, 0, 0)).identify(CROPS)[0]
    np.testing.assert_allclose(found.probabilities, softmax(values[:1].astype(np.float64) / temperature)[0])


@pytest.mark.parametrize("temperature", [0, {"make": 1}])
def test_a_heads_temperature_that_cannot_be(temperature: Any) -> None:
    with_head = replace(bundle(temperature=temperature), head=Head(weights=np.ones((5, 2)), bias=np.zeros(5)))
    with pytest.raises(BundleError, match="must be over 0"):
        Identifier(with_head, RuleSession(1, 0, 0, 0, 0))


@given(logits, st.floats(0.1, 5))
def test_softmax_sums_to_one_and_keeps_the_order(values: NDArray[np.float32], temperature: float) -> None:
    result = softmax(values.astype(np.float64) / temperature)
    assert np.allclose(result.sum(axis=-1), 1)
    assert (result >= 0).all()
    best = result[np.arange(2), values.argmax(axis=-1)]
    assert np.allclose(best, result.max(axis=-1))


def test_a_temperature_above_one_is_less_sure() -> None:
    values = np.array([[2.0, 0.0]], np.float32)
    assert softmax(values / 2.0)[0, 0] < softmax(values)[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))


def drawn_taxonomy(random: np.random.Generator) -> Taxonomy:
    """Draw classes of uneven depth: makes alone, models, and some with generation and year."""
    taxa = []
    for _ in range(int(random.integers(1, 60))):
        depth, year = int(random.integers(0, 4)), int(random.integers(2000, 2012))
        make, model = f"make {int(random.integers(0, 6))}", f"model {int(random.integers(0, 4))}" if depth else None
        generation = f"g{year // 4}" if depth > 1 else None
        taxa.append(Taxon(make=make, model=model, generation=generation, year=year if depth > 2 else None))
    return Taxonomy(tuple(dict.fromkeys(taxa)))


def test_first_candidates_never_contradict_each_other() -> None:
    random = np.random.default_rng(0)
    contradictions = steps = 0
    for _ in range(300):
        taxonomy = drawn_taxonomy(random)
        identifier = Identifier(replace(bundle(), taxonomy=taxonomy), RuleSession(), threshold=0.3)
        probabilities = random.dirichlet(np.full(len(taxonomy), random.choice([0.05, 0.3, 2.0])))
        found = identifier.judge(probabilities, np.zeros(2, np.float32))
        first = {level: ranked[0].name for level, ranked in found.levels.items()}
        below = {tuple(taxon.name(level) for level in LEVELS) for taxon in taxonomy.classes}
        contradictions += tuple(first.values()) not in below
        assert found.levels["make"][0].probability == max(one.probability for one in found.levels["make"])
        if found.answer is not None:
            assert first[found.answer.level] == found.answer.name
        best = [taxonomy.sum_to(level, probabilities).argmax() for level in LEVELS]
        steps += tuple(taxonomy.names(level)[i] for level, i in zip(LEVELS, best, strict=True)) not in below
    assert contradictions == 0
    assert steps > 20, "the best of each level by itself would often contradict the level above"


def test_other_candidates_follow_by_probability_and_the_first_is_not_told_twice() -> None:
    found = identify(0.25, 0.0, 0.35, 0.4, 0.0, threshold=0.3)
    assert [c.name for c in found.levels["model"]] == ["Audi A6", "Bentley Continental", "Audi A4", "BMW X5"]
    few = Identifier(bundle(), RuleSession(0.25, 0.0, 0.35, 0.4, 0.0), top=1).identify(CROPS)[0]
    assert [[c.name for c in ranked] for ranked in few.levels.values()] == [
        ["Audi"],
        ["Audi A6"],
        ["Audi A6 C7"],
        ["Audi A6 C7 2012"],
    ]


def test_a_make_without_a_model_repeats_its_name_at_every_level() -> None:
    taxonomy = Taxonomy((Taxon(make="Audi"), Taxon(make="Audi", model="A4", year=2012), Taxon(make="BMW")))
    identifier = Identifier(replace(bundle(), taxonomy=taxonomy), RuleSession(), threshold=0.5)
    found = identifier.judge(np.array([0.7, 0.2, 0.1]), np.zeros(2, np.float32))
    assert [ranked[0].name for ranked in found.levels.values()] == ["Audi"] * 4
    assert [ranked[0].probability for ranked in found.levels.values()] == pytest.approx([0.9, 0.7, 0.7, 0.7])
    assert found.answer is not None
    assert (found.answer.level, found.answer.name, found.answer.probability) == ("make", "Audi", pytest.approx(0.9))


@pytest.mark.parametrize(
    ("own", "called"),
    [
        (Taxon(make="Audi", model="A4", generation="B8", year=2010), None),  # it is ours
        (Taxon(make="audi", model="a4"), None),  # it lies below ours
        (Taxon(make="Audi"), None),
        (Taxon(make="Audi", model="A4", generation="B8", year=2012), "Audi A4 B8 2010"),
        (Taxon(make="Audi", model="A6"), "Audi A4 B8 2010"),
    ],
)
def test_a_stranger_is_called_nothing_that_a_class_of_ours_holds(own: Taxon, called: str | None) -> None:
    head = Head(weights=np.zeros((1, 2), np.float32), bias=np.zeros(1, np.float32))
    learnt = replace(bundle(), head=head, taxonomy=Taxonomy((own,)), network=TAXONOMY)
    (found,) = Identifier(learnt, RuleSession(0.9, 0.1, 0.0, 0.0, 0.0)).identify(CROPS)
    assert (found.called.name if found.called else None) == called


# ---- what is told besides names


@pytest.mark.parametrize(("car", "least", "is_car"), [(0.5, None, True), (0.49, None, False), (0.49, 0.3, True)])
def test_what_is_no_car_is_not_decided(car: float, least: float | None, is_car: bool) -> None:
    calibration = {} if least is None else {"subject": least}
    session = RuleSession(0.9, 0.1, 0, 0, 0, subject=(1 - car, car), colour=(0.25, 0.75))
    found = Identifier(replace(bundle(**calibration), attributes=ATTRIBUTES), session).identify(CROPS)[0]
    assert (found.answer is not None) == is_car
    assert found.undecided == (None if is_car else NO_CAR)
    assert found.levels["year"][0].name == "Audi A4 B8 2010", "candidates stay"
    assert {name: values.tolist() for name, values in found.attributes.items()} == {
        "colour": [0.25, 0.75],
        "subject": pytest.approx([1 - car, car]),
    }


@given(logits, st.floats(0, 1))
def test_every_level_agrees_with_its_children(values: NDArray[np.float32], threshold: float) -> None:
    session = RuleSession(0, 0, 0, 0, 0)
    session.probabilities = softmax(values)[0].astype(np.float32)
    found = Identifier(bundle(), session, threshold=threshold).identify(CROPS)[0]
    assert (found.answer is None) == (found.undecided is not None)
    for level in LEVELS:
        ranked = [candidate.probability for candidate in found.levels[level]]
        assert ranked[1:] == sorted(ranked[1:], reverse=True)
        assert sum(ranked) == pytest.approx(1, abs=1e-3)
    if found.answer is not None:
        assert found.answer.probability >= threshold
        # The best make is an ancestor of whatever is answered.
        assert found.answer.name.startswith(found.levels["make"][0].name)
