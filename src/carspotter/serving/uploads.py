"""Read the photos and fields of a request's body, within limits that hold while it arrives.

A body is counted as its pieces come, so that no header needs to be believed, and the sum over all requests is bounded.
Nothing touches the disk. It decodes no photo; URLs are fetched through the guard of `carspotter.web`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from carspotter.serving.problems import BUSY, ProblemError
from carspotter.serving.settings import MEGABYTE, ServeSettings

_JSON_BYTES = MEGABYTE
_FIELDS = 16
_FIELDS_OF_TEXT = ("declared",)  # curl sends these as files, too: -F declared=@words.json
_MOST_DIGITS = 15
_MOST_NAME = 500

Read = TypeVar("Read")
_FORM_OVERHEAD = 64 << 10  # boundaries and headers of an ad's parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One photo as it came: its bytes and the name that its sender gave it, "" where none."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a body held: photos or URLs of photos, and the other fields."""

    uploads: tuple[Upload, ...] = ()
    urls: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


class BodyReader:
    """Read bodies, and bound the bytes of all that are held at once."""

    def __init__(self, settings: ServeSettings) -> None:
        """Take the limits of a service."""
        self._settings = settings
        self.held = 0

    async def receive(self, request: Request, hold: MemoryUse, *, is_ad: bool) -> Received:
        """Read a body: one photo, in a form the field `photo`; of an ad several, in the field `photos`.

        Raises ProblemError for a body too large, too slow or of no known form.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
        photos = self._settings.max_photos if is_ad else 1
        body = self._open(request, hold, photos * self._settings.max_bytes, spare=_FORM_OVERHEAD)
        if kind == "multipart/form-data":
            return await self._timed(self._form(request, body, photos, "photos" if is_ad else "photo"))
        if kind == "application/json":
            body.lower_to(_JSON_BYTES)
            return self._json(await self._timed(body.whole()), photos, is_ad=is_ad)
        if not is_ad and (kind.startswith("image/") or kind in ("application/octet-stream", "")):
            body.lower_to(self._settings.max_bytes)
            return Received(uploads=(Upload(data=await self._timed(body.whole())),))
        forms = "multipart/form-data or JSON" if is_ad else "multipart/form-data, image/*, octet-stream or JSON"
        raise ProblemError(415, "unsupported-body", f"a body of type {kind or 'unknown'}; send {forms}")

    async def receive_words(self, request: Request, hold: MemoryUse, limit: int) -> bytes:
        """Read a small body of at most `limit` bytes whole; raises ProblemError as `receive` does."""
        return await self._timed(self._open(request, hold, limit).whole())

    @contextmanager
    def holding(self) -> Iterator[MemoryUse]:
        """Count bytes for as long as a request holds them."""
        hold = MemoryUse(self)
        try:
            yield hold
        finally:
            self.held -= hold.bytes

    def take(self, size: int, *, own: int) -> None:
        """Count bytes; raises ProblemError when all requests together hold too much, or one that holds `own` would."""
        if own + size > self._settings.uploads:
            raise _too_large(self._settings.uploads)
        if self.held + size > self._settings.uploads:
            raise ProblemError(429, BUSY, "too many bytes are being sent at once; try again", retry_after_s=1)
        self.held += size

    def _open(self, request: Request, hold: MemoryUse, limit: int, *, spare: int = 0) -> _Body:
        """Begin a body, and refuse one that is announced too large; what could never be held is too large."""
        body = _Body(request, hold, min(limit, self._settings.uploads), spare=spare)
        length = request.headers.get("content-length", "").lstrip("0")
        if length.isdigit() and (len(length) > _MOST_DIGITS or int(length) > body.limit + spare):
            raise _too_large(body.limit)
        return body

    async def _timed(self, reading: Coroutine[Any, Any, Read]) -> Read:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await reading
        except TimeoutError:
            raise ProblemError(408, "too-slow", f"the body did not arrive in {self._settings.timeout_s:g} s") from None
        except ClientDisconnect:
            raise ProblemError(400, "gone", "the body broke off") from None

    async def _form(self, request: Request, body: _Body, photos: int, name: str) -> Received:
        parser = _InMemory(request.headers, body.pieces(), max_files=photos + 1, max_fields=_FIELDS)
        try:
            parts = (await parser.parse()).multi_items()
            return await self._parts(parts, photos, name)
        except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
            message = getattr(error, "message", "") or "it is no multipart form"
            if "Too many files" in message:
                raise _too_many(photos) from None
            raise ProblemError(422, "wrong-form", f"the form cannot be read: {message}"[:200]) from None
        finally:
            parser.close_all()

    async def _parts(self, parts: Sequence[tuple[str, UploadFile | str]], photos: int, name: str) -> Received:
        uploads: list[Upload] = []
        fields: dict[str, Any] = {}
        for key, value in parts:
            data = await value.read() if isinstance(value, UploadFile) else value.encode()
            if len(data) > self._settings.max_bytes:
                raise _too_large(self._settings.max_bytes)
            if isinstance(value, UploadFile) and key == name:
                uploads.append(Upload(data=data, name=readable(value.filename or "")))
            elif isinstance(value, UploadFile) and key not in _FIELDS_OF_TEXT:
                raise ProblemError(
                    422, "no-photo", f"the form has a file in {readable(key)!r}; photos go into {name!r}"
                )
            else:
                fields[key] = data.decode("utf-8", "replace")
        if len(uploads) > photos:
            raise _too_many(photos)
        if not uploads:
            raise ProblemError(422, "no-photo", f"the form has no file in its field {name!r}")
        return Received(uploads=tuple(uploads), fields=fields)

    def _json(self, data: bytes, photos: int, *, is_ad: bool) -> Received:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ProblemError(422, "wrong-json", "the body is no JSON") from None
        if not isinstance(content, dict):
            raise ProblemError(422, "wrong-json", "the body must be a JSON object")
        entries = content.get("photos") if is_ad else [content]
        urls = _urls(entries)
        if not urls:
            form = '{"photos": [{"url": "https://…"}]}' if is_ad else '{"url": "https://…"}'
            raise ProblemError(422, "wrong-json", f"the body must be {form}")
        if len(urls) > photos:
            raise _too_many(photos)
        if not self._settings.allow_urls:
            raise ProblemError(403, "no-urls", "this service reads no URLs; send the photo itself")
        return Received(urls=tuple(urls), fields={k: v for k, v in content.items() if k not in ("url", "photos")})


class MemoryUse:
    """The bytes that one request holds."""

    def __init__(self, inbox: BodyReader) -> None:
        """Begin with none."""
        self._inbox = inbox
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count more bytes; raises ProblemError when they are too many, for this request or for all together."""
        self._inbox.take(size, own=self.bytes)
        self.bytes += size

    def drop(self, size: int) -> None:
        """Count fewer bytes."""
        self._inbox.held -= size
        self.bytes -= size


