"""Turn the rows that stages make into a checked Arrow table.

Each value is checked against the type of its column; what does not fit is a CatalogError that names table, row and
column. Numbers that are not finite and columns that are left out become null; of rows with one key the last counts. It
writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carspotter.catalog.tables import ColumnType, Table
from carspotter.errors import CatalogError, suggestion

if TYPE_CHECKING:
    import pyarrow as pa

STAGE_VERSION = "stage_version"
"""The column that says which version of a stage found a row out; every table has it in addition to its own columns."""

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""Rows as dicts, or columns: each a list or a numpy array, all of one length."""

_ALLOWED: Mapping[ColumnType, str] = {
    "text": "a text",
    "int": "a whole number of 64 bits",
    "hash": "a whole number from 0 to 2^64 - 1",
    "number": "a number",
    "truth": "True or False",
    "texts": "a list of texts",
    "vector": "a list of finite numbers up to 65504",
}
_LARGEST_FLOAT16 = 65504.0
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_SHOWN = 60  # characters of a wrong value that a message shows


def encode(table: Table, rows: Rows, *, version: str) -> pa.Table:
    """Return the rows as a table of the columns they have and `stage_version`; raises CatalogError for a misfit."""
    import pyarrow as pa

    if not isinstance(version, str) or not version:
        raise CatalogError(f"table {table.name}: version {version!r}; it must be a text that is not empty")
    columns = _columns(table, rows)
    arrays = {name: _array(table, name, columns[name]) for name in table.columns if name in columns}
    length = len(arrays[table.key])
    for name, array in arrays.items():
        if len(array) != length:
            raise CatalogError(f"table {table.name}: column {name} has {len(array)} values, {table.key} has {length}")
    arrays[STAGE_VERSION] = pa.repeat(pa.scalar(version, pa.string()), length)
    return _last_of_each_key(table, pa.table(arrays))


def arrow_type(kind: ColumnType) -> pa.DataType:
    """Return the Arrow type that values of a column are stored as."""
    import pyarrow as pa

    types: dict[ColumnType, pa.DataType] = {
        "text": pa.string(),
        "int": pa.int64(),
        "hash": pa.uint64(),
        "number": pa.float32(),
        "truth": pa.bool_(),
        "texts": pa.list_(pa.string()),
        "vector": pa.list_(pa.float16()),
    }
    return types[kind]


def _columns(table: Table, rows: Rows) -> dict[str, Any]:
    """Turn rows into columns and check their names."""
    if isinstance(rows, Mapping):
        columns = dict(rows)
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
    for name in columns:
        if name not in table.columns:
            raise CatalogError(f"table {table.name}: unknown column {name!r}; {suggestion(name, table.columns)}")
    if table.key not in columns:
        if len(rows):
            raise CatalogError(f"table {table.name}: the rows lack their key {table.key!r}")
        columns[table.key] = []
    return columns


def _array(table: Table, name: str, values: Any) -> pa.Array:
    import pyarrow as pa

    kind = table.columns[name]
    try:
        array = _fast(kind, values) if isinstance(values, np.ndarray) else None
        if array is None:
            array = _slow(kind, values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _misfit(table, name, values) from error
    if name == table.key:
        _check_keys(table, array)
    return array


def _check_keys(table: Table, array: pa.Array) -> None:
    """Refuse a key that is null or empty; in Arrow, since texts of Python's own are a hundred bytes each."""
    import pyarrow.compute as pc

    row = pc.index(pc.fill_null(pc.equal(array, ""), True), True).as_py()
    if row >= 0:
        key = array[row].as_py()
        raise CatalogError(f"table {table.name}, row {row}: its key {table.key} is {key!r}; it must be a text")


def _fast(kind: ColumnType, values: npt.NDArray[Any]) -> pa.Array | None:
    """Convert a numpy array whose values need no look one by one, else return None."""
    import pyarrow as pa

    if kind == "vector" and values.ndim == 2 and values.dtype.kind == "f":
        offsets = np.arange(0, values.size + 1, max(1, values.shape[1]), dtype=np.int32)
        if values.shape[1] == 0:
            return None
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(_half(values).reshape(-1)))
    if values.ndim != 1:
        return None
    sort = values.dtype.kind
    if kind == "number" and sort in "iuf":
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and so null
            narrow = values.astype(np.float32)
        return pa.array(narrow, mask=~np.isfinite(narrow))
    if (kind == "truth" and sort == "b") or (kind in ("int", "hash") and sort in "iu"):
        return pa.array(values, arrow_type(kind))
    return None


def _slow(kind: ColumnType, values: Any) -> pa.Array:
    """Convert values one by one."""
    import pyarrow as pa

    checked = [None if _is_missing(value) else _CHECKS[kind](value) for value in values]
    if kind != "vector":
        return pa.array(checked, arrow_type(kind))
    # pa.array takes no lists of float16 before pyarrow 21; offsets and values go in every version.
    lengths = [0 if vector is None else len(vector) for vector in checked]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = [vector for vector in checked if vector is not None]
    content = pa.array(np.concatenate(flat) if flat else np.empty(0, np.float16), pa.float16())
    missing = pa.array([vector is None for vector in checked], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), content, mask=missing)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    # A file name may hold bytes that are no UTF-8; Python keeps them as lone surrogates, which Parquet cannot.
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _int(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    if int(value) != value:  # OverflowError for infinity
        raise ValueError
    return int(value)


def _hash(value: Any) -> int:
    if not isinstance(value, int | np.integer):  # a float of this size has lost digits
        raise TypeError
    return _int(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    number = float(value)
    return number if abs(number) <= _LARGEST_FLOAT32 else None


def _truth(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError
    return [_text(text) for text in value]


def _vector(value: Any) -> npt.NDArray[np.float16]:
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError
    return _half(vector)


def _half(values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    if not (np.abs(values) <= _LARGEST_FLOAT16).all():  # also for NaN
        raise ValueError
    return values.astype(np.float16)


_CHECKS: Mapping[ColumnType, Callable[[Any], Any]] = {
    "text": _text,
    "int": _int,
    "hash": _hash,
    "number": _number,
    "truth": _truth,
    "texts": _texts,
    "vector": _vector,
}


def _misfit(table: Table, name: str, values: Any) -> CatalogError:
    """Return which value does not fit its column."""
    import pyarrow as pa

    kind = table.columns[name]
    allowed = f"allowed: {_ALLOWED[kind]}, or None"
    for row, value in enumerate(values):
        try:
            _slow(kind, [value])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            shown = repr(value).replace("\n", " ")
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
            where = f"table {table.name}, row {row}, column {name}"
            return CatalogError(f"{where}: {shown} is a {type(value).__name__}; {allowed}")
    return CatalogError(f"table {table.name}, column {name}: the values do not fit; {allowed}")


def _last_of_each_key(table: Table, rows: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    if pc.count_distinct(rows[table.key]).as_py() == rows.num_rows:
        return rows
    last = {key: row for row, key in enumerate(rows[table.key].to_pylist())}
    return rows.take(sorted(last.values()))
