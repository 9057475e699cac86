"""The lines of a table as records: CSV, JSON Lines and Parquet, as a stream, one broken line at a time.

In: a local file. Out: `Record`, a mapping of columns to values, or what is wrong with the line. It knows nothing of
listings. A file that cannot be read at all is a SourceError.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from carspotter.errors import MissingExtraError, SourceError

BROKEN = "broken-row"
"""The status of a line that cannot be read."""

# A description of a car has some thousand characters; beyond this a quote was not closed.
_MAX_RECORD_LINES, _MAX_RECORD_CHARACTERS = 100, 100_000
_MAX_RAW = 500  # what a broken row keeps of its line
_SNIFFED_BYTES, _SNIFFED_LINES = 1 << 16, 20
_DELIMITERS = ",;\t|"
_BATCH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Hold one record: its number, counted from 1 without the header, its line in the file, and its values.

    Without values, `problem` says why, and `raw` is the beginning of the line.
    """

    number: int
    line: int
    values: Mapping[str, Any] | None = None
    problem: str | None = None
    raw: str = ""


def read_csv(
    path: Path,
    *,
    name: str,
    encoding: str,
    delimiter: str | None,
    header: bool | Sequence[str] | None,
    known: Mapping[str, str],
) -> Iterator[Record]:
    """Yield the records of a CSV file.

    `header` is True or None (the first line), False (columns are called "1", "2", …), or the columns of a file that may
    have no header: then the first line is one if it names an ad_id or two others of the `known` columns.
    """
    _check_encoding(path, name, encoding)
    if delimiter is None:
        delimiter = _sniff_delimiter(path, encoding)
    csv_rows = _Rows(path, encoding, delimiter)
    rows = iter(csv_rows)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"table {name} is empty; it needs a line for each ad")
    _, fields, problem, raw = first
    columns, is_header = _columns(fields or [], header, known)
    csv_rows.width = len(columns)
    if header in (True, None) and (problem or len(set(columns)) < len(columns)):
        raise SourceError(f"table {name}: its header {raw[:_MAX_RAW].strip()!r} is broken or names a column twice")
    number = 0
    if not is_header:
        number = 1
        yield _record(1, first, columns)
    for row in rows:
        number += 1
        yield _record(number, row, columns)


_Row = tuple[int, list[str] | None, str | None, str]  # line, fields, problem, raw
_Parsed = tuple[list[str] | None, str | None]  # fields, problem


def _columns(
    first: Sequence[str], header: bool | Sequence[str] | None, known: Mapping[str, str]
) -> tuple[list[str], bool]:
    words = [word.strip() for word in first]
    if header is False:
        return [str(index + 1) for index in range(len(words))], False
    if isinstance(header, Sequence):
        found = {known.get(word.casefold()) for word in words} - {None}
        if "ad_id" not in found and len(found) < 2:
            return list(header), False
    return [word or f"column {index + 1}" for index, word in enumerate(words)], True


def _record(number: int, row: _Row, columns: Sequence[str]) -> Record:
    line, fields, problem, raw = row
    if fields is not None and len(fields) > len(columns):
        problem = f"{len(fields)} fields, the table has {len(columns)} columns"
    if problem is None and not _is_text(raw):
        problem = "bytes that are not in the table's encoding"
    if problem is not None or fields is None:
        return Record(number=number, line=line, problem=problem, raw=raw.strip()[:_MAX_RAW])
    return Record(number=number, line=line, values=dict(zip(columns, fields, strict=False)), raw=raw)


