"""Read a recipe from TOML, from the JSON of a run, and from `key=value` changes; refuse what would fail hours later.

Paths, in a recipe and in changes, count from where the process stands; a read recipe has them absolute. It needs no
torch and opens no file that a recipe names, but the recipe that it extends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from carspotter.errors import RecipeError, suggestion
from carspotter.runtime.bundle import Task
from carspotter.settings import parse_toml, read_section
from carspotter.training.augmentation import AugmentSettings as AugmentSettings
from carspotter.training.augmentation import as_table, filled
from carspotter.training.recipe import BASELINES, Recipe

_HERE = Path()
_PLACES = {"data": ("labels", "shards", "taxonomy", "teachers"), "model": ("start",), "card": ("notice",)}
"""Settings that name files or folders; `model.weights` is looked for in several places."""


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, TOML or the JSON of a run, and apply changes like `train.lr=1e-3`. Raises RecipeError.

    `path` is a file, or the name of a recipe that ships (`shipped_recipes`). `extends` begins with another recipe: a
    file beside this one, or one that ships.
    """
    path = find_recipe(path)
    content = _content(path, ())
    said: dict[str, Any] = {}
    for change in changes:
        _apply(said, change, where=path.name)
    content = _located(_over(content, said, where=path.name), Path.cwd())
    content["augment"] = filled(content.get("augment", {}), f"recipe {path.name}")
    recipe = read_section(Recipe, content, where=f"recipe {path.name}", error=RecipeError)
    _check(recipe, path.name)
    return recipe


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the package, by name."""
    folder = Path(str(resources.files("carspotter"))) / "training" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str | Path, near: Path = _HERE) -> Path:
    """Return the file of a recipe: a path, counted from `near`, else the name of one that ships. Raises RecipeError."""
    path, shipped = near / name, shipped_recipes()
    if not path.is_file() and str(name) in shipped:
        return shipped[str(name)]
    if not path.exists():
        raise RecipeError(
            f"recipe {name}: cannot be read: there is no such file, nor does a recipe of this name ship; "
            f"{suggestion(Path(name).stem, shipped, limit=20)}"
        )
    return path


# Settings that went: a run of before has all settings in its JSON, and is still evaluated and exported. `folder` is
# another: the one that the paths of such a run counted from.
_GONE = {"train": ("loss", "q"), "data": ("backgrounds",)}


def _content(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe's settings; those of the recipe that it `extends` stand where it says nothing itself."""
    try:
        text = path.read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text) if path.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error}") from error
    for section, gone in _GONE.items() if path.suffix == ".json" else ():
        if isinstance(content.get(section), dict):
            content[section] = {key: value for key, value in content[section].items() if key not in gone}
    if path.suffix == ".json":
        _stages_of_before(content.get("model"))
    if path.suffix == ".json" and isinstance(folder := content.pop("folder", None), str):
        content = _located(content, Path(folder))
    other = content.pop("extends", None)
    if other is None:
        return content
    if not isinstance(other, str) or path.resolve() in above:
        raise RecipeError(f"recipe {path}: extends {other!r}; it must name another recipe, and not itself")
    return _over(_content(find_recipe(other, path.parent), (*above, path.resolve())), content, where=path.name)


