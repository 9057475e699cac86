"""Calibration on answers whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest

from carspotter.runtime.calibration import (
    LOWEST,
    SURE_Z,
    calibrate,
    choose_thresholds,
    expected_calibration_error,
    fit_temperature,
    lowest_threshold,
    softmax,
    stands_for,
)
from carspotter.runtime.intervals import wilson
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy


def answers(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths from softmax(logits) and return logits that are wrong by a factor."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5))
    targets = np.array([random.choice(5, p=p) for p in softmax(logits)])
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(temperature: float) -> None:
    logits, targets = answers(temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.06)


def test_error_falls_with_the_right_temperature() -> None:
    logits, targets = answers(2.5)
    errors = []
    for each in (1.0, 2.5):
        p = softmax(logits / each)
        errors.append(expected_calibration_error(p.max(1), p.argmax(1) == targets))
    assert errors[0] > 0.1 > 0.03 > errors[1]


def test_threshold_gives_the_precision() -> None:
    confidence = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
    right = np.array([True, True, True, False, False])
    assert lowest_threshold(confidence, right, 1.0) == 0.8
    assert lowest_threshold(confidence, right, 0.75) == 0.7
    assert lowest_threshold(confidence, ~right, 0.9) is None
    assert lowest_threshold(confidence / 10, right, 0.5, least=LOWEST) == LOWEST


def test_photos_of_equal_confidence_are_answered_together() -> None:
    confidence = np.repeat([0.99, 0.9], 60)
    right = np.repeat([True, False], 60)
    assert lowest_threshold(confidence, right) == 0.99
    mixed = np.where(np.arange(120) % 20 == 0, False, True)
    assert lowest_threshold(np.full(120, 0.9), mixed, least=0.6) == 0.6  # nothing lies between


def test_a_promise_holds_at_the_lower_end_of_an_interval() -> None:
    confidence = np.repeat([0.9, 0.8], [13, 1])
    assert lowest_threshold(confidence[:13], np.ones(13, bool), z=SURE_Z) is None  # 13 right ones are too few for 0.95
    assert lowest_threshold(confidence, np.ones(14, bool), z=SURE_Z) == 0.0
    right = np.ones(200, bool)
    right[:10] = False  # exactly 0.95 of all, which half of the draws would fall below
    spread = np.linspace(0.5, 0.99, 200)
    found = lowest_threshold(spread, right, z=SURE_Z)
    assert found is not None
    assert lowest_threshold(spread, right) == 0.0 < found
    kept = spread >= found
    assert wilson(right[kept].sum(), kept.sum(), SURE_Z)[0] >= 0.95


def test_sets_of_classes_tell_the_temperature_as_well() -> None:
    logits, targets = answers(2.5)
    members = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]], bool)
    sets = np.array([0, 0, 1, 2, 2])[targets]
    assert fit_temperature(logits, sets, members=members) == pytest.approx(2.5, rel=0.1)


def test_heavy_photos_decide_the_temperature() -> None:
    sharp, flat = answers(2.5), answers(1.0)
    logits, targets = (np.concatenate(each) for each in zip(sharp, flat, strict=True))
    weights = np.repeat([1.0, 1e-6], 4000)
    assert fit_temperature(logits, targets, weights=weights) == pytest.approx(2.5, rel=0.06)


def test_a_class_of_which_too_many_are_held_out_does_not_make_the_rest_too_modest() -> None:
    # Sure and right on a common class, lost on a rare one, of which half is held out instead of a tenth.
    common, rare = answers(1.0), answers(1.0)
    lost = np.roll(rare[1][:400], 1)
    taxonomy = Taxonomy(tuple(Taxon(make=f"{part}{name}") for part in ("common", "rare") for name in "ABCDE"))
    logits = np.zeros((4400, 10))
    logits[:4000, :5], logits[4000:, :5] = common[0], rare[0][:400]
    logits[:, 5:] = logits[:, :5].min()
    targets = np.concatenate([common[1], lost + 5])
    learnt = np.array([36_000 // 5] * 5 + [80] * 5)
    weights = stands_for(targets, learnt)
    assert weights[:4000] == pytest.approx(10, rel=0.1)
    assert weights[4000:] == pytest.approx(2, rel=0.1)
    plain, modest = calibrate(logits, targets, taxonomy)
    true, error = calibrate(logits, targets, taxonomy, weights=weights)
    assert true["temperature"] < plain["temperature"]
    seen = softmax(logits[:4000] / true["temperature"])
    before = softmax(logits[:4000] / plain["temperature"])
    right = seen.argmax(1) == targets[:4000]
    assert expected_calibration_error(seen.max(1), right) < expected_calibration_error(before.max(1), right)
    assert 0 < error < modest


def test_weights_count_as_so_many_photos_in_the_error() -> None:
    confidence, right = np.array([0.9, 0.9, 0.6]), np.array([True, False, True])
    weighted = expected_calibration_error(confidence, right, weights=np.array([2.0, 1.0, 3.0]))
    often = [0, 0, 1, 2, 2, 2]
    assert weighted == pytest.approx(expected_calibration_error(confidence[often], right[often]))


DEEP = Taxonomy((Taxon(make="A"), Taxon(make="A", model="x"), Taxon(make="B", model="y"), Taxon(make="B", model="z")))


def photos(*kinds: tuple[int, tuple[float, ...], int]) -> tuple[np.ndarray, dict]:
    """Repeat photos of given class probabilities and true class; return probabilities and truths."""
    p = np.concatenate([np.tile(values, (count, 1)) for count, values, _ in kinds])
    true = np.concatenate([np.full(count, target) for count, _, target in kinds])
    return p, {level: DEEP.index(level)[true].astype(np.int64) for level in LEVELS}


def test_what_is_not_answered_below_is_judged_by_itself() -> None:
    # Sure models are right; where the model is unsure the make is right at 0.85, and wrong at 0.7.
    sure, unsure, wrong = (0.01, 0.97, 0.01, 0.01), (0.0, 0.15, 0.45, 0.4), (0.0, 0.3, 0.36, 0.34)
    p, truths = photos((2000, sure, 1), (100, unsure, 3), (60, wrong, 1))
    found = choose_thresholds(p, truths, DEEP)
    assert 0.5 <= found["model"] <= 0.97
    # All photos together would allow 0.7: 2100 of 2160 are right.
    assert found["make"] == pytest.approx(0.85, abs=1e-3)


def test_an_unknown_model_of_a_known_make_is_wrong_at_the_model() -> None:
    new, known = (0.3, 0.6, 0.05, 0.05), (0.1, 0.8, 0.05, 0.05)
    p, truths = photos((100, new, 0), (100, known, 1))
    found = choose_thresholds(p, truths, DEEP)
    assert found["model"] == pytest.approx(0.8, abs=1e-3)
    assert found["make"] == LOWEST


def test_photos_of_a_known_make_alone_count_at_the_make() -> None:
    sure, less, wrong = (0.0, 0.0, 0.95, 0.05), (0.0, 0.0, 0.85, 0.15), (0.05, 0.6, 0.2, 0.15)
    p, truths = photos((100, sure, 2), (100, less, 2), (100, wrong, 2))
    only_make = {level: np.where(np.arange(300) < 100, truth, -1) for level, truth in truths.items()}
    only_make["make"] = truths["make"]
    found = choose_thresholds(p, only_make, DEEP)
    assert found["model"] > 0.6  # the last hundred name another make, hence another model too


def test_each_source_by_itself_and_the_small_ones_together() -> None:
    right, wrong = (0.0, 0.0, 0.9, 0.1), (0.0, 0.7, 0.2, 0.1)
    p, truths = photos((3000, right, 2), (60, wrong, 2))
    everything = choose_thresholds(p, truths, DEEP)
    apart = choose_thresholds(p, truths, DEEP, sources=["large"] * 3000 + ["hard"] * 60)
    small = choose_thresholds(p, truths, DEEP, sources=["large"] * 3000 + ["h1"] * 30 + ["h2"] * 30)
    assert everything["model"] <= 0.7 < apart["model"] == small["model"]


def test_small_sources_together_must_be_surer_than_a_large_one() -> None:
    p, truths = photos((3000, (0.0, 0.0, 0.9, 0.1), 2), (98, (0.0, 0.0, 0.8, 0.2), 2), (2, (0.0, 0.7, 0.2, 0.1), 2))
    large = ["easy"] * 3000
    one = choose_thresholds(p, truths, DEEP, sources=large + ["hard"] * 100)
    three = choose_thresholds(p, truths, DEEP, sources=large + [f"hard {number % 3}" for number in range(100)])
    assert one["model"] <= 0.7 < three["model"] <= 0.8  # 98 of 100 right: enough for one, not for three that may differ


def test_one_mistake_among_the_few_sure_answers_of_a_source_silences_no_level() -> None:
    sure, unsure, mistake = (0.0, 0.0, 0.9, 0.1), (0.2, 0.5, 0.2, 0.1), (0.0, 0.95, 0.03, 0.02)
    p, truths = photos((3000, sure, 2), (10, (0.0, 0.0, 0.99, 0.01), 2), (50, unsure, 2), (1, mistake, 2))
    found = choose_thresholds(p, truths, DEEP, sources=["large"] * 3000 + ["few"] * 61)
    assert 0.95 < found["model"] <= 0.951  # above the mistake; ten right answers promise nothing by themselves
    p, truths = photos((3000, sure, 2), (60, mistake, 2))
    found = choose_thresholds(p, truths, DEEP, sources=["large"] * 3000 + ["wrong"] * 60)
    assert 0.95 < found["model"] <= 0.951  # none of its photos is answered; surer ones of others are
    assert choose_thresholds(*photos((10, sure, 2)), DEEP)["model"] == 1.0  # alone, ten promise nothing


def test_a_level_that_no_photo_judges_is_not_answered() -> None:
    p, truths = photos((100, (0.0, 0.0, 0.9, 0.1), 2))
    truths["model"] = np.full(100, -1)
    assert choose_thresholds(p, truths, DEEP)["model"] == 1.0


def test_a_large_easy_source_does_not_vouch_for_a_hard_one() -> None:
    taxonomy = Taxonomy(tuple(Taxon(make=name) for name in "ABCDE"))
    easy, hard = answers(1.0), answers(1.0)
    logits = np.concatenate([easy[0] * 3, hard[0][:1000]])  # the easy ones are surer, and right
    targets = np.concatenate([(easy[0] * 3).argmax(1), hard[1][:1000]])
    sources = ["easy"] * 4000 + ["hard"] * 1000
    together, _ = calibrate(logits, targets, taxonomy)
    apart, _ = calibrate(logits, targets, taxonomy, sources=sources)
    assert apart["temperature"] == together["temperature"]  # one for all: it makes probabilities true on average
    assert apart["thresholds"]["make"] > together["thresholds"]["make"]
    probabilities = softmax(logits / apart["temperature"])[4000:]
    answered = probabilities.max(1) >= apart["thresholds"]["make"] - 5e-4  # it is rounded to three places
    assert (probabilities.argmax(1) == targets[4000:])[answered].mean() >= 0.94
    few, _ = calibrate(logits, targets, taxonomy, sources=["easy"] * 4980 + ["hard"] * 20)
    assert (
        few["thresholds"] == calibrate(logits, targets, taxonomy, sources=["easy"] * 4980 + [""] * 20)[0]["thresholds"]
    )
