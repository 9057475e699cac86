"""What went wrong with a file or URL, in one line without secrets: `failures` makes a StorageError of any error.

In: what fsspec, its file systems and `web` raise. Out: a StorageError whose text holds no password and no signed query;
`reason` says it in a word, `retry_after_s` when to ask again. It reads and writes nothing.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from carspotter.errors import StorageError, suggestion
from carspotter.web_policy import PrivateAddressError

# At least two letters, so that C:\photo.jpg is a path.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
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


def scheme(url: str) -> str:
    """Return the scheme of a URL in small letters."""
    return url.partition("://")[0].casefold()


def reason(error: StorageError) -> Reason:
    """Return in a word the cause of a StorageError of `storage`."""
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
    import socket  # for an error alone: one photo of this machine needs neither, and it takes time

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
    cause = error.__cause__
    headers = getattr(cause, "headers", None) or getattr(getattr(cause, "response", None), "headers", None)
    return asked_s(str(headers.get("Retry-After", ""))) if isinstance(headers, Mapping) else None


def asked_s(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After header, which are digits or a date (RFC 9110, 10.2.3); None for any other."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after)
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(retry_after)
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


def too_long(name: str, max_bytes: int) -> StorageError:
    """Make the error of a file over the limit, which `reason` calls "too-large"."""
    error = StorageError(f"{name} is over the limit of {max_bytes / 2**20:g} MiB; is it a photo?")
    error.__cause__ = OSError(errno.EFBIG, "over the limit")  # what `reason` reads
    return error


def shown(url: str) -> str:
    """Return a URL for messages: without user, password and query, where secrets stand."""
    url = _UNSHOWN.sub("?", url)
    if not is_url(url):
        return url
    kind, _, rest = url.partition("://")
    if _SECRET_SLASH.match(rest):
        return f"{kind}://{rest.rpartition('@')[2]}"
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{kind}://{host.rpartition('@')[2]}{slash}{path}"


@contextmanager
def failures(verb: str, url: str, timeout_s: float) -> Iterator[None]:
    """Turn whatever fsspec and its file systems raise into one line."""
    name = shown(url)
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
        hint = credentials(url) or (f"; {_PLACE}" if verb == "written" else "")
        raise StorageError(f"{name} cannot be {verb}: permission denied{hint}") from error
    except TimeoutError as error:
        raise StorageError(f"{name} cannot be {verb}: no complete answer within {timeout_s:g} s") from error
    except NotImplementedError as error:
        raise StorageError(f"{name} cannot be {verb}: {name.partition(':')[0]} does not allow that") from error
    except (OSError, ValueError, ImportError, TypeError, RuntimeError) as error:
        raise StorageError(f"{name} cannot be {verb}: {_words(error, url, timeout_s)}") from error
    except _foreign_errors() as error:
        raise StorageError(f"{name} cannot be {verb}: {_words(error, url, timeout_s)}") from error


def refusal(error: OSError) -> str:
    """Return what the system refused to write, in its own words, and what to do about it."""
    said = (error.strerror or str(error)).strip("[]")
    remedy = _REMEDIES.get(errno.errorcode.get(error.errno or 0, ""))
    return f"{said}; {remedy}" if remedy else said


_ROOM = "make room, then run the same command again"
_PLACE = "name a folder that may be written"
_REMEDIES: Mapping[str, str] = {"ENOSPC": _ROOM, "EDQUOT": _ROOM, "EROFS": _PLACE, "EACCES": _PLACE, "EPERM": _PLACE}


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the libraries under fsspec that are loaded and do not derive from Python's own."""
    known = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    )
    return tuple(getattr(sys.modules[module], name) for module, name in known if module in sys.modules)


def credentials(url: str) -> str:
    """Return the end of a message that names the variables with the credentials of a scheme; "" where it has none."""
    names = _ASK_FOR.get(scheme(url)) if is_url(url) else None
    return f"; check {names}" if names else ""


def _words(error: Exception, url: str, timeout_s: float) -> str:
    """Return what a library's error means, in one line without secrets."""
    kind = scheme(url)
    if is_url(url) and isinstance(error, ImportError):
        return f"{kind}:// needs {_PACKAGES.get(kind, kind)}; run: pip install {_PACKAGES.get(kind, kind)}"
    if is_url(url) and isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"unknown scheme {kind}://; {suggestion(kind, ['file', 'http', 'https', *_PACKAGES])}"
    status = _status(error)
    if status is not None:  # their own texts repeat the URL with its query
        phrase = getattr(error, "message", "") or getattr(getattr(error, "response", None), "reason_phrase", "")
        hint = credentials(url) if status in (401, 403) else ""
        return f"the server answered {status} {phrase}".rstrip() + hint
    if "Timeout" in type(error).__name__:
        return f"no complete answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.strerror:
        return refusal(error)
    return (" ".join(str(error).split()) or type(error).__name__).replace(url, shown(url))[:200]
