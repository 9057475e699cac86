"""Training and judging from a project's shards: its split is kept, its classes are those of the shards."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carspotter.dataset.shards import ShardSettings, write
from carspotter.errors import DatasetError, RecipeError
from carspotter.evaluation.evaluating import from_shards
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.task import LOG

TAXONOMY = Taxonomy(tuple(Taxon(make=make, model=color) for make in ("Round", "Flat") for color in ("Red", "Blue")))


def shards_of(
    drawn_data: Path,
    folder: Path,
    splits: tuple[str, ...] = ("train", "train", "validation"),
    *,
    form: str = "webdataset",
    per_shard: int = 16,
    only: Sequence[int] | None = None,
) -> Path:
    """Write the drawn photos as shards, an ad of four photos each, ads dealt to the splits in turn."""
    with (drawn_data / "photos" / "labels.csv").open() as file:
        found = list(csv.DictReader(file))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(found):
        if only is not None and number not in only:
            continue
        taxon = TAXONOMY.classes[int(row["class_id"]) - 1]
        ad = number // 4
        rows.append(
            {
                "photo_id": f"{ad}/{number}",
                "ad_id": str(ad),
                "path": row["path"],
                "x1": 0.0,
                "y1": 0.0,
                "x2": 96.0,
                "y2": 72.0,
                "class_name": taxon.name(),
                "class_index": int(row["class_id"]) - 1,
                "make": taxon.make,
                "model": taxon.model,
                "year": 2012,
                "split": splits[ad % len(splits)],
                "viewpoint": "front",
                "said_by": "seller",
            }
        )
    settings = ShardSettings(format=(form,), size=64, per_shard=per_shard)  # type: ignore[arg-type]
    write(rows, settings, folder, root=drawn_data / "photos", taxonomy=TAXONOMY)
    return folder


def recipe_of(drawn_data: Path, shards: Path) -> list[str]:
    return [f"data.shards={shards}", "phases=[{epochs=6, width=48, height=48}]"]


def test_a_training_keeps_the_split_of_its_project(drawn_data: Path, tmp_path: Path) -> None:
    changes = recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards"))
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes))
    assert task.taxonomy.classes == TAXONOMY.classes
    assert set(task.photos.some().groups).isdisjoint(task.holdout.groups)
    # Named as an evaluation names them, so that its table can be a teacher's.
    assert set(task.holdout.paths) == {
        photo.name for photo in from_shards(changes[0].partition("=")[2], split="validation")
    }
    assert {int(group) % 3 for group in task.holdout.groups} == {2}
    assert task.photos.some().images.shape[1:] == (64, 64, 3)
    train(drawn_data / "recipe.toml", changes, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert max(line["top1"] for line in lines) >= 0.5  # chance: 0.25


def test_without_a_validation_split_some_ads_are_held_out(drawn_data: Path, tmp_path: Path) -> None:
    shards = shards_of(drawn_data, tmp_path / "shards", splits=("train",))
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", recipe_of(drawn_data, shards)))
    assert len(task.holdout) > 0
    assert set(task.photos.some().groups).isdisjoint(task.holdout.groups)


def test_samples_are_judged_by_what_their_shards_say(drawn_data: Path, tmp_path: Path) -> None:
    photos = from_shards(str(shards_of(drawn_data, tmp_path / "shards")), split="validation")
    assert {photo.taxon for photo in photos} == set(TAXONOMY.classes)  # an ad's year is no part of its class
    assert {photo.name.split("/")[0] for photo in photos} == {photo.about["ad_id"] for photo in photos}
    assert {int(photo.about["ad_id"]) % 3 for photo in photos} == {2}
    assert np.array([photo.box is not None for photo in photos]).all()


def test_what_holds_nothing_to_learn_is_refused(drawn_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="manifest"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", recipe_of(drawn_data, tmp_path / "none")))
    shards = shards_of(drawn_data, tmp_path / "shards", splits=("test",))
    with pytest.raises((RecipeError, DatasetError), match="train"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", recipe_of(drawn_data, shards)))
