"""Answer questions in SQL: DuckDB over the parts of the tables, closed in so that it only reads them.

Each table is a view of its newest rows. It reaches no network, loads no extension, opens no file outside of the
catalogue, and a question cannot write. What DuckDB says of a wrong question becomes a CatalogError of one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from carspotter.catalog.parts import Part, TableParts
from carspotter.catalog.tables import TABLES
from carspotter.catalog.views import empty_view, view
from carspotter.errors import CatalogError, MissingExtraError, suggestion

if TYPE_CHECKING:
    import duckdb

Answer = TypeVar("Answer")

SPILL = ".spill-"
"""How the folders below the catalogue begin where DuckDB puts what does not fit in memory; one a process."""

# The pending rows of 2 million photos sort in 0.6 GB; what does not fit goes to the project's own disk. Workers with
# their networks need the rest of the memory.
_MEMORY_BYTES = 2 << 30
_TRIES = 20  # a writer would have to merge the same table this often during one question
_WORD = re.compile(r"\w+")
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")
_WRITING_NODE = re.compile(r"\"type\":\"(COPY|INSERT|UPDATE|DELETE|MERGE)[A-Z_]*_NODE\"")


class QueryEngine:
    """Answer SQL about the tables of one catalogue."""

    def __init__(self, folder: Path, tables: Mapping[str, TableParts]) -> None:
        """Open a database in memory that can read the folder's files and nothing else."""
        self._tables = tables
        self._connection = _connect(folder)
        self._shown: dict[str, tuple[Part, ...]] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def ask(
        self, sql: str, params: Sequence[Any], take: Callable[[duckdb.DuckDBPyConnection, str, list[Any]], Answer]
    ) -> Answer:
        """Give `take` a connection and the checked question, again where a writer merged parts away meanwhile.

        Raises CatalogError for a wrong question, one that would write, or a damaged part.
        """
        import duckdb

        self._check(sql)
        names = tables_in(sql)
        for tries_left in reversed(range(_TRIES)):
            before = self._parts(names)
            try:
                self._show(names)
                return take(self._connection.cursor(), sql, list(params))
            except duckdb.Error as error:
                # The parts of a question that failed for its own sake are all there still.
                if not tries_left or self._parts(names) == before:
                    raise self.explain(error, names) from error
        raise AssertionError  # the last try returns or raises

    def _show(self, names: Sequence[str]) -> None:
        """Make the views of some tables show what is on the disk now."""
        with self._lock:
            for name in names:
                footers = self._tables[name].read()
                if self._shown.get(name) != (parts := tuple(footers)):
                    self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {view(TABLES[name], footers)}")
                    self._shown[name] = parts

    def _parts(self, names: Sequence[str]) -> list[Part]:
        return [part for name in names for part in self._tables[name].read()]

    def _check(self, sql: str) -> None:
        """Refuse what is not one question that only reads."""
        import duckdb

        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise self.explain(error, ()) from error
        if len(statements) != 1:
            raise CatalogError(f"SQL: {len(statements)} statements; ask one question at a time")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise CatalogError(f"SQL: {statements[0].type.name} is not allowed; the catalogue answers SELECT only")
        # A WITH clause may hold COPY … TO, which would write where we may read.
        parsed = self._connection.cursor().execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        if parsed is None or _WRITING_NODE.search(parsed[0]):
            raise CatalogError("SQL: a WITH clause that writes is not allowed; the catalogue answers SELECT only")

    def explain(self, error: duckdb.Error, names: Sequence[str]) -> CatalogError:
        """Turn what DuckDB says into one line; raises CatalogError itself when a part turns out to be damaged."""
        import duckdb

        of_the_question = (
            duckdb.ParserException,
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.PermissionException,
            duckdb.ConversionException,
            duckdb.OutOfMemoryException,
        )
        if not isinstance(error, of_the_question):
            for name in names:
                self._tables[name].find_damage()
        text = " ".join(str(error).partition("\nLINE ")[0].split())
        if missing := _NO_TABLE.search(text):
            return CatalogError(f"SQL: no table {missing[1]}; {suggestion(missing[1], TABLES)}")
        return CatalogError(f"SQL: {text}")


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
        import pyarrow  # noqa: F401  # now, rather than after an hour when the first part is written
    except ImportError as error:
        raise MissingExtraError((error.name or "duckdb").partition(".")[0], "data") from error
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": f"{min(_MEMORY_BYTES, _physical_memory() // 2)}B",
        "temp_directory": str(folder / f"{SPILL}{uuid4().hex[:12]}"),
    }
    connection = duckdb.connect(":memory:", config=settings)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET allowed_directories = ['{}']".format(str(folder).replace("'", "''")))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    for table in TABLES.values():
        connection.execute(f"CREATE VIEW {table.name} AS {empty_view(table)}")
    return connection


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2 * _MEMORY_BYTES


def tables_in(sql: str) -> list[str]:
    """Return the tables that a question may be about: those whose name is a word of it."""
    words = {word.casefold() for word in _WORD.findall(sql)}
    return [name for name in TABLES if name in words]
