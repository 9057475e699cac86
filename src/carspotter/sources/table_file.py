"""Make a local file of a table, wherever it is: fetched and unpacked; workbooks, web pages, archives are refused.

It looks at the first bytes only, and knows nothing of columns.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path, PurePosixPath
from typing import Literal

from carspotter import storage
from carspotter.errors import SourceError, StorageError
from carspotter.storage_errors import shown

Form = Literal["auto", "csv", "jsonl", "parquet"]

FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
# Two million listings with ten photos each, as CSV, are about 1 GB.
_MAX_BYTES = 4 << 30
_TIMEOUT_S = 3600.0

_AS_CSV = "export it as CSV (UTF-8) and give that file"
_NO_TABLES = {
    b"PK\x03\x04": f"an Excel or LibreOffice workbook, or another ZIP archive; {_AS_CSV}",
    b"\xd0\xcf\x11\xe0": f"an old Excel workbook; {_AS_CSV}",
    b"SQLite format 3": f"a SQLite database; {_AS_CSV}",
    b"%PDF": f"a PDF; {_AS_CSV}",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it first: zstd -d",
    b"BZh": "packed with bzip2; unpack it first: bunzip2",
    b"\xfd7zXZ": "packed with xz; unpack it first: unxz",
    b"<!doctype html": f"a web page; {_AS_CSV}",
    b"<html": f"a web page; {_AS_CSV}",
    b"<?xml": f"XML; {_AS_CSV}",
}
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")


def name_of(url: str) -> PurePosixPath:
    """Return the last part of a table's path or URL; what stands behind "?" is part of a local name only."""
    path = storage.local_path(url)
    text = str(path) if path is not None else url.partition("?")[0].partition("#")[0]
    return PurePosixPath(text.rstrip("/\\").replace("\\", "/").rpartition("/")[2])


def form_of(url: str) -> Form:
    """Return the form that a table's name says; ".gz" may follow. Raises SourceError for another suffix."""
    name = name_of(url)
    suffix = Path(name.stem if name.suffix.casefold() == ".gz" else name).suffix.casefold()
    if suffix in _WORKBOOKS:
        raise SourceError(f"table {shown(url)}: unknown suffix {suffix!r}, a workbook; {_AS_CSV}")
    if suffix not in FORMS:
        raise SourceError(f"table {shown(url)}: unknown suffix {suffix!r}; allowed: {', '.join(FORMS)}; or set form")
    return FORMS[suffix]


def local_table(url: str, folder: Path) -> Path:
    """Return a table on this disk, a copy in `folder` where it is remote or packed; raises SourceError for no table."""
    path = storage.local_path(url)
    if path is None:
        path = folder / "table"
        try:
            path.write_bytes(storage.read(url, max_bytes=_MAX_BYTES, timeout_s=_TIMEOUT_S))
        except StorageError as error:
            raise SourceError(str(error)) from error
    try:
        if not path.is_file():
            raise SourceError(
                f"table {shown(url)}: {'a folder' if path.is_dir() else 'no such file'}; give a CSV, JSON Lines "
                "or Parquet file"
            )
        path = _unpacked(path, folder, url)
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
    except (OSError, ValueError) as error:
        raise SourceError(f"table {shown(url)} cannot be read: {error}") from error
    for magic, what in _NO_TABLES.items():
        if start.startswith(magic.lower()):
            raise SourceError(f"table {shown(url)} is {what}")
    return path


def _unpacked(path: Path, folder: Path, url: str) -> Path:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    try:
        with gzip.open(path) as packed, (folder / "unpacked").open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"table {shown(url)} is packed with gzip and broken: {error}; unpack it by hand") from error
    return folder / "unpacked"
