"""The queue by itself: who is served, who is refused, and what a stop leaves."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from carspotter.records import Prediction
from carspotter.serving.batching import FAULTY, Batcher, QueueFullError, StoppingError
from waiting import NEVER_S, until


async def _until(is_so: Callable[[], object]) -> None:
    await asyncio.to_thread(until, is_so)


def _is_stopping(queue: Batcher) -> bool:
    try:
        queue.check()
    except StoppingError:
        return True
    return False


class Echo:
    """Answer each photo with its own bytes as its name, after a wait; remember the batches."""

    def __init__(self, wait: Callable[[], object] = bool) -> None:
        self.wait = wait
        self.batches: list[list[bytes]] = []
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()

    def recognize_together(self, photos: Sequence[bytes], selects: Any = None) -> list[Prediction]:
        with self._lock:
            self.batches.append(list(photos))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        self.wait()
        with self._lock:
            self.busy -= 1
        if b"bad" in photos:
            raise KeyError("engine")
        return [Prediction(photo=f"{photo.decode()} {how}") for photo, how in zip(photos, selects, strict=True)]


def batcher(echo: Echo, **more: Any) -> Batcher:
    return Batcher(echo, **{"workers": 1, "batch": 4, "capacity": 100, **more})


def test_each_gets_its_own_answer_and_batches_are_bounded() -> None:
    echo, heard = Echo(), []
    queue = batcher(echo, workers=2, batch=3, on_batch=lambda photos, seconds: heard.append(photos))

    async def one(number: int) -> str:
        how = "all" if number % 2 else "largest"
        ((prediction, waited),) = await queue.submit([str(number).encode()], [how])  # type: ignore[list-item]
        assert waited >= 0
        return prediction.photo

    async def run() -> list[str]:
        return list(await asyncio.gather(*map(one, range(60))))

    assert asyncio.run(run()) == [f"{n} {'all' if n % 2 else 'largest'}" for n in range(60)]
    queue.close()
    assert max(map(len, echo.batches)) <= 3
    assert sum(heard) == sum(map(len, echo.batches)) == 60
    assert echo.most_busy <= 2


def test_an_ad_is_shared_among_idle_workers() -> None:
    echo = Echo(lambda: until(lambda: echo.most_busy == 2))  # nobody goes on before both are at work
    queue = batcher(echo, workers=2, batch=8)
    asyncio.run(queue.submit([b"a", b"b", b"c", b"d"], ["all"] * 4))
    queue.close()
    assert echo.most_busy == 2


def test_all_or_none_of_an_ad_is_taken() -> None:
    queue = batcher(Echo(), capacity=3)

    async def run() -> None:
        with pytest.raises(QueueFullError) as caught:
            await queue.submit([b"a"] * 4, ["all"] * 4)
        assert caught.value.retry_after_s > 0
        assert queue.waiting == 0
        assert len(await queue.submit([b"a"] * 3, ["all"] * 3)) == 3

    asyncio.run(run())
    queue.close()


def test_waiting_fills_a_batch() -> None:
    echo = Echo()
    queue = batcher(echo, batch=2, wait_s=5.0)

    async def run() -> None:
        first = asyncio.ensure_future(queue.submit([b"a"], ["all"]))
        await _until(lambda: queue.waiting <= 1)
        await asyncio.gather(first, queue.submit([b"b"], ["all"]))

    asyncio.run(run())
    queue.close()
    assert echo.batches == [[b"a", b"b"]]


def test_waiting_ends_by_itself() -> None:
    echo = Echo()
    queue = batcher(echo, batch=2, wait_s=0.02)
    asyncio.run(queue.submit([b"a"], ["all"]))
    queue.close()
    assert echo.batches == [[b"a"]]


def test_what_was_given_up_is_not_worked_on() -> None:
    gate = threading.Event()
    echo = Echo(functools.partial(gate.wait, NEVER_S))
    queue = batcher(echo, batch=1)

    async def run() -> None:
        first = asyncio.ensure_future(queue.submit([b"a"], ["all"]))
        second = asyncio.ensure_future(queue.submit([b"b"], ["all"]))
        await _until(lambda: echo.batches)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        await first
        await queue.submit([b"c"], ["all"])

    asyncio.run(run())
    queue.close()
    assert echo.batches == [[b"a"], [b"c"]]


def test_a_photo_that_fails_harms_no_other_and_kills_no_worker() -> None:
    echo = Echo()
    queue = batcher(echo, workers=1, batch=4, wait_s=5.0)

    async def run() -> tuple[Any, Any]:
        others = asyncio.ensure_future(queue.submit([b"c"], ["all"]))
        return await queue.submit([b"a", b"bad", b"b"], ["all"] * 3), await others

    mine, others = asyncio.run(run())
    assert [prediction.error for prediction, _ in mine] == [None, FAULTY, None]
    assert others[0][0].photo == "c all"
    assert asyncio.run(queue.submit([b"x", b"y", b"z", b"w"], ["all"] * 4))[0][0].photo == "x all"
    queue.close()
    assert sorted(map(len, echo.batches)) == [1, 1, 1, 1, 4, 4]


def test_closing_finishes_what_waits_and_takes_nothing_new() -> None:
    gate = threading.Event()
    echo = Echo(functools.partial(gate.wait, NEVER_S))
    queue = batcher(echo, batch=1)

    async def run() -> list[Any]:
        waiting = [asyncio.ensure_future(queue.submit([str(n).encode()], ["all"])) for n in range(4)]
        await _until(lambda: echo.batches and queue.waiting == 3)
        closing = asyncio.ensure_future(asyncio.to_thread(queue.close))
        await _until(lambda: _is_stopping(queue))
        with pytest.raises(StoppingError):
            await queue.submit([b"late"], ["all"])
        gate.set()
        await closing
        return [await one for one in waiting]

    assert len(asyncio.run(run())) == 4
    assert sum(map(len, echo.batches)) == 4
