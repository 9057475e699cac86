"""Listings from a table: `cars.csv`, any CSV, JSON Lines or Parquet, with a map from our columns to its own.

In: `TableSettings`. Out: ads, one at a time, in the order of the file; a line that cannot be used is a listing with a
status. A table is read as a stream, and a remote one is first copied beside the temporary files. It fetches no photo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from string import Formatter
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

from carspotter import storage
from carspotter.catalog.tables import OK
from carspotter.errors import SourceError, StorageError, suggestion
from carspotter.sources.ad import Ad, Row, clean, listing_row, photo_row, row_key
from carspotter.sources.lines import BROKEN, Record, read_csv, read_json_lines, read_parquet

Form = Literal["auto", "csv", "jsonl", "parquet"]

FIELDS = (
    "ad_id", "make", "model", "submodel", "photos", "url", "year", "body", "title", "price", "currency",
    "kind", "viewpoint",
)  # fmt: skip
"""What a column map may name; `photos`, `kind` and `viewpoint` are of the photos, the rest of the listing."""

# Names that tables give these columns by themselves; a column map overrules them.
_ALSO = {
    "ad_id": ("id", "listing_id"), "make": ("brand",), "submodel": ("trim", "version"),
    "photos": ("image_ids", "images", "photo_ids", "image_id", "photo", "image", "path"),
}  # fmt: skip
# The form without a header: ad_id, make, model, submodel, "image_id1, image_id2".
_CARS_CSV = FIELDS[:5]
_FORMS: dict[str, Form] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic")
# Two million listings with ten photos each, as CSV, are about 1 GB.
_MAX_REMOTE_BYTES = 4 << 30
_REMOTE_TIMEOUT_S = 3600.0
# Keys of JSON Lines differ from line to line: so many are looked at before a column is called unknown.
_FIRST_RECORDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """Say where a table is and how to read it.

    `columns` maps `FIELDS` to the table's own columns (`{ad_id = "id", make = "car.brand"}`; a dot steps into JSON
    objects). `photos` says where photo ids lead: a URL or path with `{image_id}` (and `{ad_id}`), or a folder; without
    it, names are looked up beside the table. `words` translates values, for instance
    `{kind = {in = "interior"}}`; where a field has words, others of its values are dropped. Raises ValueError for an
    impossible value.
    """

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)
    photos: str | None = None
    name: str | None = None
    form: Form = "auto"
    header: bool | None = None
    delimiter: str | None = None
    photo_delimiter: str = ","
    encoding: str = "utf-8-sig"
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in (*self.columns, *self.words):
            if key not in FIELDS:
                raise ValueError(f"columns and words: unknown field {key!r}; {suggestion(key, FIELDS, limit=20)}")
        if self.form not in ("auto", *_FORMS.values()):
            raise ValueError(f"form is {self.form!r}; allowed: auto, csv, jsonl, parquet")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter is {self.delimiter!r}; it must be one character")
        _template_of(self)


def read(settings: TableSettings) -> Iterator[Ad]:
    """Yield an ad for each line of the table; one row a photo gives several ads of one id, to be merged.

    Raises SourceError where the table cannot be opened, or lacks a column that the map names.
    """
    with TemporaryDirectory(prefix="carspotter-") as folder:
        path = _local(settings.path, Path(folder))
        records = _records(settings, path)
        first = list(islice(records, _FIRST_RECORDS))
        columns = _resolved(settings, first)
        reader = _Reader(settings, columns)
        for record in chain(first, records):
            yield reader.ad(record)


def _local(url: str, folder: Path) -> Path:
    path = storage.local_path(url)
    if path is None:
        path = folder / "table"
        try:
            path.write_bytes(storage.read(url, max_bytes=_MAX_REMOTE_BYTES, timeout_s=_REMOTE_TIMEOUT_S))
        except StorageError as error:
            raise SourceError(str(error)) from error
    if not path.is_file():
        raise SourceError(f"table {url}: {'a folder' if path.is_dir() else 'no such file'}; give a CSV, JSON Lines "
                          "or Parquet file")  # fmt: skip
    return path


def _records(settings: TableSettings, path: Path) -> Iterator[Record]:
    form: Form | None = settings.form
    if form == "auto":
        suffix = Path(_plain(settings.path)).suffix.casefold()
        form = _FORMS.get(suffix)
        if form is None:
            known = ", ".join(_FORMS)
            raise SourceError(f"table {settings.path}: unknown suffix {suffix!r}; allowed: {known}; or set form")
    if form == "parquet":
        return read_parquet(path, name=settings.path)
    if form == "jsonl":
        return read_json_lines(path, name=settings.path, encoding=settings.encoding)
    header: bool | Sequence[str] | None = settings.header
    if header is None and not settings.columns:
        header = _CARS_CSV
    return read_csv(
        path, name=settings.path, encoding=settings.encoding, delimiter=settings.delimiter, header=header,
        known=_spellings(),
    )  # fmt: skip


def _spellings() -> dict[str, str]:
    """Return each name that a column may bear by itself and the field it stands for."""
    return {other: name for name in FIELDS for other in (name, *_ALSO.get(name, ()))}


def _resolved(settings: TableSettings, first: Sequence[Record]) -> dict[str, str]:
    """Return field → column: what the map says, checked, and names that speak for themselves."""
    there: dict[str, None] = {key: None for record in first if record.values for key in record.values}
    if all(record.values is None for record in first):
        return {}
    if not there:
        raise SourceError(f"table {settings.path}: its first lines hold nothing, not even the name of a column")
    for name, column in settings.columns.items():
        if column not in there and column.partition(".")[0] not in there:
            raise SourceError(
                f"table {settings.path}: no column {column!r} for {name}; {suggestion(column, there, limit=20)}"
            )
    own = {column.strip().casefold(): column for column in there}
    columns = {name: own[other] for name in FIELDS for other in (*reversed(_ALSO.get(name, ())), name) if other in own}
    columns = {name: column for name, column in columns.items() if column not in settings.columns.values()}
    columns |= settings.columns
    if "ad_id" not in columns:
        raise SourceError(f"table {settings.path}: no column ad_id; say which one it is, such as "
                          f'columns = {{ad_id = "{next(iter(there))}"}}')  # fmt: skip
    return columns


class _Reader:
    """Turn records into ads, with the settings looked up once."""

    def __init__(self, settings: TableSettings, columns: Mapping[str, str]) -> None:
        self.settings = settings
        self.columns = columns
        self.file = file_name(settings.path)
        self.source = source_name(settings)
        self.template = _template_of(settings)
        self.mapped = {column.partition(".")[0] for column in columns.values()}

    def ad(self, record: Record) -> Ad:
        if record.values is None:
            problem = f"line {record.line}: {record.problem}"
            key = row_key(self.file, record.number)
            raw = {"line": record.raw} if record.raw else None
            return Ad(listing_row(ad_id=key, source=self.source, status=BROKEN, message=problem, attributes=raw))
        values = {name: _value(record.values, column) for name, column in self.columns.items()}
        said = clean(values.pop("ad_id"))
        ad_id = said or row_key(self.file, record.number)
        status = OK if said else "no-ad-id"
        problems = [] if said else [f"line {record.line}: {self.columns['ad_id']} is empty"]
        photos, more = self.photos(ad_id, values, status)
        message = "; ".join(problems + more) or None
        words: dict[str, Any] = {
            name: self.translated(name, clean(values[name])) for name in values if name not in _OF_PHOTOS
        }
        rest = {
            key: value for key, value in record.values.items() if key not in self.mapped and value not in (None, "")
        }
        listing = listing_row(
            ad_id=ad_id, source=self.source, status=status, message=message, attributes=rest, **words
        )  # fmt: skip
        return Ad(listing, photos)

    def photos(self, ad_id: str, values: Mapping[str, Any], status: str) -> tuple[tuple[Row, ...], list[str]]:
        """Return the rows of an ad's photos and what is wrong with the list."""
        ids, holes = _photo_ids(values.get("photos"), self.settings.photo_delimiter)
        unique = list(dict.fromkeys(ids))
        problems = [f"{holes} holes in the list of photos"] if holes > 1 else []
        problems += ["a hole in the list of photos"] if holes == 1 else []
        problems += [f"{len(ids) - len(unique)} photos named twice"] if len(ids) > len(unique) else []
        problems += ["no photos"] if not unique and "photos" in self.columns else []
        about = {name: self.translated(name, clean(values.get(name))) for name in ("kind", "viewpoint")}
        rows = tuple(
            photo_row(ad_id, self.template(image_id, ad_id), position, status=status, **about)
            for position, image_id in enumerate(unique)
        )
        return tuple({row["photo_id"]: row for row in rows}.values()), problems

    def translated(self, name: str, value: str | None) -> str | None:
        words = self.settings.words.get(name)
        return value if words is None or value is None else words.get(value) or None


