"""The files of one table: how they are named, listed, written and swept.

A **part** is one Parquet file of rows, `part-<first>-<last>-<merges>-<random>.parquet`, never changed once it has its
name. `first` and `last` say which appends it holds. A part that was made by merging others spans their appends and has
more merges behind it; from the moment it has its name, every reader passes over those others. So one
rename puts a merged part in and takes its sources out. Which rows count is not known here, only whether a part can be
read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from carspotter.catalog.encode import STAGE_VERSION, arrow_type
from carspotter.catalog.tables import Table
from carspotter.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""The number of the form of parts that this version reads and writes; a part with a higher one is refused."""

_MARK = b"carspotter"
_NAME = re.compile(r"part-(\d{10})-(\d{10})-(\d+)-[0-9a-f]{12}\.parquet")
_TEMPORARY = ".tmp"
# DuckDB gives each row group to one thread; with its own size two cores share a table of 200,000 rows.
ROW_GROUP = 122_880
_TRIES = 20  # a writer would have to merge this often while we read some footers


class UnwrittenError(CatalogError):
    """Raised when a part could not be written, because room or rights are missing; what was there before is whole."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Part:
    """One file: it holds appends `first` to `last` after `merges` rounds of merging; ordered by age."""

    first: int
    last: int
    merges: int
    name: str
    path: Path = field(compare=False)  # paths are slow to compare

    def was_made_from(self, other: Part) -> bool:
        """Return whether this part holds the appends of the other, merged."""
        return self.first <= other.first and other.last <= self.last and other.merges < self.merges


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a part says of itself: its rows, which columns of the table, whether no older part had one of its keys."""

    n_rows: int
    columns: frozenset[str]
    fresh: bool


