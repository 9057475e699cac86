"""Read, write and list files by URL: local, HTTP, S3, WebDAV and whatever else fsspec knows.

In: a path, or a URL such as `https://…`, `s3://bucket/…`, `webdavs://host/…`. Out: bytes, and sorted names. Any failure
is a StorageError of one line, in which no password and no signed query stands (`storage_errors`). Credentials come from
the environment (`docs/sources.md` names the variables) or stand in the URL. It does not know what the bytes mean, and
asks once: no retries, no robots, no rate per host. Without a policy any address is asked, for its caller is the owner
of the machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from uuid import uuid4

from carspotter.errors import StorageError
from carspotter.storage_errors import credentials, failures, scheme, shown, too_long
from carspotter.storage_errors import is_url as is_url
from carspotter.web_policy import UrlPolicy, status_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

# 32 MiB: three times the largest photos that phones and cameras save as JPEG or HEIC (about 10 MB).
MAX_BYTES = 32 << 20
# A photo of 1 MB over a slow mobile line of 1 Mbit/s takes 8 s.
TIMEOUT_S = 20.0
_CHUNK_BYTES = 1 << 18
# A folder of 100,000 photos is a list of some 40 MB.
_MAX_ANSWER_BYTES = 256 << 20

# Folders of a disk itself, which nobody but its system may read.
_OF_DISKS = ("lost+found", "System Volume Information", "$RECYCLE.BIN")
_DRIVE = re.compile(r"/[A-Za-z][:|](?:/|$)")  # in a `file://` URL of Windows
_WEBDAV = {"webdav": "http", "webdavs": "https"}
# Any of these says where botocore finds credentials; without one we ask as nobody, and not a cloud's own address.
_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _is_http(text: str) -> bool:
    return scheme(text) in ("http", "https")


def read(
    url: str | Path, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S, policy: UrlPolicy | None = None
) -> bytes:
    """Return the content of a file or URL; stop early and raise StorageError over `max_bytes` or `timeout_s`.

    Over HTTP and WebDAV the timeout is for the whole answer, and a `policy` says which addresses may be asked;
    elsewhere the time is looked at between pieces of 256 KiB.
    """
    text = str(url)
    with failures("read", text, timeout_s):
        path = local_path(url)
        if path is not None:
            return _read_local(path, max_bytes)
        if _is_http(text) or scheme(text) in _WEBDAV:
            from carspotter.web import fetch  # aiohttp's event loop, which local photos need not load

            asked = policy or open_policy(max_bytes, timeout_s)
            return _over_http("read", text, replace(asked, max_bytes=max_bytes, timeout_s=timeout_s), fetch)
        return _read_remote(text, max_bytes=max_bytes, timeout_s=timeout_s)


def write(url: str | Path, data: bytes) -> None:
    """Write a file, making its folders; a local one appears at once and whole, under its name, or not at all."""
    text = str(url)
    with failures("written", text, TIMEOUT_S):
        path = local_path(url)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
            return
        if _is_http(text):
            raise NotImplementedError
        if scheme(text) in _WEBDAV:
            from carspotter import webdav

            policy = open_policy(_MAX_ANSWER_BYTES, TIMEOUT_S)
            _over_http("written", text, policy, lambda place, known: webdav.write(place, data, known))
            return
        filesystem, inner = _filesystem(text)
        filesystem.pipe_file(inner, data)


def write_json(url: str | Path, content: Any) -> None:
    """Write a file of JSON for programs and people, as `write` does."""
    write(url, json_bytes(content))


def json_bytes(content: Any, *, nan: bool = True) -> bytes:
    """Return JSON as files hold it; without `nan` raises ValueError for numbers that JSON does not know."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=nan)
    return (text + "\n").encode(errors="surrogateescape")  # a file's name may hold bytes that are no text


def write_together(folder: Path, contents: Mapping[str, bytes], *, gone: Collection[str] = ()) -> None:
    """Write files of a local folder that belong together; the last one says that the others are whole.

    All are on the disk under temporary names before the first takes its place, so that a full disk leaves what stood
    there. The files that are `gone` are removed. Raises StorageError.
    """
    *_, manifest = contents
    with failures("written", str(folder), TIMEOUT_S), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        temporaries = {name: folder / f".{uuid4().hex[:8]}.part" for name in contents}
        for name, temporary in temporaries.items():
            stack.callback(temporary.unlink, missing_ok=True)
            temporary.write_bytes(contents[name])
        # A reader must not meet the old manifest beside new files while they are replaced.
        for name in (manifest, *gone):
            (folder / name).unlink(missing_ok=True)
        for name, temporary in temporaries.items():
            temporary.replace(folder / name)


