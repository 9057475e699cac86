"""The catalogue and what could keep it instead, with one face: load, append, settle, ask, pending.

`today` is `carspotter.catalog`. `sqlite` upserts by primary key. `delta` appends, and keeps today's marks of new keys
and today's view of the newest rows. `delta-merge` and `lance` let the library put newer rows in the place of older
ones. DuckDB asks Delta's files and Lance's sets, with the memory that today's questions have.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.encode import encode
from carspotter.catalog.known import KnownKeys
from carspotter.catalog.tables import TABLES
from catalog_size import BATCH

USED = ("listings", "listing_photos", "files", "checks", "findings")
VECTORS = "embeddings"  # only their size on disk is asked
VIEW_MEMORY = "2GB"  # what today's questions may take
SMALL_BYTES = 2**20
UPKEEP = 64  # appends after which an engine may tidy up, as today's does
QUESTIONS = {
    "counts": "SELECT status, count(*) AS n FROM checks GROUP BY status",
    "status": """
        SELECT CASE WHEN l.ad_id IS NULL OR l.status <> 'ok' OR p.status <> 'ok' THEN 'import'
          WHEN f.photo_id IS NULL OR f.status <> 'ok' THEN 'fetch' WHEN c.photo_id IS NULL OR c.status <> 'ok'
          THEN 'check' WHEN v.photo_id IS NULL OR v.status <> 'ok' OR NOT v.passed THEN 'locate' END AS stage,
          CASE WHEN f.status <> 'ok' THEN f.status WHEN c.status <> 'ok' THEN c.status ELSE v.kind END AS reason,
          count(*) AS n
        FROM listing_photos p LEFT JOIN listings l ON l.ad_id = p.ad_id LEFT JOIN files f ON f.photo_id = p.photo_id
        LEFT JOIN checks c ON c.photo_id = p.photo_id LEFT JOIN findings v ON v.photo_id = p.photo_id GROUP BY 1, 2""",
    "sql": """SELECT l.make, count(*) AS n, avg(p.position) AS position
        FROM listing_photos p JOIN listings l ON l.ad_id = p.ad_id GROUP BY l.make ORDER BY l.make""",
}
CANDIDATES = "SELECT photo_id, path FROM files WHERE status = 'ok'"
PENDING = f"""SELECT f.photo_id, f.path FROM ({CANDIDATES}) f
    LEFT JOIN (SELECT photo_id FROM checks WHERE stage_version = '{{}}') c ON c.photo_id = f.photo_id
    WHERE c.photo_id IS NULL ORDER BY f.photo_id"""
ALL_LACK, FEW_LACK = "3", "1"  # no check is of version 3; one in twenty is no longer of version 1


class Today:
    """The catalogue as it is."""

    def __init__(self, folder: Path) -> None:
        from carspotter.catalog.catalog import Catalog

        self.catalog = Catalog.open(folder)

    def load(self, table: str, rows: Any, *, new: bool) -> None:
        """Append many encoded rows."""
        parts = self.catalog._tables[table]
        parts.write(parts.next_part(), rows.schema, [rows], fresh=new)

    def appending(self, batches: Iterator[dict[str, Any]]) -> Iterator[None]:
        """Append batches of checks, one a step."""
        with self.catalog.writer():
            for batch in batches:
                self.catalog.append("checks", batch)
                yield

    def settle(self) -> None:
        """Do what is done when a build ends."""
        self.catalog.compact()

    def ask(self, sql: str) -> list[Any]:
        """Answer a question."""
        return self.catalog.rows(sql)

    def pending(self, version: str) -> Iterator[Any]:
        """Yield pending rows."""
        return self.catalog.pending(CANDIDATES, {"checks": version})


class Library:
    """What the adapters of all libraries share; `add` is theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, table: str, rows: Any, *, new: bool) -> None:
        """Append many encoded rows."""
        self.add(table, rows, new=new)

    def add(self, table: str, rows: Any, *, new: bool) -> None:
        """Put rows in, newer ones in the place of older ones."""
        raise NotImplementedError

    def upkeep(self, *, ended: bool) -> None:
        """Tidy up between appends of checks, or all tables where a build ends."""

    def are_new(self, keys: list[str]) -> bool:  # noqa: ARG002  # who puts rows in the place of others need not know
        """Return whether no check has one of these keys."""
        return False

    def appending(self, batches: Iterator[dict[str, Any]]) -> Iterator[None]:
        """Append batches of checks, one a step."""
        for number, batch in enumerate(batches, start=1):
            rows = encode(TABLES["checks"], batch, version="1")
            self.add("checks", rows, new=self.are_new(rows["photo_id"].to_pylist()))
            if number % UPKEEP == 0:
                self.upkeep(ended=False)
            yield

    def settle(self) -> None:
        """Do what is done when a build ends."""
        self.upkeep(ended=True)

    def shown(self) -> Any:
        """Give a connection whose tables are the newest rows."""
        import duckdb

        connection = duckdb.connect(config={"memory_limit": VIEW_MEMORY, "temp_directory": str(self.folder / "spill")})
        for table in USED:
            self.show(connection, table)
        return connection

    def show(self, connection: Any, table: str) -> None:
        """Make one table known to DuckDB."""
        raise NotImplementedError

    def ask(self, sql: str) -> list[Any]:
        """Answer a question, again where a writer tidied files away meanwhile, as today's does."""
        import duckdb

        for _ in range(20):
            try:
                return list(self.rows(sql))
            except (duckdb.Error, OSError):
                continue
        raise SystemExit(f"{self.folder}: no answer")

    def rows(self, sql: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of an answer."""
        answer = self.shown().execute(sql)
        names = [column[0] for column in answer.description]
        while rows := answer.fetchmany(1024):
            yield from (dict(zip(names, row, strict=True)) for row in rows)

    def pending(self, version: str) -> Iterator[Any]:
        """Yield pending rows."""
        return self.rows(PENDING.format(version))


class Sqlite(Library):
    """One file, rows sorted by key, the write-ahead log synced at checkpoints."""

    def __init__(self, folder: Path) -> None:
        import sqlite3

        super().__init__(folder)
        self.file = sqlite3.connect(folder / "catalog.sqlite", timeout=60, isolation_level=None)
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -262144", "temp_store = FILE"):
            self.file.execute(f"PRAGMA {setting}")
        kinds = {"int": "INTEGER", "hash": "INTEGER", "truth": "INTEGER", "number": "REAL", "vector": "BLOB"}
        for table in (TABLES[name] for name in (*USED, VECTORS)):
            columns = [f"{name} {kinds.get(kind, 'TEXT')}" for name, kind in table.columns.items()]
            text = ", ".join([*columns, "stage_version TEXT", f"PRIMARY KEY ({table.key})"])
            sort = "" if table.name == VECTORS else "WITHOUT ROWID"  # rows of a kilobyte would take a page each
            self.file.execute(f"CREATE TABLE IF NOT EXISTS {table.name} ({text}) {sort}")

    def add(self, table: str, rows: Any, *, new: bool) -> None:  # noqa: ARG002
        """Put rows in, newer ones in the place of older ones."""
        columns = [self.plain(column) for column in signed(rows).columns]
        marks = ", ".join("?" * len(columns))
        self.file.execute("BEGIN IMMEDIATE")
        text = f"INSERT OR REPLACE INTO {table} ({', '.join(rows.column_names)}) VALUES ({marks})"
        self.file.executemany(text, zip(*columns, strict=True))
        self.file.execute("COMMIT")

    def plain(self, column: Any) -> list[Any]:
        """Turn a column into values that SQLite holds: it has no lists."""
        if "halffloat" in str(column.type):
            return [np.asarray(vector, np.float16).tobytes() for vector in column.to_pylist()]
        values: list[Any] = column.to_pylist()
        return [json.dumps(value) for value in values] if str(column.type).startswith("list") else values

    def settle(self) -> None:
        """Do what is done when a build ends."""
        self.file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.file.execute("ANALYZE")

    def shown(self) -> Any:
        """Give a connection whose tables are the newest rows."""
        return self.file


def signed(rows: Any) -> Any:
    """Reread hashes as signed numbers: Delta and SQLite have no others."""
    import pyarrow as pa

    for place, field in enumerate(rows.schema):
        if field.type == pa.uint64():
            rows = rows.set_column(place, field.name, pa.array(rows.column(place).to_numpy().view(np.int64)))
    return rows


class Delta(Library):
    """Appended files; which of them hold only new keys is a partition, the order of appends a column."""

    partitions: tuple[str, ...] = ("fresh",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tables: dict[str, Any] = {}
        self.known: KnownKeys | None = None

    def shown(self) -> Any:
        """Give a connection whose tables are the newest rows."""
        self.tables.clear()  # what was opened shows files that a writer may have removed
        return super().shown()

    def table(self, name: str) -> Any:
        """Open a table once."""
        from deltalake import DeltaTable

        if name not in self.tables:
            self.tables[name] = DeltaTable(str(self.folder / name))
        return self.tables[name]

    def load(self, table: str, rows: Any, *, new: bool) -> None:
        """Append many encoded rows; making the table first."""
        if not (self.folder / table).exists():
            self.write(table, rows, new=True)
        else:
            self.add(table, rows, new=new)

    def write(self, table: str, rows: Any, *, new: bool) -> None:
        """Commit rows as further files."""
        import pyarrow as pa
        from deltalake import write_deltalake

        rows = signed(rows)
        if table == VECTORS:  # nor has Delta numbers of 16 bits
            place = rows.column_names.index("embedding")
            rows = rows.set_column(place, "embedding", rows["embedding"].cast(pa.list_(pa.float32())))
        path = str(self.folder / table)
        exists = (self.folder / table).exists()
        if self.partitions:
            number = self.table(table).version() + 1 if exists else 0
            rows = rows.append_column("seq", pa.repeat(number, len(rows)))
            rows = rows.append_column("fresh", pa.repeat("yes" if new else "no", len(rows)))
        target = self.table(table) if exists else path
        write_deltalake(target, rows, mode="append", partition_by=None if exists else list(self.partitions) or None)

    add = write

    def are_new(self, keys: list[str]) -> bool:
        """Return whether no check has one of these keys; reads all keys at first."""
        import pyarrow.parquet as pq

        if self.known is None:
            files = (pq.ParquetFile(uri.removeprefix("file://")) for uri in self.table("checks").file_uris())
            batches = (batch for file in files for batch in file.iter_batches(columns=["photo_id"]))
            self.known = KnownKeys(batch.column(0).to_pylist() for batch in batches)
        return self.known.add(keys)

    def upkeep(self, *, ended: bool) -> None:
        """Make few files of many, and remove the others; between appends large files stay as they are."""
        for table in map(self.table, USED if ended else ("checks",)):
            table.optimize.compact(target_size=None if ended else SMALL_BYTES)
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    def show(self, connection: Any, table: str) -> None:
        """Make one table known to DuckDB."""
        key = TABLES[table].key
        sides = [self.table(table).file_uris([("fresh", "=", fresh)]) for fresh in ("yes", "no")]
        older, newer = (f"SELECT * FROM read_parquet({paths}, hive_partitioning = false)" for paths in sides)
        if sides[1]:
            older = (
                f"SELECT * FROM ({older}) AS older ANTI JOIN (SELECT {key} FROM ({newer})) AS newer USING ({key}) "
                f"UNION ALL {newer} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY seq DESC) = 1"
            )
        connection.execute(f"CREATE VIEW {table} AS {older}")


class DeltaMerge(Delta):
    """Newer rows put in the place of older ones by MERGE."""

    partitions = ()
    are_new = Library.are_new

    def add(self, table: str, rows: Any, *, new: bool) -> None:
        """Put rows in, newer ones in the place of older ones."""
        if new:
            self.write(table, rows, new=True)
            return
        key = TABLES[table].key
        merger = self.table(table).merge(signed(rows), f"t.{key} = s.{key}", source_alias="s", target_alias="t")
        merger.when_matched_update_all().when_not_matched_insert_all().execute()

    def show(self, connection: Any, table: str) -> None:
        """Make one table known to DuckDB."""
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({self.table(table).file_uris()})")


class Lance(Library):
    """Newer rows put in the place of older ones by merge_insert, with an index of the keys."""

    def set(self, table: str) -> Any:
        """Open a table at its newest version."""
        import lance

        return lance.dataset(str(self.folder / table))

    def load(self, table: str, rows: Any, *, new: bool) -> None:
        """Append many encoded rows."""
        import lance

        if new:
            there = (self.folder / table).exists()
            lance.write_dataset(rows, str(self.folder / table), mode="append" if there else "create")
        else:
            self.add(table, rows, new=False)

    def add(self, table: str, rows: Any, *, new: bool) -> None:  # noqa: ARG002
        """Put rows in, newer ones in the place of older ones."""
        merger = self.set(table).merge_insert(TABLES[table].key)
        merger.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def upkeep(self, *, ended: bool) -> None:
        """Make few files of many, and remove the others; between appends large files stay as they are."""
        from datetime import timedelta

        for name in USED if ended else ("checks",):
            found = self.set(name)
            found.optimize.compact_files(target_rows_per_fragment=2**20 if ended else UPKEEP * BATCH)
            if not found.list_indices():
                found.create_scalar_index(TABLES[name].key, "BTREE")
            found.optimize.optimize_indices()
            found.cleanup_old_versions(older_than=timedelta(0))

    def show(self, connection: Any, table: str) -> None:
        """Make one table known to DuckDB."""
        connection.register(table, self.set(table))


ENGINES: dict[str, type[Any]] = {
    "today": Today,
    "sqlite": Sqlite,
    "delta": Delta,
    "delta-merge": DeltaMerge,
    "lance": Lance,
}
