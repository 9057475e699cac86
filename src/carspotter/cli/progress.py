"""Show a bar on stderr for a long loop, once it has taken two seconds and a person is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 2.0  # a shorter wait needs no bar


def watched(items: Iterator[T], total: int, *, is_streaming: bool = False) -> Iterator[T]:
    """Pass the items on; `is_streaming`: results go to stdout meanwhile, where a bar would cut through them."""
    if not sys.stderr.isatty() or (is_streaming and sys.stdout.isatty()):
        yield from items
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
