"""Outliers: what is planted is found with its reason, usual photos are left alone, scores stand apart from flags."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.labels import outliers
from carspotter.labels.outliers import ALONE, SMALL_CLUSTER, find_outliers


def crowd(n=60, n_classes=2, d=32, seed=0):
    """Embeddings of classes, each a cloud around its own direction."""
    random = np.random.default_rng(seed)
    classes = np.arange(n) % n_classes
    middles = random.normal(size=(n_classes, d))
    return middles[classes] + random.normal(0, 0.3, (n, d)), classes, random


def test_a_photo_alone_and_a_small_cluster_are_found_each_with_its_reason() -> None:
    x, classes, random = crowd()
    x[4] = random.normal(size=32)
    screen = random.normal(size=32)
    x[[11, 13, 15]] = screen + random.normal(0, 0.05, (3, 32))
    found = find_outliers(x, classes)
    rows = list(found.rows(["A4", "Panda"]))
    assert {row["position"]: row["reason"] for row in rows} == {
        4: ALONE,
        11: SMALL_CLUSTER,
        13: SMALL_CLUSTER,
        15: SMALL_CLUSTER,
    }
    assert {row["cluster_photos"] for row in rows if row["reason"] == SMALL_CLUSTER} == {3}
    assert {row["class_name"] for row in rows if row["position"] != 4} == {"Panda"}
    assert all(row["score"] > 0.5 for row in rows)
    assert len(list(found.rows(["A4", "Panda"], only_flagged=False))) == 60


def test_the_order_is_by_flag_then_score_and_a_flag_is_a_score_over_a_half() -> None:
    x, classes, random = crowd(n=200)
    x[:6] = random.normal(size=(6, 32))
    found = find_outliers(x, classes)
    assert (np.diff(found.score) <= 0).all()
    np.testing.assert_array_equal(found.flagged, found.score > 0.5)
    assert set(range(6)) <= set(found.position[:8].tolist())
    assert found.flagged.mean() < 0.06
    strict = find_outliers(x, classes, far=5.0)
    np.testing.assert_array_equal(strict.position[:3], found.position[:3])
    assert strict.flagged.sum() < found.flagged.sum()


def test_a_large_second_look_is_no_mistake() -> None:
    x, classes, random = crowd(n=100, n_classes=1)
    x[70:] += 1.5 * random.normal(size=32)
    assert find_outliers(x, classes).flagged.mean() < 0.05


def test_small_classes_are_not_judged() -> None:
    x, classes, _ = crowd(n=40)
    classes[:5] = 3
    found = find_outliers(x, classes)
    assert found.unjudged.tolist() == [3]
    assert not set(range(5)) & set(found.position.tolist())
    assert len(find_outliers(x, classes, min_photos=100)) == 0
    assert len(find_outliers(np.zeros((0, 8)), np.zeros(0, np.int64))) == 0


def test_copies_make_nobody_an_outlier() -> None:
    random = np.random.default_rng(0)
    x = np.repeat(random.normal(size=(1, 16)), 30, axis=0)
    assert not find_outliers(x, np.zeros(30, np.int64)).flagged.any()
    near = x + random.normal(0, 1e-4, x.shape)  # rounding, as of stored embeddings
    assert not find_outliers(near, np.zeros(30, np.int64)).flagged.any()


def test_large_classes_are_clustered_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "_MOST", 40)
    monkeypatch.setattr(outliers, "_BLOCK", 16)
    x, classes, random = crowd(n=120, n_classes=1)
    x[:12] = random.normal(size=32) + random.normal(0, 0.05, (12, 32))
    found = find_outliers(x, classes)
    assert set(found.position[found.flagged].tolist()) >= set(range(12))


@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100), n_classes=st.integers(1, 3))
def test_neither_length_nor_order_matters(seed, factor, n_classes) -> None:
    x, classes, random = crowd(n=45, n_classes=n_classes, seed=seed)
    found = find_outliers(x, classes)
    order = random.permutation(len(x))
    moved = find_outliers(factor * x[order], classes[order])
    scores = np.empty(len(x))
    scores[found.position] = found.score
    again = np.empty(len(x))
    again[order[moved.position]] = moved.score
    np.testing.assert_allclose(scores, again, atol=1e-3)
    assert ((found.score >= 0) & (found.score < 1)).all()


def test_neighbor_distances_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import NearestNeighbors

    x, _, _ = crowd(n=50)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    distances, _ = NearestNeighbors(n_neighbors=4, metric="cosine").fit(x).kneighbors(x)
    np.testing.assert_allclose(outliers._neighbor_distances(x), distances[:, 1:].mean(axis=1), atol=1e-9)


@pytest.mark.parametrize(
    ("x", "classes", "options", "message"),
    [
        (np.ones((3, 2)), [0, 0], {}, r"embeddings of \(3, 2\) and classes of \(2,\)"),
        (np.ones((2, 2)), [0, -1], {}, "whole numbers from 0"),
        (np.zeros((2, 2)), [0, 0], {}, "finite and longer than 0"),
        (np.full((2, 2), np.nan), [0, 0], {}, "finite and longer than 0"),
        (np.ones((2, 2)), [0, 0], {"min_photos": 2}, "min_photos is 2; it must be at least 3"),
        (np.ones((2, 2)), [0, 0], {"far": 0}, "far is 0"),
        (np.ones((2, 2)), [0, 0], {"small": 0.5}, "small is 0.5"),
    ],
)
def test_bad_input_is_refused(x, classes, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        find_outliers(x, np.array(classes), **options)
