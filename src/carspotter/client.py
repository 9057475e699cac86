"""Ask a carspotter service from Python, by httpx. It needs the extra `client`.

In: photos as paths, bytes or URLs, and the service's address. Out: a Prediction for a photo, the documented JSON for an
ad; anything else is a ServerError of one line. Files are sent as they are read, so that forty photos of an ad never
stand in memory. A busy service is asked again when it says so; a redirect is not followed, since the key would go with
it. It recognises nothing itself.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

from carspotter.errors import MissingExtraError, StorageError
from carspotter.records import Prediction
from carspotter.storage_errors import asked_s, is_url

try:
    import httpx
except ModuleNotFoundError as error:
    raise MissingExtraError("httpx", "client") from error

Photo = str | Path | bytes
"""A path, a URL (`https://…`, which the service fetches where it is allowed to), or a photo's bytes."""

TRIES = 4
"""How often a busy service is asked in all."""
RATE_WAIT_S = 300.0
"""How long a reached rate is waited for in all: it says when to come again, so that this is no failed try."""

# 0.5, 1 and 2 s where a busy service names no time; one that asks for more than half a minute is not waited for.
_FIRST_WAIT_S, _GROWTH, _MAX_WAIT_S = 0.5, 2, 30.0
_BUSY = (429, 503)
_RATE = "rate"
# An ad of 40 photos with 5 candidates a level for each vehicle has some 200 kB.
_MAX_ANSWER_BYTES = 32 << 20
_GATEWAY = {502, 504}

# What httpx is to send: a new one for each try, whose files are opened into the stack.
_Body = Callable[[ExitStack], dict[str, Any]]


class ServerError(StorageError):
    """Raised when a service cannot be reached, refused, or is no carspotter.

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


class Client:
    """Ask one service; safe to use from several threads. Each request has a connection of its own."""

    def __init__(self, server: str, *, key: str | None = None, timeout_s: float = 30.0) -> None:
        """Take the service's address, as `https://cars.example`, and the API key where it wants one.

        `timeout_s` is the longest silence that is waited for. Nothing is asked yet; a wrong value is a ValueError.
        """
        self.server = server.rstrip("/")
        _check_address(self.server)
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise ValueError("an API key is of ASCII letters, digits and signs, without spaces around it")
        if not 0 < timeout_s < float("inf"):
            raise ValueError(f"timeout_s={timeout_s}: it must be above 0 and finite")
        self._timeout_s = timeout_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "carspotter"}
        self._has_key = key is not None
        # The system's certificates, as everything else on this machine trusts them, and no proxy of the environment.
        self._http = httpx.Client(
            base_url=self.server,
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_s,
            verify=ssl.create_default_context(),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def photo(self, photo: Photo, *, select: str | None = None, top: int | None = None) -> Prediction:
        """Recognise one photo; `select` is "largest", "all" or "center", `top` the number of candidates per level.

        Raises ServerError, also where the service cannot read the photo: its `problem` then says why.
        """
        params = {name: value for name, value in (("select", select), ("top", top)) if value is not None}

        def body(files: ExitStack) -> dict[str, Any]:
            if isinstance(photo, str) and is_url(photo):
                return {"json": {"url": photo}, "params": params}
            headers = {"Content-Type": "application/octet-stream"}
            return {"content": _opened(photo, files), "headers": headers, "params": params}

        content = self._ask("POST", "/v1/photos", body)
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
            content |= {"declared": dict(declared)} if declared else {}
            return self._ask("POST", "/v1/ads", lambda _: {"json": content}, has=("photos", "answer"))
        if n_urls:
            raise ValueError(f"{n_urls} of {len(named)} photos are URLs; give all as URLs, or all as files and bytes")
        return self._ask("POST", "/v1/ads", lambda files: _form(named, declared, files), has=("photos", "answer"))

    def models(self) -> dict[str, Any]:
        """Return the service's bundles and limits. Raises ServerError."""
        return self._ask("GET", "/v1/models", has=("bundles",))

    def taxonomy(self) -> dict[str, Any]:
        """Return all that the service can name, as `Taxonomy.from_dict` reads it. Raises ServerError."""
        return self._ask("GET", "/v1/taxonomy", has=("classes",))

    def ready(self) -> bool:
        """Return whether the service takes photos now; False also where nothing answers."""
        try:
            return self._once("GET", "/readyz")[0].status_code == 200
        except ServerError:
            return False

    def _ask(self, method: str, path: str, body: _Body | None = None, *, has: tuple[str, ...] = ()) -> dict[str, Any]:
        """Ask until the service is no longer busy; return its JSON object, which has these keys."""
        wait_s, number, of_rate_s = _FIRST_WAIT_S, 0, 0.0
        while True:
            answer, content = self._once(method, path, body)
            if answer.status_code == 200:
                if not content or not content.keys() >= set(has):
                    raise self._stranger()
                return content
            busy_s = asked_s(answer.headers.get("Retry-After", "")) if answer.status_code in _BUSY else None
            if busy_s and content.get("code") == _RATE and of_rate_s < RATE_WAIT_S:
                of_rate_s += busy_s
            else:
                number += 1
            if answer.status_code not in _BUSY or number == TRIES or (busy_s or 0) > _MAX_WAIT_S:
                raise self._problem(answer, content, busy_s)
            time.sleep(busy_s or wait_s)
            wait_s *= _GROWTH

    def _once(self, method: str, path: str, body: _Body | None = None) -> tuple[httpx.Response, dict[str, Any]]:
        """Return the answer and its JSON object, empty where it has none."""
        try:
            with ExitStack() as files, self._http.stream(method, path, **(body(files) if body else {})) as answer:
                data = bytearray()
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > _MAX_ANSWER_BYTES:
                        raise self._stranger(answer.status_code)
        except httpx.TransportError as error:
            raise self._failure(error) from _root(error)
        except OSError as error:
            raise StorageError(f"a photo cannot be read: {error.strerror}") from error
        with suppress(ValueError):  # JSONDecodeError and UnicodeDecodeError are such
            content = json.loads(bytes(data))
            return answer, content if isinstance(content, dict) else {}
        return answer, {}

    # ---- errors

    def _problem(self, answer: httpx.Response, content: Mapping[str, Any], asked_s: float | None) -> ServerError:
        """Make the error of a refused request from its problem+json (RFC 9457) where it has one."""
        if answer.has_redirect_location:
            text = f"it has moved to {answer.headers['Location']}; give that address"
        elif content.get("detail") or content.get("title"):
            text = " ".join(str(content.get("detail") or content["title"]).split())
        else:
            what = f"{answer.status_code} {answer.reason_phrase}".rstrip()
            text = f"it answered {what}; is that a carspotter service?"
            if answer.status_code in _GATEWAY:
                text = f"a proxy answered {what}: the service behind it is not there, or starts just now"
        hint = "; give it to this client" if answer.status_code == 401 and not self._has_key else ""
        later = "" if asked_s is None else f"; try again in {asked_s:g} s"
        return ServerError(
            f"{self.server}: {text}{hint}{later}",
            status=answer.status_code,
            problem=content.get("code"),
            request_id=content.get("request_id") or answer.headers.get("X-Request-ID"),
        )

    def _failure(self, error: httpx.TransportError) -> ServerError:
        cause = _root(error)
        if isinstance(error, httpx.TimeoutException):
            text = f" gave no answer within {self._timeout_s:g} s"
        elif isinstance(cause, ssl.SSLCertVerificationError):
            text = f" has a certificate that cannot be verified: {cause.verify_message}"
        elif isinstance(cause, ssl.SSLError):
            text = " does not speak https; is it an http:// address?"
        elif isinstance(cause, socket.gaierror):
            text = " cannot be reached: no such host"
        elif isinstance(error, httpx.ConnectError):
            words = (getattr(cause, "strerror", None) or str(cause)).lower()
            text = f" cannot be reached: {words}; is `carspotter serve` running there?"
        else:
            text = " broke its answer off, or speaks no HTTP"
        return ServerError(self.server + text)

    def _stranger(self, status: int = 200) -> ServerError:
        return ServerError(f"{self.server} answers, but not as a carspotter service does", status=status)