class _InMemory(MultiPartParser):
    """Keep parts in memory, whatever their size: bodies are bounded, and nothing may touch the disk."""

    spool_max_size = 1 << 40

    def on_headers_finished(self) -> None:
        """Begin a part; its name may be encoded as RFC 5987 says (`filename*`), which the parser does not read."""
        self._current_part.content_disposition = _plainly_named(self._current_part.content_disposition)
        super().on_headers_finished()

    def close_all(self) -> None:
        """Close the parts' files, whatever became of the form; the parser itself does so after some errors only."""
        for file in self._files_to_close_on_error:
            file.close()


class _Body:
    """A body that is being read: its pieces, counted as they come; `spare` bytes above the limit are a form's own."""

    def __init__(self, request: Request, hold: MemoryUse, limit: int, *, spare: int) -> None:
        self._request = request
        self._hold = hold
        self._spare = spare
        self.limit = limit

    def lower_to(self, limit: int) -> None:
        """Take less than what was said at first, and nothing to spare."""
        self.limit = min(limit, self.limit)
        self._spare = 0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces; raises ProblemError when they pass the limit."""
        read = 0
        async for piece in self._request.stream():
            self._hold.add(len(piece))
            read += len(piece)
            if read > self.limit + self._spare:
                raise _too_large(self.limit)
            yield piece

    async def whole(self) -> bytes:
        """Return all of it."""
        return b"".join([piece async for piece in self.pieces()])


def readable(name: str) -> str:
    """Return a client's text so that it can be written as JSON: odd character sets give halves of characters."""
    return name.encode("utf-8", "replace").decode()[:_MOST_NAME]


_ENCODED_NAME = re.compile(rb";\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]+)", re.IGNORECASE)


def _plainly_named(disposition: bytes | None) -> bytes | None:
    """Return a Content-Disposition whose `filename*`, if it has one, is its `filename`, in UTF-8."""
    found = _ENCODED_NAME.search(disposition or b"")
    if not found or disposition is None:
        return disposition
    try:
        name = unquote(found[2].decode("ascii"), found[1].decode("ascii"), "replace")
    except (LookupError, UnicodeDecodeError):  # an unknown character set
        return disposition
    quoted = re.sub(r'[\x00-\x1f"\\]', "_", name).encode("utf-8", "replace")
    others = re.sub(rb';\s*filename\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^;]*)', b"", _ENCODED_NAME.sub(b"", disposition))
    return others + b'; filename="' + quoted + b'"'


def _urls(entries: Any) -> list[str]:
    """Return the URLs of a list of `{"url": …}`, none where one of them has no such text."""
    if not isinstance(entries, list):
        return []
    urls = [entry.get("url") if isinstance(entry, dict) else None for entry in entries]
    return [url for url in urls if url] if all(isinstance(url, str) and url for url in urls) else []


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "too-large", f"over the limit of {limit / MEGABYTE:.4g} MiB")


def _too_many(photos: int) -> ProblemError:
    return ProblemError(413, "too-many", f"over {photos} photos; send at most {photos}")
