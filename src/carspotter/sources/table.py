"""Listings from a table: `cars.csv`, any CSV, JSON Lines or Parquet, with a map from our columns to its own.

In: `TableSettings`. Out: ads, one at a time, in the order of the file; a line that cannot be used is a listing with a
status. A table is read as a stream, and a remote one is first copied beside the temporary files. It fetches no photo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from string import Formatter
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from carspotter import storage
from carspotter.catalog.tables import OK
from carspotter.errors import SourceError, suggestion
from carspotter.headers import SUFFIXES
from carspotter.records import split_name
from carspotter.sources.columns import FIELDS, resolve
from carspotter.sources.lines import BROKEN, Record, read_csv, read_json_lines, read_parquet
from carspotter.sources.listing import Ad, Row, clean, listing_row, photo_row, row_key
from carspotter.sources.table_file import FORMS, Form, form_of, local_table, name_of
from carspotter.sources.values import holds_bytes, is_rounded, number_text, photo_ids, tidy
from carspotter.storage_errors import shown

# Keys of JSON Lines differ from line to line: this many are looked at before a column is called unknown.
_FIRST_RECORDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """Where a table is and how to read it; raises ValueError for an impossible value."""

    path: str
    """The table: a path or a URL; a remote one is copied first."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column = the table's own, such as `{ad_id = "id", make = "car.brand"}`; a dot steps into JSON objects, ""
    says that there is none."""
    photos: str | None = None
    """Where photo ids lead: a URL or path with `{image_id}` (and `{ad_id}`), or a folder; without it, beside the
    table."""
    name: str | None = None
    """What the column `source` says; without it `table:cars.csv`."""
    form: Form = "auto"
    """Where guessing by the name is wrong: csv, jsonl or parquet."""
    header: bool | None = None
    """Whether the first line is a header, where guessing is wrong."""
    delimiter: str | None = None
    """One character, where guessing is wrong."""
    photo_delimiter: str | None = None
    """What stands between a list's photos; without it a list is split as it is written."""
    encoding: str = "utf-8-sig"
    """Of the file's text."""
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Other words for values, such as `{kind = {in = "interior"}}`; where a column has words, its other values are
    dropped."""

    def __post_init__(self) -> None:
        for key in (*self.columns, *self.words):
            if key not in FIELDS:
                raise ValueError(f"columns and words: unknown field {key!r}; {suggestion(key, FIELDS, limit=20)}")
        if self.columns.get("ad_id") == "":
            raise ValueError("columns: ad_id is empty; name the column that tells one ad from another")
        if self.form not in ("auto", *FORMS.values()):
            raise ValueError(f"form is {self.form!r}; allowed: auto, csv, jsonl, parquet")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter is {self.delimiter!r}; it must be one character")
        _template_of(self)


def read(settings: TableSettings) -> Iterator[Ad]:
    """Yield an ad for each line of the table; one row a photo gives several ads of one id, to be merged.

    Raises SourceError where the table cannot be opened, or lacks a column that the map names.
    """
    with TemporaryDirectory(prefix="carspotter-") as folder:
        path = local_table(settings.path, Path(folder))
        records = _records(settings, path)
        first = list(islice(records, _FIRST_RECORDS))
        while first and all(record.values is None for record in first):  # they name no column
            yield from map(_Reader(settings, {}).ad, first)
            first = list(islice(records, _FIRST_RECORDS))
        reader = _Reader(settings, _resolved(settings, first))
        for record in chain(first, records):
            yield reader.ad(record)


def understood(settings: TableSettings) -> dict[str, list[str]]:
    """Return field → the table's columns, from its first records; raises SourceError as `read` does."""
    with TemporaryDirectory(prefix="carspotter-") as folder:
        records = _records(settings, local_table(settings.path, Path(folder)))
        whole = (record for record in records if record.values is not None)
        return _resolved(settings, list(islice(whole, _FIRST_RECORDS)))


def _records(settings: TableSettings, path: Path) -> Iterator[Record]:
    try:
        yield from _read(settings, path)
    except UnicodeDecodeError as error:  # wide characters: of them no half can be kept as a broken row
        raise SourceError(
            f"table {shown(settings.path)} is cut, or not in {settings.encoding}: {error.reason}; write it anew, "
            "or set encoding"
        ) from error


def _read(settings: TableSettings, path: Path) -> Iterator[Record]:
    form = form_of(settings.path) if settings.form == "auto" else settings.form
    if form == "parquet":
        return read_parquet(path, name=shown(settings.path))
    if form == "jsonl":
        return read_json_lines(path, name=shown(settings.path), encoding=settings.encoding)
    return read_csv(
        path,
        name=shown(settings.path),
        encoding=settings.encoding,
        delimiter=settings.delimiter,
        header=settings.header,
        mapped=settings.columns,
    )


