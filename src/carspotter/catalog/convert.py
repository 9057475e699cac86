"""Turn what DuckDB answers into plain values: rows as dicts, or columns as numpy arrays.

Null is None in rows. In columns it is NaN among floating numbers, and None in an array of objects elsewhere. It asks
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import duckdb


def take_rows(connection: duckdb.DuckDBPyConnection, sql: str, params: list[Any]) -> list[dict[str, Any]]:
    """Return all rows of a question; of columns of one name the second has `_1` behind it, as DuckDB's tables do."""
    connection.execute(sql, params)
    names: list[str] = []
    for name, *_ in connection.description or ():
        others = (f"{name}_{number}" for number in count(1))
        names.append(name if name not in names else next(other for other in others if other not in names))
    return [dict(zip(names, row, strict=True)) for row in connection.fetchall()]


def take_columns(
    connection: duckdb.DuckDBPyConnection, sql: str, params: list[Any]
) -> dict[str, npt.NDArray[Any] | list[Any]]:
    """Return the columns of a question."""
    answer = connection.sql(sql, params=params).to_arrow_table()
    columns = {}
    # Each column is let go of as soon as it is turned, so that millions of rows are not held twice.
    for name in answer.column_names:
        columns[name] = _values(answer.column(0))
        answer = answer.remove_column(0)
    return columns


def _values(column: Any) -> npt.NDArray[Any] | list[Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind):  # what sum() makes of whole numbers
        return _decimals(column.to_pylist(), whole=kind.scale == 0)
    if pa.types.is_list(kind):
        return _lists(column)
    if pa.types.is_floating(kind) or (
        not column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    ):
        return np.asarray(column.to_numpy())
    if pa.types.is_string(kind) or pa.types.is_integer(kind):
        return _shared(column)
    return _objects(column.to_pylist())


def _shared(column: Any) -> npt.NDArray[np.object_]:
    """Return objects; where values often come again, equal ones are one and the same: the ad of photos, a class."""
    made = np.empty(len(column), dtype=object)
    known: dict[Any, Any] = {None: None}
    start = 0
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        if 2 * len(coded.dictionary) > len(chunk):
            made[start : start + len(chunk)] = chunk.to_pylist()
        else:
            words = _objects([known.setdefault(word, word) for word in [*coded.dictionary.to_pylist(), None]])
            made[start : start + len(chunk)] = words[coded.indices.fill_null(len(words) - 1).to_numpy()]
        start += len(chunk)
    return made


def _decimals(values: list[Any], *, whole: bool) -> npt.NDArray[Any]:
    if not whole:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    numbers = [None if value is None else int(value) for value in values]
    fits = all(number is not None and abs(number) <= np.iinfo(np.int64).max for number in numbers)
    return np.array(numbers, np.int64) if fits else _objects(numbers)


def _lists(column: Any) -> npt.NDArray[Any] | list[Any]:
    """Return vectors of one length as one array (n, d), other vectors as a list of arrays, texts as a list of lists."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type.value_type):
        return list(column.to_pylist())
    arrays = [None if vector is None else np.asarray(vector, np.float32) for vector in _numpy(column)]
    lengths = {None if array is None else len(array) for array in arrays}
    if len(lengths) == 1 and None not in lengths:
        return np.stack([array for array in arrays if array is not None])
    return arrays if arrays else np.empty((0, 0), np.float32)


def _numpy(column: Any) -> Sequence[Any]:
    return [vector for chunk in column.chunks for vector in chunk.to_numpy(zero_copy_only=False)]


def _objects(values: list[Any]) -> npt.NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
