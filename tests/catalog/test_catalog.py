"""Rows in and out of a catalogue: the newest counts, pending rows, snapshots, columns, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carspotter.catalog import merge
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import TABLES
from carspotter.errors import CatalogError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path) as opened:
        yield opened


def files(folder: Path, table: str = "checks") -> list[Path]:
    return sorted((folder / "catalog" / table).iterdir())


def test_an_empty_catalogue_has_every_table_with_its_columns(catalog: Catalog) -> None:
    for table in TABLES.values():
        assert catalog.rows(f"SELECT * FROM {table.name}") == []
        names = [row["column_name"] for row in catalog.rows(f"DESCRIBE {table.name}")]
        assert names == [*table.columns, "stage_version"]
        assert catalog.count(table.name) == 0


def test_types_are_the_same_with_and_without_rows(catalog: Catalog) -> None:
    def types(table: str) -> list[str]:
        return [row["column_type"] for row in catalog.rows(f"DESCRIBE {table}")]

    for table in TABLES.values():
        empty = types(table.name)
        values = {
            "text": "a",
            "int": 1,
            "hash": 2**64 - 1,
            "number": 0.5,
            "truth": True,
            "texts": ["a"],
            "vector": [0.5],
        }
        row = {name: values[kind] for name, kind in table.columns.items()}
        put = catalog.append if table.growth == "facts" else catalog.replace
        assert put(table.name, [row]) == 1
        assert types(table.name) == empty
        assert catalog.rows(f"SELECT * FROM {table.name}") == [{**row, "stage_version": "1"}]


def test_the_newest_row_of_a_key_counts(catalog: Catalog) -> None:
    assert catalog.append("checks", [{"photo_id": "a", "width": 1, "status": "ok"}, {"photo_id": "b", "width": 2}]) == 2
    assert catalog.append("checks", [{"photo_id": "a", "height": 3}], version="2") == 1
    rows = catalog.rows("SELECT photo_id, width, height, status, stage_version FROM checks ORDER BY photo_id")
    assert rows == [
        {"photo_id": "a", "width": None, "height": 3, "status": None, "stage_version": "2"},
        {"photo_id": "b", "width": 2, "height": None, "status": None, "stage_version": "1"},
    ]
    assert catalog.count("checks") == 2


def test_no_rows_make_no_part(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.append("checks", []) == 0
    assert not (tmp_path / "catalog" / "checks").exists()


def test_a_snapshot_is_the_newest_whole(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.replace("samples", [{"photo_id": "a"}, {"photo_id": "b"}]) == 2
    assert catalog.replace("samples", [{"photo_id": "c"}], version="2") == 1
    assert catalog.rows("SELECT photo_id, stage_version FROM samples") == [{"photo_id": "c", "stage_version": "2"}]
    assert len(files(tmp_path, "samples")) == 1
    assert catalog.replace("samples", []) == 0
    assert catalog.count("samples") == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.append("check", []), "no table 'check'; did you mean 'checks'?"),
        (lambda c: c.count("zzzz"), "no table 'zzzz'; allowed: listings"),
        (lambda c: c.append("samples", []), "table samples holds snapshot; use replace()"),
        (lambda c: c.replace("checks", []), "table checks holds facts; use append()"),
        (lambda c: c.pending("SELECT 1", {}), "tables with one and the same key; given: none"),
        (lambda c: c.pending("FROM files", {"samples": "1"}), "samples holds a snapshot"),
        (lambda c: c.pending("FROM files", {"labels": "1", "files": "1"}), "labels (ad_id), files (photo_id)"),
        (lambda c: c.pending("FROM files", {"fils": "1"}), "no table 'fils'; did you mean 'files'?"),
        (lambda c: c.pending("SELECT path FROM files", {"checks": "1"}), 'does not have a column named "photo_id"'),
    ],
)
def test_what_is_not_there_is_named(catalog: Catalog, call: Any, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        call(catalog)
    assert message in str(caught.value)


def test_pending_rows_say_which_tables_want_them(catalog: Catalog) -> None:
    catalog.append("files", {"photo_id": ["d", "b", "a", "c"], "path": ["4", "2", "1", "3"], "status": ["ok"] * 4})
    catalog.append("checks", {"photo_id": ["a", "b"]}, version="2")
    catalog.append("checks", {"photo_id": ["c"]}, version="1")
    catalog.append("findings", {"photo_id": ["a", "d"]}, version="1")
    writes = {"checks": "2", "findings": "1"}
    assert list(catalog.pending("SELECT photo_id, path FROM files", writes)) == [
        {"photo_id": "b", "path": "2", "lacks": ["findings"]},
        {"photo_id": "c", "path": "3", "lacks": ["checks", "findings"]},
        {"photo_id": "d", "path": "4", "lacks": ["checks"]},
    ]
    assert catalog.count_pending("SELECT photo_id, path FROM files", writes) == 3


def test_a_fact_of_an_older_version_again_is_pending(catalog: Catalog) -> None:
    # What readers see is the newest row, so that alone decides; compacting cannot change it.
    catalog.append("files", {"photo_id": ["a"]})
    catalog.append("checks", {"photo_id": ["a"]}, version="1")
    catalog.append("checks", {"photo_id": ["a"]}, version="2")
    assert catalog.count_pending("FROM files", {"checks": "1"}) == 1
    catalog.compact(full=True)
    assert catalog.count_pending("FROM files", {"checks": "1"}) == 1
    assert catalog.count_pending("FROM files", {"checks": "2"}) == 0


def test_the_sql_of_candidates_may_end_in_a_comment(catalog: Catalog) -> None:
    catalog.append("files", {"photo_id": ["a", "b"]})
    sql = "SELECT photo_id FROM files WHERE photo_id <> 'a' -- all but one"
    assert [row["photo_id"] for row in catalog.pending(sql, {"checks": "1"})] == ["b"]
    assert catalog.count_pending(sql, {"checks": "1"}) == 1


def test_what_is_appended_while_pending_rows_are_taken_changes_nothing(catalog: Catalog) -> None:
    n = 4_000
    catalog.append("files", {"photo_id": [f"{i:05d}" for i in range(n)]})
    taken = []
    with catalog.writer():
        for number, row in enumerate(catalog.pending("FROM files", {"files": "2", "checks": "1"})):
            taken.append(row["photo_id"])
            if number % 50 == 0:  # enough appends that the parts that are read from are merged away
                catalog.append("checks", {"photo_id": [row["photo_id"]]})
                catalog.append("files", {"photo_id": [row["photo_id"]]}, version="2")
    assert taken == [f"{i:05d}" for i in range(n)]
    assert catalog.count("checks") == 80


def test_columns_have_the_types_of_numpy(catalog: Catalog) -> None:
    catalog.append(
        "checks",
        [
            {"photo_id": "a", "width": 1, "phash": 2**64 - 1, "brightness": 0.5, "flags": ["x", "y"]},
            {"photo_id": "b", "width": 2, "phash": 7, "height": 9, "flags": []},
        ],
    )
    found = catalog.columns("SELECT * FROM checks ORDER BY photo_id")
    assert found["photo_id"].tolist() == ["a", "b"]
    assert found["width"].dtype == np.int64
    assert found["phash"].dtype == np.uint64
    assert found["phash"].tolist() == [2**64 - 1, 7]
    assert found["brightness"].dtype == np.float32
    np.testing.assert_array_equal(found["brightness"], np.array([0.5, np.nan], np.float32))
    assert found["height"].tolist() == [None, 9]
    assert found["flags"] == [["x", "y"], []]
    counted = catalog.columns(
        "SELECT sum(width) AS s, sum(phash) AS p, avg(width) AS a, bool_and(width > 0) AS t FROM checks"
    )
    assert (counted["s"].dtype, counted["s"].tolist()) == (np.int64, [3])
    assert counted["p"].tolist() == [2**64 + 6]
    assert counted["a"].tolist() == [1.5]
    assert counted["t"].dtype == np.bool_


def test_vectors_of_one_length_are_one_array(catalog: Catalog) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float16)
    catalog.append("embeddings", {"photo_id": [f"{i:03d}" for i in range(300)], "embedding": vectors})
    found = catalog.columns("SELECT embedding FROM embeddings ORDER BY photo_id")["embedding"]
    assert found.shape == (300, 8)
    np.testing.assert_array_equal(found, vectors.astype(np.float32))
    catalog.append("embeddings", [{"photo_id": "900", "embedding": [1.0]}, {"photo_id": "901"}])
    ragged = catalog.columns("SELECT embedding FROM embeddings WHERE photo_id >= '299' ORDER BY photo_id")["embedding"]
    assert [None if vector is None else len(vector) for vector in ragged] == [8, 1, None]
    assert len(catalog.columns("SELECT embedding FROM embeddings WHERE false")["embedding"]) == 0


def test_params_stand_for_question_marks(catalog: Catalog) -> None:
    catalog.append("checks", [{"photo_id": "it's", "width": 5}])
    sql = "SELECT width FROM checks WHERE photo_id = ? AND width = ?"
    assert catalog.rows(sql, "it's", 5) == [{"width": 5}]
    assert catalog.columns(sql, "it's", 5)["width"].tolist() == [5]


def test_nothing_is_held_open_between_catalogues(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as first, Catalog.open(tmp_path) as reader:
        assert reader.count("checks") == 0
        first.append("checks", [{"photo_id": "a"}])
        assert reader.count("checks") == 1  # a reader sees each part as soon as it has its name
        first.append("checks", [{"photo_id": "a"}, {"photo_id": "b"}])
        assert reader.count("checks") == 2


@pytest.mark.parametrize("name", ["it's", "we[ab]ird *d? x", "пр оект", 'quo"te', "a'; DROP TABLE x; --", "{0}%s"])
def test_a_project_may_have_any_name(tmp_path: Path, name: str) -> None:
    with Catalog.open(tmp_path / name) as catalog:
        catalog.append("checks", [{"photo_id": "a"}])
        catalog.append("checks", [{"photo_id": "a", "width": 1}, {"photo_id": "b"}])
        catalog.append("checks", [{"photo_id": "b", "width": 2}])
        assert catalog.columns("SELECT width FROM checks ORDER BY photo_id")["width"].tolist() == [1, 2]
        catalog.compact(full=True)
        assert catalog.count("checks") == 2


def test_a_project_whose_name_is_no_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="reaches only folders whose names are UTF-8; rename it"):
        Catalog.open(tmp_path / "caf\udce9")


def test_a_project_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="cannot be made"):
        Catalog.open(tmp_path / "file")


# ---- against a dict ----

KEYS = st.sampled_from("abcdef")
BATCHES = st.lists(st.tuples(KEYS, st.integers(0, 9)), min_size=1, max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), BATCHES, st.sampled_from("12")),
        st.tuples(st.just("compact"), st.booleans(), st.none()),
        st.tuples(st.just("reopen"), st.none(), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=max(settings().max_examples // 4, 5))  # an example is a whole catalog
@given(steps=STEPS)
def test_a_table_is_a_dict_of_the_newest_rows(steps: list[tuple[str, Any, Any]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("model")
    model: dict[str, tuple[int, str]] = {}
    catalog = Catalog.open(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "FAN_IN", 3)  # so that a few appends merge, and mergers merge
        for step, content, version in steps:
            if step == "append":
                catalog.append("checks", [{"photo_id": key, "width": width} for key, width in content], version=version)
                model |= {key: (width, version) for key, width in content}
            elif step == "compact":
                catalog.compact(full=content)
            else:
                catalog.close()
                catalog = Catalog.open(folder)
            rows = catalog.rows("SELECT photo_id, width, stage_version FROM checks")
            assert len(rows) == len(model)
            assert {row["photo_id"]: (row["width"], row["stage_version"]) for row in rows} == model
        pending = [row["photo_id"] for row in catalog.pending("FROM checks", {"checks": "2"})]
        assert pending == sorted(key for key, (_, version) in model.items() if version != "2")
    catalog.close()
