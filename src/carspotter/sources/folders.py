"""Listings from a tree of folders: the folder says which car, the file's leading number which ad.

In: `FolderSettings`, a folder on disk, on S3 or WebDAV. Out: an ad for each number (`audi-a4_2010/123_0_x.jpg`), or for
each photo where names have none (a flat tree of class folders). The names of all files are in memory, nothing else. It
opens no photo.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from carspotter import storage
from carspotter.errors import SourceError, StorageError, suggestion
from carspotter.headers import SUFFIXES
from carspotter.records import KINDS, SPLITS, split_name
from carspotter.sources.listing import Ad, clean, listing_row, photo_row, storable
from carspotter.sources.makes import read_name
from carspotter.storage_errors import shown

Ads = Literal["number", "folder-number", "folder", "photo"]
"""What is one ad. `number`: the files whose names begin with one number and a position, `123_0_x.jpg`, wherever they
are, and any other photo by itself. `folder-number`: the same, but numbers begin anew in each folder. `folder`: all
photos of a folder. `photo`: each photo."""

SETTINGS, OWN = (
    "carspotter.toml",
    ("catalog", "photos", "quarantine", "labels", "shards", "models", "crawl", "showroom"),
)
"""What makes a folder a project, and the folders in it that are its own: what lies there is no source's photo."""

# Three digits of position: in "20240131_154500.jpg" a phone's date and time are no ad and photo.
_NUMBERED = re.compile(r"(\d+)_(\d{1,3})(?!\d)")
# One number in two folders is an ad that somebody sorted twice; over half of them are numbers that start over.
_MAX_SHARED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSettings:
    """Where a tree of photos is; raises ValueError for an impossible value."""

    path: str
    """The folder: a path or a URL."""
    ads: Ads = "number"
    """What one ad is: a leading number (`number`), one within its folder (`folder-number`), a folder, or a photo."""
    name: str | None = None
    """What the column `source` says; without it `folder:` and the folder's name."""
    kind: str | None = None
    """What all its photos show, where it is known."""

    def __post_init__(self) -> None:
        if self.ads not in get_args(Ads):
            raise ValueError(f"ads is {self.ads!r}; {suggestion(str(self.ads), get_args(Ads))}")
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; {suggestion(self.kind, KINDS)}")


@dataclass(frozen=True, slots=True)
class _File:
    url: str
    path: str  # from the root of the tree, with "/"
    number: str | None
    position: int

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def top(self) -> str:
        return self.path.partition("/")[0] if "/" in self.path else ""


def read(settings: FolderSettings) -> Iterator[Ad]:
    """Yield the ads of a tree, sorted by path.

    Raises SourceError where the folder cannot be listed or has no photos, or where most numbers stand in several
    folders although a number is to be one ad.
    """
    root, urls = _listed(settings.path)
    if settings.ads == "number":
        _check_numbers(settings.path, (_file(root, url) for url in urls))
    source = source_name(settings)
    part_of = _parts({_file(root, url).top for url in urls})
    for ad_id, group in groupby((_file(root, url) for url in urls), key=lambda file: _ad_id(file, settings.ads)):
        files = sorted(group, key=lambda file: (file.position, file.path))
        yield _ad(ad_id, files, source=source, kind=settings.kind, part_of=part_of)


def source_name(settings: FolderSettings) -> str:
    """Return what the column `source` says of a tree's ads."""
    root = _root(settings.path)
    return clean(settings.name or f"folder:{clean(unquote(root).rstrip('/').rpartition('/')[2]) or root}") or ""


def _root(path: str) -> str:
    local = storage.local_path(path)
    return str(local.absolute()) if local is not None else path.rstrip("/")


