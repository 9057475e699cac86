"""A detector's name in, the path of its file out: official URLs with their checksums, fetched once and kept.

A file is looked for in the folder `CARSPOTTER_WEIGHTS`, then in the cache, then downloaded; an interrupted download
goes on where it stopped. No file is used before its checksum was found right. It opens no network (`detector.py` does).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from carspotter.errors import DetectorError, StorageError

WEIGHTS_VARIABLE = "CARSPOTTER_WEIGHTS"

_TIMEOUT_S = 30.0
"""Longest silence of a server; not of the whole download."""

_ATTEMPTS = 3
"""Times that an interrupted download is taken up again before a person is told."""

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class InputForm:
    """Say what a detector's input holds: the order of colours, and what 0..255 is divided by."""

    colors: Literal["rgb", "bgr"] = "rgb"
    divisor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """Name a published file: its URL, its size, and its checksum as "sha256:…" or any other of hashlib's."""

    url: str
    n_bytes: int
    checksum: str

    @property
    def name(self) -> str:
        """Return the file's own name, the last part of its URL."""
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSource:
    """Say where a detector comes from and how it wants its input; the first file is the one to open.

    `labels` are the class numbers that are vehicles, None when all are.
    """

    files: tuple[RemoteFile, ...]
    licence: str
    input_form: InputForm
    labels: frozenset[int] | None = None


_ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/2022.1/models_bin/3"


def _zoo_files(name: str, xml: tuple[int, str], weights: tuple[int, str]) -> tuple[RemoteFile, ...]:
    parts = ((".xml", *xml), (".bin", *weights))
    return tuple(
        RemoteFile(url=f"{_ZOO}/{name}/FP16/{name}{suffix}", n_bytes=size, checksum=checksum)
        for suffix, size, checksum in parts
    )


# Sizes and sha384 are those of the Open Model Zoo's own `model.yml`, release 2022.1 (wheel openvino-dev 2022.1.0).
# It publishes no sha256; that of 0200 was taken from files whose size and sha384 are the published ones.
DETECTORS: Mapping[str, DetectorSource] = MappingProxyType(
    {
        "vehicle-detection-0200": DetectorSource(
            files=_zoo_files(
                "vehicle-detection-0200",
                (299819, "sha256:72be7b9b1fb183faf719fa797c140a6ae61666194723d92d501885b873988825"),
                (3634654, "sha256:9493c52d5ee756b6356acaf9c6a3c099d8627058a6e1f7427857390c9738337b"),
            ),
            licence="Apache-2.0",
            input_form=InputForm(colors="bgr", divisor=1.0),
        ),
        "vehicle-detection-0202": DetectorSource(
            files=_zoo_files(
                "vehicle-detection-0202",
                (
                    300090,
                    "sha384:3b634b19c5f339d2424fc97386ddf7dc5e9b0f2f40e260cb38c5c7bb5309d06e"
                    "834b3c490646fcd27a754aa2ae9e2e45",
                ),
                (
                    3634654,
                    "sha384:e0898ea9a9bd39f48dd3a6cafe44d5eff5e2c8d8f20c5fe31207508843edf13a"
                    "fcad434d37fd452b65609fb478a5e2a7",
                ),
            ),
            licence="Apache-2.0",
            input_form=InputForm(colors="bgr", divisor=1.0),
        ),
    }
)


def fetch(source: DetectorSource, *, cache: Path | None = None) -> Path:
    """Return the path of a detector's file, with its other files beside it, downloading what is not here yet.

    `cache` is the folder to keep files in (None: the user's cache). Raises DetectorError when a file cannot be had or
    is not the published one.
    """
    prepared = _prepared_folder(source.files)
    if prepared is not None:
        return prepared / source.files[0].name
    folder = cache or cache_folder() / "detectors"
    for file in source.files:
        if not _is_published(folder / file.name, file):
            download(file, folder)
    return folder / source.files[0].name


