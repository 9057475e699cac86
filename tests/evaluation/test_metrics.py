"""Figures against scikit-learn, closed forms and tables that are small enough to count by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import EvaluationError
from carspotter.evaluation.ads import ad_figures, fuse_ads
from carspotter.evaluation.compare import compare
from carspotter.evaluation.curves import calibration_error, coverage_at, coverage_curve, reliability
from carspotter.evaluation.metrics import class_names, evaluate, in_top, log_loss, macro_f1, unknown_auroc
from carspotter.evaluation.predictions import Predictions
from carspotter.recognition.fusion import fuse
from carspotter.runtime.calibration import PRECISION
from carspotter.taxonomy import Taxon, Taxonomy

Maker = Callable[..., Predictions]


def labelled(table: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Give truth and probabilities of the photos whose class is known."""
    known = table.truth >= 0
    return table.truth[known], table.probabilities[known]


def test_top_1_top_5_and_log_loss_are_scikit_learns(table: Predictions) -> None:
    from sklearn.metrics import log_loss as sklearn_log_loss
    from sklearn.metrics import top_k_accuracy_score

    truth, p = labelled(table)
    figures = evaluate(table)
    every = np.arange(len(table.taxonomy))
    assert figures.labelled == len(truth) < figures.photos == 400
    assert figures.top1.value == pytest.approx((p.argmax(1) == truth).mean())
    assert figures.top5.value == pytest.approx(top_k_accuracy_score(truth, p, k=5, labels=every))
    p = p.astype(float)
    assert figures.log_loss == pytest.approx(sklearn_log_loss(truth, p / p.sum(1, keepdims=True), labels=every), 1e-5)


def test_of_equal_probabilities_the_first_comes_first() -> None:
    p = np.full((3, 3), 1 / 3, np.float32)
    truth = np.arange(3)
    assert in_top(p, truth, 1).tolist() == (p.argmax(1) == truth).tolist() == [True, False, False]
    assert in_top(p, truth, 2).tolist() == [True, True, False]


def test_levels_count_only_the_photos_that_are_labelled_there(table: Predictions) -> None:
    figures = {level.level: level for level in evaluate(table).levels}
    for name, level in figures.items():
        known = table.levels[name] >= 0
        answer = table.at(name)[known].argmax(1)
        assert level.right.total == known.sum()
        assert level.left_out == (~known).sum()
        assert level.right.count == (answer == table.levels[name][known]).sum()
    assert figures["make"].right.total > figures["year"].right.total
    assert [figures[name].names for name in ("make", "model", "generation", "year")] == [3, 5, 6, 7]


def test_the_figures_of_classes_are_scikit_learns(table: Predictions) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    truth, p = labelled(table)
    precision, recall, f1, support = precision_recall_fscore_support(truth, p.argmax(1), labels=range(7))
    figures = evaluate(table)
    assert [each.precision.value for each in figures.classes] == pytest.approx(precision)
    assert [each.recall.value for each in figures.classes] == pytest.approx(recall)
    assert [each.f1 for each in figures.classes] == pytest.approx(f1)
    assert [each.support for each in figures.classes] == support.tolist()
    assert figures.macro_f1.value == pytest.approx(f1.mean())


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
def test_macro_f1_is_scikit_learns_over_the_classes_that_occur(cells: list[tuple[int, int]]) -> None:
    from sklearn.metrics import f1_score

    truth, answer = np.array(cells).T
    known = f1_score(truth, answer, labels=np.unique(truth), average="macro", zero_division=0)
    estimate = macro_f1(truth, answer, 5)
    assert estimate.value == pytest.approx(known)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_macro_f1s_interval_is_that_of_the_bootstrap() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(4, 1500, p=[0.5, 0.3, 0.15, 0.05])
    answer = np.where(random.random(1500) < 0.75, truth, random.integers(0, 4, 1500))
    estimate = macro_f1(truth, answer, 4)
    draws = random.integers(0, 1500, (1000, 1500))
    resampled = np.array([macro_f1(truth[draw], answer[draw], 4).value for draw in draws])
    assert estimate.high - estimate.value == pytest.approx(1.96 * resampled.std(), rel=0.08)


