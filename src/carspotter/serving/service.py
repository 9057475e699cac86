"""Answer a request's photos, or an ad: what the routes of `app` have in common.

It holds the recognizer, the queue and the limits of one service. HTTP's words stand in `app`, the queue in `batching`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import Request

from carspotter.errors import CarspotterError, ImageError, StorageError
from carspotter.headers import sniff
from carspotter.pixels import decode
from carspotter.recognition.ad import AdAnswer, answer_ad
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.locate import Selection
from carspotter.records import PhotoError, Prediction
from carspotter.runtime.blur import Blurrer, Find, without
from carspotter.serving.batching import FAULTY, Batcher, QueueFullError, StoppingError
from carspotter.serving.by_url import fetch_photos
from carspotter.serving.declared import DeclaredReader
from carspotter.serving.feedback import Feedback, FullError, encode
from carspotter.serving.keys import Rates, read_keys
from carspotter.serving.metrics import Metrics
from carspotter.serving.problems import DEADLINE, FAULT, QUEUE_FULL, ProblemError, problem_of_photo
from carspotter.serving.schemas import DeclaredWords
from carspotter.serving.settings import ServeSettings
from carspotter.serving.uploads import BodyReader, Upload

if TYPE_CHECKING:
    from carspotter.recognition.recognizer import Recognizer

_SWEEP_S = 30.0
_LEAST_TIMEOUT_S = 0.05

log = logging.getLogger("carspotter.serve")

Waited = tuple[Prediction, float]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoRequest:
    """A request as read: its photos in order (for one whose URL failed, the reason), and its other fields."""

    uploads: Sequence[Upload | CarspotterError]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blurred:
    """A photo without its plates and faces, as a JPEG, and what was hidden on it."""

    jpeg: bytes
    finds: tuple[Find, ...]


class Service:
    """What one service answers with; `start` before the first request, `stop` after the last."""

    def __init__(self, settings: ServeSettings, recognizer: Recognizer) -> None:
        """Take the limits and an open recognizer; raises StorageError for a file of keys that cannot be read."""
        self.settings = settings
        self.recognizer = recognizer
        self.keys = None if settings.keys is None else read_keys(settings.keys)
        self.rates = Rates(rate=settings.rate, burst=settings.burst_of)
        self.inbox = BodyReader(settings)
        self.blurrer = Blurrer.open(threads=1)
        self.feedback = self._feedback()
        self.metrics = Metrics(lambda: self.batcher.waiting if self.batcher else 0, lambda: self.inbox.held)
        self.batcher: Batcher | None = None
        self._blurring = 0
        self._declared = DeclaredReader(recognizer.identifier.taxonomy, recognizer.attributes.words)
        self._pool = ThreadPoolExecutor(settings.n_workers, thread_name_prefix="answer")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="feedback")

    def _feedback(self) -> Feedback | None:
        if self.settings.feedback is None:
            return None
        blur = self.blurrer.blur if self.settings.blur else None
        return Feedback(folder=self.settings.feedback, blur=blur, max_pixels=self.settings.max_pixels)

    @property
    def is_ready(self) -> bool:
        """Return whether photos are answered."""
        return self.batcher is not None and self.batcher.is_alive

    def start(self) -> None:
        """Answer a grey photo twice, so that no client pays for the first run, and start the workers."""
        grey = np.full((480, 640, 3), 127, np.uint8)
        self.recognizer.recognize(grey)
        began = time.perf_counter()
        self.recognizer.recognize(grey)
        self.batcher = Batcher(
            self.recognizer,
            workers=self.settings.n_workers,
            batch=self.settings.batch,
            capacity=self.settings.queue,
            wait_s=self.settings.wait_ms / 1000,
            on_batch=self.metrics.count_batch,
            first_guess_s=2 * (time.perf_counter() - began),  # a grey photo has no vehicle to identify
        )

    def stop(self) -> None:
        """Finish what was accepted."""
        batcher, self.batcher = self.batcher, None
        if batcher is not None:
            batcher.close()
        self._pool.shutdown()
        self._writer.shutdown()

    @asynccontextmanager
    async def receive(self, request: Request, *, is_ad: bool) -> AsyncGenerator[PhotoRequest, None]:
        """Read a request's body and fetch what it names by URL; the bytes are counted while the context lasts.

        Refuses before the body is read when the client's rate is reached; the gate did so for a full queue.
        """
        self._charge(request, 1, only_look=True)
        with self.inbox.holding() as hold:
            received = await self.inbox.receive(request, hold, is_ad=is_ad)
            self._charge(request, len(received.uploads) + len(received.urls))
            uploads: Sequence[Upload | CarspotterError] = received.uploads
            if received.urls:
                uploads = await self._race(request, fetch_photos(received.urls, hold, self.settings))
            yield PhotoRequest(uploads=uploads, fields=received.fields)

    async def receive_words(self, request: Request, limit: int) -> bytes:
        """Read a small body; it counts as a photo against the client's rate."""
        self._charge(request, 1)
        with self.inbox.holding() as hold:
            return await self.inbox.receive_words(request, hold, limit)

    def _charge(self, request: Request, photos: int, *, only_look: bool = False) -> None:
        """Take photos from the client's rate; raises ProblemError with the time to wait."""
        wait_s = self.rates.take(request.state.bucket, photos, request.state.rate, only_look=only_look)
        if wait_s:
            words = f"your rate is reached; {photos} more may come in {wait_s:.1f} s"
            raise ProblemError(429, "rate", words, retry_after_s=wait_s)

    async def recognize(self, request: Request, uploads: Sequence[Upload], how: Selection) -> list[Prediction]:
        """Recognise uploads in order; one that cannot be read is a prediction with an error.

        Raises ProblemError when the queue is full, the deadline passes, the client leaves or the service stops.
        """
        request.state.photos = len(uploads)
        refused = [self._refusal(upload) for upload in uploads]
        good = [upload.data for upload, error in zip(uploads, refused, strict=True) if error is None]
        found = iter(await self._queued(request, good, how) if good else [])
        predictions = []
        for upload, error in zip(uploads, refused, strict=True):
            prediction, waited_s = next(found) if error is None else (Prediction(photo="", error=error), None)
            self.metrics.count_photo(prediction, waited_s)
            predictions.append(_timed(prediction, waited_s or 0.0, upload.name or "photo"))
        return predictions

    async def blur(self, request: Request, upload: Upload) -> Blurred:
        """Hide the plates and faces of a photo; raises ProblemError, and ImageError for one that cannot be read."""
        error = self._refusal(upload)
        if error is not None:
            raise problem_of_photo(error.type, error.message)
        if self._blurring >= self.settings.queue:
            raise ProblemError(429, QUEUE_FULL, f"{self._blurring} photos wait to be blurred", retry_after_s=1)
        request.state.photos = 1
        self._blurring += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._pool, self._blurred, upload.data)
            return await self._race(request, work)
        finally:
            self._blurring -= 1

    def _blurred(self, data: bytes) -> Blurred:
        pixels = decode(data, max_pixels=self.settings.max_pixels).pixels
        finds = self.blurrer.find(pixels)
        return Blurred(jpeg=encode(without(pixels, finds)), finds=finds)

    async def answer_ad(
        self, request: Request, predictions: Sequence[Prediction], words: DeclaredWords | None
    ) -> AdAnswer:
        """Fuse an ad's predictions, and compare what was declared, in threads of the service's own."""
        work = partial(self._answer_ad, predictions, words)
        return await self._race(request, asyncio.get_running_loop().run_in_executor(self._pool, work))

    def _answer_ad(self, predictions: Sequence[Prediction], words: DeclaredWords | None) -> AdAnswer:
        declared = None if words is None else self._declared.read(words)
        asked = self.recognizer
        return answer_ad(predictions, asked.identifier, declared=declared, attributes=asked.attributes)

    def room(self, photos: int = 1) -> ProblemError | None:
        """Return why this many photos would be refused now, None where they would not."""
        try:
            if self.batcher is None:
                raise StoppingError
            self.batcher.check(photos)
        except QueueFullError as error:
            return ProblemError(429, QUEUE_FULL, str(error), retry_after_s=error.retry_after_s)
        except StoppingError:
            return _stopping()
        return None

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

    async def say(self, request_id: str, *, right: bool, said: str | None) -> None:
        """Keep a photo of the last minutes with what its sender says; one at a time, since a photo may be large."""
        assert self.feedback is not None
        say = partial(self.feedback.say, request_id, right=right, said=said)
        try:
            is_known = await asyncio.get_running_loop().run_in_executor(self._writer, say)
        except StorageError as error:
            log.error("feedback cannot be kept: %s", error)
            raise ProblemError(500, FAULT, "what you say cannot be kept now; the service's log says why") from None
        except FullError as error:
            log.error("feedback cannot be kept: %s", error)
            raise ProblemError(503, "feedback-full", "no more photos are kept", retry_after_s=3600) from None
        if not is_known:
            raise ProblemError(404, "not-found", "no photo of this request is held any more")

    @asynccontextmanager
    async def sweeping(self) -> AsyncGenerator[None, None]:
        """Drop held photos in time, for as long as the context lasts."""
        task = asyncio.ensure_future(self._sweep())
        try:
            yield
        finally:
            task.cancel()

    async def _sweep(self) -> None:
        while self.feedback is not None:
            await asyncio.sleep(_SWEEP_S)
            self.feedback.sweep()

    async def _queued(self, request: Request, photos: Sequence[bytes], how: Selection) -> list[Waited]:
        if self.batcher is None:
            raise _stopping()
        try:
            found = await self._race(request, self.batcher.submit(photos, [how] * len(photos)))
        except QueueFullError as error:
            raise ProblemError(429, QUEUE_FULL, str(error), retry_after_s=error.retry_after_s) from None
        except StoppingError:
            raise _stopping() from None
        if all(prediction.error == FAULTY for prediction, _ in found):  # not one photo's fault
            raise ProblemError(500, FAULT, FAULTY.message)
        return found

    async def _race(self, request: Request, work: Awaitable[Result]) -> Result:
        """Wait for work until the request's deadline, or until its client leaves; then the work is cancelled."""
        doing = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_leaves(request))
        try:
            await asyncio.wait({doing, gone}, timeout=self._left_s(request), return_when=asyncio.FIRST_COMPLETED)
            has_left = gone.done()
            if doing.done():
                return doing.result()
        finally:
            doing.cancel()
            gone.cancel()
            await asyncio.wait({doing, gone})  # what it holds is counted until it has let go
        if has_left:
            raise ProblemError(499, "gone", "the client left")
        raise ProblemError(504, DEADLINE, "the photo was not answered in time; the service is busy")

    def _left_s(self, request: Request) -> float:
        """Return the time that is left for a request: the service's, or what the client wants to wait."""
        limit = min(self.settings.timeout_s, request.state.timeout_s or self.settings.timeout_s)
        return max(_LEAST_TIMEOUT_S, limit - milliseconds_since(request) / 1000)


def body_of(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as the API answers it: with the reason why no vehicle is answered."""
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


def _timed(prediction: Prediction, waited_s: float, name: str) -> Prediction:
    return replace(prediction, photo=name, milliseconds={**prediction.milliseconds, "queue": waited_s * 1000})


def _stopping() -> ProblemError:
    return ProblemError(503, "stopping", "the service is starting or stopping", retry_after_s=1)
