"""Read, write and list files by URL: local, HTTP, S3, WebDAV and whatever else fsspec knows.

In: a path, or a URL such as `https://…` or `s3://…`. Out: bytes, and sorted names. Any failure is a StorageError of one
line, in which no password and no signed query stands. It does not know what the bytes mean, and HTTP here is for a few
photos: no robots, no rate per host, no guard against addresses of the own network.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from carspotter.errors import StorageError, suggestion

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# 32 MiB: three times the largest photos that phones and cameras save as JPEG or HEIC (about 10 MB).
MAX_BYTES = 32 << 20
# A photo of 1 MB over a slow mobile line of 1 Mbit/s takes 8 s.
TIMEOUT_S = 20.0
_CHUNK_BYTES = 1 << 18

# At least two letters, so that C:\photo.jpg is a path.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# fsspec finds these by itself once they are installed.
_PACKAGES = {
    "http": "aiohttp", "https": "aiohttp",
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "webdav": "webdav4", "ftp": "fsspec", "sftp": "paramiko", "ssh": "paramiko", "hf": "huggingface_hub",
}  # fmt: skip


def is_url(text: str) -> bool:
    """Say whether a text names a URL (`scheme://…`) rather than a local path."""
    return _URL.match(text) is not None


def _is_http(text: str) -> bool:
    return text.partition("://")[0].casefold() in ("http", "https")


def read(url: str | Path, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return the content of a file or URL; stop early and raise StorageError over `max_bytes` or `timeout_s`.

    Over HTTP the timeout is for the whole answer; elsewhere it is looked at between pieces of 256 KiB.
    """
    text = str(url)
    with _failures("read", text, timeout_s):
        path = local_path(url)
        if path is not None:
            return _read_local(path, max_bytes)
        if _is_http(text):
            return _read_http(text, max_bytes=max_bytes, timeout_s=timeout_s)
        return _read_remote(text, max_bytes=max_bytes, deadline=time.monotonic() + timeout_s)


def write(url: str | Path, data: bytes) -> None:
    """Write a file, making its folders; a local one appears at once and whole, under its name, or not at all."""
    text = str(url)
    with _failures("written", text, TIMEOUT_S):
        path = local_path(url)
        if path is not None:
            _write_local(path, data)
            return
        if _is_http(text):
            raise NotImplementedError
        filesystem, inner = _filesystem(text)
        filesystem.pipe_file(inner, data)


def list_files(url: str | Path, suffixes: Collection[str], *, recursive: bool = True) -> list[str]:
    """Return the files under a folder, at any depth, that end in one of `suffixes` (".jpg", in any case), sorted.

    Names that begin with a dot are left out, folders too, and links to folders are not followed. Without `recursive`
    only the folder itself is looked at.
    """
    wanted = tuple(suffix.casefold() for suffix in suffixes)
    text = str(url)
    with _failures("listed", text, TIMEOUT_S):
        path = local_path(url)
        if path is not None:
            names = list(_walk(path, recursive=recursive))
        else:
            if _is_http(text):
                raise NotImplementedError  # pages of links are no folders
            filesystem, inner = _filesystem(text)
            if not filesystem.isdir(inner):
                raise NotADirectoryError(inner) if filesystem.exists(inner) else FileNotFoundError(inner)
            found = filesystem.find(inner, maxdepth=None if recursive else 1)
            names = [
                str(filesystem.unstrip_protocol(name)) for name in found if "/." not in name[len(inner.rstrip("/")) :]
            ]
    return sorted(name for name in names if name.casefold().endswith(wanted))


# ---- local files


def local_path(url: str | Path) -> Path | None:
    """Return the path of a local file, given as such or as `file://…`; None for any other URL.

    Raises ValueError for a `file://` that is no URL.
    """
    text = str(url)
    if text.casefold().startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return None if is_url(text) else Path(text)