@pytest.mark.parametrize("right", [1.0, 0.995, 0.9])
def test_macro_f1s_interval_holds_for_few_photos_and_rare_classes(right: float) -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.66, 0.13, 0.12, 0.06, 0.03])  # of 90 photos three show the rarest class
    confusion = np.where(np.eye(5, dtype=bool), right, (1 - right) / 4)
    cells = shares[:, None] * confusion
    true = float((2 * np.diag(cells) / (cells.sum(0) + cells.sum(1))).mean())
    held = []
    for _ in range(300):
        drawn = random.choice(25, 90, p=cells.ravel())
        estimate = macro_f1(drawn // 5, drawn % 5, 5)
        held.append(estimate.low <= true <= estimate.high)
        assert estimate.high - estimate.low > 0.05
    assert np.mean(held) > 0.92  # the delta method alone: 0.41 at 0.995, and no width at all at 1


def test_macro_f1s_interval_without_a_mistake_takes_a_group_as_one_photo() -> None:
    truth = np.repeat(np.arange(4) % 2, 6)
    grouped = macro_f1(truth, truth, 2, groups=np.repeat(np.arange(4), 6))
    assert grouped == macro_f1(truth[::6], truth[::6], 2)
    assert grouped.low < macro_f1(truth, truth, 2).low < 1.0


def test_macro_f1s_interval_minds_the_groups() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat(random.integers(0, 3, 100), 5)
    answer = np.repeat(np.where(random.random(100) < 0.7, truth[::5], random.integers(0, 3, 100)), 5)
    alone = macro_f1(truth[::5], answer[::5], 3)
    grouped = macro_f1(truth, answer, 3, groups=np.repeat(np.arange(100), 5))
    assert grouped.low == pytest.approx(alone.low)  # five copies of a photo tell what one does
    assert macro_f1(truth, answer, 3).low > grouped.low


def test_coverage_and_precision_by_hand() -> None:
    best = np.array([0.9, 0.5, 0.8, 0.8, 0.7])
    right = np.array([True, True, True, False, True])
    curve = coverage_curve(best, right)
    assert [(point.threshold, point.coverage.count, point.precision.count) for point in curve] == [
        (0.9, 1, 1),
        (0.8, 3, 2),
        (0.7, 4, 3),
        (0.5, 5, 4),
    ]
    assert coverage_at(best, right, 0.8) == curve[-1]
    assert coverage_at(best, right, 0.9) == curve[0]
    assert coverage_at(best, ~right, 0.9) is None
    assert coverage_curve(np.array([]), np.array([], bool)) == ()


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=80))
def test_coverage_at_a_precision_is_the_best_of_all_thresholds(cases: list[tuple[int, bool]]) -> None:
    best = np.array([value / 20 for value, _ in cases])
    right = np.array([is_right for _, is_right in cases])
    reached = [
        int((best >= threshold).sum()) for threshold in np.unique(best) if right[best >= threshold].mean() >= PRECISION
    ]
    point = coverage_at(best, right)
    assert (point.coverage.count if point else 0) == max(reached, default=0)
    assert point is None or point.precision.value >= PRECISION


def test_a_long_curve_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    best = random.random(5000)
    curve = coverage_curve(best, random.random(5000) < best, points=50)
    assert len(curve) == 50
    assert (curve[0].coverage.count, curve[-1].coverage.count) == (1, 5000)


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    random = np.random.default_rng(0)
    best = np.append(random.random(3000), [0.0, 1.0, 1.0])
    right = random.random(3003) < best**2
    bins = reliability(best, right)
    gaps = [each.right.total * abs(each.right.value - each.mean_probability) for each in bins]
    assert calibration_error(best, right) == pytest.approx(sum(gaps) / 3003)
    # p - p² is 1/6 on average over 0..1
    assert calibration_error(best, right) == pytest.approx(1 / 6, abs=0.02)
    assert sum(each.right.total for each in bins) == 3003
    assert all(each.low <= each.mean_probability <= each.high for each in bins)


def test_viewpoints_stand_in_their_order_and_lose_no_photo(table: Predictions) -> None:
    views = evaluate(table).viewpoints
    assert [view.name for view in views][:3] == ["front", "front-right", "right"]
    assert views[-1].name == "unknown"
    assert sum(view.photos for view in views) == len(table)
    figures = evaluate(table)
    assert sum(view.right.count for view in views) == figures.top1.count
    assert sum(view.make_right.total for view in views) == figures.levels[0].right.total


def test_ads_are_fused_as_they_are_answered(by_hand: Maker) -> None:
    p = [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]]
    table = by_hand(p, [1, 1, 2, -1], about={"ad_id": ["b", "b", "a", ""]})
    found = fuse_ads(table)
    assert found is not None
    fused, number = found
    assert number.tolist() == [1, 1, 0, -1]
    assert fused[1] == pytest.approx(fuse(np.array(p[:2]), table.taxonomy), abs=1e-6)
    assert fused[0] == pytest.approx(p[2], abs=1e-6)
    ads = ad_figures(table)
    assert ads is not None
    assert (ads.ads, ads.photos, ads.contradictory) == (2, 3, 0)
    assert (ads.right["class"].count, ads.right["class"].total) == (2, 2)
    assert (ads.single.count, ads.single.total) == (2, 3)


