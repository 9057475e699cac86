"""Ask a carspotter service from Python, with the standard library alone.

In: photos as paths, bytes or URLs, and the service's address. Out: a Prediction for a photo, the documented JSON for an
ad; anything else is a ServerError of one line. Files are sent as they are read, so that forty photos of an ad never
stand in memory. A busy service is asked again when it says so; a redirect is not followed, since the key would go with
it. It recognises nothing itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit
from uuid import uuid4

from carspotter.errors import StorageError
from carspotter.records import Prediction
from carspotter.storage import is_url

Photo = str | Path | bytes
"""A path, a URL (`https://…`, which the service fetches where it is allowed to), or a photo's bytes."""

TRIES = 4
"""How often a busy service is asked in all."""

# 0.5, 1 and 2 s where a busy service names no time; one that asks for more than half a minute is not waited for.
_FIRST_WAIT_S, _GROWTH, _MAX_WAIT_S = 0.5, 2, 30.0
_BUSY = (429, 503)
_CHUNK_BYTES = 1 << 18
# An ad of 40 photos with 5 candidates a level for each vehicle has some 200 kB.
_MAX_ANSWER_BYTES = 32 << 20


class ServerError(StorageError):
    """Say that a service cannot be reached, refused, or is no carspotter.

    `status` is HTTP's, or None without an answer; `problem` the service's own short word, such as "truncated";
    `request_id` what its log knows the request by.
    """

    code = "server"

    def __init__(
        self, message: str, *, status: int | None = None, problem: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.request_id = request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """What is sent: its parts in order, files by path with the length they had; it can be sent again."""

    content_type: str
    parts: tuple[bytes | tuple[Path, int], ...]

    @property
    def n_bytes(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part[1] for part in self.parts)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, reading files as they are asked for."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from _read(*part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object, empty where it is none."""
        with suppress(ValueError):  # JSONDecodeError and UnicodeDecodeError are such
            content = json.loads(self.body)
            if isinstance(content, dict):
                return content
        return {}


class Client:
    """Ask one service; safe to use from several threads, since each request has its own connection."""

    def __init__(self, server: str, *, key: str | None = None, timeout_s: float = 30.0) -> None:
        """Take the service's address, as `https://cars.example`, and the API key where it wants one.

        `timeout_s` is the longest silence that is waited for. Nothing is asked yet; a wrong value is a ValueError.
        """
        self.server = server.rstrip("/")
        self._at = _address(self.server)
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise ValueError("an API key is of ASCII letters, digits and signs, without spaces around it")
        if not 0 < timeout_s < float("inf"):
            raise ValueError(f"timeout_s={timeout_s}: it must be above 0 and finite")
        self._key = key
        self._timeout_s = timeout_s

    def photo(self, photo: Photo, *, select: str | None = None, top: int | None = None) -> Prediction:
        """Recognise one photo; `select` is "largest", "all" or "center", `top` the number of candidates per level.

        Raises ServerError, also where the service cannot read the photo: its `problem` then says why.
        """
        query = urlencode({name: value for name, value in (("select", select), ("top", top)) if value is not None})
        if isinstance(photo, str) and is_url(photo):
            body = _json_body({"url": photo})
        else:
            body = _Body(content_type="application/octet-stream", parts=(_part(photo),))
        content = self._ask("POST", "/v1/photos" + (f"?{query}" if query else ""), body)
        try:
            prediction = Prediction.from_dict({"photo": "", **content})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._stranger() from error
        return prediction if isinstance(photo, bytes) else replace(prediction, photo=str(photo))

    def ad(self, photos: Iterable[Photo], *, declared: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Recognise an ad by all its photos, and compare it with what its seller declared.

        `declared` has any of "make", "model", "year", "colour", "body", "title". Photos are all URLs or none. Raises
        ServerError.
        """
        named = list(photos)
        n_urls = sum(isinstance(photo, str) and is_url(photo) for photo in named)
        if n_urls == len(named) > 0:
            content: dict[str, Any] = {"photos": [{"url": photo} for photo in named]}
            body = _json_body(content | ({"declared": dict(declared)} if declared else {}))
        elif n_urls:
            raise ValueError(f"{n_urls} of {len(named)} photos are URLs; give all as URLs, or all as files and bytes")
        else:
            body = _form(named, declared)
        answer = self._ask("POST", "/v1/ads", body)
        if "photos" not in answer or "answer" not in answer:
            raise self._stranger()
        return answer

    def models(self) -> dict[str, Any]:
        """Return the service's bundles and limits. Raises ServerError."""
        answer = self._ask("GET", "/v1/models")
        if "bundles" not in answer:
            raise self._stranger()
        return answer

    def taxonomy(self) -> dict[str, Any]:
        """Return all that the service can name, as `Taxonomy.from_dict` reads it. Raises ServerError."""
        answer = self._ask("GET", "/v1/taxonomy")
        if "classes" not in answer:
            raise self._stranger()
        return answer

    def ready(self) -> bool:
        """Say whether the service takes photos now; False also where nothing answers."""
        try:
            return self._once("GET", "/readyz", None).status == 200
        except ServerError:
            return False

    def _ask(self, method: str, path: str, body: _Body | None = None) -> dict[str, Any]:
        """Ask until the service is no longer busy; return its JSON object."""
        wait_s = _FIRST_WAIT_S
        for number in range(1, TRIES + 1):
            answer = self._once(method, path, body)
            if answer.status == 200:
                return answer.json() or self._no_object()
            asked_s = _retry_after_s(answer)
            if answer.status not in _BUSY or number == TRIES or (asked_s or 0) > _MAX_WAIT_S:
                raise self._problem(answer, asked_s if answer.status in _BUSY else None)
            time.sleep(wait_s if asked_s is None else asked_s)
            wait_s *= _GROWTH
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, path: str, body: _Body | None) -> _Answer:
        headers = {"Accept": "application/json", "User-Agent": "carspotter"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        if body is not None:
            headers |= {"Content-Type": body.content_type, "Content-Length": str(body.n_bytes)}
        try:
            with closing(self._connection()) as connection:
                connection.connect()
                # Who refuses a body may close before it is sent whole; the answer is there all the same.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, self._at.path + path, body.pieces() if body else None, headers)
                response = connection.getresponse()
                data = response.read(_MAX_ANSWER_BYTES + 1)
                if response.length and len(data) <= _MAX_ANSWER_BYTES:  # a read with a limit does not say so itself
                    raise http.client.IncompleteRead(data, response.length)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error
        if len(data) > _MAX_ANSWER_BYTES:
            raise self._stranger(response.status)
        return _Answer(status=response.status, reason=response.reason, headers=response.headers, body=data)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._at.hostname or "", self._at.port
        if self._at.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    # ---- errors

    def _problem(self, answer: _Answer, asked_s: float | None) -> ServerError:
        """Make the error of an answer that is none, from its problem+json (RFC 9457) where it has one."""
        content = answer.json()
        request_id = content.get("request_id") or answer.headers.get("X-Request-ID")
        location = answer.headers.get("Location", "")
        if 300 <= answer.status < 400 and location:
            text = f"it has moved to {location}; give that address"
        elif content.get("detail") or content.get("title"):
            text = " ".join(str(content.get("detail") or content["title"]).split())
        else:
            text = f"it answered {answer.status} {answer.reason}".rstrip() + "; is that a carspotter service?"
        hint = "; give its API key" if answer.status == 401 and self._key is None else ""
        later = "" if asked_s is None else f"; try again in {asked_s:g} s"
        return ServerError(
            f"{self.server}: {text}{hint}{later}",
            status=answer.status, problem=content.get("code"), request_id=request_id,
        )  # fmt: skip

    def _failure(self, error: OSError | http.client.HTTPException) -> ServerError:
        if isinstance(error, TimeoutError):
            return ServerError(f"{self.server} gave no answer within {self._timeout_s:g} s")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(f"{self.server} has a certificate that cannot be verified: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            return ServerError(f"{self.server} does not speak https; is it an http:// address?")
        if isinstance(error, socket.gaierror):
            return ServerError(f"{self.server} cannot be reached: no such host")
        if isinstance(error, http.client.HTTPException | ConnectionResetError):
            return ServerError(f"{self.server} broke its answer off, or speaks no HTTP")
        words = (error.strerror or str(error)).lower()
        return ServerError(f"{self.server} cannot be reached: {words}; is `carspotter serve` running there?")

    def _stranger(self, status: int = 200) -> ServerError:
        return ServerError(f"{self.server} answers, but not as a carspotter service does", status=status)

    def _no_object(self) -> dict[str, Any]:
        raise self._stranger()


def _address(server: str) -> SplitResult:
    try:
        parts = urlsplit(server)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_fine = False
    if (
        not is_fine
        or parts.query
        or parts.fragment
        or not server.isascii()
        or not server.isprintable()
        or " " in server
    ):
        raise ValueError(f"server {server!r} is no address; write one like http://cars.example:8000")
    if "@" in parts.netloc:  # which is not repeated: it holds a password
        raise ValueError("the server's address holds a user name or a password; give an API key instead")
    return parts


def _retry_after_s(answer: _Answer) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else None


# ---- bodies


def _json_body(content: Mapping[str, Any]) -> _Body:
    return _Body(content_type="application/json", parts=(json.dumps(content).encode(),))


def _form(photos: list[Photo], declared: Mapping[str, Any] | None) -> _Body:
    """Write a form of many files (RFC 7578); a file's own name is sent, its folders are not."""
    boundary = uuid4().hex
    parts: list[bytes | tuple[Path, int]] = []

    def begin(disposition: str, content_type: str) -> None:
        head = f"Content-Disposition: form-data; {disposition}\r\nContent-Type: {content_type}\r\n\r\n"
        parts.append(f"--{boundary}\r\n{head}".encode(errors="replace"))

    for number, photo in enumerate(photos):
        name = f"photo-{number}" if isinstance(photo, bytes) else Path(photo).name
        for sign, escape in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):  # WHATWG, "multipart/form-data encoding"
            name = name.replace(sign, escape)
        begin(f'name="photos"; filename="{name}"', "application/octet-stream")
        parts += [_part(photo), b"\r\n"]
    if declared:
        begin('name="declared"', "application/json")
        parts += [json.dumps(dict(declared)).encode(), b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return _Body(content_type=f"multipart/form-data; boundary={boundary}", parts=tuple(parts))


def _part(photo: Photo) -> bytes | tuple[Path, int]:
    """Return bytes as they are, and a file with its length, so that it need not be read yet."""
    if isinstance(photo, bytes):
        return photo
    path = Path(photo)
    try:
        if not path.is_file():
            what = "it is no regular file" if path.exists() else "no such file"
            raise StorageError(f"{path} cannot be read: {what}")
        return path, path.stat().st_size
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _read(path: Path, n_bytes: int) -> Iterator[bytes]:
    """Yield exactly as many bytes as were announced."""
    left = n_bytes
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(left, _CHUNK_BYTES))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    if left:
        raise StorageError(f"{path} became shorter while it was sent")
