"""The plan of a training: batch and epochs by the data, phases in their shares, and a budget that is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra `train`")

from carspotter.errors import RecipeError
from carspotter.training.plan import (
    MOST_EPOCHS,
    Pace,
    Photos,
    Wish,
    batch_for,
    begin,
    epochs_for,
    estimate,
    in_words,
    phases_of,
)
from carspotter.training.recipe import Phase, Recipe
from carspotter.training.recipe_file import load_recipe

PACE = Pace(step=2.0, judge=5.0, device="the CPU")
PHOTOS = Photos(train=100, validation=20, test=20, classes=5)


def sizes(phases: tuple[Phase, ...]) -> list[tuple[int, int]]:
    return [(phase.width, phase.epochs) for phase in phases]


def test_phases_keep_their_shares_and_the_last_ones_remain() -> None:
    phases = load_recipe("imagenet", ["data.shards=x"]).phases
    assert sizes(phases_of(phases, 36)) == [(112, 10), (144, 12), (192, 14)]
    assert sizes(phases_of(phases, 2)) == [(144, 1), (192, 1)]
    assert sizes(phases_of(phases, 1)) == [(192, 1)]
    for epochs in range(1, 60):
        assert sum(phase.epochs for phase in phases_of(phases, epochs)) == epochs


def test_few_photos_make_small_batches() -> None:
    assert [batch_for(count) for count in (10, 100, 1000, 3999)] == [8, 12, 32, 32]


def test_epochs_follow_the_data_unless_somebody_says_them() -> None:
    recipe = begin(Wish(), "x", PHOTOS, {})
    assert recipe.model.start == "identifier"
    assert recipe.train.lr < load_recipe("fine-tune", ["data.shards=x"]).train.lr, "a smaller batch takes smaller steps"

    def chosen(steps: int, wish: Wish = Wish()) -> int:  # noqa: B008
        return epochs_for(recipe, steps, wish=wish, pace=PACE, seconds=math.inf).epochs

    assert [chosen(1), chosen(4), chosen(1000)] == [MOST_EPOCHS, 24, 12]
    assert chosen(4, Wish(epochs=7)) == 7


def test_a_budget_takes_as_many_epochs_as_fit() -> None:
    recipe = replace(begin(Wish(), "x", PHOTOS, {}), phases=(Phase(epochs=12, width=224, height=224),))
    short = epochs_for(recipe, 10, wish=Wish(minutes=2), pace=PACE, seconds=120.0)
    assert short.epochs == 4  # each 25 s, and 5 s before the first
    assert estimate(short, 10, PACE) <= 0.9 * 120
    assert epochs_for(recipe, 10, wish=Wish(minutes=2), pace=PACE, seconds=-5.0).epochs == 1


@pytest.mark.parametrize(("epochs", "steps", "says"), [(1, 8, "1 epoch of 8 steps"), (3, 2, "3 epochs of 2 steps")])
def test_what_it_will_do_is_said_in_good_english(epochs: int, steps: int, says: str) -> None:
    recipe = replace(begin(Wish(), "x", PHOTOS, {}), phases=(Phase(epochs=epochs, width=224, height=224),))
    assert in_words(recipe, PHOTOS, steps, pace=PACE)[-1].startswith(says)


def test_a_size_scales_every_phase_and_what_a_person_sets_goes_before_all() -> None:
    recipe = begin(Wish(size=128, recipe="imagenet", changes=("model.weights=", "train.batch=4")), "x", PHOTOS, {})
    assert (recipe.input.width, recipe.input.height, recipe.train.batch) == (128, 128, 4)
    assert sizes(recipe.phases) == [(96, 5), (96, 6), (112, 7)], "no phase is too small to see a car"


def test_a_backbone_of_ones_own_gets_phases_that_it_can_learn_by() -> None:
    def begun(backbone: str, **wishes: int) -> Recipe:
        return begin(Wish(backbone=backbone, changes=("model.weights=",), **wishes), "x", PHOTOS, {})

    assert [phase.frozen for phase in begun("resnet10t").phases] == [0, 0, 2]
    regnet = begun("regnetx_002")
    assert [phase.frozen for phase in regnet.phases] == [0, 0, 0], "its stages are not known, so that none stands still"
    assert sizes(regnet.phases) == [(112, 5), (144, 6), (192, 7)]
    vit = begun("vit_tiny_patch16_224")
    assert (vit.input.width, vit.input.height) == (224, 224)
    assert sizes(vit.phases) == [(224, 5), (224, 6), (224, 7)], "the one size that it takes"
    with pytest.raises(RecipeError, match=r"takes 224x224 px alone, and not 192x192; .* without --size"):
        begun("vit_tiny_patch16_224", size=192)
    with pytest.raises(RecipeError, match="RegNet has no stages to freeze; use 0"):
        begin(Wish(recipe="imagenet", changes=("model.weights=", "model.backbone=regnetx_002")), "x", PHOTOS, {})


def test_weights_that_cannot_be_had_are_an_error_before_any_photo_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is unknown; did you mean"):
        begin(Wish(backbone="resnet51"), str(tmp_path / "nowhere"), PHOTOS, {})
    with pytest.raises(RecipeError, match="no file"):
        begin(Wish(recipe="imagenet", changes=("model.weights=none.safetensors",)), str(tmp_path), PHOTOS, {})