def list_files(url: str | Path, suffixes: Collection[str], *, recursive: bool = True) -> list[str]:
    """Return the files under a folder, at any depth, that end in one of `suffixes` (".jpg", in any case), sorted.

    Names that begin with a dot are left out, folders too, and links to folders are not followed. Without `recursive`
    only the folder itself is looked at. A folder below that may not be read is an error: its files are not gone.
    """
    wanted = tuple(suffix.casefold() for suffix in suffixes)
    text = str(url)
    with failures("listed", text, TIMEOUT_S):
        path = local_path(url)
        if path is not None:
            names = list(_walk(path, recursive=recursive))
        else:
            if _is_http(text):
                raise NotImplementedError  # pages of links are no folders
            names = _list_remote(text, recursive=recursive)
    return sorted(name for name in names if name.casefold().endswith(wanted))


# ---- local files


def local_path(url: str | Path) -> Path | None:
    """Return the path of a local file, given as such or as `file://…`; None for any other URL.

    Raises ValueError for a `file://` that is no URL.
    """
    text = str(url)
    if text.casefold().startswith("file://"):
        return Path(file_path(text, is_windows=os.name == "nt"))
    return None if is_url(text) else Path(text)


def file_path(url: str, *, is_windows: bool) -> str:
    """Return the path in a `file://` URL as its system writes it: "/a/b", "C:\\a\\b" or "\\\\host\\share\\a"."""
    before, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    urlsplit(f"{before}://{host}")  # a ValueError where there is no host that can be
    path = os.fsdecode(unquote_to_bytes(f"/{path}"))  # names may be of bytes that are no UTF-8
    if not is_windows:
        return path
    if host and host.casefold() != "localhost":
        return f"//{host}{path}".replace("/", "\\")
    return (path[1:] if _DRIVE.match(path) else path).replace("|", ":", 1).replace("/", "\\")


