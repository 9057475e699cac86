"""Keep to the parts that a labels CSV gives its photos in a column `split`: its test is never learnt from.

Any usual word for a part counts, as in sources (`records.split_name`). It reads no photo.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from carspotter.errors import RecipeError
from carspotter.records import split_name
from carspotter.training.recipe import DataSettings

logger = logging.getLogger(__name__)
Row = dict[str, str]


def part_of(row: Mapping[str, str]) -> str | None:
    """Return the part that a row is given: one of `SPLITS`, its own word where that is unknown, or None."""
    return split_name(row.get("split"))


def of_split(rows: Sequence[Row], split: str) -> list[Row]:
    """Return the rows of one part, by any word for it."""
    return [row for row in rows if part_of(row) == split_name(split)]


def without_test(rows: Sequence[Row], where: str) -> list[Row]:
    """Return the rows that may be learnt from or chosen by: none of the test, nor of a group with photos in it.

    A group in train and in validation stays in validation alone. Raises RecipeError for a word that names no part,
    next to others that do: its photos could be anybody's test.
    """
    parts = [part_of(row) for row in rows]
    known = {"train", "validation", "test"}
    if not known & set(parts):
        return list(rows)
    odd = sorted({str(part) for part in parts if part and part not in known})
    if odd:
        raise RecipeError(
            f"data: {where}: split is {odd[0]!r} in {parts.count(odd[0])} rows, which names no part; write train, "
            "validation or test, or choose rows by --set data.split=WORD"
        )
    higher = {part: {_group(r) for r, p in zip(rows, parts, strict=True) if p == part} for part in known - {"train"}}
    above = {None: higher["test"] | higher["validation"], "validation": higher["test"]}
    fits = [
        part != "test" and _group(r) not in above.get(part, above[None]) for r, part in zip(rows, parts, strict=True)
    ]
    kept = [row for row, fit in zip(rows, fits, strict=True) if fit]
    lost = len(rows) - len(kept) - parts.count("test")
    if lost:
        logger.warning("data: %s: %d photos are left out, since their group or file is given another part", where, lost)
    return kept


def given_validation(rows: Sequence[Row], settings: DataSettings) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) that the CSV holds out itself; none where `data.split` chose the rows."""
    return np.array([not settings.split and part_of(row) == "validation" for row in rows], bool)


def _group(row: Row) -> str:
    return row.get("group") or row["path"]
