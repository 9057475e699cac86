"""What a row stage is, and what a worker does with a batch of its rows.

In: a stage and rows. Out: the rows of each table that it writes, one for every row that lacks it; a row that raises is
a row with status "error" and the reason. Other modules decide where workers run and write the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from carspotter.catalog.tables import ERROR, TABLES
from carspotter.errors import CarspotterError, ComputeError

Row = dict[str, Any]
Tables = dict[str, list[Row]]


class RowStage(Protocol):
    """Look at one row at a time: rows of `reads` in, facts of the tables in `writes` out.

    `reads` is SQL whose rows hold the key of every table in `writes`, which maps a table to the version of its facts. A
    stage travels to its workers by pickle, before `setup`. Where it reads files, rows name them in `path`, and a
    `folder` of the stage is where relative ones count from: so they reach nodes that do not see it (`files`). An
    `order`, SQL over the columns of `candidate`, says which rows come first where that is not the order of their key.
    A `key` of the stage names the column that tells rows apart where no table of the catalogue takes what it finds.
    """

    @property
    def name(self) -> str:
        """Name the stage in messages."""

    @property
    def reads(self) -> str:
        """Give the query of all rows that the stage is for."""

    @property
    def writes(self) -> Mapping[str, str]:
        """Give the version of the facts in each table that the stage fills."""

    def setup(self) -> None:
        """Open what is needed, once in each worker."""

    def process(self, rows: list[Row]) -> Tables:
        """Return a row for each of `rows` in each table that its `lacks` names."""


def process(stage: RowStage, rows: list[Row]) -> Tables:
    """Process a batch by a stage; where it raises, row by row: a row that raises becomes an error row.

    Raises ComputeError when the stage forgets a row, or says one too many: that is a fault of the stage.
    """
    try:
        found = stage.process(rows)
    # Whatever a stage raises is taken for its row's fault, and must not stop a run.
    except Exception as error:  # noqa: BLE001
        if len(rows) == 1:
            return error_rows(stage, rows, reason(error))
        parts = [process(stage, [row]) for row in rows]
        return {table: [row for part in parts for row in part.get(table, ())] for table in stage.writes}
    _check(stage, rows, found)
    return found


def error_rows(stage: RowStage, rows: list[Row], message: str) -> Tables:
    """Return rows with status "error" in each table that each of `rows` lacks."""
    return {
        table: [
            {key_of(stage, table): row[key_of(stage, table)], "status": ERROR, "message": message}
            for row in rows
            if table in row["lacks"]
        ]
        for table in stage.writes
    }


def key_of(stage: RowStage, table: str) -> str:
    """Return the column that tells the rows of a table apart."""
    return getattr(stage, "key", "") or TABLES[table].key


def reason(error: BaseException) -> str:
    """Write an error as one line; those of our own tree say enough without their type."""
    text = " ".join(str(error).split())
    if isinstance(error, CarspotterError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check(stage: RowStage, rows: list[Row], found: Tables) -> None:
    for table in found:
        if table not in stage.writes:
            raise ComputeError(f"stage {stage.name} fills table {table!r}, but it writes {', '.join(stage.writes)}")
    for table in stage.writes:
        key = key_of(stage, table)
        wanted = sorted(row[key] for row in rows if table in row["lacks"])
        given = sorted(row[key] for row in found.get(table, ()))
        if wanted != given:
            raise ComputeError(
                f"stage {stage.name} gave {len(given)} rows of {table} for {len(wanted)} that lack one; "
                "it must give exactly one for each"
            )
