"""Calibration on answers whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest

from carspotter.runtime.calibration import (
    LOWEST,
    calibrate,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    softmax,
)
from carspotter.taxonomy import Taxon, Taxonomy


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
    assert choose_threshold(confidence, right, 1.0) == 0.8
    assert choose_threshold(confidence, right, 0.75) == 0.7
    assert choose_threshold(confidence, ~right, 0.9) == 1.0
    assert choose_threshold(confidence / 10, right, 0.5) == LOWEST


def test_a_large_easy_source_does_not_vouch_for_a_hard_one() -> None:
    taxonomy = Taxonomy(tuple(Taxon(make=name) for name in "ABCDE"))
    easy, hard = answers(1.0), answers(1.0)
    logits = np.concatenate([easy[0] * 3, hard[0][:1000]])  # the easy ones are surer, and right
    targets = np.concatenate([(easy[0] * 3).argmax(1), hard[1][:1000]])
    sources = ["easy"] * 4000 + ["hard"] * 1000
    together, _ = calibrate(logits, targets, taxonomy)
    apart, _ = calibrate(logits, targets, taxonomy, sources=sources)
    assert apart["temperature"] == together["temperature"]
    assert apart["thresholds"]["make"] > together["thresholds"]["make"]
    probabilities = softmax(logits / apart["temperature"])[4000:]
    answered = probabilities.max(1) >= apart["thresholds"]["make"] - 5e-4  # it is rounded to three places
    assert (probabilities.argmax(1) == targets[4000:])[answered].mean() >= 0.94
    few, _ = calibrate(logits, targets, taxonomy, sources=["easy"] * 4980 + ["hard"] * 20)
    assert (
        few["thresholds"] == calibrate(logits, targets, taxonomy, sources=["easy"] * 4980 + [""] * 20)[0]["thresholds"]
    )
