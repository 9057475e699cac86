"""What a person named on the command line in; the photos to recognize out, in order.

Knows files, folders, URLs and `-`. It lists folders and reads standard input; photos themselves are read later.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import typer

from carspotter import storage
from carspotter.errors import StorageError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".gif", ".bmp", ".tif", ".tiff",
)  # fmt: skip
"""Names taken for photos in a folder; a file named by itself is read whatever it is called."""

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A photo to recognize: the name shown for it, and its path, URL or bytes."""

    name: str
    photo: str | bytes

    @property
    def stem(self) -> str:
        """The name without folders and suffix, for a drawing's file name."""
        if self.name == STDIN:
            return "stdin"
        path = urlsplit(self.name).path if storage.is_url(self.name) else Path(self.name).as_posix()
        return PurePosixPath(path).stem or "photo"


def is_folder(argument: str) -> bool:
    """Say whether an argument names many photos: a local folder, or a URL that ends with a slash."""
    return argument.endswith("/") if storage.is_url(argument) else argument != STDIN and Path(argument).is_dir()


def gather(arguments: Iterable[str], *, recursive: bool = True) -> tuple[list[Source], list[str]]:
    """List the photos that the arguments name, and the complaints about folders without any.

    Raises typer.BadParameter when `-` is given and nothing is piped in, StorageError when too much is.
    """
    sources: list[Source] = []
    complaints: list[str] = []
    for argument in arguments:
        if argument == STDIN:
            sources.append(Source(name=STDIN, photo=_piped()))
        elif is_folder(argument):
            try:
                found = _listed(argument, recursive=recursive)
            except StorageError as error:
                complaints.append(str(error))
                continue
            sources += [Source(name=name, photo=name) for name in found]
            if not found:
                complaints.append(f"{argument}: no photo in this folder; looked for {' '.join(SUFFIXES)}")
        else:
            sources.append(Source(name=argument, photo=argument))
    return sources, complaints


def _listed(folder: str, *, recursive: bool) -> list[str]:
    names = [str(name) for name in storage.list_files(folder, SUFFIXES)]
    if recursive:
        return names
    return [name for name in names if Path(name).parent == Path(folder)]


def _piped() -> bytes:
    if sys.stdin.isatty():
        raise typer.BadParameter("- reads a photo from standard input, but nothing is piped in")
    data = sys.stdin.buffer.read(storage.MAX_BYTES + 1)  # a stream without end must not fill the memory
    if len(data) > storage.MAX_BYTES:
        raise StorageError(f"standard input is over the limit of {storage.MAX_BYTES >> 20} MiB; is it a photo?")
    return data
