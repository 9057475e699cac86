"""A request's photos in, predictions or an ad's answer out: what the routes of `app` have in common.

It holds the recognizer, the queue and the limits of one service. HTTP's words stand in `app`, the queue in `batching`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request

from carspotter.errors import CarspotterError, ImageError
from carspotter.headers import sniff
from carspotter.recognition.recognizer import why_no_vehicle
from carspotter.records import PhotoError, Prediction
from carspotter.serving.batching import Batcher, FailedError, QueueFullError, StoppingError
from carspotter.serving.feedback import Feedback
from carspotter.serving.keys import Rates, read_keys
from carspotter.serving.metrics import Metrics
from carspotter.serving.problems import ProblemError
from carspotter.serving.settings import ServeSettings
from carspotter.serving.uploads import Inbox, Received, Upload
from carspotter.vehicles.locate import How

if TYPE_CHECKING:
    from carspotter.labels.resolve import Resolver
    from carspotter.recognition.recognizer import Recognizer

_URLS_AT_ONCE = 8
_LEAST_TIMEOUT_S = 0.05

Waited = tuple[Prediction, float]


class Service:
    """Hold what one service answers with; `start` before the first request, `stop` after the last."""

    def __init__(self, settings: ServeSettings, recognizer: Recognizer) -> None:
        """Take the limits and an open recognizer; raises StorageError for a file of keys that cannot be read."""
        self.settings = settings
        self.recognizer = recognizer
        self.keys = None if settings.keys is None else read_keys(settings.keys)
        self.rates = Rates(rate=settings.rate, burst=settings.n_burst)
        self.inbox = Inbox(settings)
        self.feedback = None if settings.feedback is None else Feedback(folder=settings.feedback)
        self.metrics = Metrics(lambda: self.batcher.waiting if self.batcher else 0, lambda: self.inbox.held)
        self.batcher: Batcher | None = None
        self._resolver: Resolver | None = None
        self._resolver_lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Tell whether photos are answered."""
        return self.batcher is not None

    def start(self) -> None:
        """Answer a grey photo, so that no client pays for the first run, and start the workers."""
        self.recognizer.recognize(np.full((480, 640, 3), 127, np.uint8))
        self.batcher = Batcher(
            self.recognizer,
            workers=self.settings.n_workers,
            batch=self.settings.batch,
            capacity=self.settings.queue,
            wait_s=self.settings.wait_ms / 1000,
            on_batch=self.metrics.count_batch,
        )

    def stop(self) -> None:
        """Finish what was accepted."""
        batcher, self.batcher = self.batcher, None
        if batcher is not None:
            batcher.close()

    @asynccontextmanager
    async def receive(self, request: Request, *, photos: int, name: str) -> AsyncGenerator[Received, None]:
        """Read a request's body, fetching what it names by URL; its bytes are counted while the context lasts.

        Refuses before the body is read when the queue is full or the client's rate is reached.
        """
        self._check_room(1)
        self.charge(request, 1)
        received, size = await self.inbox.receive(request, photos=photos, name=name)
        try:
            yield received
        finally:
            self.inbox.release(size)

    def charge(self, request: Request, photos: int) -> None:
        """Take photos from the client's rate; raises ProblemError with the time to wait."""
        wait_s = self.rates.take(request.state.client, photos, request.state.rate)
        if wait_s:
            raise ProblemError(429, "rate", f"your rate is reached; try again in {wait_s:.1f} s", retry_after_s=wait_s)

    async def recognize(self, request: Request, uploads: Sequence[Upload], how: How) -> list[Prediction]:
        """Recognise uploads in order; one that cannot be read is a prediction with an error.

        Raises ProblemError when the queue is full, the deadline passes, the client leaves or the service stops.
        """
        request.state.photos = len(uploads)
        refused = [self._refusal(upload) for upload in uploads]
        good = [upload.data for upload, error in zip(uploads, refused, strict=True) if error is None]
        found = iter(await self._queued(request, good, how) if good else [])
        predictions = []
        for upload, error in zip(uploads, refused, strict=True):
            waited = next(found) if error is None else (Prediction(photo="", error=error), 0.0)
            self.metrics.count_photo(*waited)
            predictions.append(_timed(waited, upload.name or "photo"))
        return predictions

    def resolver(self) -> Resolver:
        """Return what reads sellers' words, opened when first asked for; call it in a thread."""
        with self._resolver_lock:
            if self._resolver is None:
                from carspotter.labels.resolve import Resolver

                self._resolver = Resolver()
            return self._resolver

    def _check_room(self, photos: int) -> Batcher:
        try:
            if self.batcher is None:
                raise StoppingError
            self.batcher.check(photos)
        except QueueFullError as error:
            raise ProblemError(429, "queue-full", str(error), retry_after_s=error.retry_after_s) from None
        except StoppingError:
            raise ProblemError(503, "stopping", "the service is starting or stopping", retry_after_s=1) from None
        return self.batcher

    def _refusal(self, upload: Upload) -> PhotoError | None:
        """Look at the first bytes, before a worker does."""
        try:
            form = sniff(upload.data)
        except ImageError as error:
            return PhotoError.of(error)
        if form in self.settings.formats:
            return None
        allowed = ", ".join(self.settings.formats)
        return PhotoError(type="unsupported-format", message=f"{form} is not taken here; allowed: {allowed}")

    async def _queued(self, request: Request, photos: Sequence[bytes], how: How) -> list[Waited]:
        batcher, left_s = self._check_room(len(photos)), self._left_s(request)
        work = asyncio.ensure_future(batcher.submit(photos, [how] * len(photos)))
        gone = asyncio.ensure_future(_leaves(request))
        try:
            await asyncio.wait({work, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        except (QueueFullError, StoppingError):
            self._check_room(len(photos))
            raise ProblemError(429, "queue-full", "the queue is full", retry_after_s=1) from None
        except FailedError:
            raise ProblemError(500, "fault", "the networks failed on this photo; the log says more") from None
        finally:
            work.cancel()
            gone.cancel()
        if gone.done():
            raise ProblemError(499, "gone", "the client left")
        raise ProblemError(504, "deadline", "the photo was not answered in time; the service is busy")

    def _left_s(self, request: Request) -> float:
        """Return the time that is left for a request: the service's, or what the client wants to wait."""
        limit = self.settings.timeout_s
        wanted = request.headers.get("x-timeout-s", "")
        if wanted:
            try:
                limit = min(limit, float(wanted)) if float(wanted) > 0 else limit
            except ValueError:
                raise ProblemError(422, "wrong-value", "X-Timeout-S must be a number of seconds") from None
        return max(_LEAST_TIMEOUT_S, limit - milliseconds_since(request) / 1000)

    async def fetch(self, urls: Sequence[str]) -> list[Upload | CarspotterError]:
        """Fetch photos by URL through the guard, some at a time; what cannot be read is its error."""
        from carspotter.web import UrlPolicy, fetch_photo

        networks = tuple(map(ip_network, self.settings.allow_networks))
        policy = UrlPolicy(
            max_bytes=self.settings.max_bytes, timeout_s=self.settings.timeout_s, allow_hosts=self.settings.allow_hosts,
            allow_networks=networks, ports=None if networks else (80, 443),
        )  # fmt: skip
        gate = asyncio.Semaphore(_URLS_AT_ONCE)

        async def one(url: str) -> Upload | CarspotterError:
            async with gate:
                try:
                    return Upload(data=await fetch_photo(url, policy), name=url)
                except CarspotterError as error:
                    return error

        return await asyncio.gather(*map(one, urls))


def body_of(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as the API tells it: with the reason why no vehicle is answered."""
    return prediction.to_dict() | {"undecided": why_no_vehicle(prediction)}


def trimmed(content: Any, top: int) -> Any:
    """Return an answer with at most `top` candidates at each of its `levels`, however deep they stand."""
    if isinstance(content, list):
        return [trimmed(entry, top) for entry in content]
    if not isinstance(content, dict):
        return content
    return {
        key: {level: ranked[:top] for level, ranked in value.items()} if key == "levels" else trimmed(value, top)
        for key, value in content.items()
    }


def milliseconds_since(request: Request) -> float:
    """Return how long a request has taken so far."""
    started: float = request.state.started
    return round((time.perf_counter() - started) * 1000, 2)


async def _leaves(request: Request) -> None:
    """Return when the client closes its connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _timed(waited: Waited, name: str) -> Prediction:
    prediction, seconds = waited
    return replace(prediction, photo=name, milliseconds={**prediction.milliseconds, "queue": seconds * 1000})
