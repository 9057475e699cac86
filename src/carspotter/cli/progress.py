"""Show how far long work is on stderr: a bar where a person watches, else a line in the log now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from carspotter.progress import duration

T = TypeVar("T")
PATIENCE_S = 2.0  # a shorter wait needs no bar
_FORETELL_AFTER_S = 5.0  # the first rows pay for starting processes and loading networks: no pace is counted on them
_LEAST_PACE = 0.05  # of what is slower one digit says nothing
_SAY_EVERY_S = 30.0  # where no person watches, a log wants a sign of life, not a bar


class LogLines:
    """Say how far work is, and what time is left, in lines of a log: first after some seconds, then now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next_s = time.monotonic() + _FORETELL_AFTER_S
        self._first: tuple[int, float] | None = None  # what was done when, from which on the pace is counted

    def advance(self, done: int, total: int) -> None:
        """Write a line to stderr where one is due; a total of 0 is not known."""
        if not done:
            return
        now = time.monotonic()
        before, began = self._first = self._first or (done, now)
        if now < self._next_s:
            return
        self._next_s = now + _SAY_EVERY_S
        pace = (done - before) / (now - began) if done > before and now > began else 0.0
        left = f", about {duration((total - done) / pace)} left" if pace and total > done else ""
        known = f"{done} of {total}" if total else f"{done} so far"
        rate = f", {pace:.1f} a second" if pace >= _LEAST_PACE else ""
        sys.stderr.write(f"{self._name:<12}{known}{rate}{left}\n")


def watched(items: Iterator[T], total: int, *, is_streaming: bool = False) -> Iterator[T]:
    """Pass the items on; `is_streaming`: results go to stdout meanwhile, where a bar would cut through them."""
    if is_streaming and sys.stdout.isatty():
        yield from items
        return
    if not sys.stderr.isatty():
        log = LogLines("photos")
        for done, item in enumerate(items, 1):
            log.advance(done, total)
            yield item
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Rich would else take over stdout and move our results to stderr.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task("photos", total=total)
    start = time.monotonic()
    try:
        for item in items:
            if not bar.live.is_started and time.monotonic() - start > PATIENCE_S:
                bar.start()
            bar.advance(task)
            yield item
    finally:
        if bar.live.is_started:
            bar.stop()
