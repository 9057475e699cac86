"""Doubts: folds never tear ads apart, planted wrong labels are found, class pairs are what was planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import LabelError
from carspotter.labels.folds import ALWAYS, deal_folds
from carspotter.labels.noise import find_doubts, fuse_ads, out_of_fold
from carspotter.recognition.fusion import fuse_words

NAMES = ("Audi A4", "Audi S4", "BMW M3", "Fiat Panda")


def nearest_mean(x, classes, n_classes):
    """A probe of four lines: logits are scaled products with the classes' means."""
    means = np.stack(
        [x[classes == each].mean(axis=0) if (classes == each).any() else 0 * x[0] for each in range(n_classes)]
    )
    return lambda new: 5 * new @ means.T - 2.5 * (means**2).sum(axis=1)


def lot(n_ads=120, photos=3, n_classes=4, seed=0):
    """Embeddings around a corner of a cube for each class, ads of some photos, an ad of one class each."""
    random = np.random.default_rng(seed)
    ads = np.repeat(np.arange(n_ads), photos)
    classes = np.repeat(np.arange(n_ads) % n_classes, photos)
    x = np.eye(n_classes)[classes] + random.normal(0, 0.25, (len(ads), n_classes))
    return x.astype(np.float32), classes, ads


def judged(labels, x, ads):
    return out_of_fold(x, labels, ads, len(NAMES), fit=nearest_mean)


def test_planted_wrong_labels_come_first_and_are_named() -> None:
    x, classes, ads = lot()
    labels = classes.copy()
    wrong = np.isin(ads, [0, 4, 8, 21])
    labels[wrong] = (classes[wrong] + 1) % 4
    doubts = find_doubts(judged(labels, x, ads), labels, NAMES, ads=ads, fuse=fuse_words)
    assert set(doubts.position[:12].tolist()) == set(np.flatnonzero(wrong).tolist())
    assert (doubts.suggested[:12] == classes[doubts.position[:12]]).all()
    assert (np.diff(doubts.quality) >= 0).all()
    assert 10 <= doubts.flagged.sum() <= 14
    assert doubts.flagged[: doubts.flagged.sum()].all()
    of_ads = doubts.ads
    assert of_ads is not None
    rows = list(of_ads.rows(limit=4))
    assert {row["ad_id"] for row in rows} == {0, 4, 8, 21}
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    n_flagged = int(of_ads.flagged.sum())  # confident learning leaves out those that it is not sure of
    assert 2 <= n_flagged <= 4
    assert of_ads.flagged[:n_flagged].all()


def test_a_systematic_confusion_is_a_pair_of_classes_counted_in_ads() -> None:
    x, classes, ads = lot(n_ads=200)
    labels = classes.copy()
    labels[np.isin(ads, [1, 5, 9, 13, 17])] = 0  # of 50 ads with an S4, 5 call it an A4
    doubts = find_doubts(judged(labels, x, ads), labels, NAMES, ads=ads, fuse=fuse_words)
    [pair] = doubts.pair_rows()
    assert (pair["true"], pair["given"], pair["unit"]) == ("Audi S4", "Audi A4", "ad")
    assert 4 <= pair["count"] <= 5
    assert pair["share"] == pytest.approx(0.1, abs=0.03)
    assert pair["low"] < pair["share"] < pair["high"]
    assert doubts.pairs[0].sentence(NAMES) == f"sellers call Audi S4 a Audi A4 in {pair['share']:.0%} of cases"


def test_right_labels_raise_no_doubt() -> None:
    x, classes, ads = lot()
    x = np.eye(4, dtype=np.float32)[classes] + 0.01 * x
    doubts = find_doubts(judged(classes, x, ads), classes, NAMES, ads=ads, fuse=fuse_words)
    assert not doubts.flagged.any()
    assert doubts.pairs == ()
    assert len(doubts) == len(classes)


def test_two_classes_and_a_class_without_photos() -> None:
    x, classes, ads = lot(n_classes=2)
    labels = classes.copy()
    labels[ads == 6] = 1
    probabilities = out_of_fold(x, labels, ads, 2, fit=nearest_mean)
    assert set(find_doubts(probabilities, labels, NAMES[:2]).position[:3].tolist()) == {18, 19, 20}
    with_empty = np.hstack([x, np.zeros((len(x), 1), np.float32)])
    probabilities = out_of_fold(with_empty, labels, ads, 3, fit=nearest_mean)
    assert set(find_doubts(probabilities, labels, NAMES[:3]).position[:3].tolist()) == {18, 19, 20}


def test_a_class_of_one_ad_is_learnt_and_not_judged() -> None:
    x, classes, ads = lot()
    classes[ads == 7] = 3
    only = classes == 3
    classes[only & (ads != 7)] = 2  # class 3 is left with ad 7
    seen = []

    def fit(known, labels, n_classes):
        seen.append(int((labels == 3).sum()))
        return nearest_mean(known, labels, n_classes)

    probabilities = out_of_fold(x, classes, ads, 4, fit=fit)
    assert seen == [3] * 5
    assert np.isnan(probabilities[ads == 7]).all()
    assert np.isfinite(probabilities[ads != 7]).all()
    doubts = find_doubts(probabilities, classes, NAMES, ads=ads, fuse=fuse_words)
    assert doubts.unjudged.tolist() == np.flatnonzero(ads == 7).tolist()
    assert not set(doubts.unjudged.tolist()) & set(doubts.position.tolist())
    assert doubts.ads is not None
    assert 7 not in {row["ad_id"] for row in doubts.ads.rows()}


