"""Baselines: HOG and frozen features, checked against scikit-learn and against what the formulas say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import MissingExtraError, RecipeError, TrainingError
from carspotter.settings import read_section
from carspotter.training.baselines import Baseline, HogSettings, fit_features, fit_hog, hog_vectors, run_baseline
from carspotter.training.features import CHUNK, embed_all, embed_with
from carspotter.training.identifier.source import LabelledPhotos
from carspotter.training.linear import FitSettings, Linear
from carspotter.training.recipe_file import load_recipe

SMALL = HogSettings(width=32, height=24)


def photos_of(images: np.ndarray, targets: np.ndarray) -> LabelledPhotos:
    return LabelledPhotos(images=images, targets=targets.astype(np.int64), paths=tuple(map(str, range(len(images)))))


def cloud(n: int, *, n_classes: int = 3, width: int = 6, seed: int = 0, spread: float = 1.0) -> LabelledPhotos:
    """Give photos of one row of pixels that `as_vector` reads as a point of its class's cloud."""
    random = np.random.default_rng(seed)
    targets = np.arange(n) % n_classes
    centers = np.random.default_rng(99).normal(size=(n_classes, width)) * 2
    points = centers[targets] + spread * random.normal(size=(n, width))
    images = np.clip(points * 12 + 128, 0, 255).astype(np.uint8)[:, None, :, None]
    return photos_of(np.repeat(images, 3, axis=3), targets)


def as_vector(images: np.ndarray) -> np.ndarray:
    return (images[:, 0, :, 0].astype(np.float32) - 128) / 12


