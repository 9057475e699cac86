"""The lines of a table as records: CSV, JSON Lines and Parquet, as a stream, one broken line at a time.

In: a local file. Out: `Record`, a mapping of columns to values, or what is wrong with the line. It knows nothing of
listings. A file that cannot be read at all is a SourceError.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from carspotter.errors import MissingExtraError, SourceError
from carspotter.sources.columns import CARS_CSV, field_of, is_header

BROKEN = "broken-row"
"""The status of a line that cannot be read."""

# A description of a car has some thousand characters; beyond this a quote was not closed.
_MAX_RECORD_LINES, _MAX_RECORD_CHARACTERS = 100, 100_000
_MAX_RAW = 500  # what a broken row keeps of its line
_SNIFFED_BYTES, _SNIFFED_LINES = 1 << 16, 20
_DELIMITERS = ",;\t|"
_BATCH = 1024
# What Excel reads as a word about the delimiter, and what programs leave around names.
_SEP = re.compile(r'\ufeff?"?sep=(.)"?\s*', re.IGNORECASE)
_MARKS = "\ufeff\u200b\"' "
# Of western text in two bytes a character nearly every second byte is zero; in other scripts delimiters alone are.
_MANY, _SHORTEST_WIDE = 0.6, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: its number, counted from 1 without the header, its line in the file, and its values.

    Without values, `problem` says why, and `raw` is the beginning of the line.
    """

    number: int
    line: int
    values: Mapping[str, Any] | None = None
    problem: str | None = None
    raw: str = ""


def read_csv(
    path: Path, *, name: str, encoding: str, delimiter: str | None, header: bool | None, mapped: Mapping[str, str]
) -> Iterator[Record]:
    """Yield the records of a CSV file.

    `header` is True (there is one), False (none: columns are called "1", "2", …, or as in `CARS_CSV` where nothing is
    `mapped` to columns), or None: a file with a map has one, another one is looked at. A line "sep=;" and lines of
    title above a header are passed over. Raises SourceError where the first line is neither a header that is
    understood nor an ad.
    """
    _check_encoding(path, name, encoding)
    lines = _first_lines(path, encoding)
    said = _SEP.fullmatch(lines[0]) if lines else None
    skip = 1 if said else 0
    delimiter = delimiter or (said[1] if said else None) or _sniff_delimiter(lines[skip:])
    skip += _title_lines(lines[skip:], delimiter, mapped) if header is not False else 0
    csv_rows = _Rows(path, encoding, delimiter, skip)
    rows = iter(csv_rows)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"table {name} is empty; it needs a line for each ad")
    columns, is_header = _columns(name, first, header, mapped)
    csv_rows.width = len(columns)
    number = 0
    if not is_header:
        number = 1
        yield _record(1, first, columns)
    for row in rows:
        number += 1
        yield _record(number, row, columns)


_Row = tuple[int, list[str] | None, str | None, str]  # line, fields, problem, raw
_Parsed = tuple[list[str] | None, str | None]  # fields, problem


