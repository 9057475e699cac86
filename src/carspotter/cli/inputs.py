"""Find the photos to recognize by what a person named on the command line, in order.

Knows files, folders, URLs and `-`, and a project in place of its bundle. It lists folders and reads standard input;
photos themselves are read later.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import typer

from carspotter import storage
from carspotter.errors import StorageError
from carspotter.headers import SUFFIXES

STDIN = "-"
SHOWN = 5
"""Photos that are left out, of which each is named."""


def chosen_bundle(folder: str | Path | None) -> str | None:
    """Return the folder of the bundle that an option names: a project's is the better of its own; None stays None."""
    if folder is None:
        return None
    from carspotter.project.folder import bundle_folder  # a project's settings are read by few commands

    return bundle_folder(folder)


def check_out(out: Path | None) -> None:
    """Raise typer.BadParameter for a folder to write to that is a project's: files of one name would be replaced."""
    if out is not None and (out / "carspotter.toml").is_file():
        raise typer.BadParameter(f"--out {out} is a project, and holds files of its own; name another folder")


def tell_left_out(lines: Sequence[str], total: int) -> None:
    """Say on standard error which of `total` photos are left out and why: the first by name, of the others how many."""
    for line in lines[:SHOWN]:
        typer.echo(f"carspotter: left out: {line}", err=True)
    if len(lines) > SHOWN:
        typer.echo(f"carspotter: left out: {len(lines) - SHOWN} more, of {total} photos", err=True)


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
    """Return whether an argument names many photos: a local folder, or a URL that ends with a slash."""
    if storage.is_url(argument):
        return argument.endswith("/")
    try:
        return argument != STDIN and Path(argument).is_dir()
    except OSError:  # a name too long, or inside a folder that may not be entered: reading it says so
        return False


def gather(arguments: Iterable[str], *, recursive: bool = True) -> tuple[list[Source], list[str]]:
    """List the photos that the arguments name, and the complaints about folders without any.

    A standard input that is too long is a complaint as well. Raises typer.BadParameter when `-` is given and nothing is
    piped in.
    """
    sources: list[Source] = []
    complaints: list[str] = []
    for argument in arguments:
        try:
            found = _named(argument, recursive=recursive)
        except StorageError as error:
            complaints.append(str(error))
            continue
        sources += found
        if not found:
            complaints.append(f"{argument}: no photo in this folder; looked for {' '.join(SUFFIXES)}")
    return sources, complaints


def _named(argument: str, *, recursive: bool) -> list[Source]:
    if argument == STDIN:
        return [Source(name=STDIN, photo=_piped())]
    if is_folder(argument):
        names = storage.list_files(argument, SUFFIXES, recursive=recursive)
        return [Source(name=name, photo=name) for name in names]
    return [Source(name=argument, photo=argument)]


def _piped() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():  # None where the shell closed it
        raise typer.BadParameter("- reads a photo from standard input, but nothing is piped in")
    data = sys.stdin.buffer.read(storage.MAX_BYTES + 1)  # a stream without end must not fill the memory
    if len(data) > storage.MAX_BYTES:
        raise StorageError(f"standard input is over the limit of {storage.MAX_BYTES >> 20} MiB; is it a photo?")
    return data
