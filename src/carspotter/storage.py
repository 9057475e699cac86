"""Read, write and list files by URL: local, HTTP, S3, WebDAV and whatever else fsspec knows.

In: a path, or a URL such as `https://…`, `s3://bucket/…`, `webdavs://host/…`. Out: bytes, and sorted names. Any failure
is a StorageError of one line, in which no password and no signed query stands; `reason` says it in a word. Credentials
come from the environment (`docs/sources.md` names the variables) or stand in the URL. It does not know what the bytes
mean, and asks once: no retries, no robots, no rate per host. Without a policy any address is asked, for its caller is
the owner of the machine.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from uuid import uuid4

from carspotter.errors import StorageError, suggestion
from carspotter.web_policy import PrivateAddressError, UrlPolicy, status_of

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

# At least two letters, so that C:\photo.jpg is a path.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"/[A-Za-z][:|](?:/|$)")  # in a `file://` URL of Windows
# fsspec finds these by itself once they are installed.
_PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "webdav": "aiohttp",
    "webdavs": "aiohttp",
    "ftp": "fsspec",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "hf": "huggingface_hub",
}
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f]")  # a message is one line
_SECRET_SLASH = re.compile(r"[^/?#@]*:(?!\d*(?:[/?#]|$))[^@]*[/?#][^@]*@")  # a password whose slash was not escaped
_WEBDAV = {"webdav": "http", "webdavs": "https"}
# Any of these says where botocore finds credentials; without one we ask as nobody, and not a cloud's own address.
_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_ASK_FOR = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "webdav": "CARSPOTTER_WEBDAV_USER and CARSPOTTER_WEBDAV_PASSWORD",
    "webdavs": "CARSPOTTER_WEBDAV_USER and CARSPOTTER_WEBDAV_PASSWORD",
}

Reason = Literal[
    "missing",
    "gone",
    "forbidden",
    "private-address",
    "timeout",
    "server-error",
    "unreachable",
    "too-large",
    "no-space",
    "failed",
]
"""Why a StorageError came: `gone` for 410, `server-error` also for 429 and an answer that breaks off, `private-address`
for what a policy keeps to itself, `failed` for all else."""


def is_url(text: str) -> bool:
    """Return whether a text names a URL (`scheme://…`) rather than a local path."""
    return _URL.match(text) is not None


def _scheme(url: str) -> str:
    return url.partition("://")[0].casefold()


def _is_http(text: str) -> bool:
    return _scheme(text) in ("http", "https")


def read(
    url: str | Path, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S, policy: UrlPolicy | None = None
) -> bytes:
    """Return the content of a file or URL; stop early and raise StorageError over `max_bytes` or `timeout_s`.

    Over HTTP and WebDAV the timeout is for the whole answer, and a `policy` says which addresses may be asked;
    elsewhere the time is looked at between pieces of 256 KiB.
    """
    text = str(url)
    with _failures("read", text, timeout_s):
        path = local_path(url)
        if path is not None:
            return _read_local(path, max_bytes)
        if _is_http(text) or _scheme(text) in _WEBDAV:
            from carspotter.web import fetch  # aiohttp's event loop, which local photos need not load

            asked = policy or open_policy(max_bytes, timeout_s)
            return _over_http("read", text, replace(asked, max_bytes=max_bytes, timeout_s=timeout_s), fetch)
        return _read_remote(text, max_bytes=max_bytes, timeout_s=timeout_s)


def write(url: str | Path, data: bytes) -> None:
    """Write a file, making its folders; a local one appears at once and whole, under its name, or not at all."""
    text = str(url)
    with _failures("written", text, TIMEOUT_S):
        path = local_path(url)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
            return
        if _is_http(text):
            raise NotImplementedError
        if _scheme(text) in _WEBDAV:
            from carspotter import webdav

            policy = open_policy(_MAX_ANSWER_BYTES, TIMEOUT_S)
            _over_http("written", text, policy, lambda place, known: webdav.write(place, data, known))
            return
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


def _walk(folder: Path, *, recursive: bool) -> Iterator[str]:
    if not folder.is_dir():
        raise NotADirectoryError(folder) if folder.exists() else FileNotFoundError(folder)
    with os.scandir(folder):
        pass  # os.walk passes over a folder that may not be read; the first one is an error
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (str(Path(here, name)) for name in files if not name.startswith("."))


# ---- remote files


def _filesystem(url: str, timeout_s: float = TIMEOUT_S) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the URL's path in it, with credentials from the environment."""
    from fsspec.core import get_filesystem_class  # 0.2 s, which local photos need not pay

    # Not `url_to_fs`, for which a key that holds "::" is a chain of file systems.
    kind = get_filesystem_class(_scheme(url))
    is_s3 = _scheme(url) in ("s3", "s3a")
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
    if _scheme(url) in _WEBDAV:
        from carspotter import webdav

        policy = open_policy(_MAX_ANSWER_BYTES, TIMEOUT_S)
        paths = _over_http(
            "listed", url, policy, lambda place, known: webdav.list_files(place, known, recursive=recursive)
        )
        return [f"{_scheme(url)}://{urlsplit(url).netloc}{path}" for path in paths]
    filesystem, inner = _filesystem(url)
    if not filesystem.isdir(inner):
        raise NotADirectoryError(inner) if filesystem.exists(inner) else FileNotFoundError(inner)
    found = filesystem.find(inner, maxdepth=None if recursive else 1)
    shown = [name for name in found if "/." not in "/" + name[len(inner.rstrip("/")) :].lstrip("/")]
    return [str(filesystem.unstrip_protocol(name)) for name in shown]