def _resolved(settings: TableSettings, first: Sequence[Record]) -> dict[str, list[str]]:
    """Return field → columns, from the first records."""
    there: dict[str, None] = {key: None for record in first if record.values for key in record.values}
    if all(record.values is None for record in first):
        return {}
    if not there:
        raise SourceError(f"table {shown(settings.path)}: its first lines hold nothing, not even the name of a column")
    looks = [key for key in there if any(_is_photo(record.values.get(key)) for record in first if record.values)]
    return resolve(shown(settings.path), list(there), settings.columns, looks)


def _is_photo(value: Any) -> bool:
    return any(name.partition("?")[0].casefold().endswith(SUFFIXES) for name in photo_ids(value, None)[0])


class _Reader:
    """Turn records into ads, with the settings looked up once."""

    def __init__(self, settings: TableSettings, columns: Mapping[str, list[str]]) -> None:
        self.settings = settings
        self.columns = columns
        self.file = str(name_of(settings.path))
        self.source = settings.name or f"table:{self.file}"
        self.template = _template_of(settings)
        self.n_photos: dict[str, int] = {}  # ad → how many of its photos came on lines before
        self.mapped = {column.partition(".")[0] for found in columns.values() for column in found}

    def ad(self, record: Record) -> Ad:
        problem = record.problem or self.bytes_in(record.values or {})
        if record.values is None or problem:
            key, problem = row_key(self.file, record.number), f"line {record.line}: {problem}"
            raw = {"line": record.raw} if record.raw else None
            return Ad(listing_row(ad_id=key, source=self.source, status=BROKEN, message=problem, attributes=raw))
        values = {name: tidy(_value(record.values, found[0])) for name, found in self.columns.items()}
        said = number_text(clean(values.pop("ad_id", None)))
        problems = [] if said else [f"line {record.line}: {self.columns['ad_id'][0]} is empty"]
        if said and is_rounded(said):
            problems, said = [f"line {record.line}: a spreadsheet has rounded the id to {said}"], None
        ad_id = said or row_key(self.file, record.number)
        status = OK if said else "no-ad-id"
        values["photos"] = self.lists(record.values)
        values["year"] = number_text(clean(values.get("year")))
        photos, more = self.photos(ad_id, values, status)
        message = "; ".join(problems + more) or None
        words: dict[str, Any] = {name: self.translated(name, values[name]) for name in values if name not in _OF_PHOTOS}
        rest = {
            key: value
            for key, value in record.values.items()
            if key not in self.mapped and tidy(value) not in (None, "")
        }
        listing = listing_row(ad_id=ad_id, source=self.source, status=status, message=message, attributes=rest, **words)
        return Ad(listing, photos)

    def photos(self, ad_id: str, values: Mapping[str, Any], status: str) -> tuple[tuple[Row, ...], list[str]]:
        """Return the rows of an ad's photos and what is wrong with the list."""
        ids, holes = values["photos"]
        unique = list(dict.fromkeys(ids))
        problems = [f"{holes} holes in the list of photos"] if holes > 1 else []
        problems += ["a hole in the list of photos"] if holes == 1 else []
        problems += [f"{len(ids) - len(unique)} photos named twice"] if len(ids) > len(unique) else []
        problems += ["no photos"] if not unique and "photos" in self.columns else []
        about = {name: self.translated(name, clean(values.get(name))) for name in ("kind", "viewpoint", "split")}
        about["split"] = split_name(about["split"])
        before = self.n_photos.get(ad_id, 0)
        if unique:
            self.n_photos[ad_id] = before + len(unique)
        rows = tuple(
            photo_row(ad_id, self.template(image_id, ad_id), position, status=status, **about)
            for position, image_id in enumerate(unique, before)
        )
        return tuple({row["photo_id"]: row for row in rows}.values()), problems

    def lists(self, values: Mapping[str, Any]) -> tuple[list[str], int]:
        """Return the ids of an ad's photos, and the holes; an empty column among several is no hole."""
        found = [
            photo_ids(_value(values, name), self.settings.photo_delimiter) for name in self.columns.get("photos", ())
        ]
        return [name for ids, _ in found for name in ids], sum(holes for _, holes in found)

    def bytes_in(self, values: Mapping[str, Any]) -> str | None:
        """Return which column holds bytes that are no text, as Parquet may, or None."""
        for name, column in ((name, column) for name, found in self.columns.items() for column in found):
            if holds_bytes(_value(values, column)):
                what = "the bytes of photos, not their names" if name == "photos" else "bytes that are no text"
                return f"{column} holds {what}"
        return None

    def translated(self, name: str, value: Any) -> Any:
        """Return a value as it is, or what the settings say for it."""
        words, said = self.settings.words.get(name), clean(value)
        if words is None:
            return value
        return (words.get(said) or None) if said else None


