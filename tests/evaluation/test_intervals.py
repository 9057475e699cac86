"""Intervals and tests against scipy, scikit-learn, simulation and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.evaluation.intervals import Share, auroc, grouped_interval, holm, mcnemar, paired_difference
from carspotter.runtime.intervals import wilson


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    count, total = case
    known = binomtest(count, total).proportion_ci(0.95, method="wilson")
    share = Share(count=count, total=total)
    assert (share.low, share.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_a_share_of_nothing_has_no_value() -> None:
    share = Share(count=0, total=0)
    assert math.isnan(share.value)
    assert (share.low, share.high) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5)])
def test_an_impossible_share_is_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="from 0 to the total"):
        Share(count=count, total=total)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    from scipy.stats import binomtest

    known = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(known, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_holds_for_many_photos() -> None:
    from scipy.stats import binomtest

    assert mcnemar(5000, 5200) == pytest.approx(binomtest(5000, 10_200).pvalue, rel=1e-6)
    assert mcnemar(0, 3000) == 0.0


def test_holm_by_hand() -> None:
    # 0.01·4, 0.02·3, 0.03·2 = 0.06 (not below the one before), 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_paired_difference_by_hand() -> None:
    # Bonett & Price: (21/102 - 11/102) ± 1.96 sqrt((32/102 - (10/102)²)/102)
    estimate = paired_difference(10, 20, 100)
    assert estimate.value == pytest.approx(0.10)
    assert (estimate.low, estimate.high) == pytest.approx((-0.008981, 0.205059), abs=2e-6)
    assert math.isnan(paired_difference(0, 0, 0).value)


def test_the_paired_difference_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    draws = random.multinomial(120, [0.12, 0.05, 0.83], size=2000)
    estimates = [paired_difference(int(a), int(b), 120) for a, b, _ in draws]
    covered = np.mean([each.low <= 0.05 - 0.12 <= each.high for each in estimates])
    assert 0.93 <= covered <= 0.98


def test_groups_that_agree_widen_the_interval_to_that_of_the_groups() -> None:
    groups = np.repeat(np.arange(100), 8)
    right = np.repeat(np.arange(100) < 70, 8)
    low, high = grouped_interval(right, groups)
    # All photos of a group are alike: 800 photos tell what 100 do, but for n/(n-1) groups.
    assert (low, high) == pytest.approx(wilson(0.7 * 99, 99), abs=1e-9)


def test_groups_that_do_not_matter_leave_the_interval() -> None:
    random = np.random.default_rng(0)
    right = random.random(4000) < 0.8
    low, high = grouped_interval(right, np.arange(4000))
    assert (low, high) == pytest.approx(wilson(right.sum(), 4000), abs=1e-5)


def test_the_grouped_interval_covers_the_truth_where_wilsons_does_not() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(80), 6)
    grouped, plain = 0, 0
    for _ in range(400):
        right = random.random(480) < np.repeat(random.beta(3, 1, 80), 6)  # of mean 0.75
        low, high = grouped_interval(right, groups)
        grouped += low <= 0.75 <= high
        low, high = wilson(right.sum(), 480)
        plain += low <= 0.75 <= high
    assert grouped / 400 > 0.92 > 0.90 > plain / 400


def test_all_right_counts_each_group_once() -> None:
    assert grouped_interval(np.ones(40, bool), np.repeat(np.arange(5), 8)) == wilson(5, 5)


scores = st.lists(st.integers(0, 8), min_size=2, max_size=40)


@given(scores, scores)
def test_auroc_is_scikit_learns(positives: list[int], negatives: list[int]) -> None:
    from sklearn.metrics import roc_auc_score

    truth = [1] * len(positives) + [0] * len(negatives)
    estimate = auroc(positives, negatives)
    assert estimate.value == pytest.approx(roc_auc_score(truth, positives + negatives))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_aurocs_interval_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    truth = 0.7602499  # Phi(1 / sqrt(2)), for normal scores one standard deviation apart
    estimates = [auroc(random.normal(1, 1, 60), random.normal(0, 1, 60)) for _ in range(1000)]
    assert 0.93 <= np.mean([each.low <= truth <= each.high for each in estimates]) <= 0.97


def test_auroc_without_a_side_has_no_value() -> None:
    assert math.isnan(auroc([], [1.0]).value)
    assert auroc([1.0], [0.0]).value == 1.0
    assert (auroc([1.0], [0.0]).low, auroc([1.0], [0.0]).high) == (0.0, 1.0)