def _check_address(server: str) -> None:
    try:
        url = httpx.URL(server if server.isascii() else "")
        is_fine = url.scheme in ("http", "https") and bool(url.host.encode("idna")) and " " not in server
        is_fine = is_fine and url.port in (None, *range(1, 1 << 16))
    except (httpx.InvalidURL, UnicodeError):
        is_fine = False
    if not is_fine or "?" in server or "#" in server:
        raise ValueError(f"server {server!r} is no address; write one like http://cars.example:8000")
    if url.userinfo:  # which is not repeated: it holds a password
        raise ValueError("the server's address holds a user name or a password; give an API key instead")


def _root(error: BaseException) -> BaseException:
    """Return the system's own error, which httpx rewords."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


# ---- bodies


def _form(photos: list[Photo], declared: Mapping[str, Any] | None, files: ExitStack) -> dict[str, Any]:
    """Return a form of many files; a file's own name is sent, its folders are not."""
    form: list[tuple[str, tuple[str | None, bytes | _File, str]]] = []
    for number, photo in enumerate(photos):
        name = f"photo-{number}" if isinstance(photo, bytes) else Path(photo).name
        name = name.encode(errors="replace").decode()  # a name may be of bytes that are no UTF-8
        form.append(("photos", (name, _opened(photo, files), "application/octet-stream")))
    if declared:
        form.append(("declared", (None, json.dumps(dict(declared)).encode(), "application/json")))
    return {"files": form}


class _File(FileIO):
    """A file read up to the length that it had when it was opened, which was announced."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._left = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(min(size or 0, self._left)) or b""
        self._left -= len(data)
        if self._left and not data:
            raise StorageError(f"{self.name} became shorter while it was sent")
        return data


def _opened(photo: Photo, files: ExitStack) -> bytes | _File:
    """Return bytes as they are, and a file open, so that it need not be read yet."""
    if isinstance(photo, bytes):
        return photo
    path = Path(photo)
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            what = "it is no regular file" if path.exists() else "no such file"
            raise StorageError(f"{path} cannot be read: {what}")
        return files.enter_context(_File(path))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