def cache_folder() -> Path:
    """Return the folder for files that can be fetched again, where the platform keeps such."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "carspotter" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carspotter"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carspotter"
    except RuntimeError as error:  # HOME is unset, and the user has no entry
        raise StorageError("there is no home folder to cache files in; set XDG_CACHE_HOME or HOME") from error


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file into a folder and return its path; goes on with a part that is there from an earlier attempt.

    It arrives as `NAME.part` and gets its name when size and checksum are right. Raises DetectorError when it cannot be
    fetched (the part stays) or is not the published file (the part is removed).
    """
    if urlsplit(file.url).scheme not in ("http", "https"):
        raise DetectorError(
            f"{file.url}: only http and https are fetched; put the file into {WEIGHTS_VARIABLE} by hand"
        )
    part = folder / f"{file.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch_part(file, part)
        _check_part(file, part)
        return part.replace(folder / file.name)
    except OSError as error:
        raise DetectorError(f"{file.name} cannot be kept in {folder}: {error}; see that it can be written") from error


def _prepared_folder(files: tuple[RemoteFile, ...]) -> Path | None:
    """Return the folder that the user named, when it has the files; they must be the published ones."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if not named or not all((Path(named) / file.name).is_file() for file in files):
        return None
    for file in files:
        path = Path(named) / file.name
        if not _is_published(path, file):
            raise DetectorError(
                f"{path} (found by {WEIGHTS_VARIABLE}) is not the published file, {_difference(path, file)}; "
                "remove it, or give the path itself as the detector"
            )
    return Path(named)


def _fetch_part(file: RemoteFile, part: Path) -> None:
    fault: Exception | None = None
    for _ in range(_ATTEMPTS):
        start = part.stat().st_size if part.exists() else 0
        if start >= file.n_bytes:  # whole, or too long: the checksum tells
            return
        try:
            _continue_part(file, part, start)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code < 500:  # asking again will not help
                    raise DetectorError(f"{file.url} answers {error.code} {error.reason}; {_BY_HAND}") from error
            fault = error
    got = part.stat().st_size if part.exists() else 0
    if got < file.n_bytes:
        why = f" ({fault})" if fault else ""
        raise DetectorError(
            f"{file.url}: got {got} of {file.n_bytes} bytes{why}; run again to go on from there, or {_BY_HAND}"
        ) from fault


_BY_HAND = f"put the file into a folder by hand and name the folder in {WEIGHTS_VARIABLE}"


def _continue_part(file: RemoteFile, part: Path, start: int) -> None:
    headers = {"User-Agent": "carspotter", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(file.url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        # A server that knows no ranges answers 200 with the whole file.
        goes_on = response.status == 206 and _range_start(response.headers.get("Content-Range", "")) == start
        room = file.n_bytes - (start if goes_on else 0)
        with part.open("ab" if goes_on else "wb") as target:
            # One byte more than there is room for is enough to see that the file is another one.
            while room >= 0 and (chunk := response.read(min(_CHUNK, room + 1))):
                target.write(chunk)
                room -= len(chunk)


def _range_start(header: str) -> int | None:
    match = re.match(r"bytes (\d+)-", header)
    return int(match[1]) if match else None


def _check_part(file: RemoteFile, part: Path) -> None:
    if not _is_published(part, file):
        difference = _difference(part, file)
        part.unlink()
        raise DetectorError(
            f"{file.url} is not the published file, {difference}; it was removed: try again, or {_BY_HAND}"
        )


def _is_published(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.n_bytes and _checksum(path, file) == file.checksum


def _checksum(path: Path, file: RemoteFile) -> str:
    algorithm = file.checksum.partition(":")[0]
    with path.open("rb") as content:
        return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"


def _difference(path: Path, file: RemoteFile) -> str:
    if path.stat().st_size != file.n_bytes:
        return f"it has {path.stat().st_size} bytes, not {file.n_bytes}"
    return f"its checksum is {_checksum(path, file)}, not {file.checksum}"
