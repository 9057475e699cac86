"""Recipes: what is read, what is refused, and what the message offers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carspotter.errors import RecipeError
from carspotter.training.recipe import BASELINES, load_recipe

ROOT = Path(__file__).parents[2]


def test_values_and_changes(drawn_data: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["train.lr=0.5", "name=other name", "data.holdout=0.1"])
    assert (recipe.train.lr, recipe.name, recipe.data.holdout) == (0.5, "other name", 0.1)
    assert recipe.epochs == 4
    assert [recipe.phase_of(epoch).width for epoch in range(4)] == [32, 32, 48, 48]
    assert recipe.path(recipe.data.labels) == drawn_data / "photos" / "labels.csv"


def test_paths_in_changes_count_from_where_one_stands(
    drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["data.labels=mine.csv", "data.teachers=['a-run']", "model.start=my-run"]
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    assert recipe.path(recipe.data.labels) == tmp_path / "mine.csv"
    assert recipe.path(recipe.data.taxonomy) == drawn_data / "taxonomy.csv"
    assert recipe.data.teachers == (str(tmp_path / "a-run"),)
    assert recipe.path(recipe.model.start) == tmp_path / "my-run"
    changes = ["model.start=identifier", "data.labels=", "data.shards=shards"]
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    assert (recipe.model.start, recipe.data.labels) == ("identifier", "")
    assert load_recipe(drawn_data / "recipe.toml", ["model.weights=w.st"]).model.weights == "w.st"


def test_json_of_a_run_is_the_same_recipe(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert load_recipe(tmp_path / "recipe.json") == recipe
    before = recipe.to_dict() | {"train": recipe.to_dict()["train"] | {"loss": "cross-entropy", "q": 0.7}}
    (tmp_path / "recipe.json").write_text(json.dumps(before))
    assert load_recipe(tmp_path / "recipe.json") == recipe, "a run of before, when there were more settings"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.lrr=1", "did you mean 'lr'"),
        ("trian.lr=1", "did you mean 'train'"),
        ("train.lr=fast", "expected a number, got 'fast'"),
        ("train.batch=1", "needs 2 or more"),
        ("train.batch=true", "expected a whole number"),
        ("train.lr=-1", "must be above 0"),
        ("train.precision=float16", "is not possible"),
        ("task=detector", "is not possible"),
        ("phases=3", "expected a list"),
        ("phases=[]", "at least one"),
        ("phases=[{epochs=1, width=64}]", "height must be given"),
        ("data.holdout=1", "between 0 and 1"),
        ("name.x=1", "holds no settings"),
        ("train.lr", "write it as key=value"),
        ("train.distill=0.5", "train.distill needs data.teachers: runs to follow"),
    ],
)
def test_refused(drawn_data: Path, change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(drawn_data / "recipe.toml", [change])


@pytest.mark.parametrize("content", [None, "not = [toml", "\xff"])
def test_unreadable_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(path)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path).epochs > 0


def test_a_recipe_extends_another(drawn_data: Path, tmp_path: Path) -> None:
    base = drawn_data / "recipe.toml"
    (tmp_path / "more.toml").write_text(f'extends = "{base}"\nname = "more"\n[train]\nlr = 0.5\n')
    recipe = load_recipe(tmp_path / "more.toml")
    assert (recipe.name, recipe.train.lr, recipe.train.batch) == ("more", 0.5, load_recipe(base).train.batch)
    (tmp_path / "round.toml").write_text('extends = "round.toml"\n')
    with pytest.raises(RecipeError, match="not itself"):
        load_recipe(tmp_path / "round.toml")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_project_is_whole(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.claim
    assert recipe.epochs or recipe.task in BASELINES