class TableParts:
    """The parts of one table in its folder."""

    def __init__(self, folder: Path, table: Table) -> None:
        """Look at nothing yet; the folder need not exist."""
        self.folder = folder
        self.table = table
        # Parts never change, so each name is read once and each footer once.
        self._parts: dict[str, Part] = {}
        self._footers: dict[Part, Footer] = {}

    def read(self) -> dict[Part, Footer]:
        """Return the parts that count, oldest first, with what they say; raises CatalogError for a damaged one."""
        for _ in range(_TRIES):
            parts = self._list()[0]
            try:
                # A footer is read once for all: parts never change under their name.
                footers = {part: self._footers.get(part) or self._footer(part.path) for part in parts}
            except FileNotFoundError:  # merged and swept by a writer meanwhile
                continue
            self._footers = footers
            return dict(footers)
        raise CatalogError(f"{self.folder}: its parts vanish as fast as they are listed; is something deleting them?")

    def _list(self) -> tuple[list[Part], list[Part]]:
        """List the parts that count, oldest first, and those that no longer do.

        The folder is read until two readings agree: a merged part gets its name before its sources lose theirs, so a
        reading that misses both cannot be followed by one like it.
        """
        seen = self._names()
        while (again := self._names()) != seen:
            seen = again
        self._parts = {name: self._parts.get(name) or self._parse(name) for name in seen}
        # By the first append, so that the order is that of age whatever the folder lists first.
        parts = sorted(self._parts.values())
        # A snapshot is replaced as a whole: its last part is all there is.
        if self.table.growth == "snapshot":
            return parts[-1:], parts[:-1]
        merged = [part for part in parts if part.merges]
        # A crash between rename and sweep leaves sources beside their merger; readers must pass over them.
        replaced = {part for part in parts if any(other.was_made_from(part) for other in merged)}
        return [part for part in parts if part not in replaced], sorted(replaced)

    def _names(self) -> frozenset[str]:
        try:
            with os.scandir(self.folder) as entries:
                return frozenset(entry.name for entry in entries if entry.name.endswith(".parquet"))
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise CatalogError(f"{self.folder}: its parts cannot be listed ({error.strerror})") from error

    def _parse(self, name: str) -> Part:
        match = _NAME.fullmatch(name)
        if match is None:
            raise CatalogError(f"{self.folder / name}: its name is not that of a part of a catalogue; move it away")
        first, last, merges = map(int, match.groups())
        return Part(first=first, last=last, merges=merges, name=name, path=self.folder / name)

    def _footer(self, path: Path) -> Footer:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with path.open("rb") as file:
                metadata = pq.read_metadata(file)
                schema = metadata.schema.to_arrow_schema()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error) from error
        fresh = _is_fresh(path, schema)  # first: a newer format may well have other columns
        return Footer(n_rows=metadata.num_rows, columns=_known(self.table, path, schema), fresh=fresh)

    def next_part(self) -> Part:
        """Name the part that the next append makes."""
        counting, replaced = self._list()
        # Replaced parts count as well: a number that was used before must not come back with other rows.
        number = max((part.last for part in (*counting, *replaced)), default=0) + 1
        return self.name_part(first=number, last=number, merges=0)

    def name_part(self, *, first: int, last: int, merges: int) -> Part:
        """Give a part a name that no other has."""
        name = f"part-{first:010d}-{last:010d}-{merges}-{uuid4().hex[:12]}.parquet"
        return Part(first=first, last=last, merges=merges, name=name, path=self.folder / name)

    def write(self, part: Part, schema: pa.Schema, batches: Iterable[pa.Table], *, fresh: bool) -> None:
        """Write a part whole or not at all: it gets its name when every byte is on the disk; raises CatalogError."""
        # In the same folder, since a rename is atomic within one file system only.
        temporary = part.path.with_name(part.path.name + _TEMPORARY)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                # Written and synced before it gets its name: after a power cut a named part is a whole one.
                _write_file(temporary, schema.with_metadata(_mark(self.table, fresh=fresh)), batches)
                temporary.replace(part.path)
                _sync_folder(self.folder)
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            raise UnwrittenError(
                f"{self.folder}: a part of table {self.table.name} cannot be written ({_reason(error)}); "
                "what was there before is whole: make room, then run the same command again"
            ) from error

    def sweep(self) -> None:
        """Remove what an interrupted writer left, and parts that merged ones replaced; only a writer may."""
        with contextlib.suppress(OSError):  # what cannot be removed is passed over by readers
            for part in self._list()[1]:
                part.path.unlink(missing_ok=True)
            for path in self.folder.glob(f"*{_TEMPORARY}"):
                path.unlink(missing_ok=True)

    def read_batches(self, part: Part, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read a part in pieces of a row group at most; raises CatalogError where it is damaged, FileNotFoundError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Checksums of pages are compared, so that a flipped bit on the disk is an error and not a wrong number.
            with part.path.open("rb") as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                for batch in file.iter_batches(batch_size=ROW_GROUP, columns=columns):
                    yield pa.Table.from_batches([batch])
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise damaged(part.path, error) from error

    def find_damage(self) -> None:
        """Read every part that counts to its end; raises CatalogError naming the first one that is damaged."""
        for part in self.read():
            with contextlib.suppress(FileNotFoundError):  # merged by a writer meanwhile, so it could be read
                for _ in self.read_batches(part):
                    pass


def _write_file(path: Path, schema: pa.Schema, batches: Iterable[pa.Table]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Dictionaries pay for texts, which repeat (makes, statuses), and cost space for floats, which do not.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with path.open("xb") as file:
        with pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
        ) as writer:
            for batch in batches:
                writer.write_table(batch, row_group_size=ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Without this a power cut may take the new name back. Windows cannot open folders, and syncs names itself.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _mark(table: Table, *, fresh: bool) -> dict[bytes, bytes]:
    return {_MARK: json.dumps({"format": FORMAT, "table": table.name, "fresh": fresh}).encode()}


def _is_fresh(path: Path, schema: pa.Schema) -> bool:
    """Read our mark in a part; raises CatalogError when there is none, or a newer one."""
    try:
        mark = json.loads((schema.metadata or {})[_MARK])
        # Anything but a plain true means that rows may be superseded, which is slower and never wrong.
        number, fresh = int(mark["format"]), mark["fresh"] is True
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogError(f"{path}: not written by carspotter; move it away, and append its rows instead") from error
    if number > FORMAT:
        raise CatalogError(
            f"{path}: written by a newer carspotter (format {number}, this one reads up to {FORMAT}); upgrade it"
        )
    return fresh


def _known(table: Table, path: Path, schema: pa.Schema) -> frozenset[str]:
    """Return which columns of the table a part has; one that this version does not know is passed over."""
    names = set(schema.names)
    for name in (table.key, STAGE_VERSION):
        if name not in names:
            raise damaged(path, f"it has no column {name}")
    for name, kind in table.columns.items():
        if name in names and (found := schema.field(name).type) != arrow_type(kind):
            raise damaged(path, f"column {name} is of type {found}; table {table.name} has {arrow_type(kind)} there")
    return frozenset(names & set(table.columns))


def damaged(path: Path, why: object) -> CatalogError:
    """Return which part is damaged and what to do."""
    reason = " ".join(str(why).split()) or type(why).__name__
    return CatalogError(
        f"{path}: this part of the catalogue is damaged ({reason}); move it away: what it said is then pending again"
    )


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split()) or type(error).__name__