class _Rows:
    """Iterate over the rows of a CSV file; where a quote is not closed, one line is broken and the next are not lost.

    `width` is the number of columns, once it is known: a row over several lines that has more is none.
    """

    def __init__(self, path: Path, encoding: str, delimiter: str) -> None:
        self.path, self.encoding, self.delimiter = path, encoding, delimiter
        self.width: int | None = None

    def __iter__(self) -> Iterator[_Row]:
        with self.path.open(encoding=self.encoding, errors="surrogateescape", newline="") as file:
            ahead: deque[str] = deque()
            line = 1
            while text := _next_line(file, ahead):
                taken = [text]
                fields, problem = _parse(text, self.delimiter)
                if problem == _OPEN_QUOTE:
                    fields, problem = self._over_lines(file, ahead, taken)
                if text.strip():
                    yield line, fields, problem, "".join(taken)
                line += len(taken)

    def _over_lines(self, file: TextIO, ahead: deque[str], taken: list[str]) -> _Parsed:
        """Add lines to `taken` until they close the quote, or put them back and leave the first one broken."""
        while len(taken) < _MAX_RECORD_LINES and (more := _next_line(file, ahead)):
            taken.append(more)
            if '"' not in more:
                continue
            fields, problem = _parse("".join(taken), self.delimiter)
            if problem is None and len(fields or ()) <= (self.width or len(fields or ())):
                return fields, None
            if problem != _OPEN_QUOTE:
                break
        ahead.extendleft(reversed(taken[1:]))
        del taken[1:]
        return None, _OPEN_QUOTE


_OPEN_QUOTE = "a quote that is not closed"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that could not be decoded
        return False
    return True


def _next_line(file: TextIO, ahead: deque[str]) -> str:
    return ahead.popleft() if ahead else file.readline(_MAX_RECORD_CHARACTERS)


def _parse(text: str, delimiter: str) -> _Parsed:
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), []), None
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None, _OPEN_QUOTE
        if "\n" in text.rstrip("\r\n"):
            return None, str(error)
    try:  # a quote inside of a field of one line, which many programs write
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), []), None
    except csv.Error as error:
        return None, str(error)


def _check_encoding(path: Path, name: str, encoding: str) -> None:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    whole_lines = start[: start.rfind(b"\n") + 1] or start
    try:
        if encoding.casefold().startswith("utf-8") and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise SourceError(f"table {name} is UTF-16; set encoding = 'utf-16'")
        # UTF-16 ends lines with two bytes.
        (whole_lines if "16" not in encoding else start[: len(start) // 2 * 2]).decode(encoding)
    except UnicodeDecodeError as error:
        line = start.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"table {name} is not {encoding}: byte 0x{start[error.start]:02X} in line {line}; set encoding, "
            "for instance 'cp1252' (western Europe) or 'cp1251' (Cyrillic)"
        ) from error
    except LookupError as error:
        raise SourceError(f"table {name}: unknown encoding {encoding!r}; allowed: utf-8, cp1252, utf-16, …") from error


def _sniff_delimiter(path: Path, encoding: str) -> str:
    """Return the delimiter that gives most lines the same number of fields, more than one."""
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        lines = [
            line for line in (file.readline(_MAX_RECORD_CHARACTERS) for _ in range(_SNIFFED_LINES)) if line.strip()
        ]

    def evenness(delimiter: str) -> tuple[int, int]:
        counts = [len(_parse(line, delimiter)[0] or ()) for line in lines]
        widest = max((count for count in counts if count > 1), key=counts.count, default=0)
        return counts.count(widest) if widest else 0, widest

    return max(_DELIMITERS, key=evenness) if lines else ","


def read_json_lines(path: Path, *, name: str, encoding: str) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file; a line that is none is a record with a problem."""
    _check_encoding(path, name, encoding)
    number = 0
    with path.open(encoding=encoding, errors="surrogateescape") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            number += 1
            raw = text.strip()[:_MAX_RAW]
            try:
                values = json.loads(text)
                problem = None if isinstance(values, dict) else f"a JSON {type(values).__name__}, no object"
            except (ValueError, RecursionError) as error:
                values, problem = None, f"no JSON: {error}"
            if problem is None and not _is_text(text):
                problem = "bytes that are not in the table's encoding"
            yield Record(number=number, line=line, values=None if problem else values, problem=problem, raw=raw)
    if not number:
        raise SourceError(f"table {name} is empty; it needs a line for each ad")


def read_parquet(path: Path, *, name: str) -> Iterator[Record]:
    """Yield the rows of a Parquet file, some thousand of them in memory."""
    try:
        from pyarrow import ArrowException  # type: ignore[import-untyped,unused-ignore]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(number=number, line=number, values=values)
    except (ArrowException, OSError) as error:
        raise SourceError(
            f"table {name} is no Parquet file that can be read: {str(error).splitlines()[0][:200]}"
        ) from error
