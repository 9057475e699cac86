"""How far a training is: who is told, in which words, and a clock against a budget of time. It draws nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Protocol


class Watch(Protocol):
    """Whoever shows a training to a person."""

    def advance(self, done: int, total: int) -> None:
        """Hear how many steps of all are done."""

    def say(self, line: str) -> None:
        """Hear what is worth a line that stays."""


class Silent:
    """Show nothing."""

    def advance(self, done: int, total: int) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Pass over it."""


def duration(seconds: float) -> str:
    """Write a time as people say it: "8 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def epoch_line(epoch: int, epochs: int, figures: Mapping[str, float], *, is_best: bool) -> str:
    """Write an epoch's figures as people read them: "epoch 3 of 12: loss 0.812, top1 0.713, 4.2 s (best so far)"."""
    shown = [
        f"{value:.1f} s" if name == "seconds" else f"{name} {value:.3f}"
        for name, value in figures.items()
        if name != "epoch" and not math.isnan(value)
    ]
    place = f"epoch {epoch} of {epochs}" if epoch else "before the first epoch"
    return f"{place}: {', '.join(shown)}{' (best so far)' if is_best else ''}"


class Clock:
    """Count the seconds that learning took, those before a restart included, against a budget."""

    def __init__(self, spent: float = 0.0) -> None:
        self._began = time.monotonic() - spent
        self._budget = math.inf

    def limit(self, seconds: float) -> None:
        """Set the budget."""
        self._budget = seconds

    def spent(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self._began

    def share(self) -> float:
        """Return the share of the budget that is spent, 0 without one, at most 1."""
        return 0.0 if math.isinf(self._budget) else min(1.0, self.spent() / max(self._budget, 1e-9))

    def is_over(self) -> bool:
        """Return whether the budget is spent."""
        return self.share() >= 1