def _columns(name: str, first: _Row, header: bool | None, mapped: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row is the header that says them."""
    _, fields, problem, raw = first
    words = [word.strip().strip(_MARKS) for word in fields or ()]
    if header is False and mapped:
        return [str(index + 1) for index in range(len(words))], False
    has_header = header or bool(mapped) or is_header(words, is_first=True)
    if header is False or not has_header:
        if header is None and not problem and not _is_ad(words):
            shown, ends = raw[:_MAX_RAW].strip(), [" ".join(word.split()) for word in (words or ["…"])]
            raise SourceError(
                f"table {name}: its first line is neither a header that is understood nor an ad of the form "
                f"{', '.join(CARS_CSV)}: {shown!r}; if it is a header, say which column is which, such as "
                f'columns = {{ad_id = "{ends[0]}", photos = "{ends[-1]}"}}; if it is an ad, set header = false'
            )
        return list(CARS_CSV), False
    if problem:
        raise SourceError(f"table {name}: its header {raw[:_MAX_RAW].strip()!r} is broken: {problem}")
    while words and not words[-1] and len(words) > 1:  # a delimiter at the end of each line
        words.pop()
    return _unlike(name, [word or f"column {index + 1}" for index, word in enumerate(words)]), True


def _is_ad(words: Sequence[str]) -> bool:
    """Return whether the fields of a line can be an ad of the form without a header."""
    if len(words) > len(CARS_CSV) and any(words[len(CARS_CSV) :]):
        return False
    first = words[0] if words else ""
    return any(sign.isdigit() for sign in first or "".join(words))


def _unlike(name: str, words: Sequence[str]) -> list[str]:
    """Number columns of photos that bear one name; another name may be there only once."""
    seen: dict[str, int] = {}
    columns = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        if seen[word] > 1 and field_of(word) != "photos":
            raise SourceError(
                f"table {name}: its header names a column twice, {word[:60]!r}: {', '.join(words)[:_MAX_RAW]!r}; give "
                "each its own name"
            )
        columns.append(word if seen[word] == 1 else f"{word} {seen[word]}")
    return columns


def _title_lines(lines: Sequence[str], delimiter: str, mapped: Mapping[str, str]) -> int:
    """Return how many lines stand above the header: titles, comments and empty ones."""
    names = [column for column in mapped.values() if column]
    for number, line in enumerate(lines):
        fields = _parse(line, delimiter)[0] or []
        if is_header(fields, names, is_first=number == 0):
            return number
        if len([field for field in fields if field.strip()]) > 1 and not line.lstrip().startswith("#"):
            return 0
    return 0


def _record(number: int, row: _Row, columns: Sequence[str]) -> Record:
    line, fields, problem, raw = row
    if fields is not None and len(fields) > len(columns):
        if any(field.strip() for field in fields[len(columns) :]):
            problem = f"{len(fields)} fields, the table has {len(columns)} columns"
        fields = fields[: len(columns)]
    if problem is None and "\0" in raw:
        problem = "a byte of zero, which no text has"
    if problem is None and not _is_text(raw):
        problem = "bytes that are not in the table's encoding"
    if problem is None and [field.strip() for field in fields or ()] == list(columns):
        problem = "the header once more"
    if problem is not None or fields is None:
        return Record(number=number, line=line, problem=problem, raw=raw.strip()[:_MAX_RAW])
    return Record(number=number, line=line, values=dict(zip(columns, fields, strict=False)), raw=raw)


class _Rows:
    """Iterate over the rows of a CSV file; where a quote is not closed, one line is broken and the next are not lost.

    `width` is the number of columns, once it is known: a row over several lines that has more is broken.
    """

    def __init__(self, path: Path, encoding: str, delimiter: str, skip: int = 0) -> None:
        self.path, self.encoding, self.delimiter, self.skip = path, encoding, delimiter, skip
        self.width: int | None = None

    def __iter__(self) -> Iterator[_Row]:
        with self.path.open(encoding=self.encoding, errors="surrogateescape", newline="") as file:
            ahead: deque[str] = deque()
            for _ in range(self.skip):
                _read_line(file)
            line = self.skip + 1
            while text := _next_line(file, ahead):
                taken = [text]
                fields, problem = _parse(text, self.delimiter) if len(text) <= _MAX_RECORD_CHARACTERS else _TOO_LONG
                if problem == _OPEN_QUOTE:
                    fields, problem = self._over_lines(file, ahead, taken)
                if text.strip():
                    yield line, fields, problem, "".join(taken)
                line += len(taken)

    def _over_lines(self, file: TextIO, ahead: deque[str], taken: list[str]) -> _Parsed:
        """Add lines to `taken` until they close the quote, or put them back and leave the first one broken."""
        while len(taken) < _MAX_RECORD_LINES and (more := _next_line(file, ahead)):
            taken.append(more)
            if len(more) > _MAX_RECORD_CHARACTERS:
                break
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
_TOO_LONG: _Parsed = None, f"a line of over {_MAX_RECORD_CHARACTERS} characters"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that could not be decoded
        return False
    return True


def _next_line(file: TextIO, ahead: deque[str]) -> str:
    return ahead.popleft() if ahead else _read_line(file)


def _read_line(file: TextIO) -> str:
    """Read a line; of one over the limit the beginning, which is one character longer than the limit."""
    text = more = file.readline(_MAX_RECORD_CHARACTERS + 1)
    while len(more) > _MAX_RECORD_CHARACTERS and more[-1] not in "\r\n":
        more = file.readline(_MAX_RECORD_CHARACTERS + 1)
    return text


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
    found = _wide_encoding(start)
    if found is not None and encoding.casefold().startswith(("utf-8", "utf8")):
        raise SourceError(f"table {name} is {found.upper()}; set encoding = {found!r}")
    try:
        b"".decode(encoding)  # a codec that is not for text is refused here
        codecs.getincrementaldecoder(encoding)().decode(start, final=len(start) < _SNIFFED_BYTES)
    except UnicodeDecodeError as error:
        line = start.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"table {name} is not {encoding}: byte 0x{start[error.start]:02X} in line {line}; set encoding, "
            "for instance 'cp1252' (western Europe) or 'cp1251' (Cyrillic)"
        ) from error
    except UnicodeError as error:
        raise SourceError(f"table {name} is not {encoding}: {error}; set encoding") from error
    except (LookupError, ValueError, TypeError) as error:
        raise SourceError(f"table {name}: unknown encoding {encoding!r}; allowed: utf-8, cp1252, utf-16, …") from error


def _wide_encoding(start: bytes) -> str | None:
    """Return the encoding of two or four bytes a character that a file begins in, with its mark or without."""
    for mark, encoding in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if start.startswith(mark):
            return encoding
    head = start[:4096]
    zeros = [head[at::4].count(0) / max(len(head[at::4]), 1) for at in range(4)]
    # In UTF-32 two bytes of four are always zero or nearly so, whatever the script.
    if len(head) >= _SHORTEST_WIDE and min(zeros[2:]) > _MANY:
        return "utf-32-le"
    if len(head) >= _SHORTEST_WIDE and min(zeros[:2]) > _MANY:
        return "utf-32-be"
    for order, encoding in (((1, 3), "utf-16-le"), ((0, 2), "utf-16-be")):
        others = [zeros[at] for at in range(4) if at not in order]
        if min(zeros[at] for at in order) > _MANY and max(others) < 1 - _MANY and len(head) >= _SHORTEST_WIDE:
            return encoding
    return None


def _first_lines(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        return [line for line in (_read_line(file) for _ in range(_SNIFFED_LINES)) if line]


def _sniff_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that gives most lines the same number of fields, more than one."""
    lines = [line for line in lines if line.strip()]

    def evenness(delimiter: str) -> tuple[int, int]:
        counts = [len(_parse(line, delimiter)[0] or ()) for line in lines]
        widest = max((count for count in counts if count > 1), key=counts.count, default=0)
        return counts.count(widest) if widest else 0, widest

    return max(_DELIMITERS, key=evenness) if lines else ","


def read_json_lines(path: Path, *, name: str, encoding: str) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file; any other line is a record with a problem."""
    _check_encoding(path, name, encoding)
    number = 0
    with path.open(encoding=encoding, errors="surrogateescape") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            number += 1
            raw = text.strip()[:_MAX_RAW]
            if number == 1 and raw.startswith("["):
                raise SourceError(f"table {name} is one JSON array; write one object a line, such as: jq -c '.[]'")
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
        with path.open("rb") as opened, ParquetFile(opened) as file:  # by a name, it reaches only those in UTF-8
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                columns = {key: _cells(name, key, batch.column(at)) for at, key in enumerate(batch.schema.names)}
                for row in range(batch.num_rows):
                    number += 1
                    values = {key: cells[row] for key, cells in columns.items()}
                    yield Record(number=number, line=number, values=values)
    except (ArrowException, OSError) as error:
        raise SourceError(
            f"table {name} is no Parquet file that can be read: {str(error).splitlines()[0][:200]}"
        ) from error


def _cells(name: str, key: str, column: Any) -> list[Any]:
    """Return the values of a column of Parquet; bytes that are UTF-8 are text, as some programs write it."""
    try:
        found = column.to_pylist()
    except (ValueError, OverflowError):  # times that Python's own types do not hold
        try:
            found = column.cast("string").to_pylist()
        except (ValueError, NotImplementedError) as error:
            said = str(error).splitlines()[0][:200]
            raise SourceError(f"table {name}: column {key!r} cannot be read: {said}; leave it out") from error
    return [_decoded(value) for value in found] if "binary" in str(column.type) else list(found)


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decoded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_decoded(part) for part in value]
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
