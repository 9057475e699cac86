"""What goes into a part: every type of value, what is refused, and what becomes null."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.catalog.encode import encode
from carspotter.catalog.tables import TABLES
from carspotter.errors import CatalogError

CHECKS = TABLES["checks"]
EMBEDDINGS = TABLES["embeddings"]


def stored(table: str, column: str, values: Any) -> list[Any]:
    keys = [f"k{number}" for number in range(len(values))]
    encoded = encode(TABLES[table], {TABLES[table].key: keys, column: values}, version="1")
    return encoded[column].to_pylist()


@pytest.mark.parametrize(
    ("table", "column", "values", "expected"),
    [
        ("listings", "make", ["VW", None, math.nan, "Škoda"], ["VW", None, None, "Škoda"]),
        ("listings", "make", np.array(["a", "b"]), ["a", "b"]),
        ("listings", "make", np.array(["a", None], dtype=object), ["a", None]),
        ("listings", "make", ["bad\udcff"], ["bad\\udcff"]),
        ("listings", "year", [2012, None, 2011.0, np.int32(3)], [2012, None, 2011, 3]),
        ("listings", "year", np.array([2012.0, np.nan]), [2012, None]),
        ("listings", "year", np.array([7], dtype=np.uint8), [7]),
        ("checks", "phash", [2**64 - 1, 0, None], [2**64 - 1, 0, None]),
        ("checks", "phash", np.array([2**64 - 1, 2**63], dtype=np.uint64), [2**64 - 1, 2**63]),
        ("checks", "brightness", [1, 0.5, None, math.nan, math.inf], [1.0, 0.5, None, None, None]),
        ("checks", "brightness", np.array([0.5, np.nan, -np.inf]), [0.5, None, None]),
        ("checks", "brightness", np.array([3, 4]), [3.0, 4.0]),
        ("checks", "brightness", np.array([1e300, 2]), [None, 2.0]),
        ("listings", "price", [16_777_217, 1e39], [16_777_216.0, None]),
        ("findings", "passed", [True, None, np.False_], [True, None, False]),
        ("findings", "passed", np.array([True, False]), [True, False]),
        ("checks", "flags", [["dark"], (), None, np.array(["a"])], [["dark"], [], None, ["a"]]),
        ("embeddings", "embedding", [[1, 0.5], None, np.array([2.0])], [[1.0, 0.5], None, [2.0]]),
        ("embeddings", "embedding", np.array([[1, 0.5], [0, 2]], dtype=np.float32), [[1.0, 0.5], [0.0, 2.0]]),
        ("embeddings", "embedding", [None, None], [None, None]),
    ],
)
def test_values_are_stored(table: str, column: str, values: Any, expected: list[Any]) -> None:
    assert stored(table, column, values) == expected


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("listings", "make", 7, "row 1, column make: 7 is a int; allowed: a text, or None"),
        ("listings", "make", b"VW", "b'VW' is a bytes"),
        ("listings", "year", "2012", "'2012' is a str; allowed: a whole number of 64 bits"),
        ("listings", "year", 2012.5, "2012.5 is a float"),
        ("listings", "year", True, "True is a bool"),
        ("listings", "year", 2**63, "9223372036854775808"),
        ("listings", "year", math.inf, "inf is a float"),
        ("checks", "phash", -1, "-1 is a int; allowed: a whole number from 0 to 2^64 - 1"),
        ("checks", "phash", 2**64, "allowed: a whole number from 0"),
        ("checks", "phash", 5.0, "5.0 is a float"),
        ("checks", "brightness", "0.5", "allowed: a number"),
        ("checks", "brightness", True, "allowed: a number"),
        ("findings", "passed", 1, "1 is a int; allowed: True or False"),
        ("checks", "flags", "dark", "'dark' is a str; allowed: a list of texts"),
        ("checks", "flags", {"dark"}, "allowed: a list of texts"),
        ("checks", "flags", [None], "allowed: a list of texts"),
        ("embeddings", "embedding", [1.0, math.nan], "allowed: a list of finite numbers"),
        ("embeddings", "embedding", [1e6], "allowed: a list of finite numbers up to 65504"),
        ("embeddings", "embedding", ["x"], "allowed: a list of finite numbers"),
        ("embeddings", "embedding", [[1.0]], "allowed: a list of finite numbers"),
    ],
)
def test_a_value_of_another_type_is_named(table: str, column: str, value: Any, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        stored(table, column, [None, value])
    assert f"table {table}, row 1, column {column}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(CatalogError) as caught:
        stored("listings", "year", ["x" * 10_000])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"photo_id": "a", "brightnes": 1}], "unknown column 'brightnes'; did you mean 'brightness'?"),
        ([{"photo_id": "a", "stage_version": "2"}], "unknown column 'stage_version'"),
        ([{"width": 3}], "the rows lack their key 'photo_id'"),
        ([{}], "the rows lack their key"),
        ({"width": [3]}, "the rows lack their key"),
        ([{"photo_id": "a"}, {"width": 1}], "row 1: its key photo_id is None"),
        ([{"photo_id": ""}], "its key photo_id is ''"),
        ({"photo_id": ["a", "b"], "width": [1]}, "column width has 1 values, photo_id has 2"),
    ],
)
def test_wrong_columns_are_named(rows: Any, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        encode(CHECKS, rows, version="1")
    assert message in str(caught.value)


@pytest.mark.parametrize("version", ["", None, 1])
def test_a_version_is_a_text(version: Any) -> None:
    with pytest.raises(CatalogError, match="it must be a text that is not empty"):
        encode(CHECKS, [{"photo_id": "a"}], version=version)


def test_no_rows_make_an_empty_table() -> None:
    assert encode(CHECKS, [], version="1").num_rows == 0
    assert encode(CHECKS, {}, version="1").num_rows == 0


def test_of_rows_with_one_key_the_last_counts() -> None:
    rows = [{"photo_id": "a", "width": 1}, {"photo_id": "b", "width": 2}, {"photo_id": "a", "height": 3}]
    encoded = encode(CHECKS, rows, version="1")
    assert encoded.select(["photo_id", "width", "height"]).to_pylist() == [
        {"photo_id": "b", "width": 2, "height": None},
        {"photo_id": "a", "width": None, "height": 3},
    ]


@given(st.lists(st.one_of(st.none(), st.lists(st.floats(-60_000, 60_000, width=16), max_size=4)), max_size=6))
def test_vectors_come_back_to_half_a_unit_in_the_last_place(vectors: list[list[float] | None]) -> None:
    assert stored("embeddings", "embedding", vectors) == vectors


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**64 - 1)), max_size=6))
def test_every_hash_comes_back_exactly(hashes: list[int | None]) -> None:
    assert stored("checks", "phash", hashes) == hashes


@given(st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=4))
def test_every_text_can_be_stored(texts: list[str]) -> None:
    found = stored("listings", "make", texts)
    assert [text.encode("utf-8", "backslashreplace").decode() for text in texts] == found
