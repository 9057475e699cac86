"""Show how far a training is in one line: the epoch, the loss, images a second and the time that is left."""

from __future__ import annotations

import sys
import time

_SHOWN_EVERY_S = 0.2


class Progress:
    """Show how far a training is; `steps` in all, `batch` photos each. It is silent where nobody watches."""

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch = steps, batch
        self._start: tuple[float, int] | None = None
        self._shown = 0.0

    def show(self, step: int, place: str, *, loss: float) -> None:
        """Draw the line for `step` steps done."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, step)  # the first step is slower than all others: it is not counted
        if not sys.stderr.isatty() or (now - self._shown < _SHOWN_EVERY_S and step < self.steps):
            return
        self._shown = now
        since, before = self._start
        a_second = (step - before) / max(now - since, 1e-9)
        left = f"{_clock((self.steps - step) / a_second)} left" if a_second else ""
        sys.stderr.write(f"\r{place} loss {loss:.3f} {a_second * self.batch:5.0f} img/s {left} \033[K")
        if step >= self.steps:
            sys.stderr.write("\n")
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