_OF_PHOTOS = ("photos", "kind", "viewpoint")


def _value(values: Mapping[str, Any], column: str) -> Any:
    """Return a column's value; "car.brand" is the brand of the object `car`, unless a column is called so."""
    if column in values:
        return values[column]
    found: Any = values
    for part in column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _photo_ids(value: Any, delimiter: str) -> tuple[list[str], int]:
    """Return the ids in a list or a joined text, and how many of its places are empty."""
    if isinstance(value, str):
        parts: list[Any] = value.split(delimiter) if delimiter else [value]
        # A comma stands in URLs too: "https://a/b,c.jpg" is one, "a.jpg, https://…" are two.
        if delimiter == "," and "://" in value:
            parts = _split_urls(value)
    elif isinstance(value, Sequence):
        parts = list(value)
    else:
        parts = [] if value is None else [value]
    names = [clean(_url_of(part)) for part in parts]
    if names == [None]:
        return [], 0
    return [name for name in names if name], names.count(None)


def _split_urls(text: str) -> list[str]:
    """Split at commas that a blank or another URL follows."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and "://" in parts[-1] and part.strip() and part == part.lstrip() and "://" not in part:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts


def _url_of(part: Any) -> Any:
    """Return the place in a photo that is an object, as sites' own data has them."""
    if isinstance(part, Mapping):
        return next((part[key] for key in ("url", "contentUrl", "src", "path", "id") if part.get(key)), None)
    return part


