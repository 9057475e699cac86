"""What a labels CSV calls its test stays test: no photo of it, and none of its groups, is learnt from or held out."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from carspotter.errors import RecipeError
from carspotter.training.identifier.data import load_labels
from carspotter.training.recipe_file import load_recipe

WORDS = {"train": "Training", "validation": "val", "test": "TEST"}


def _labels(drawn_data: Path, folder: Path, parts: list[str], groups: dict[int, str]) -> list[str]:
    """Write labels whose photo i is given the part i; return the changes of the recipe."""
    with (drawn_data / "photos" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[: len(parts)]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "class_id", "group"])
        for i, (row, part) in enumerate(zip(rows, parts, strict=True)):
            path = (drawn_data / "photos" / row["path"]).resolve()
            writer.writerow([path, WORDS.get(part, part), row["class_id"], groups.get(i, "")])
    return [f"data.labels={folder / 'labels.csv'}", "data.split="]


def _numbers(paths: tuple[str, ...]) -> set[int]:
    return {int(Path(path).stem) for path in paths}


def test_given_parts_are_kept_and_nothing_of_the_test_is_read(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = ["train"] * 16 + ["validation"] * 8 + ["test"] * 8
    # Photo 0 is of the ad of a test photo, photo 1 of one in validation, and 16 in validation of one in test.
    changes = _labels(drawn_data, tmp_path, parts, {0: "a", 31: "a", 1: "b", 23: "b", 16: "c", 30: "c"})
    with caplog.at_level(logging.WARNING):
        found = load_labels(load_recipe(drawn_data / "recipe.toml", changes), tmp_path)
    assert _numbers(found.photos.some().paths) == set(range(2, 16))
    assert _numbers(found.holdout.paths) == set(range(17, 24))
    assert "3 photos are left out" in caplog.text


def test_without_a_validation_part_some_of_train_is_held_out(drawn_data: Path, tmp_path: Path) -> None:
    changes = _labels(drawn_data, tmp_path, ["train"] * 24 + ["test"] * 8, {})
    found = load_labels(load_recipe(drawn_data / "recipe.toml", changes), tmp_path)
    learnt, held = _numbers(found.photos.some().paths), _numbers(found.holdout.paths)
    assert held
    assert learnt | held == set(range(24))
    assert not learnt & held


def test_a_word_that_names_no_part_is_refused(drawn_data: Path, tmp_path: Path) -> None:
    changes = _labels(drawn_data, tmp_path, ["train"] * 24 + ["tset"] * 8, {})
    with pytest.raises(RecipeError, match="split is 'tset' in 8 rows, which names no part"):
        load_labels(load_recipe(drawn_data / "recipe.toml", changes), tmp_path)
