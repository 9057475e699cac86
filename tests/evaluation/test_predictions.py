"""The prediction table: saved and read alike, refused where it does not fit together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carspotter.errors import EvaluationError
from carspotter.evaluation.predictions import Predictions, in_common

Maker = Callable[..., Predictions]


def test_a_table_comes_back_as_it_was_saved(table: Predictions, tmp_path: Path) -> None:
    path = table.save(tmp_path / "runs" / "test.parquet")
    read = Predictions.load(path)
    assert read.name == table.name
    assert read.taxonomy.to_dict() == table.taxonomy.to_dict()
    assert np.array_equal(read.photos, table.photos)
    assert np.array_equal(read.probabilities, table.probabilities)
    assert np.array_equal(read.truth, table.truth)
    assert all(np.array_equal(read.levels[level], table.levels[level]) for level in table.levels)
    assert {name: texts.tolist() for name, texts in read.about.items()} == {
        name: texts.tolist() for name, texts in table.about.items()
    }
    assert [each.name for each in path.parent.iterdir()] == ["test.parquet"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list threads")
def test_reading_a_table_starts_no_thread(table: Predictions, tmp_path: Path) -> None:
    """One that outlives the main thread may abort the program at its end."""
    program = f"""
import os, pyarrow.parquet
from carspotter.evaluation.predictions import Predictions
before = len(os.listdir("/proc/self/task"))
Predictions.load({str(table.save(tmp_path / "test.parquet"))!r})
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_an_empty_table_comes_back(by_hand: Maker, tmp_path: Path) -> None:
    empty = by_hand(np.zeros((0, 3)), np.zeros(0, int))
    assert len(Predictions.load(empty.save(tmp_path / "empty.parquet"))) == 0


def test_the_truth_of_a_level_follows_the_class_and_else_what_was_given(table: Predictions) -> None:
    known = table.truth >= 0
    for level, truth in table.levels.items():
        assert (truth[known] == table.taxonomy.index(level)[table.truth[known]]).all()
    assert set(table.levels["model"][~known]) == {-1}
    assert {-1} < set(table.levels["make"][~known])


def test_taking_photos_keeps_all_columns_together(table: Predictions) -> None:
    part = table.take(np.array([5, 2]))
    assert part.photos.tolist() == table.photos[[5, 2]].tolist()
    assert part.about["path"].tolist() == table.about["path"][[5, 2]].tolist()
    assert np.array_equal(part.levels["make"], table.levels["make"][[5, 2]])
    assert len(table.take(table.truth >= 0)) == int((table.truth >= 0).sum())


def test_probabilities_of_a_level_are_the_sums_of_its_classes(table: Predictions) -> None:
    audi = table.at("make")[:, table.taxonomy.names("make").index("Audi")]
    assert np.allclose(audi, table.probabilities[:, :4].sum(1), atol=1e-6)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"photos": np.array(["a"])}, "1 photos of 2 classes"),
    ({"photos": np.array(["a", "a"])}, "occurs twice"),
    ({"about": {"path": np.array(["x"])}}, "column 'path'"),
    ({"about": {"photo": np.array(["x", "y"])}}, "column 'photo' must have another name"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_arrays_that_do_not_fit_are_refused(by_hand: Maker, change: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        by_hand([[0.5, 0.5], [0.9, 0.1]], [0, 1], **change)


def test_probabilities_that_do_not_sum_to_one_are_refused(by_hand: Maker) -> None:
    with pytest.raises(EvaluationError, match="sum to 1"):
        by_hand([[0.5, 0.2]], [0])


def test_files_that_hold_no_predictions_are_refused(table: Predictions, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        Predictions.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(EvaluationError, match="cannot be read"):
        Predictions.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"photo": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(EvaluationError, match="no prediction table"):
        Predictions.load(tmp_path / "other.parquet")


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take only names in UTF-8")
def test_a_table_of_any_name_is_read(table: Predictions, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    assert Predictions.load(table.save(path)).name == table.name


def rewritten(path: Path, *, drop: str | None = None, **said: Any) -> Path:
    """Change a saved table's metadata, or leave a column out."""
    saved = pq.read_table(path)
    content = json.loads(saved.schema.metadata[b"carspotter.predictions"]) | said
    if drop:
        saved = saved.drop_columns([drop])
    pq.write_table(saved.replace_schema_metadata({"carspotter.predictions": json.dumps(content)}), path)
    return path


def test_other_formats_missing_columns_and_bad_taxonomies_are_refused(table: Predictions, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="format is 9; this version reads 1"):
        Predictions.load(rewritten(table.save(tmp_path / "a.parquet"), format=9))
    with pytest.raises(EvaluationError, match="lacks the column 'truth_model'"):
        Predictions.load(rewritten(table.save(tmp_path / "b.parquet"), drop="truth_model"))
    with pytest.raises(EvaluationError, match="expected keys and values"):
        Predictions.load(rewritten(table.save(tmp_path / "c.parquet"), taxonomy=[]))


def test_tables_meet_on_the_photos_in_common_in_one_order(made: Maker) -> None:
    a, b = made(40, seed=1, name="a"), made(40, seed=2, name="b")
    first, second = in_common([a.take(np.arange(5, 40)), b.take(np.arange(30)[::-1])])
    assert first.photos.tolist() == second.photos.tolist() == sorted(a.photos[5:30].tolist())
    row = first.photos.tolist().index(a.photos[7])
    assert np.array_equal(first.probabilities[row], a.probabilities[7])
    assert np.array_equal(second.probabilities[row], b.probabilities[7])


def test_tables_that_cannot_meet_say_why(made: Maker, by_hand: Maker) -> None:
    a, b = made(40, name="a"), made(40, name="b")
    with pytest.raises(EvaluationError, match="a and b have no photo in common"):
        in_common([a.take(np.arange(10)), b.take(np.arange(20, 30))])
    with pytest.raises(EvaluationError, match="different classes"):
        in_common([a, by_hand([[0.5, 0.5]], [0], photos=a.photos[:1])])
    first = by_hand([[0.5, 0.5]], [0], name="x")
    said = r"x and y disagree on the truth of 1 of 1 photos, such as \S+ \(.+ and .+\): .*evaluate both bundles again"
    with pytest.raises(EvaluationError, match=said):
        in_common([first, by_hand([[0.5, 0.5]], [1], name="y")])
