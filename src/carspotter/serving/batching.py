"""Recognise photos of many requests in batches: a bounded queue and a few threads.

Each worker thread takes what waits, at most a batch, and runs decoder and networks itself, each with one thread, so
that no core is fought over. A full queue refuses at once; a request that was given up is not worked on. It knows no
HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from carspotter.recognition.locate import Selection
from carspotter.records import PhotoError, Prediction
from carspotter.serving.problems import FAULT

log = logging.getLogger("carspotter.serve")

_SMOOTHING = 0.1
"""Weight of the newest batch in the running mean of a photo's time: some ten batches of memory."""


class Recognizes(Protocol):
    """What the queue asks of a recognizer."""

    def recognize_together(
        self, photos: Sequence[bytes], selects: Sequence[Selection] | None = None
    ) -> list[Prediction]:  # pragma: no cover
        """Recognise a few photos in the calling thread."""


class QueueFullError(Exception):
    """Raised when a request's photos do not fit into the queue now; `retry_after_s` is when they may."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class StoppingError(Exception):
    """Raised when the service is being stopped and takes nothing new."""


FAULTY = PhotoError(type=FAULT, message="the networks failed on this photo; the log says more")
"""The message for a photo on which an engine raises."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """One photo that waits, and where its prediction goes."""

    photo: bytes
    how: Selection
    future: asyncio.Future[tuple[Prediction, float]]
    loop: asyncio.AbstractEventLoop
    queued: float = field(default_factory=time.perf_counter)
    is_given_up: bool = False


class Batcher:
    """The queue and its workers; `submit` from an event loop, `close` when done."""

    def __init__(
        self,
        recognizer: Recognizes,
        *,
        workers: int,
        batch: int,
        capacity: int,
        wait_s: float = 0.0,
        on_batch: Callable[[int, float], None] | None = None,
        first_guess_s: float = 0.05,
    ) -> None:
        """Start `workers` threads; `capacity` photos may wait, `on_batch` hears of each batch's photos and seconds.

        `first_guess_s` is the time of a photo until some were seen, for the waiting time in a refusal.
        """
        self._recognizer = recognizer
        self._batch = batch
        self._capacity = capacity
        self._wait_s = wait_s
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._photo_s = first_guess_s
        self._threads = [
            threading.Thread(target=self._work, name=f"recognize-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Return how many photos wait now."""
        return len(self._jobs)

    def check(self, photos: int = 1) -> None:
        """Raise QueueFullError or StoppingError if this many photos would be refused now."""
        if self._is_stopping:
            raise StoppingError
        over = len(self._jobs) + photos - self._capacity
        if over > 0:
            raise QueueFullError(max(over, self._batch) * self._photo_s / len(self._threads))

    async def submit(self, photos: Sequence[bytes], hows: Sequence[Selection]) -> list[tuple[Prediction, float]]:
        """Recognise photos, all or none: return for each its prediction and the seconds that it waited.

        A cancelled caller's photos are not worked on; one on which the networks fail has the error `FAULTY`. Raises
        QueueFullError or StoppingError at once.
        """
        loop = asyncio.get_running_loop()
        jobs = [
            _Job(photo=photo, how=how, future=loop.create_future(), loop=loop)
            for photo, how in zip(photos, hows, strict=True)
        ]
        with self._changed:
            self.check(len(jobs))
            self._jobs.extend(jobs)
            self._changed.notify(len(jobs))
        try:
            return list(await asyncio.gather(*(job.future for job in jobs)))
        finally:
            self._give_up(jobs)

    def _give_up(self, jobs: Sequence[_Job]) -> None:
        """Drop the photos of a request that has ended, so that those not begun hold neither place nor memory."""
        with self._changed:
            for job in jobs:
                job.is_given_up = True
            if any(not job.future.done() or job.future.cancelled() for job in jobs):
                self._jobs = deque(job for job in self._jobs if not job.is_given_up)

    @property
    def is_alive(self) -> bool:
        """Return whether all workers live."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Take nothing new, finish what waits, and end the workers."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # ---- in the workers' threads

    def _work(self) -> None:
        while batch := self._take():
            started = time.perf_counter()
            _deliver(batch, self._answers(batch), started)
            self._count(len(batch), time.perf_counter() - started)

    def _answers(self, batch: Sequence[_Job]) -> list[Prediction]:
        """Recognise a batch; where that fails each photo by itself, so that one harms no other, maybe another's."""
        try:
            found = self._recognizer.recognize_together([job.photo for job in batch], [job.how for job in batch])
            if len(found) != len(batch):
                raise ValueError(f"{len(found)} predictions of {len(batch)} photos")
            return found
        except Exception as error:  # whatever an engine raises: a dead worker would hang the service
            if len(batch) > 1:
                return [prediction for job in batch for prediction in self._answers([job])]
            log.exception("failed", exc_info=error)
            return [Prediction(photo="", error=FAULTY)]

    def _take(self) -> list[_Job]:
        """Wait for photos and return a batch of them; nothing when the service stops and none wait."""
        with self._changed:
            while True:
                batch = self._pop(self._batch)
                if batch:
                    break
                if self._is_stopping:
                    return []
                self._changed.wait()
            if self._wait_s and len(batch) < self._batch and not self._is_stopping:
                self._changed.wait_for(lambda: len(batch) + len(self._jobs) >= self._batch, self._wait_s)
                batch += self._pop(self._batch - len(batch))
            return batch

    def _pop(self, most: int) -> list[_Job]:
        """Take jobs that somebody still waits for; leave some for idle workers, so that all cores have work."""
        share = -(-len(self._jobs) // len(self._threads))
        batch: list[_Job] = []
        while self._jobs and len(batch) < min(most, max(1, share)):
            job = self._jobs.popleft()
            if not job.is_given_up:
                batch.append(job)
        return batch

    def _count(self, photos: int, seconds: float) -> None:
        self._photo_s += _SMOOTHING * (seconds / photos - self._photo_s)
        if self._on_batch is not None:
            self._on_batch(photos, seconds)


def _deliver(batch: Sequence[_Job], predictions: Sequence[Prediction], started: float) -> None:
    # One call into each loop for the whole batch: waking a loop costs more than setting a result.
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Prediction]]] = {}
    for job, prediction in zip(batch, predictions, strict=True):
        by_loop.setdefault(job.loop, []).append((job, prediction))
    for loop, answers in by_loop.items():
        _call(loop, partial(_set_all, answers, started))


def _set_all(answers: Sequence[tuple[_Job, Prediction]], started: float) -> None:
    for job, prediction in answers:
        if not job.future.done():
            job.future.set_result((prediction, max(0.0, started - job.queued)))


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop was closed, so that nobody waits
        loop.call_soon_threadsafe(what)
