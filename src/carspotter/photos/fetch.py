"""Get the bytes of each photo of a listing, once: a row stage from `listing_photos` to `files`.

In: rows with a photo's id, ad and URL. Out: a row with path, size and SHA-256, or with the reason why there is none.
Photos on a local disk stay where they are; others are written to `photos/<ad_id>/<perceptual hash>.<suffix>` below the
project, their bytes untouched. What passes by itself (a timeout, a server in trouble) is asked again some times, and
once more at the next build. It does not judge photos: unreadable bytes are a file, and `checks` says so.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from carspotter import storage
from carspotter.catalog.tables import OK
from carspotter.errors import ImageError, StorageError
from carspotter.hashes import phash
from carspotter.headers import sniff
from carspotter.photos.hosts import Hosts
from carspotter.pixels import decode

Row = dict[str, Any]

VERSION = "1"
"""Rises when the same photo would get another row."""

LASTING = (OK, "missing", "too-large", "not-a-photo", "quarantined")
"""What a later build does not ask again; "forbidden", "timeout", "server-error", "unreachable", "no-space" and "failed"
may be cured by then."""

_RETRIED = ("timeout", "server-error", "unreachable")
_SUFFIXES = {
    "JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "GIF": ".gif", "BMP": ".bmp", "HEIC": ".heic",
}  # fmt: skip
# 0.5, 1, 2 and 4 s: a hiccup passes, a restart does not. Servers that ask for more than half a minute are left.
_FIRST_WAIT_S, _GROWTH, _MAX_WAIT_S = 0.5, 2, 30.0
# A photo is about as large: below this a download would most likely be for nothing.
_LEAST_FREE_BYTES = 1 << 20
_HALF_WRITTEN = Path("photos", ".incoming")  # no ad's folder begins with a dot
_MAX_FOLDER_NAME = 120  # of 255 that file systems allow, for paths may be limited to 260 in all
_LOOKED_AT = 512
# Pixels of the shorter side from which the hash is made; a scaled JPEG is three times as fast to decode.
_HASHED_SIDE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """Say how photos are fetched; `parallel` and `per_host` count requests at once in one worker process.

    Raises ValueError for a number that is too small.
    """

    timeout_s: float = storage.TIMEOUT_S
    retries: int = 4
    parallel: int = 8
    per_host: int = 4
    max_bytes: int = storage.MAX_BYTES
    copy_local: bool = False

    def __post_init__(self) -> None:
        for name, least in (("timeout_s", 0.01), ("retries", 0), ("parallel", 1), ("per_host", 1), ("max_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Fetch the photos of a project; a row stage.

    `attempt` names the build, for instance by its time: within one, each photo is tried once; the next one takes up
    what did not last. `again` names statuses of `LASTING` that are to be tried again, too.
    """

    project: Path
    settings: FetchSettings = field(default_factory=FetchSettings)
    attempt: str = "1"
    again: tuple[str, ...] = ()
    first_wait_s: float = _FIRST_WAIT_S
    hosts: Hosts = field(default_factory=Hosts, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name the stage."""
        return "fetch"

    @property
    def reads(self) -> str:
        """Give the query of the photos that have no lasting row in `files`."""
        lasting = ", ".join(f"'{status}'" for status in LASTING if status not in self.again)
        return (
            "SELECT p.photo_id, p.ad_id, p.url FROM listing_photos p WHERE p.status = 'ok' AND NOT EXISTS "
            f"(SELECT 1 FROM files f WHERE f.photo_id = p.photo_id AND f.status IN ({lasting}) "
            f"AND f.stage_version LIKE '{VERSION}.%')"
        )

    @property
    def writes(self) -> Mapping[str, str]:
        """Give the table that it writes, with a version for each attempt."""
        return {"files": f"{VERSION}.{self.attempt}"}

    def setup(self) -> None:
        """Need nothing ahead."""

    def process(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Return a row of `files` for each photo; a URL that several photos share is read once."""
        jobs: dict[str, dict[str, list[Row]]] = {}
        for row in rows:
            jobs.setdefault(_host(row["url"]), {}).setdefault(row["url"], []).append(row)
        gate = threading.Semaphore(self.settings.parallel)
        with ExitStack() as stack:
            pools = {host: stack.enter_context(ThreadPoolExecutor(self.settings.per_host)) for host in jobs}
            futures = [
                pools[host].submit(self._photo, host, url, photos, gate=gate)
                for host, urls in jobs.items()
                for url, photos in urls.items()
            ]
            done = {row["photo_id"]: row for future in futures for row in future.result()}
        return {"files": [done[row["photo_id"]] for row in rows]}

    def _photo(self, host: str, url: str, photos: Sequence[Row], *, gate: threading.Semaphore) -> list[Row]:
        """Read one URL and return the rows of all photos that are there."""
        path = _local(url)
        # A relative path is one below the project, which may be moved.
        data = self._read(host, url, gate) if path is None else self._attempt(str(self.project / path))
        if isinstance(data, _Stop):
            return [{"photo_id": row["photo_id"], "status": data.status, "message": data.message} for row in photos]
        digest = sha256(data).hexdigest()
        rows = []
        for row in photos:
            found: Row = {"photo_id": row["photo_id"], "bytes": len(data), "sha256": digest, "status": OK}
            try:
                found["path"] = (
                    str(path)
                    if path is not None and not self.settings.copy_local
                    else save(self.project, row["ad_id"], data)
                )
            except OSError as error:
                found = {"photo_id": row["photo_id"], **_not_saved(error)}
            rows.append(found)
        return rows

    def _read(self, host: str, url: str, gate: threading.Semaphore) -> bytes | _Stop:
        """Read a remote photo, again after growing waits where that may help."""
        stop: _Stop | None = None
        for turn in range(self.settings.retries + 1):
            refused = self._refused(host)
            if refused is not None:
                return stop or refused
            time.sleep(self.hosts.pause_left_s(host))
            with gate:
                if shutil.disk_usage(self.project).free < _LEAST_FREE_BYTES:
                    return _Stop(status="no-space", message="no space left where the project lies; make room")
                found = self._attempt(url, host)
            if isinstance(found, bytes):
                return _judged(found)
            stop = found
            if stop.status not in _RETRIED:
                break
            if turn < self.settings.retries:
                time.sleep(self.first_wait_s * _GROWTH**turn)
        return stop or _Stop(status="failed", message="was not asked")

    def _refused(self, host: str) -> _Stop | None:
        """Say why a host is not to be asked now, if so."""
        why = self.hosts.why_left(host)
        if why is not None:
            left = f"{host} was left alone after {self.hosts.max_failures} failures in a row; build again later"
            return _Stop(status=why, message=left)
        pause_s = self.hosts.pause_left_s(host)
        if pause_s > _MAX_WAIT_S:
            return _Stop(status="server-error", message=f"{host} asked for a pause of {pause_s:.0f} s")
        return None

    def _attempt(self, url: str, host: str | None = None) -> bytes | _Stop:
        """Read once, and note how the host did."""
        try:
            data = storage.read(url, max_bytes=self.settings.max_bytes, timeout_s=self.settings.timeout_s)
        except StorageError as error:
            why = storage.reason(error)
            if host is not None:
                wait = storage.retry_after_s(error)
                if wait is not None:
                    self.hosts.pause(host, wait)
                if why in (*_RETRIED, "forbidden"):
                    self.hosts.failed(host, why)
                else:
                    self.hosts.answered(host)
            return _Stop(status=why, message=str(error))
        if host is not None:
            self.hosts.answered(host)
        return data


def _local(url: str) -> Path | None:
    try:
        return storage.local_path(url)
    except ValueError:  # a `file://` that is no URL: reading it says so
        return None


def _host(url: str) -> str:
    """Return whom to ask for a URL: "https://host:port", or "" for the local disk."""
    if _local(url) is not None:
        return ""
    scheme, _, rest = url.partition("://")
    try:
        return f"{scheme.casefold()}://{urlsplit(url).netloc.rpartition('@')[2].casefold()}"
    except ValueError:
        return f"{scheme.casefold()}://{rest[:40]}"


def _judged(data: bytes) -> bytes | _Stop:
    """Refuse what no photo begins with: nothing, or text such as a page that says sorry."""
    if not data:
        return _Stop(status="not-a-photo", message="the answer is empty (0 bytes)")
    start = data[:_LOOKED_AT]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a letter was cut at the end
            return data
        text = start[: error.start].decode()
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return data
    return _Stop(status="not-a-photo", message=f"the answer is text, not a photo: {' '.join(text.split())[:80]!r}")


def _not_saved(error: OSError) -> Row:
    status = "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
    return {"status": status, "message": f"the photo cannot be written: {error.strerror or error}"}


# ---- names and files


def folder_name(ad_id: str) -> str:
    """Return an ad's id as the name of a folder on any file system: letters, digits and `-_~.`, the rest as %XX."""
    name = quote(ad_id, safe="", errors="replace")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _MAX_FOLDER_NAME:
        digest = blake2b(ad_id.encode(errors="replace"), digest_size=8).hexdigest()
        name = f"{name[: _MAX_FOLDER_NAME - 17]}-{digest}"
    return name


def photo_name(data: bytes) -> tuple[str, str]:
    """Return stem and suffix of a photo's file: its perceptual hash, or "unreadable-…", and its real format."""
    suffix = ".bin"
    try:
        suffix = _SUFFIXES[sniff(data)]
        pixels = decode(data, min_side=_HASHED_SIDE).pixels
    except ImageError:
        return f"unreadable-{sha256(data).hexdigest()[:16]}", suffix
    return f"{phash(pixels):016x}", suffix


def save(project: Path, ad_id: str, data: bytes) -> str:
    """Write a photo below the project if its bytes are not there yet; return its path from the project.

    Two photos of one ad with one hash but other bytes are two files. Raises OSError.
    """
    folder = Path("photos", folder_name(ad_id))
    stem, suffix = photo_name(data)
    (project / folder).mkdir(parents=True, exist_ok=True)
    for name in (f"{stem}{suffix}", f"{stem}-{sha256(data).hexdigest()[:8]}{suffix}"):
        if _put(project, project / folder / name, data):
            return (folder / name).as_posix()
    raise FileExistsError(errno.EEXIST, "another file has its name", str(folder / name))


def sweep(project: Path) -> None:
    """Remove what a killed fetch left half written; no fetch of this project may run meanwhile."""
    shutil.rmtree(project / _HALF_WRITTEN, ignore_errors=True)


def _put(project: Path, path: Path, data: bytes) -> bool:
    """Make a file at once and whole unless one is there; say whether the file has these bytes."""
    if path.exists():
        return path.stat().st_size == len(data) and path.read_bytes() == data
    temporary = project / _HALF_WRITTEN / f"{uuid4().hex}.part"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)  # fails where another worker was faster; a rename would replace its file
        except FileExistsError:
            return _put(project, path, data)
        except OSError:
            temporary.replace(path)  # a file system without links
    finally:
        temporary.unlink(missing_ok=True)
    return True