def file_name(path: str) -> str:
    """Return the name of a table's file, without the query of a URL."""
    return _plain(path).rstrip("/").replace("\\", "/").rpartition("/")[2]


def source_name(settings: TableSettings) -> str:
    """Return what the column `source` says of a table's ads."""
    return clean(settings.name or f"table:{file_name(settings.path)}") or ""


def _plain(path: str) -> str:
    """Return a path, or a URL without its query; a "?" in a path is a letter like any other."""
    return path.partition("?")[0] if storage.local_path(path) is None else path


# ---- from photo ids to places


class _Place:
    """Say where a photo is: what its id and its ad's id make of a URL or path with places, or of a folder."""

    def __init__(self, pattern: str, *, is_folder: bool) -> None:
        self.is_folder = is_folder
        self.is_remote = storage.is_url(pattern) and storage.local_path(pattern) is None
        self.pattern = pattern if self.is_remote else str((storage.local_path(pattern) or Path(pattern)).absolute())

    def __call__(self, image_id: str, ad_id: str) -> str:
        # Texts rather than Path: this runs for each of millions of photos, and a Path costs some 10 microseconds.
        is_rooted = image_id[0] in "/\\" or image_id[1:2] == ":"
        if storage.is_url(image_id) or (is_rooted and Path(image_id).is_absolute()):
            return image_id
        if self.is_remote:
            ids = {"image_id": quote(image_id, safe="/"), "ad_id": quote(ad_id, safe="")}
            return f"{self.pattern}/{ids['image_id']}" if self.is_folder else self.pattern.format(**ids)
        if not self.is_folder:
            return self.pattern.format(image_id=image_id, ad_id=ad_id)
        path = f"{self.pattern}{os.sep}{image_id}"
        if path.casefold().endswith(_SUFFIXES):
            return path
        return next((path + suffix for suffix in _SUFFIXES if Path(path + suffix).is_file()), path)


def _template_of(settings: TableSettings) -> _Place:
    """Return the place that `photos` names; paths are relative to the table's folder."""
    pattern = settings.photos if settings.photos is not None else "."
    try:
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
    except ValueError as error:
        raise ValueError(f"photos {pattern!r} is no pattern: {error}") from error
    for name in names - {"image_id", "ad_id"}:
        raise ValueError(f"photos {pattern!r} has {{{name}}}; allowed: {{image_id}}, {{ad_id}}")
    if storage.is_url(pattern):
        return _Place(pattern.rstrip("/"), is_folder="image_id" not in names)
    table = storage.local_path(settings.path)
    if table is None and not Path(pattern).is_absolute():
        base = _plain(settings.path).rpartition("/")[0]
        relative = pattern.removeprefix("./").removeprefix(".")
        pattern = f"{base}/{relative}".rstrip("/")
    elif table is not None:
        pattern = str(table.parent / pattern)
    return _Place(pattern, is_folder="image_id" not in names)