def test_a_probe_never_learns_from_the_ad_that_it_judges() -> None:
    x, classes, ads = lot(n_ads=30)
    marked = np.hstack([x, ads[:, None]]).astype(np.float32)

    def fit(known, labels, n_classes):
        taught = set(known[:, -1].tolist())

        def judge(new):
            assert not taught & set(new[:, -1].tolist())
            return np.zeros((len(new), n_classes))

        return judge

    probabilities = out_of_fold(marked, classes, ads, 4, fit=fit)
    np.testing.assert_allclose(probabilities, 0.25)


def test_probabilities_are_tempered_by_the_other_folds() -> None:
    x, classes, ads = lot(n_ads=400)

    def sure(known, labels, n_classes):
        judge = nearest_mean(known, labels, n_classes)
        return lambda new: 40 * judge(new)

    plain, loud = judged(classes, x, ads), out_of_fold(x, classes, ads, 4, fit=sure)
    right = plain.argmax(axis=1) == classes
    # Forty times too sure a probe ends as sure as the temperature's range allows, never as sure as it was.
    assert abs(plain.max(axis=1).mean() - right.mean()) < 0.03
    louder = 200 * (x @ np.eye(4, dtype=np.float32))
    untempered = np.exp(louder - louder.max(axis=1, keepdims=True))
    untempered /= untempered.sum(axis=1, keepdims=True)
    assert plain.max(axis=1).mean() < loud.max(axis=1).mean() < untempered.max(axis=1).mean()


@given(data=st.data(), folds=st.integers(2, 6), seed=st.integers(0, 3))
def test_folds_keep_groups_whole_and_every_class_in_training(data, folds, seed) -> None:
    n_groups = data.draw(st.integers(1, 40))
    of_group = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n_groups, max_size=n_groups)))
    groups = np.array(data.draw(st.lists(st.integers(0, n_groups - 1), min_size=1, max_size=120)))
    classes = of_group[groups]
    fold = deal_folds(classes, groups, folds=folds, seed=seed)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    for each in np.unique(classes):
        of_class = classes == each
        n = len(np.unique(groups[of_class]))
        assert (fold[of_class] == ALWAYS).all() == (n == 1)
        # As many folds as it has groups for, so that some other fold always teaches it.
        assert n == 1 or len(np.unique(fold[of_class])) == min(n, folds)


def test_folds_are_of_even_size_and_move_with_the_seed() -> None:
    _, classes, ads = lot(n_ads=100)
    fold = deal_folds(classes, ads)
    assert np.bincount(fold).tolist() == [60] * 5
    assert (fold == deal_folds(classes, ads)).all()
    assert (fold != deal_folds(classes, ads, seed=1)).any()


def test_an_ad_is_fused_by_the_rule_that_is_handed_in() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [np.nan, np.nan], [0.5, 0.5]])
    of = {"classes": np.array([0, 0, 1, 1, 0]), "ads": np.array(["b", "b", "a", "c", "a"])}
    ids, fused, classes = fuse_ads(probabilities, **of, fuse=fuse_words)
    assert list(zip(ids.tolist(), classes.tolist(), strict=True)) == [("a", 0), ("a", 1), ("b", 0), ("c", 1)]
    np.testing.assert_allclose(fused[2], fuse_words(probabilities[:2]))
    np.testing.assert_allclose(fused[:2], [[0.5, 0.5], [0.2, 0.8]])
    assert np.isnan(fused[3]).all()


def test_nothing_to_judge_says_what_to_do() -> None:
    x, _, ads = lot(n_ads=4)
    with pytest.raises(LabelError, match="fewer than 2 classes have photos in 2 ads or more; add listings"):
        out_of_fold(x, ads % 4, ads, 4, fit=nearest_mean)


@pytest.mark.parametrize(
    ("classes", "groups", "message"),
    [
        ([0, 1], [0, 1, 2], r"3 photos, but classes of \(2,\)"),
        ([0, 1, 4], [0, 1, 2], "whole numbers from 0 to 3"),
        ([0, 1, -1], [0, 1, 2], "whole numbers from 0 to 3"),
        ([0.0, 1.0, 1.0], [0, 1, 2], "whole numbers from 0 to 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(classes, groups, message) -> None:
    with pytest.raises(ValueError, match=message):
        out_of_fold(np.ones((3, 2), np.float32), np.array(classes), np.array(groups), 4, fit=nearest_mean)


def test_probabilities_need_a_column_a_class() -> None:
    with pytest.raises(ValueError, match=r"probabilities of \(3, 2\); they must be \(n, 4\)"):
        find_doubts(np.ones((3, 2)) / 2, np.array([0, 1, 0]), NAMES)
    with pytest.raises(ValueError, match="not how their photos are fused"):
        find_doubts(np.ones((3, 4)) / 4, np.array([0, 1, 0]), NAMES, ads=np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="folds is 1; it must be at least 2"):
        deal_folds(np.array([0, 1]), np.array([0, 1]), folds=1)


def test_no_photos_make_no_doubts() -> None:
    doubts = find_doubts(np.zeros((0, 4)), np.zeros(0, np.int64), NAMES, ads=np.zeros(0, np.int64), fuse=fuse_words)
    assert len(doubts) == 0
    assert list(doubts.rows()) == []