def _read_local(path: Path, max_bytes: int) -> bytes:
    with failures("read", str(path), 0):
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(state.st_mode):  # a pipe or a device may never end
            raise StorageError(f"{path} is no regular file, but a pipe, socket or device; give a file")
        if state.st_size > max_bytes:
            raise too_long(str(path), max_bytes)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)  # it may have grown, and /proc says 0
    if len(data) > max_bytes:
        raise too_long(str(path), max_bytes)
    return data


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name for a local file, its folder made; what was written there becomes `path` at once and whole.

    After an error nothing of it is left, and `path` is as it was. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two writers of one file must not meet in the temporary one.
    temporary = path.with_name(f".{uuid4().hex[:8]}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside a local one, which takes its place when all is written. Raises OSError.

    After an error `path` is as it was; a writer that is killed leaves a folder `.NAME.*.part`.
    """
    part, old = (path.with_name(f".{path.name}.{uuid4().hex[:8]}.part") for _ in range(2))
    part.mkdir(parents=True)
    try:
        yield part
        # A folder cannot be renamed over one with files, so that the old one steps aside for a moment.
        if path.exists():
            path.rename(old)
        try:
            part.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


def _walk(folder: Path, *, recursive: bool) -> Iterator[str]:
    if not folder.is_dir():
        raise NotADirectoryError(folder) if folder.exists() else FileNotFoundError(folder)
    for here, folders, files in os.walk(folder, onerror=_not_listed):
        folders[:] = [name for name in folders if recursive and not name.startswith(".") and name not in _OF_DISKS]
        yield from (str(Path(here, name)) for name in files if not name.startswith("."))


def _not_listed(error: OSError) -> None:
    """Raise what os.walk would pass over, unless the folder has just gone."""
    if not isinstance(error, FileNotFoundError):
        with failures("listed", str(error.filename), TIMEOUT_S):
            raise error


# ---- remote files


def _filesystem(url: str, timeout_s: float = TIMEOUT_S) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the URL's path in it, with credentials from the environment."""
    from fsspec.core import get_filesystem_class  # 0.2 s, which local photos need not pay

    # Not `url_to_fs`, for which a key that holds "::" is a chain of file systems.
    kind = get_filesystem_class(scheme(url))
    is_s3 = scheme(url) in ("s3", "s3a")
    filesystem = kind(**{**kind._get_kwargs_from_urls(url), **(_s3_options(timeout_s) if is_s3 else {})})
    if is_s3:
        filesystem.retries = 1  # fetching retries by itself, and knows when to leave a host alone
    return filesystem, kind._strip_protocol(url)


def _s3_options(timeout_s: float) -> dict[str, Any]:
    names = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    options: dict[str, Any] = {"anon": not any(os.environ.get(name) for name in _AWS), "use_listings_cache": False}
    # Given by name, so that fsspec, which keeps file systems by their options, notices another user.
    options |= {option: os.environ[name] for option, name in names.items() if os.environ.get(name)}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options["endpoint_url"] = endpoint or None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options["client_kwargs"] = {"region_name": region} if region else {}
    options["config_kwargs"] = {"connect_timeout": timeout_s, "read_timeout": timeout_s, "retries": {"max_attempts": 0}}
    return options


def _list_remote(url: str, *, recursive: bool) -> list[str]:
    if scheme(url) in _WEBDAV:
        from carspotter import webdav

        policy = open_policy(_MAX_ANSWER_BYTES, TIMEOUT_S)
        paths = _over_http(
            "listed", url, policy, lambda place, known: webdav.list_files(place, known, recursive=recursive)
        )
        return [f"{scheme(url)}://{urlsplit(url).netloc}{path}" for path in paths]
    filesystem, inner = _filesystem(url)
    if not filesystem.isdir(inner):
        raise NotADirectoryError(inner) if filesystem.exists(inner) else FileNotFoundError(inner)
    found = filesystem.find(inner, maxdepth=None if recursive else 1)
    shown = [name for name in found if "/." not in "/" + name[len(inner.rstrip("/")) :].lstrip("/")]
    # By the scheme that was asked: s3fs calls "s3a://bucket" "s3://bucket", which is another place to a source's rules.
    return [f"{scheme(url)}://{filesystem.unstrip_protocol(name).partition('://')[2]}" for name in shown]


def _read_remote(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    filesystem, inner = _filesystem(url, timeout_s)
    data = bytearray()
    try:
        with filesystem.open(inner, "rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                data += piece
                if len(data) > max_bytes:
                    raise too_long(shown(url), max_bytes)
                if time.monotonic() > deadline:
                    raise TimeoutError
    except FileNotFoundError as error:
        if filesystem.isdir(inner):
            raise IsADirectoryError(inner) from error
        raise
    if not data and filesystem.isdir(inner):  # an object store opens a folder as an empty file
        raise IsADirectoryError(inner)
    return bytes(data)


def open_policy(max_bytes: int, timeout_s: float) -> UrlPolicy:
    """Return the policy for URLs that the owner of the machine names: any address, and proxies of the environment."""
    return UrlPolicy(max_bytes=max_bytes, timeout_s=timeout_s, ports=None, is_strict=False, is_open=True)


def _over_http(verb: str, url: str, policy: UrlPolicy, ask: Callable[[str, UrlPolicy], Awaitable[Answer]]) -> Answer:
    """Ask an HTTP or WebDAV server on the event loop that fsspec keeps, with the user and password that there are."""
    from fsspec.asyn import get_loop, sync

    place, policy = _with_user(url, policy)
    try:
        answer: Answer = sync(get_loop(), ask, place, policy)
    except StorageError as error:
        hint = credentials(url) if status_of(error) in (401, 403) else ""
        raise StorageError(f"{shown(url)} cannot be {verb}: {error}{hint}") from error.__cause__
    return answer


def _with_user(url: str, policy: UrlPolicy) -> tuple[str, UrlPolicy]:
    """Take user and password out of a URL, or from the environment for WebDAV, into a header; return it as http(s)."""
    scheme, _, rest = url.partition("://")
    netloc = urlsplit(url).netloc
    named, _, host = netloc.rpartition("@")
    user, _, password = (unquote(part) for part in named.partition(":"))
    if scheme.casefold() in _WEBDAV and not named:
        user = os.environ.get("CARSPOTTER_WEBDAV_USER", "")
        password = os.environ.get("CARSPOTTER_WEBDAV_PASSWORD", "")
    if user:
        key = b64encode(f"{user}:{password}".encode()).decode()
        policy = replace(policy, headers={**policy.headers, "Authorization": f"Basic {key}"})
    return f"{_WEBDAV.get(scheme.casefold(), scheme)}://{host}{rest[len(netloc) :]}", policy
