"""Show how far long work is on stderr: a bar where a person watches, else a line in the log now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from carspotter.progress import duration

T = TypeVar("T")
PATIENCE_S = 2.0  # a shorter wait needs no bar
_FORETELL_AFTER_S = 5.0  # the first rows pay for starting processes and loading networks
_SAY_EVERY_S = 30.0  # where no person watches, a log wants a sign of life, not a bar


class LogLines:
    """Say how far work is, and what time is left, in lines of a log: first after some seconds, then now and then."""

    def __init__(self, name: str) -> None:
        self._name, self._began = name, time.monotonic()
        self._next_s = _FORETELL_AFTER_S

    def advance(self, done: int, total: int) -> None:
        """Write a line to stderr where one is due."""
        passed = time.monotonic() - self._began
        if passed < self._next_s or not done:
            return
        self._next_s = passed + _SAY_EVERY_S
        left = f", about {duration(passed * (total - done) / done)} left" if total > done else ""
        sys.stderr.write(f"{self._name:<12}{done} of {total}, {done / passed:.1f} a second{left}\n")


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