def _read_remote(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    filesystem, inner = _filesystem(url, timeout_s)
    data = bytearray()
    try:
        with filesystem.open(inner, "rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                data += piece
                if len(data) > max_bytes:
                    raise _too_long(_shown(url), max_bytes)
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
        hint = _credentials(url) if status_of(error) in (401, 403) else ""
        raise StorageError(f"{_shown(url)} cannot be {verb}: {error}{hint}") from error.__cause__
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


# ---- errors


def reason(error: StorageError) -> Reason:
    """Return in a word the cause of a StorageError of this module."""
    cause = error.__cause__
    number = getattr(cause, "errno", None)
    status = _status(cause)
    if status is not None:
        return _reason_of_status(status)
    if number is not None and errno.errorcode.get(number) in _BY_ERRNO:
        return _BY_ERRNO[errno.errorcode[number]]
    if isinstance(cause, PrivateAddressError):
        return "private-address"
    if isinstance(cause, FileNotFoundError):
        return "missing"
    if isinstance(cause, PermissionError) or type(cause).__name__ == "NoCredentialsError":
        return "forbidden"
    if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
        return "timeout"
    if type(cause).__name__ in _BROKEN_OFF:
        return "server-error"
    import socket  # read for an error alone: one photo of this machine needs neither

    if isinstance(cause, ConnectionError | socket.gaierror) or "Connect" in type(cause).__name__:
        return "unreachable"
    return "failed"


# By name, since not every system has each of them; s3fs makes EBUSY and EREMOTEIO of 503 and 500.
_BY_ERRNO: Mapping[str, Reason] = {
    "EFBIG": "too-large",
    "ENOSPC": "no-space",
    "EDQUOT": "no-space",
    "EBUSY": "server-error",
    "EREMOTEIO": "server-error",
    "EHOSTDOWN": "unreachable",
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
}
# What aiohttp and botocore raise where an answer breaks off half way.
_BROKEN_OFF = (
    "BrokenOffError",
    "ClientPayloadError",
    "ServerDisconnectedError",
    "IncompleteReadError",
    "ConnectionResetError",
    "ConnectionClosedError",
    "ResponseStreamingError",
    "ClientOSError",
)


def _reason_of_status(status: int) -> Reason:
    known: dict[int, Reason] = {
        401: "forbidden",
        403: "forbidden",
        404: "missing",
        408: "timeout",
        410: "gone",
        429: "server-error",
        507: "no-space",
    }
    return known.get(status, "server-error" if status >= 500 else "failed")


def retry_after_s(error: StorageError) -> float | None:
    """Return how many seconds the server asked to be left alone (Retry-After), or None where it did not say."""
    from email.utils import parsedate_to_datetime

    cause = error.__cause__
    headers = getattr(cause, "headers", None) or getattr(getattr(cause, "response", None), "headers", None)
    text = str(headers.get("Retry-After", "")) if isinstance(headers, Mapping) else ""
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)  # RFC 9110 knows no other
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _status(cause: object) -> int | None:
    """Return the HTTP status of an error of `web`, aiohttp or fsspec's other libraries."""
    response = getattr(cause, "response", None)
    for value in (
        getattr(cause, "status", None),
        getattr(cause, "status_code", None),
        getattr(response, "status_code", None),
    ):
        if isinstance(value, int) and value:
            return value
    return None


def _too_long(name: str, max_bytes: int) -> StorageError:
    error = StorageError(f"{name} is over the limit of {max_bytes / 2**20:g} MiB; is it a photo?")
    error.__cause__ = OSError(errno.EFBIG, "over the limit")  # what `reason` reads
    return error


def _shown(url: str) -> str:
    """Return a URL for messages: without user, password and query, where secrets stand."""
    url = _UNSHOWN.sub("?", url)
    if not is_url(url):
        return url
    scheme, _, rest = url.partition("://")
    if _SECRET_SLASH.match(rest):
        return f"{scheme}://{rest.rpartition('@')[2]}"
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
        raise StorageError(f"{name} cannot be {verb}: no such file or folder") from error
    except IsADirectoryError as error:
        raise StorageError(f"{name} cannot be {verb}: it is a folder, not a file") from error
    except NotADirectoryError as error:
        raise StorageError(f"{name} cannot be {verb}: it is a file, not a folder") from error
    except PermissionError as error:
        raise StorageError(f"{name} cannot be {verb}: permission denied{_credentials(url)}") from error
    except TimeoutError as error:
        raise StorageError(f"{name} cannot be {verb}: no complete answer within {timeout_s:g} s") from error
    except NotImplementedError as error:
        raise StorageError(f"{name} cannot be {verb}: {name.partition(':')[0]} does not allow that") from error
    except (OSError, ValueError, ImportError, TypeError, RuntimeError) as error:
        raise StorageError(f"{name} cannot be {verb}: {_words(error, url, timeout_s)}") from error
    except _foreign_errors() as error:
        raise StorageError(f"{name} cannot be {verb}: {_words(error, url, timeout_s)}") from error


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the libraries under fsspec that are loaded and do not derive from Python's own."""
    known = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    )
    return tuple(getattr(sys.modules[module], name) for module, name in known if module in sys.modules)


def _credentials(url: str) -> str:
    names = _ASK_FOR.get(_scheme(url)) if is_url(url) else None
    return f"; check {names}" if names else ""


def _words(error: Exception, url: str, timeout_s: float) -> str:
    """Return what a library's error means, in one line without secrets."""
    scheme = _scheme(url)
    if is_url(url) and isinstance(error, ImportError):
        return f"{scheme}:// needs {_PACKAGES.get(scheme, scheme)}; run: pip install {_PACKAGES.get(scheme, scheme)}"
    if is_url(url) and isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"unknown scheme {scheme}://; {suggestion(scheme, ['file', 'http', 'https', *_PACKAGES])}"
    status = _status(error)
    if status is not None:  # their own texts repeat the URL with its query
        phrase = getattr(error, "message", "") or getattr(getattr(error, "response", None), "reason_phrase", "")
        hint = _credentials(url) if status in (401, 403) else ""
        return f"the server answered {status} {phrase}".rstrip() + hint
    if "Timeout" in type(error).__name__:
        return f"no complete answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.strip("[]")
    return (" ".join(str(error).split()) or type(error).__name__).replace(url, _shown(url))[:200]