def blobs(places: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw a bright square at the left (0), the right (1) or in the middle (2) of dark noise, as (n, 24, 48, 3)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (len(places), 24, 48, 3), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        left, top = (4, 32, 18)[place] + random.integers(-2, 3), random.integers(4, 10)
        image[top : top + 10, left : left + 12] = 220
    return images


# ---- HOG ----


def test_an_edge_counts_in_the_orientation_across_it() -> None:
    image = np.zeros((1, 24, 32, 3), np.uint8)
    image[:, :, 12:] = 255  # inside the second column of cells
    cells = hog_vectors(image, replace(SMALL, block=1)).reshape(3, 4, 9)
    assert cells[:, 1, 0] == pytest.approx(np.ones(3), abs=1e-3)  # the first of nine directions: along the rows
    assert cells[:, 1, 1:] == pytest.approx(np.zeros((3, 8)), abs=1e-6)
    assert cells[:, 3] == pytest.approx(np.zeros((3, 9)), abs=1e-6)


def test_the_form_of_light_counts_and_not_its_strength() -> None:
    dark = np.random.default_rng(0).integers(0, 80, (2, 24, 32, 3), dtype=np.uint8)
    assert np.allclose(hog_vectors(dark, SMALL), hog_vectors(dark * 3, SMALL), atol=1e-3)


@given(st.integers(16, 40), st.integers(16, 40), st.integers(2, 8), st.integers(1, 2), st.integers(2, 12))
def test_vectors_are_as_long_as_the_settings_say(
    width: int, height: int, cell: int, block: int, orientations: int
) -> None:
    settings = HogSettings(width=width, height=height, cell=cell, block=block, orientations=orientations)
    vectors = hog_vectors(np.full((1, 20, 20, 3), 7, np.uint8), settings)
    assert vectors.shape == (1, settings.length)
    assert vectors.dtype == np.float32


def test_photos_are_described_one_by_one_though_unpacked_together() -> None:
    images = np.random.default_rng(0).integers(0, 255, (CHUNK + 3, 24, 32, 3), dtype=np.uint8)
    whole, kept = hog_vectors(images, SMALL), [0, CHUNK - 1, CHUNK, CHUNK + 2]
    alone = np.concatenate([hog_vectors(images[place : place + 1], SMALL) for place in kept])
    assert np.allclose(whole[kept], alone, atol=1e-5)


def test_hog_tells_forms() -> None:
    learnt = np.arange(60) % 3
    asked = np.arange(30) % 3
    baseline = fit_hog(photos_of(blobs(learnt), learnt), 3, settings=SMALL)
    probabilities = baseline.probabilities(blobs(asked, seed=1))
    assert (probabilities.argmax(1) == asked).all()
    assert probabilities.max(1).min() > 0.6, "surely so, whatever the rounding"
    assert probabilities.sum(1) == pytest.approx(np.ones(30))
    again = fit_hog(photos_of(blobs(learnt), learnt), 3, settings=SMALL)
    # The solver ends where its slope is small: rounding on the way there moves the end by less than this.
    assert np.allclose(again.probabilities(blobs(asked, seed=1)), probabilities, atol=1e-3)


# ---- linear ----


def linear_of(photos: LabelledPhotos, n_classes: int, **settings: Any) -> Baseline:
    fit = FitSettings(**settings)
    return fit_features(photos, n_classes, backbone=as_vector, settings=fit)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_the_weights_are_where_the_stated_loss_is_least(n_classes: int, balance: float) -> None:
    photos = cloud(91, n_classes=n_classes, spread=3)
    photos = photos.take((photos.targets > 0) | (np.arange(91) % 4 == 0))
    head = linear_of(photos, n_classes, strengths=(0.02,), balance=balance).classifier
    assert isinstance(head, Linear)
    x, y = as_vector(photos.images), photos.targets
    scaled = (x - x.mean(0)) / np.sqrt(np.square(x - x.mean(0)).mean())
    powers = np.exp(head.logits(x))
    error = powers / powers.sum(1, keepdims=True) - np.eye(n_classes)[y]
    counted = np.bincount(y)[y] ** -balance
    weights = head.weights * np.sqrt(np.square(x - x.mean(0)).mean())
    slope = (error * (counted / counted.mean())[:, None]).T @ scaled / len(x) + 0.02 * weights
    assert np.abs(slope).max() < 2e-3
    assert np.abs(error.T @ counted).max() < 2e-3 * len(x)


def test_the_strength_that_does_best_is_chosen() -> None:
    clear, other = cloud(90, spread=0.3), cloud(90, width=24)
    hidden = replace(other, targets=np.random.default_rng(0).permutation(other.targets))
    strengths = (10.0, 1e-4, 1e-2)
    assert linear_of(clear, 3, strengths=strengths, holdout=0.5).chosen == 1e-4
    assert linear_of(hidden, 3, strengths=strengths, holdout=0.5).chosen == 10.0


def test_probabilities_are_calibrated() -> None:
    learnt, asked = cloud(2400, spread=3), cloud(1200, spread=3, seed=1)
    baseline = fit_features(learnt, 3, backbone=as_vector, settings=FitSettings())
    probabilities = baseline.probabilities(asked.images)
    right = probabilities.argmax(1) == asked.targets
    assert 0.4 < right.mean() < 0.95
    assert probabilities.max(1).mean() == pytest.approx(right.mean(), abs=0.05)


def test_balance_lets_a_rare_class_be_found() -> None:
    photos = cloud(400, n_classes=2, spread=5)
    rare = photos.take((photos.targets == 1) | (np.arange(400) % 20 == 0))
    asked = cloud(200, n_classes=2, spread=5, seed=1)

    def found(balance: float) -> float:
        baseline = fit_features(rare, 2, backbone=as_vector, settings=FitSettings(balance=balance))
        return float((baseline.probabilities(asked.images).argmax(1) == 0)[asked.targets == 0].mean())

    assert found(1.0) > found(0.0) + 0.2


def test_a_class_without_photos_is_impossible() -> None:
    photos = cloud(60)
    baseline = fit_features(photos, 5, backbone=as_vector, settings=FitSettings())
    probabilities = baseline.probabilities(photos.images)
    assert probabilities.shape == (60, 5)
    assert (probabilities[:, 3:] == 0).all()
    assert (probabilities[:, :3] > 0).all()


# ---- mirrored copies ----


def test_a_mirrored_photo_teaches_the_other_side() -> None:
    targets = np.array([0, 2] * 20)
    photos = photos_of(blobs(targets), targets)
    right = blobs(np.ones(10, int), seed=1)
    plain = fit_hog(photos, 3, settings=SMALL)
    assert (plain.probabilities(right)[:, 1] == 0).all()
    fit = FitSettings(mirror=True, swapped=((0, 1),))
    assert (fit_hog(photos, 3, settings=replace(SMALL, fit=fit)).probabilities(right).argmax(1) == 1).all()


def test_a_mirrored_photo_keeps_its_class_where_sides_are_merged() -> None:
    targets = np.array([0, 2] * 20)
    fit = FitSettings(mirror=True)
    baseline = fit_hog(photos_of(blobs(targets), targets), 3, settings=replace(SMALL, fit=fit))
    assert (baseline.probabilities(blobs(np.ones(10, int), seed=1)).argmax(1) == 0).all()


# ---- frozen features ----


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=0)


