"""The catalogue of a project: rows of its tables in and out.

In: rows that stages found out, and questions in SQL. Out: one Parquet part an append, and the newest rows. Anyone may
read at any time; one process at a time writes. It knows no stage and no settings.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from carspotter.catalog import merge
from carspotter.catalog.convert import take_columns, take_rows
from carspotter.catalog.encode import Rows, encode
from carspotter.catalog.known import KnownKeys
from carspotter.catalog.lock import ProjectLock
from carspotter.catalog.parts import TableParts, UnwrittenError
from carspotter.catalog.pending import pending_sql
from carspotter.catalog.query import SPILL, QueryEngine
from carspotter.catalog.tables import TABLES, Table
from carspotter.errors import CatalogError, suggestion

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

FOLDER = "catalog"
"""The folder of a project's tables."""

_FETCHED = 1024  # rows of pending that are held at a time
_FORGOTTEN_S = 86400.0  # no question takes a day: what it put on the disk was left by a killed process


class Catalog:
    """The tables of one project; a context manager, or `close()` it. Not to be passed to other processes."""

    def __init__(self, project: Path) -> None:
        """See `open`."""
        self.project = project
        self._folder = project / FOLDER
        self._tables = {name: TableParts(self._folder / name, table) for name, table in TABLES.items()}
        self._questions = QueryEngine(self._folder, self._tables)
        self._known: dict[str, KnownKeys] = {}
        self._lock: ProjectLock | None = None

    @classmethod
    def open(cls, project: str | Path) -> Catalog:
        """Open the catalogue of a project's folder, an empty one where there is none yet; raises CatalogError."""
        project = Path(project).absolute()
        try:
            str(project).encode()
            (project / FOLDER).mkdir(parents=True, exist_ok=True)
        except UnicodeEncodeError as error:
            raise CatalogError(f"{project}: DuckDB reaches only folders whose names are UTF-8; rename it") from error
        except OSError as error:
            raise CatalogError(f"{project / FOLDER}: cannot be made ({error.strerror})") from error
        return cls(project)

    def __enter__(self) -> Catalog:
        """Return the catalogue."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the catalogue."""
        self.close()

    def close(self) -> None:
        """Close the database; what was appended is on the disk already."""
        self._questions.close()

    @contextlib.contextmanager
    def writer(self) -> Iterator[Catalog]:
        """Keep the project's lock inside a `with`; raises CatalogError at once when another process builds.

        `append`, `replace` and `compact` outside of it take the lock for themselves alone. Within itself it is free.
        """
        if self._lock is not None:
            yield self
            return
        self._lock = ProjectLock(self.project)
        try:
            self._sweep()
            yield self
        finally:
            self._lock.release()
            self._lock = None
            self._known.clear()

    def append(self, table: str, rows: Rows, *, version: str = "1") -> int:
        """Append facts as one part, whole or not at all; return how many rows it has.

        Columns that are left out are null. A row supersedes the table's row of the same key; of rows with one key the
        last counts. Raises CatalogError for a wrong column or value, a full disk, or when another process builds.
        """
        described = self._table(table, "facts")
        encoded = encode(described, rows, version=version)
        if not encoded.num_rows:
            return 0
        with self.writer():
            parts = self._tables[table]
            fresh = self._known_keys(table).add(encoded[described.key].to_pylist())
            try:
                parts.write(parts.next_part(), encoded.schema, [encoded], fresh=fresh)
            except UnwrittenError:
                del self._known[table]  # it took keys for known that are not on the disk
                raise
            _merge_if_possible(parts)
        return int(encoded.num_rows)

    def replace(self, table: str, rows: Rows, *, version: str = "1") -> int:
        """Put a snapshot in the place of the one before, whole or not at all; return how many rows it has.

        No rows make an empty table. Raises CatalogError like `append`.
        """
        encoded = encode(self._table(table, "snapshot"), rows, version=version)
        with self.writer():
            parts = self._tables[table]
            parts.write(parts.next_part(), encoded.schema, [encoded], fresh=True)
            parts.sweep()
        return int(encoded.num_rows)

    def rows(self, sql: str, *params: Any) -> list[dict[str, Any]]:
        """Answer a SELECT with rows; each table is a view of its newest rows, with `stage_version`.

        `?` stands for the params in turn. Raises CatalogError for a wrong question or a damaged part.
        """
        return self._questions.ask(sql, params, take_rows)

    def columns(self, sql: str, *params: Any) -> dict[str, npt.NDArray[Any] | list[Any]]:
        """Answer a SELECT with columns of one length, numpy arrays, except lists of texts.

        Numbers have their own type, null among floating ones is NaN. Texts, and whole numbers or truths with nulls, are
        arrays of objects. Vectors are one float32 array (n, d), or a list of arrays where their lengths differ.
        """
        return self._questions.ask(sql, params, take_columns)

    def pending(self, sql: str, writes: Mapping[str, str], *, order: str = "") -> Iterator[dict[str, Any]]:
        """Yield the rows of a SELECT whose key lacks a fact of the wanted version, in the order of their key.

        `writes` maps each table to its version. A row's `lacks` lists the tables that want it: those where its newest
        fact is an error or of another version, or where there is none. What is appended meanwhile changes nothing: the
        rows are settled with this call, sorted in bounded memory, and fetched as they are taken. `order` is another
        order, in SQL over the columns of `candidate`. Raises CatalogError.
        """
        question = pending_sql(sql, writes, order=order)

        def start(connection: duckdb.DuckDBPyConnection, sql: str, params: list[Any]) -> Iterator[dict[str, Any]]:
            # Sorting has read every part by the time of the first rows, so parts may be merged away after that.
            connection.execute(sql, params)
            return self._fetch(connection, connection.fetchmany(_FETCHED), list(writes))

        return self._questions.ask(question, list(writes.values()), start)

    def _fetch(
        self, connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]], tables: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        import duckdb

        names = [column[0] for column in connection.description or ()][: -len(tables)]
        while rows:
            for row in rows:
                lacks = [table for table, lacking in zip(tables, row[-len(tables) :], strict=True) if lacking]
                yield dict(zip(names, row[: -len(tables)], strict=True)) | {"lacks": lacks}
            try:
                rows = connection.fetchmany(_FETCHED)
            except duckdb.Error as error:
                raise self._questions.explain(error, ()) from error

    def count_pending(self, sql: str, writes: Mapping[str, str]) -> int:
        """Count what `pending` would yield."""
        question = f"SELECT count(*) AS n FROM ({pending_sql(sql, writes)})"
        return int(self.rows(question, *writes.values())[0]["n"])

    def count(self, table: str) -> int:
        """Count the newest rows of a table."""
        return int(self.rows(f"SELECT count(*) AS n FROM {self._table(table).name}")[0]["n"])

    def compact(self, *, full: bool = False) -> list[str]:
        """Merge the small parts of each table; return the tables that were rewritten.

        Rows that newer ones supersede are left out. A part much larger than all after it stays, unless with `full`.
        """
        with self.writer():
            facts = [name for name, table in TABLES.items() if table.growth == "facts"]
            return [name for name in facts if merge.compact(self._tables[name], full=full)]

    def _table(self, name: str, growth: str | None = None) -> Table:
        table = TABLES.get(name)
        if table is None:
            raise CatalogError(f"no table {name!r}; {suggestion(name, TABLES)}")
        if growth is not None and table.growth != growth:
            verb = "append" if table.growth == "facts" else "replace"
            raise CatalogError(f"table {name} holds {table.growth}; use {verb}()")
        return table

    def _known_keys(self, table: str) -> KnownKeys:
        """Return the keys that a table has on the disk, read once for as long as the lock is held."""
        if table not in self._known:
            parts = self._tables[table]
            self._known[table] = KnownKeys(
                batch.column(0).to_pylist()
                for part in parts.read()
                for batch in parts.read_batches(part, [parts.table.key])
            )
        return self._known[table]

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        for parts in self._tables.values():
            parts.sweep()
        with contextlib.suppress(OSError):
            for folder in self._folder.glob(f"{SPILL}*"):
                if time.time() - folder.stat().st_mtime > _FORGOTTEN_S:
                    rmtree(folder, ignore_errors=True)


def _merge_if_possible(parts: TableParts) -> None:
    # The rows are in already: that there is no room to merge them must not look as if they were not.
    try:
        while merge.merge_appended(parts):
            pass
    except UnwrittenError as error:
        _log.warning("small parts stay as they are: %s", error)
