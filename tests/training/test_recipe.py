"""Recipes: what is read, what is refused, and what the message offers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carspotter.errors import RecipeError
from carspotter.training.recipe import BASELINES
from carspotter.training.recipe_file import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[2]


def test_values_and_changes(drawn_data: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["train.lr=0.5", "name=other name", "data.holdout=0.1"])
    assert (recipe.train.lr, recipe.name, recipe.data.holdout) == (0.5, "other name", 0.1)
    assert recipe.epochs == 4
    assert [recipe.phase_of(epoch).width for epoch in range(4)] == [32, 32, 48, 48]
    assert recipe.data.labels == str(drawn_data / "photos" / "labels.csv")


def test_paths_count_from_where_one_stands(drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.toml").write_text(
        f'extends = "{drawn_data}/recipe.toml"\n[data]\ntaxonomy = "classes.csv"\n[card]\nnotice = "NOTICE"\n'
    )
    monkeypatch.chdir(tmp_path)
    changes = ["data.labels=mine.csv", "data.teachers=['a-run', '/else']", "model.start=my-run"]
    recipe = load_recipe("recipes/mine.toml", changes)
    assert recipe.data.labels == str(tmp_path / "mine.csv")
    assert recipe.data.taxonomy == str(tmp_path / "classes.csv")
    assert recipe.card.notice == str(tmp_path / "NOTICE")
    assert recipe.data.teachers == (str(tmp_path / "a-run"), "/else")
    assert recipe.model.start == str(tmp_path / "my-run")


def test_who_names_shards_says_nothing_of_labels_and_the_other_way(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["model.start=identifier", f"data.shards={tmp_path}"])
    assert (recipe.model.start, recipe.data.labels, recipe.data.taxonomy) == ("identifier", "", "")
    assert recipe.data.shards == str(tmp_path)
    (tmp_path / "shards.toml").write_text(f'extends = "{drawn_data}/recipe.toml"\n[data]\nshards = "s3://a/shards"\n')
    assert load_recipe(tmp_path / "shards.toml").data.shards == "s3://a/shards"
    recipe = load_recipe(tmp_path / "shards.toml", ["data.labels=a.csv", "data.taxonomy=b.csv"])
    assert recipe.data.shards == ""
    with pytest.raises(RecipeError, match="labels or shards, one of the two"):
        load_recipe(drawn_data / "recipe.toml", ["data.shards=a", "data.labels=b"])
    with pytest.raises(RecipeError, match=r"data\.taxonomy=CLASSES\.csv"):
        load_recipe("fine-tune", ["data.labels=a.csv"])
    assert load_recipe(drawn_data / "recipe.toml", ["model.weights=w.st"]).model.weights == "w.st"


def test_json_of_a_run_is_the_same_recipe(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert load_recipe(tmp_path / "recipe.json") == recipe
    before = recipe.to_dict() | {"train": recipe.to_dict()["train"] | {"loss": "cross-entropy", "q": 0.7}}
    (tmp_path / "recipe.json").write_text(json.dumps(before))
    assert load_recipe(tmp_path / "recipe.json") == recipe, "a run of before, when there were more settings"
    before["folder"] = str(drawn_data)
    before["data"] = before["data"] | {"labels": "photos/labels.csv", "taxonomy": "taxonomy.csv"}
    (tmp_path / "recipe.json").write_text(json.dumps(before))
    assert load_recipe(tmp_path / "recipe.json") == recipe, "a run of before, whose paths counted from a folder"


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


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_that_ships_is_taken_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name, ["data.shards=my-cars/shards"])
    assert recipe.claim
    assert recipe.epochs or recipe.task in BASELINES
    if recipe.task != "attribute":  # whose labels `carspotter train X --task` gives
        with pytest.raises(RecipeError, match=r"--set data\.labels=MINE\.csv"):
            load_recipe(name)
    Path("mine.toml").write_text(f'extends = "{name}"\nname = "mine"\n')
    assert load_recipe("mine.toml", ["data.shards=my-cars/shards"]).model == recipe.model
    Path(name).write_text(f'extends = "{name}.toml"\n')
    with pytest.raises(RecipeError, match=f"no such file, nor .* did you mean '{name}'"):
        load_recipe(name)  # a file of this name goes first


def test_an_unknown_name_lists_those_that_ship() -> None:
    with pytest.raises(RecipeError, match="did you mean 'fine-tune'"):
        load_recipe("recipes/fine-tune.toml", ["data.shards=x"])
    with pytest.raises(RecipeError, match=r"allowed: .*fine-tune.*resnet50v2"):
        load_recipe("quite-another")


def test_a_recipe_extends_another(drawn_data: Path, tmp_path: Path) -> None:
    base = drawn_data / "recipe.toml"
    (tmp_path / "more.toml").write_text(f'extends = "{base}"\nname = "more"\n[train]\nlr = 0.5\n')
    recipe = load_recipe(tmp_path / "more.toml")
    assert (recipe.name, recipe.train.lr, recipe.train.batch) == ("more", 0.5, load_recipe(base).train.batch)
    (tmp_path / "round.toml").write_text('extends = "round.toml"\n')
    with pytest.raises(RecipeError, match="not itself"):
        load_recipe(tmp_path / "round.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_project_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipe = load_recipe(f"recipes/{path.name}")
    assert Path(recipe.data.labels).is_relative_to(ROOT)
    assert not recipe.card.notice or Path(recipe.card.notice).is_file()
    assert recipe.claim
    assert recipe.epochs or recipe.task in BASELINES