_OF_PHOTOS = ("photos", "kind", "viewpoint", "split")


def _value(values: Mapping[str, Any], column: str) -> Any:
    """Return a column's value; "car.brand" is the brand of the object `car`, unless a column is called so."""
    if column in values:
        return values[column]
    found: Any = values
    for part in column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


# ---- from photo ids to places


class _Place:
    """Where a photo is: what its id and its ad's id make of a URL or path with places, or of a folder."""

    def __init__(self, pattern: str, *, is_folder: bool, is_beside: bool) -> None:
        self.is_folder = is_folder
        self.scheme = pattern.partition("://")[0] if storage.is_url(pattern) else ""
        separator = "/" if self.scheme else os.sep
        self.pattern = pattern.rstrip(separator) + (f"{separator}{{image_id}}" if is_folder else "")
        # Beside a table with a URL, "/a.jpg" begins at its host, as in a page (RFC 3986).
        self.root = re.sub(r"(://[^/]*)/.*", r"\1/{image_id}", self.pattern) if is_beside else self.pattern

    def __call__(self, image_id: str, ad_id: str) -> str:
        if storage.is_url(image_id):
            return image_id
        return self._remote(image_id, ad_id) if self.scheme else self._local(image_id, ad_id)

    def _remote(self, image_id: str, ad_id: str) -> str:
        if image_id.startswith("//") and self.scheme.casefold() in ("http", "https"):
            return f"{self.scheme}:{image_id}"
        pattern = self.root if image_id.startswith("/") else self.pattern
        image_id = image_id.lstrip("/") if "/{image_id}" in pattern else image_id
        return pattern.format(image_id=quote(image_id, safe="/"), ad_id=quote(ad_id, safe=""))

    def _local(self, image_id: str, ad_id: str) -> str:
        # Texts rather than Path: this runs for each of millions of photos, and a Path costs some 10 microseconds.
        is_rooted = image_id[0] in "/\\" or image_id[1:2] == ":"
        if is_rooted and Path(image_id).is_absolute():
            return image_id
        path = self.pattern.format(image_id=image_id, ad_id=ad_id)
        if not self.is_folder or path.casefold().endswith(SUFFIXES):
            return path
        # os.path, since Path.is_file raises for a name that is too long.
        return next((path + suffix for suffix in SUFFIXES if os.path.isfile(path + suffix)), path)  # noqa: PTH113


def folder_of_photos(settings: TableSettings) -> str:
    """Return the folder, or what of a URL, that all photos of a table lie below: what stands before the first id."""
    before = ""
    for literal, name, _, _ in Formatter().parse(_template_of(settings).pattern):
        before += literal
        if name is not None:
            break
    return before[: max(before.rfind(separator) for separator in ("/", os.sep)) + 1]


def _template_of(settings: TableSettings) -> _Place:
    """Return the place that `photos` names; paths are relative to the table's folder."""
    said = settings.photos if settings.photos is not None else "."
    pattern = _escaped_start(said if storage.local_path(said) is None else str(storage.local_path(said)))
    try:
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
    except ValueError as error:
        raise ValueError(f"photos {said!r} is no pattern: {error}") from error
    for name in names - {"image_id", "ad_id"}:
        raise ValueError(f"photos {said!r} has {{{name}}}; allowed: {{image_id}}, {{ad_id}}")
    table = storage.local_path(settings.path)
    if table is not None and not storage.is_url(pattern):
        pattern = str(Path(_escaped(str(table.parent.absolute())), pattern))
    elif not storage.is_url(pattern) and not Path(pattern).is_absolute():
        base = settings.path.partition("?")[0].partition("#")[0].rpartition("/")[0]
        pattern = f"{_escaped(base)}/{Path(pattern).as_posix()}".removesuffix("/.")
    return _Place(pattern, is_folder="image_id" not in names, is_beside=settings.photos is None)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _escaped_start(pattern: str) -> str:
    """Escape the braces of the folders that are there: a name may have them."""
    before = re.split(r"\{(?:image|ad)_id\}", pattern)[0]
    folders = [folder for folder in (Path(before), *Path(before).parents) if before.startswith(str(folder))]
    start = next((str(folder) for folder in folders if os.path.isdir(folder)), "")  # noqa: PTH112
    return _escaped(start) + pattern[len(start) :]
