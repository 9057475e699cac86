"""The body of a request in; the bytes of its photos and its fields out, within limits that hold while it arrives.

A body is counted as its pieces come, so that no header needs to be believed, and the sum over all requests is bounded.
Nothing touches the disk. It decodes no photo; URLs are fetched through the guard of `carspotter.web`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from carspotter.serving.problems import ProblemError
from carspotter.serving.settings import MEGABYTE, ServeSettings

_JSON_BYTES = MEGABYTE
_FIELDS = 16
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


class Inbox:
    """Read bodies, and bound the bytes of all that are held at once."""

    def __init__(self, settings: ServeSettings) -> None:
        """Take the limits of a service."""
        self._settings = settings
        self.held = 0

    async def receive(self, request: Request, *, photos: int, name: str) -> tuple[Received, int]:
        """Read a body of at most so many photos, multipart files in the field `name`; return it and its bytes.

        The bytes stay counted until `release`. Raises ProblemError for a body too large, too slow or of no known form.
        """
        limit = photos * self._settings.max_bytes + _FORM_OVERHEAD
        kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        meter, is_received = _Meter(self, limit), False
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                received = await self._read(request, kind, meter, photos=photos, name=name)
            is_received = True
        except TimeoutError:
            raise ProblemError(408, "too-slow", f"the body did not arrive in {self._settings.timeout_s:g} s") from None
        except ClientDisconnect:
            raise ProblemError(400, "gone", "the body broke off") from None
        finally:
            if not is_received:
                self.release(meter.bytes)
        return received, meter.bytes

    def release(self, size: int) -> None:
        """Forget the bytes of a body that is no longer held."""
        self.held -= size

    def hold(self, size: int) -> None:
        """Count bytes that came; raises ProblemError when all requests together hold too much."""
        if self.held + size > self._settings.uploads:
            raise ProblemError(429, "busy", "too many bytes are being sent at once; try again", retry_after_s=1)
        self.held += size

    async def _read(self, request: Request, kind: str, meter: _Meter, *, photos: int, name: str) -> Received:
        if kind == "multipart/form-data":
            return await self._form(request, meter, photos=photos, name=name)
        if kind == "application/json":
            return self._json(await _whole(request, meter, _JSON_BYTES), photos)
        if photos == 1 and (kind.startswith("image/") or kind in ("application/octet-stream", "")):
            data = await _whole(request, meter, self._settings.max_bytes)
            return Received(uploads=(Upload(data=data),))
        forms = "multipart/form-data or JSON" if photos > 1 else "multipart/form-data, image/*, octet-stream or JSON"
        raise ProblemError(415, "unsupported-body", f"a body of type {kind or 'unknown'}; send {forms}")

    async def _form(self, request: Request, meter: _Meter, *, photos: int, name: str) -> Received:
        parser = _InMemory(request.headers, meter.read(request), max_files=photos + 1, max_fields=_FIELDS)
        try:
            return await self._parts(parser, photos=photos, name=name)
        except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
            message = getattr(error, "message", "") or "it is no multipart form"
            raise ProblemError(422, "wrong-form", f"the form cannot be read: {message}"[:200]) from None
        finally:
            parser.close_all()

    async def _parts(self, parser: _InMemory, *, photos: int, name: str) -> Received:
        uploads, fields = [], {}
        for key, value in (await parser.parse()).multi_items():
            if not isinstance(value, UploadFile):
                fields[key] = value
            elif key == name:
                uploads.append(Upload(data=await value.read(), name=value.filename or ""))
        for upload in uploads:
            if len(upload.data) > self._settings.max_bytes:
                raise _too_large(self._settings.max_bytes)
        if len(uploads) > photos:
            raise ProblemError(413, "too-many", f"over {photos} photos; send at most {photos}")
        if not uploads:
            raise ProblemError(422, "no-photo", f"the form has no file in its field {name!r}")
        return Received(uploads=tuple(uploads), fields=fields)

    def _json(self, data: bytes, photos: int) -> Received:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ProblemError(422, "wrong-json", "the body is no JSON") from None
        if not isinstance(content, dict):
            raise ProblemError(422, "wrong-json", "the body must be a JSON object")
        entries = content.get("photos") if photos > 1 else [content]
        urls = _urls(entries)
        if not urls:
            form = '{"photos": [{"url": "https://…"}]}' if photos > 1 else '{"url": "https://…"}'
            raise ProblemError(422, "wrong-json", f"the body must be {form}")
        if len(urls) > photos:
            raise ProblemError(413, "too-many", f"{len(urls)} photos; send at most {photos}")
        if not self._settings.allow_urls:
            raise ProblemError(403, "no-urls", "this service reads no URLs; send the photo itself")
        return Received(urls=tuple(urls), fields={k: v for k, v in content.items() if k not in ("url", "photos")})


class _InMemory(MultiPartParser):
    """Keep parts in memory, whatever their size: bodies are bounded, and nothing may touch the disk."""

    spool_max_size = 1 << 40

    def close_all(self) -> None:
        """Close the parts' files, whatever became of the form; the parser itself does so after some errors only."""
        for file in self._files_to_close_on_error:
            file.close()


class _Meter:
    """Count the pieces of one body."""

    def __init__(self, inbox: Inbox, limit: int) -> None:
        self._inbox = inbox
        self.limit = limit
        self.bytes = 0

    async def read(self, request: Request) -> AsyncGenerator[bytes, None]:
        async for piece in request.stream():
            self._inbox.hold(len(piece))
            self.bytes += len(piece)
            if self.bytes > self.limit:
                raise _too_large(self.limit)
            yield piece


async def _whole(request: Request, meter: _Meter, limit: int) -> bytes:
    meter.limit = limit
    return b"".join([piece async for piece in meter.read(request)])


def _urls(entries: Any) -> list[str]:
    """Return the URLs of a list of `{"url": …}`, none where one of them has no such text."""
    if not isinstance(entries, list):
        return []
    urls = [entry.get("url") if isinstance(entry, dict) else None for entry in entries]
    return [url for url in urls if url] if all(isinstance(url, str) and url for url in urls) else []


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "too-large", f"over the limit of {limit / MEGABYTE:g} MiB")