def test_an_ad_that_contradicts_itself_is_left_out_and_said(by_hand: Maker) -> None:
    table = by_hand([[0.9, 0.1]] * 4, [0, 1, 0, -1], about={"ad_id": ["a", "a", "b", "b"]})
    ads = ad_figures(table)
    assert ads is not None
    assert (ads.contradictory, ads.right["class"].total, ads.right["class"].count) == (1, 1, 1)
    assert ads.single.total == 1


def test_without_ads_nothing_is_said_of_them(by_hand: Maker) -> None:
    assert evaluate(by_hand([[0.9, 0.1]], [0])).ads is None
    figures = evaluate(by_hand([[0.9, 0.1]], [0], about={"ad_id": [""]}))
    assert figures.ads is None
    assert figures.top1_by_ad is None


def test_the_interval_by_ad_is_wider(made: Maker) -> None:
    table = made(800, ads=8, unlabelled=0.0)
    same = table.take(np.repeat(np.arange(0, 800, 8), 1))
    copied = Predictions(
        name="copies",
        taxonomy=table.taxonomy,
        photos=table.photos,
        probabilities=np.repeat(same.probabilities, 8, axis=0),
        truth=np.repeat(same.truth, 8),
        about=table.about,
    )
    figures = evaluate(copied)
    assert figures.top1_by_ad is not None
    assert figures.top1_by_ad.low < figures.top1.low < figures.top1.high < figures.top1_by_ad.high


def test_groups_widen_intervals_as_ads_do_and_are_no_ads(made: Maker, tmp_path: Path) -> None:
    table = replace(made(80, unlabelled=0.0), about={})
    ids = [f"g{number // 4}" for number in range(80)]
    by_ad, by_group = (
        replace(table, about={name: np.array(ids)}, attribute="side" if name == "group" else "")
        for name in ("ad_id", "group")
    )
    by_group = Predictions.load(by_group.save(tmp_path / "table.parquet"))
    ads, groups = evaluate(by_ad), evaluate(by_group)
    assert (groups.macro_f1, groups.top1_by_ad) == (ads.macro_f1, ads.top1_by_ad)
    assert groups.macro_f1 != evaluate(table).macro_f1
    assert groups.ads is None
    assert [each.level for each in groups.levels] == ["class"], "nothing lies above the words of an attribute"
    assert compare([by_group, replace(by_group, name="b")]).accuracy.keys() == {"class"}


def test_the_unknown_score_is_judged_by_its_auroc(made: Maker) -> None:
    from sklearn.metrics import roc_auc_score

    known, unknown = made(200, skill=4.0), made(150, skill=0.0, seed=9)
    estimate = unknown_auroc(known, unknown, "make")
    scores = [1 - table.at("make").max(1) for table in (unknown, known)]
    assert estimate.value == pytest.approx(roc_auc_score([1] * 150 + [0] * 200, np.concatenate(scores)))
    assert estimate.value > 0.6


def test_the_evaluation_is_json_and_says_null_where_nothing_can_be_counted(by_hand: Maker) -> None:
    table = by_hand([[0.9, 0.1], [0.2, 0.8]], [-1, -1], levels={"make": np.array([0, 0])})
    content = json.loads(json.dumps(evaluate(table).to_dict(), allow_nan=False))
    assert content["top1"] == {"value": None, "count": 0, "total": 0}
    assert content["macro_f1"]["value"] is None
    assert content["log_loss"] is None
    make = content["levels"][0]
    assert (make["level"], make["right"]["count"], make["right"]["total"], make["left_out"]) == ("make", 1, 2, 0)
    assert content["levels"][1]["right"]["total"] == 0


def test_a_table_without_photos_or_truth_is_refused(by_hand: Maker) -> None:
    with pytest.raises(EvaluationError, match="hold no photo"):
        evaluate(by_hand(np.zeros((0, 2)), np.zeros(0, int)))
    with pytest.raises(EvaluationError, match="no photo has a truth at any level"):
        evaluate(by_hand([[0.5, 0.5]], [-1]))


def test_classes_that_differ_in_their_body_have_names_of_their_own() -> None:
    taxonomy = Taxonomy(
        (Taxon(make="Audi", model="S5", body="Coupe"), Taxon(make="Audi", model="S5"), Taxon(make="Audi", model="A4"))
    )
    assert class_names(taxonomy) == ("Audi S5 (Coupe)", "Audi S5", "Audi A4")


def test_log_loss_of_an_impossible_truth_is_finite() -> None:
    assert math.isfinite(log_loss(np.array([[1.0, 0.0]], np.float32), np.array([1])))
