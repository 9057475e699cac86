"""Rows of a CSV file that people and spreadsheets save: with or without a byte order mark, by comma, semicolon or tab.

In: a path or a text, the columns that it must have, the error to raise. Out: each row with its line number. Sellers'
tables, which may be broken anywhere, are read by `sources.lines`; this is for labels, where a broken row is an error.
`csv_text` is the way back. A file whose rows were taken over, or that another would replace, is set aside.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carspotter.errors import CarspotterError, StorageError
from carspotter.geometry import SIDES, BoundingBox

Rows = list[tuple[int, dict[str, str]]]

_DELIMITERS = ",;\t"
# pandas writes a column of whole numbers with gaps as 2012.0.
_YEAR = re.compile(r"(\d{4})(?:\.0*)?", re.ASCII)
_SPAN = re.compile(r"\d{4}\s*[-–]\s*(?:\d{4})?", re.ASCII)


def read_csv(path: Path, needed: Sequence[str], *, error: type[CarspotterError], where: str = "") -> Rows:
    """Return the rows of a file with their line numbers; blanks around a cell do not count.

    `where` begins each message, by default the path. Raises `error` for a file that cannot be read or has no row, for a
    column of `needed` that it lacks, and for a row with more or fewer cells than the header.
    """
    where = where or str(path)
    rows = parse_csv(read_text(path, error=error, where=where), needed, error=error, where=where)
    if not rows:
        raise error(f"{where} has no row")
    return rows


def read_text(path: Path, *, error: type[CarspotterError], where: str = "") -> str:
    """Return the text of a file, without the mark that spreadsheets begin it with; raises `error` as `read_csv`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{where or path} cannot be read: {problem}; save it as CSV in UTF-8") from problem


def set_aside(path: Path, ending: str) -> Path:
    """Rename a file to its name with an ending, numbered where that is taken, and return its new place.

    Raises StorageError where it cannot be renamed.
    """
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.{ending}{number}") for number in numbers)
    free = next(name for name in names if not name.exists())
    try:
        with contextlib.suppress(FileNotFoundError):  # another process was first
            path.rename(free)
    except OSError as problem:
        raise StorageError(f"{path} cannot be renamed to {free.name}: {problem.strerror}") from problem
    return free


def set_filled_aside(path: Path, *, belongs: str) -> str:
    """Set a file aside that somebody filled in in its place, before another is written there; return the warning."""
    kept = set_aside(path, "filled")
    return f"{path.name} was filled in; save it as {belongs} to have it count; it lies in {kept}"


def parse_csv(
    text: str, needed: Sequence[str], *, error: type[CarspotterError], where: str, may_be_short: bool = False
) -> Rows:
    """Return the rows of a text with their line numbers, those that are empty left out; raises as `read_csv`.

    Rows that `may_be_short` are filled with empty cells: people leave out what they have nothing to say in.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        missing = next((name for name in needed if name not in names), None)
        if missing is not None:
            raise error(
                f"{where} line 1: column {missing!r} is missing; it needs {', '.join(needed)}, "
                f"and has {', '.join(names) or 'none'}"
            )
        return [
            (number, row) for number, row in _rows(reader, error, where, may_be_short=may_be_short) if any(row.values())
        ]
    except csv.Error as problem:
        raise error(f"{where} line {reader.line_num} cannot be read: {problem}") from problem


def header(text: str) -> list[str]:
    """Return the names of the columns."""
    return [name.strip() for name in next(csv.reader([text.split("\n", 1)[0]], delimiter=_delimiter(text)), [])]


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as the text of a CSV file with a header; what a row lacks is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def box_of(row: Mapping[str, str], *, error: type[CarspotterError], where: str) -> BoundingBox | None:
    """Return the box in a row's cells x1, y1, x2, y2, None where all are empty; raises `error` for half a box."""
    try:
        return BoundingBox.of_cells(row)
    except ValueError as problem:
        raise error(f"{where}: {problem}") from problem


def year_of(
    text: str, *, error: type[CarspotterError], where: str, column: str = "year", may_span: bool = False
) -> int | None:
    """Return the year in a cell, "2012" or "2012.0"; None for an empty one, and for several years that it `may_span`.

    Raises `error` for anything else.
    """
    if not text or (may_span and _SPAN.fullmatch(text)):
        return None
    match = _YEAR.fullmatch(text)
    if match is None:
        allowed = "a year such as 2012, a span such as 2006-2014" if may_span else "a year such as 2012"
        raise error(f"{where}: {column} is {text!r}; it must be {allowed}, or empty")
    return int(match[1])


def _delimiter(text: str) -> str:
    return max(_DELIMITERS, key=text.split("\n", 1)[0].count)


def _rows(reader: csv.DictReader[str], error: type[CarspotterError], where: str, *, may_be_short: bool) -> Rows:
    found = []
    for row in reader:
        if None in row or (None in row.values() and not may_be_short):
            raise error(
                f"{where} line {reader.line_num}: more or fewer cells than the header's {len(reader.fieldnames or ())};"
                " put quotes around a cell that holds a separator"
            )
        found.append((reader.line_num, {name: (value or "").strip() for name, value in row.items()}))
    return found


def names_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Name each row by its path, and by its box as well where several vehicles of a photo are rows."""
    paths = Counter(row["path"] for row in rows)
    boxed = (" ".join(row.get(part) or "" for part in ("path", *SIDES)).strip() for row in rows)
    return [row["path"] if paths[row["path"]] == 1 else name for row, name in zip(rows, boxed, strict=True)]