def _over(base: dict[str, Any], content: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Lay settings over others, a table key by key. Who names shards says nothing of labels, and the other way."""
    whole = dict(base)
    for key, value in content.items():
        below = whole.get(key)
        if key == "augment":
            value, below = as_table(value), as_table(below)
            if isinstance(value, dict) and "name" in value:
                below = {}  # a named one replaces what lay below; a recipe's own values would undo most of it
        if isinstance(value, dict) and below is not None and not isinstance(below, dict):
            raise RecipeError(f"recipe {where}: {key} holds no settings by name")
        whole[key] = {**below, **value} if isinstance(value, dict) and isinstance(below, dict) else value
    said = content.get("data")
    if isinstance(said, dict):
        for ours, others in (("shards", ("labels", "taxonomy")), ("labels", ("shards",))):
            if said.get(ours):
                whole["data"] = {k: v for k, v in whole["data"].items() if k not in others or k in said}
    return whole


def _stages_of_before(model: Any) -> None:
    """Turn the `last-N` of a run of before, when it counted stages, into what it meant; later runs say `stages`."""
    if isinstance(model, dict) and "stages" not in model and str(model.get("layers", "")).startswith("last-"):
        model["stages"], model["layers"] = int(model["layers"].removeprefix("last-")), "all"


def _apply(content: dict[str, Any], change: str, *, where: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"recipe {where}: change {change!r}; write it as key=value, such as train.lr=1e-3")
    *parents, last = key.strip().split(".")
    table = content
    for parent in parents:
        if parent == "augment":
            table[parent] = as_table(table.get(parent, {}))
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"recipe {where}: change {change!r}: {parent} holds no settings by name")
    try:
        table[last] = parse_toml(f"value = {text}")["value"]
    except ValueError:
        table[last] = text.strip()  # a bare word or path needs no quotes on the command line


def _located(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of settings absolute, counted from a folder."""
    content = dict(content)
    for section, names in _PLACES.items():
        if isinstance(table := content.get(section), dict):
            content[section] = {k: _absolute(v, folder) if k in names else v for k, v in table.items()}
    return content


def _absolute(value: Any, folder: Path) -> Any:
    """Make a path, or each of a list, absolute; a shipped bundle's name, a URL and an empty text stay."""
    if isinstance(value, list | tuple):
        return [_absolute(item, folder) for item in value]
    is_path = isinstance(value, str) and value not in ("", *get_args(Task)) and "://" not in value
    return str(folder.absolute() / value) if is_path else value


def _data_rules(recipe: Recipe) -> list[tuple[bool, str]]:
    """Return what must hold of the data, each with what to say where it does not."""
    data = recipe.data
    return [
        (0 < data.holdout < 1, f"data.holdout is {data.holdout}; it must be between 0 and 1"),
        (0 < data.fraction <= 1, f"data.fraction is {data.fraction}; above 0, at most 1"),
        (data.memory >= 0, f"data.memory is {data.memory}; GB, 0 or more"),
        (data.shuffle >= 1, f"data.shuffle is {data.shuffle}; it must be 1 or more"),
        (-1 <= data.workers <= 256, f"data.workers is {data.workers}; from 0 to 256, or -1"),
        (
            bool(data.labels) != bool(data.shards),
            "data: give labels or shards, one of the two: --set data.labels=MINE.csv --set data.taxonomy=CLASSES.csv, "
            "or --set data.shards=PROJECT/shards",
        ),
        (
            bool(data.taxonomy or data.shards) or recipe.task in ("finder", "attribute"),
            "data.taxonomy: labels need the table of their classes: --set data.taxonomy=CLASSES.csv",
        ),
    ]


def _check(recipe: Recipe, where: str) -> None:
    """Refuse values that would only fail hours later."""
    train = recipe.train
    rules = [
        *_data_rules(recipe),
        (bool(recipe.phases) or recipe.task in BASELINES, "phases: at least one is needed"),
        (all(phase.epochs > 0 for phase in recipe.phases), "phases: epochs must be 1 or more"),
        (all(min(phase.width, phase.height) >= 32 for phase in recipe.phases), "phases: width and height from 32 px"),
        (train.batch >= 2, f"train.batch is {train.batch}; batch normalisation needs 2 or more"),
        (train.lr > 0, f"train.lr is {train.lr}; it must be above 0"),
        (0 <= train.ema < 1, f"train.ema is {train.ema}; it must be from 0 to below 1"),
        (0 <= train.label_smoothing < 1, f"train.label_smoothing is {train.label_smoothing}; from 0 to below 1"),
        (0 < train.blend <= 1, f"train.blend is {train.blend}; above 0, at most 1"),
        (0 <= train.distill <= 1, f"train.distill is {train.distill}; it must be from 0 to 1"),
        (train.temperature > 0, f"train.temperature is {train.temperature}; it must be above 0"),
        (
            not train.distill or bool(recipe.data.teachers) or (train.probe > 0 and train.teacher_side >= 32),
            "train.distill needs data.teachers: runs to follow; or train.probe and train.teacher_side from 32: the "
            "still network follows itself",
        ),
        (min(recipe.augment.mixup, recipe.augment.cutmix) >= 0, "augment.mixup and cutmix must not be negative"),
        (
            bool(re.fullmatch(r"all|head|last-[1-9]\d*", recipe.model.layers)),
            f"model.layers is {recipe.model.layers!r}; {suggestion(recipe.model.layers, ('all', 'head', 'last-40'))}",
        ),
        (recipe.model.stages >= 0, f"model.stages is {recipe.model.stages}; it must be 0 or more"),
        (
            not recipe.model.stages or recipe.model.layers == "all",
            f"model.layers is {recipe.model.layers!r} and model.stages {recipe.model.stages}; set one of the two",
        ),
        (0 <= recipe.model.dropout < 1, f"model.dropout is {recipe.model.dropout}; from 0 to below 1"),
        (0 < recipe.augment.min_area <= 1, f"augment.min_area is {recipe.augment.min_area}; above 0, at most 1"),
    ]
    for holds, message in rules:
        if not holds:
            raise RecipeError(f"recipe {where}: {message}")