def _listed(path: str) -> tuple[str, list[str]]:
    """Return the root of a tree as its files name it, and the files."""
    local = storage.local_path(path)
    if local is None and urlsplit(path).password is not None:
        raise SourceError(
            f"folder {shown(path)}: a password in a URL would be kept with each photo; give it in the environment"
        )
    root = _root(path)
    try:
        urls = storage.list_files(root, SUFFIXES)
    except StorageError as error:
        raise SourceError(f"folder {error}") from error
    if local is not None:
        _is_own.cache_clear()  # a folder may have become a project since
        theirs = [url for url in urls if not _is_own(str(Path(url).parent))]
        if urls and not theirs:
            raise SourceError(
                f"folder {shown(path)} has only photos that its project wrote; give the folder of your own, "
                f"which is none of {', '.join(OWN)} beside {SETTINGS}"
            )
        urls = theirs
    if not urls:
        raise SourceError(f"folder {shown(path)} has no photos; allowed suffixes: {', '.join(SUFFIXES)}")
    if local is None:  # file systems have their own way to write a root, "memory:///box" for "memory://box"
        place = unquote(root) if root.casefold().startswith("webdav") else root
        tail = place.partition("://")[2].strip("/")
        sample = unquote(urls[0]) if place != root or "%" in urls[0] else urls[0]
        root = sample[: sample.index(tail, sample.index("://") + 3) + len(tail)]
    return root, urls


@cache
def _is_own(folder: str) -> bool:
    """Return whether a folder is a project's own, or below one."""
    path = Path(folder)
    if path.parent == path:
        return False
    return (path.name in OWN and (path.parent / SETTINGS).is_file()) or _is_own(str(path.parent))


def _parts(tops: set[str]) -> Callable[[str], str | None]:
    """Return what gives the part of a dataset for a folder at the top of the tree: train, val and test are no cars."""
    parts = {top: part for top in tops if (part := split_name(top)) in SPLITS}
    are_parts = len(parts) == len(tops) or len(set(parts.values())) > 1
    return lambda top: parts.get(top) if are_parts else None


def _file(root: str, url: str) -> _File:
    name = unquote(url) if url.casefold().startswith("webdav") else url
    path = name[len(root) :].replace("\\", "/").strip("/")
    match = _NUMBERED.match(path.rpartition("/")[2])
    return _File(url, path, match[1] if match else None, int(match[2]) if match else 0)


def _ad_id(file: _File, ads: Ads) -> str:
    if ads == "folder" and file.folder:
        return file.folder
    if file.number is None or ads in ("photo", "folder"):
        return file.path
    return f"{file.folder}/{file.number}" if ads == "folder-number" and file.folder else file.number


def _check_numbers(path: str, files: Iterator[_File]) -> None:
    folders: dict[str, str] = {}
    shared = set()
    for file in files:
        if file.number is not None and folders.setdefault(file.number, file.folder) != file.folder:
            shared.add(file.number)
    # One or two may well be ads in two folders, in a tree of a handful.
    if len(shared) > max(_MAX_SHARED * len(folders), 2):
        raise SourceError(
            f"folder {shown(path)}: {len(shared)} of {len(folders)} leading numbers stand in several folders, so a "
            "number is not one ad; set ads = 'folder-number' if they begin anew in each folder, or 'photo'"
        )


def _ad(ad_id: str, files: list[_File], *, source: str, kind: str | None, part_of: Callable[[str], str | None]) -> Ad:
    first = files[0]
    folder = "" if first.folder == first.top and part_of(first.top) else first.folder.rpartition("/")[2]
    key = clean(ad_id) or "photo"
    car = read_name(clean(folder) or "")
    attributes = {"folder": folder} if folder else None
    listing = listing_row(
        ad_id=key, source=source, make=car.make, model=car.model, year=car.year, body=car.body, attributes=attributes
    )
    photos = (
        photo_row(key, storable(file.url), file.position if file.number else index, kind=kind, split=part_of(file.top))
        for index, file in enumerate(files)
    )
    return Ad(listing, tuple({row["photo_id"]: row for row in photos}.values()))