def test_a_frozen_network_does_not_move(network: torch.nn.Module) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    embed = embed_with(network)
    images = blobs(np.arange(CHUNK + 2) % 3)
    vectors = embed_all(embed, images)
    assert vectors.shape == (CHUNK + 2, network.num_features)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert np.allclose(vectors[-1:], embed(images[-1:]), atol=1e-5)  # as alone, whatever was beside it


def test_frozen_features_learn(network: torch.nn.Module) -> None:
    targets = np.arange(60) % 3
    settings = FitSettings(strengths=(1e-3,))
    images = blobs(targets)
    images[targets == 1] = 255 - images[targets == 1]  # even random weights tell dark from bright
    baseline = fit_features(photos_of(images, targets), 3, backbone=network, settings=settings)
    answers = baseline.probabilities(images).argmax(1)
    assert (answers == targets)[targets == 1].mean() > 0.9


# ---- a recipe ----


def test_a_recipe_gives_a_prediction_table(drawn_data: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    table = run_baseline(recipe, method="hog", test="test", hog=SMALL)
    assert sorted(table.photos.tolist()) == [f"{index}.png" for index in range(8)]
    assert table.truth.tolist() == [0, 1, 2, 3] * 2
    assert table.levels["make"].tolist() == [0, 0, 1, 1] * 2
    make = table.at("make").argmax(1)
    assert (make == table.levels["make"]).mean() == 1  # discs and bars; HOG sees no colour
    held = run_baseline(recipe, method="linear", fit=FitSettings(strengths=(0.1,)))
    assert len(held) == 16  # a quarter of 56, four a class
    assert held.name == "tiny"


def test_photos_of_which_only_the_make_is_known_are_asked_and_not_learnt(drawn_data: Path, tmp_path: Path) -> None:
    folder = drawn_data / "photos"
    lines = [f"{folder}/{index}.png,train,{index % 4 + 1}," for index in range(40)]
    lines += [f"{folder}/{index}.png,{'test' if index < 50 else 'train'},,Flat" for index in range(42, 64, 4)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,split,class_id,make", *lines]))
    recipe = load_recipe(drawn_data / "recipe.toml", [f"data.labels={tmp_path / 'labels.csv'}"])
    table = run_baseline(recipe, method="hog", test="test", hog=SMALL)
    assert table.truth.tolist() == [-1, -1]
    assert table.levels["make"].tolist() == [1, 1]
    assert table.levels["model"].tolist() == [-1, -1]


def test_two_vehicles_of_a_photo_are_two_rows(drawn_data: Path, tmp_path: Path) -> None:
    folder, boxes = drawn_data / "photos", ("0,0,48,72", "48,0,96,72")
    rows = [f"{folder}/{n}.png,{part},{n % 4 + 1},{box}" for n, part in ((8, "train"), (9, "test")) for box in boxes]
    rows += [f"{folder}/{n}.png,train,{n % 4 + 1},,,," for n in range(10, 30)]
    rows += [f"{folder}/9.png,test,2,,,,"] * 2  # without boxes
    (tmp_path / "labels.csv").write_text("\n".join(["path,split,class_id,x1,y1,x2,y2", *rows]))
    recipe = load_recipe(drawn_data / "recipe.toml", [f"data.labels={tmp_path / 'labels.csv'}"])
    table = run_baseline(recipe, method="hog", test="test", hog=SMALL)
    photo = f"{folder}/9.png"
    assert table.photos.tolist() == [f"{photo} 0 0 48 72", f"{photo} 48 0 96 72", f"{photo}#2", f"{photo}#3"]
    assert table.about["path"].tolist() == [photo] * 4


def test_a_split_without_rows_is_an_error(drawn_data: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    with pytest.raises(RecipeError, match="no row with split 'nowhere'"):
        run_baseline(recipe, method="hog", test="nowhere")


# ---- what is refused ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strengths": ()}, "strengths are (); each is above 0"),
        ({"strengths": (0.1, 0.0)}, "each is above 0"),
        ({"balance": 1.5}, "balance is 1.5; from 0 to 1"),
        ({"holdout": 1.0}, "holdout is 1.0; it must be between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^baseline: ") as caught:
        FitSettings(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": 1}, "cell 1, orientations 9, block 2; at least 2, 2 and 1"),
        ({"width": 10}, "10x96 px hold no block of 16 px"),
    ],
)
def test_a_form_of_hog_without_a_block_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HogSettings(**settings)


def test_settings_are_read_from_a_recipe() -> None:
    content = {"cell": 6, "fit": {"mirror": True, "swapped": [[0, 1]], "strengths": [0.5]}}
    settings = read_section(HogSettings, content, where="recipe a: hog", error=RecipeError)
    assert settings.fit == FitSettings(mirror=True, swapped=((0, 1),), strengths=(0.5,))
    with pytest.raises(RecipeError, match="unknown key 'cells'; did you mean 'cell'"):
        read_section(HogSettings, {"cells": 6}, where="recipe a: hog", error=RecipeError)


def test_photos_that_cannot_be_learnt_from_are_refused() -> None:
    photos = cloud(12)
    with pytest.raises(TrainingError, match="class 2 occurs, but there are 2 classes"):
        linear_of(photos, 2)
    with pytest.raises(TrainingError, match="at least two classes with two photos each"):
        linear_of(photos.take(photos.targets == 1), 3)
    with pytest.raises(TrainingError, match="at least two classes with two photos each"):
        linear_of(photos.take(np.zeros(12, bool)), 3)
    with pytest.raises(TrainingError, match=r"swapped names classes \(0, 3\); there are 3, from 0"):
        linear_of(photos, 3, swapped=((0, 3),))


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        (lambda images: images, r"12 photos became an array of shape \(12, 1, 6, 3\)"),
        (lambda images: as_vector(images)[1:], r"12 photos became an array of shape \(11, 6\)"),
        (lambda images: as_vector(images) * np.nan, "NaN or infinity"),
    ],
)
def test_what_describes_photos_is_checked(embed: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_features(cloud(12), 3, backbone=embed, settings=FitSettings())


def test_a_network_that_says_no_width_is_refused() -> None:
    with pytest.raises(TrainingError, match="Linear has no num_features; pass a network of timm"):
        embed_with(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("module", "package"), [("skimage.feature", "scikit-image"), ("sklearn.linear_model", "scikit-learn")]
)
def test_a_missing_library_names_its_extra(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'{package} is not installed; .*"carspotter\[train\]"'):
        fit_hog(cloud(12), 3, settings=HogSettings(width=16, height=16))