def _read_local(path: Path, max_bytes: int) -> bytes:
    with _failures("read", str(path), 0):
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(state.st_mode):  # a pipe or a device may never end
            raise StorageError(f"{path} is no regular file, but a pipe, socket or device; give a file")
        if state.st_size > max_bytes:
            raise _too_long(str(path), max_bytes)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)  # it may have grown, and /proc says 0
    if len(data) > max_bytes:
        raise _too_long(str(path), max_bytes)
    return data


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two writers of one file must not meet in the temporary one.
    temporary = path.with_name(f".{uuid4().hex[:8]}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _walk(folder: Path, *, recursive: bool) -> Iterator[str]:
    if not folder.is_dir():
        raise NotADirectoryError(folder) if folder.exists() else FileNotFoundError(folder)
    with os.scandir(folder):
        pass  # os.walk passes over a folder that may not be read; the first one is an error
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (str(Path(here, name)) for name in files if not name.startswith("."))


# ---- remote files


def _filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the URL's path in it."""
    from fsspec.core import url_to_fs  # 0.2 s, which local photos need not pay

    filesystem, inner = url_to_fs(url)
    return filesystem, inner


def _read_remote(url: str, *, max_bytes: int, deadline: float) -> bytes:
    filesystem, inner = _filesystem(url)
    if filesystem.isdir(inner):
        raise IsADirectoryError(inner)
    data = bytearray()
    with filesystem.open(inner, "rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            data += piece
            if len(data) > max_bytes:
                raise _too_long(_shown(url), max_bytes)
            if time.monotonic() > deadline:
                raise TimeoutError
    return bytes(data)


def _read_http(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """Read over HTTP on the event loop that fsspec keeps; its own HTTP files leave refused answers unclosed."""
    from fsspec.asyn import get_loop, sync

    data: bytes = sync(get_loop(), _fetch, url, max_bytes, timeout_s)
    return data


async def _fetch(url: str, max_bytes: int, timeout_s: float) -> bytes:
    from aiohttp import ClientSession, ClientTimeout

    # No compression: a limit on the bytes that arrive would not hold for what they unpack to. trust_env: proxies.
    headers = {"Accept-Encoding": "identity"}
    data = bytearray()
    async with (
        ClientSession(timeout=ClientTimeout(total=timeout_s), trust_env=True, auto_decompress=False) as session,
        session.get(url, headers=headers) as response,
    ):
        if response.status == 404:
            raise FileNotFoundError(url)
        response.raise_for_status()
        async for piece in response.content.iter_chunked(_CHUNK_BYTES):
            data += piece
            if len(data) > max_bytes:
                raise _too_long(_shown(url), max_bytes)
    return bytes(data)


# ---- errors


def _too_long(name: str, max_bytes: int) -> StorageError:
    return StorageError(f"{name} is over the limit of {max_bytes / 2**20:g} MiB; is it a photo?")


def _shown(url: str) -> str:
    """Return a URL for messages: without user, password and query, where secrets stand."""
    if not is_url(url):
        return url
    scheme, _, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@contextmanager
def _failures(verb: str, url: str, timeout_s: float) -> Iterator[None]:
    """Turn whatever fsspec and its file systems raise into one line."""
    name = _shown(url)
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        what = "not found (404)" if _is_http(url) else "no such file or folder"
        raise StorageError(f"{name} cannot be {verb}: {what}") from error
    except IsADirectoryError as error:
        raise StorageError(f"{name} cannot be {verb}: it is a folder, not a file") from error
    except NotADirectoryError as error:
        raise StorageError(f"{name} cannot be {verb}: it is a file, not a folder") from error
    except PermissionError as error:
        raise StorageError(f"{name} cannot be {verb}: permission denied") from error
    except TimeoutError as error:
        raise StorageError(f"{name} cannot be {verb}: no complete answer within {timeout_s:g} s") from error
    except NotImplementedError as error:
        raise StorageError(f"{name} cannot be {verb}: {name.partition(':')[0]} does not allow that") from error
    except (OSError, ValueError, ImportError, TypeError, RuntimeError) as error:
        raise StorageError(f"{name} cannot be {verb}: {_reason(error, url)}") from error
    except _foreign_errors() as error:
        raise StorageError(f"{name} cannot be {verb}: {_reason(error, url)}") from error


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the libraries under fsspec that are loaded and do not derive from Python's own."""
    known = (("aiohttp", "ClientError"), ("botocore.exceptions", "BotoCoreError"), ("httpx", "HTTPError"))
    return tuple(getattr(sys.modules[module], name) for module, name in known if module in sys.modules)


def _reason(error: Exception, url: str) -> str:
    scheme = url.partition("://")[0].casefold()
    if is_url(url) and isinstance(error, ImportError):
        return f"{scheme}:// needs {_PACKAGES.get(scheme, scheme)}; run: pip install {_PACKAGES.get(scheme, scheme)}"
    if is_url(url) and isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"unknown scheme {scheme}://; {suggestion(scheme, ['file', 'http', 'https', *_PACKAGES])}"
    status = getattr(error, "status", None)
    if status:  # aiohttp.ClientResponseError, whose text repeats the URL with its query
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.strip("[]")
    return (" ".join(str(error).split()) or type(error).__name__).replace(url, _shown(url))[:200]
