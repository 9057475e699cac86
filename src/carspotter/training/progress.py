"""How far a training is: an epoch in words, and a clock against a budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


def epoch_line(epoch: int, epochs: int, figures: Mapping[str, float], *, is_best: bool) -> str:
    """Write an epoch's figures as people read them: "epoch 3 of 12: loss 0.812, top1 0.713, 4.2 s (best so far)"."""
    shown = [
        f"{value:.1f} s" if name == "seconds" else f"{name} {value:.3f}"
        for name, value in figures.items()
        if name != "epoch" and not math.isnan(value)
    ]
    place = f"epoch {epoch} of {epochs}" if epoch else "before the first epoch"
    return f"{place}: {', '.join(shown)}{' (best so far)' if is_best else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """Seconds as they were timed before a training: of a step of its last phase, of a judging, of all that follows."""

    step: float = 0.0
    judge: float = 0.0
    after: float = 0.0


class Clock:
    """Count the seconds that learning took, those before a restart included, against a budget.

    Of the budget a last judging and what follows the learning are kept back: as long as was foretold, and longer by as
    much as the work so far has taken longer than was foretold of it, since other work on the machine slows both alike.
    """

    def __init__(self, spent: float = 0.0, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._mark = now()
        self._began = self._mark - spent
        self._budget = math.inf
        self.foretold = Foretold()
        self._took = self._expected = 0.0

    def limit(self, seconds: float, foretold: Foretold | None = None) -> None:
        """Set the budget of learning and all that follows, and what was foretold."""
        self._budget, self._mark = seconds, self._now()
        self.foretold = foretold or self.foretold

    def did(self, expected: float) -> None:
        """Note that the work since the last call was foretold to take `expected` seconds."""
        now = self._now()
        # What is longer ago counts less, half as much with each doubling of the work: a machine gets busy and idle.
        if self._expected > _WINDOW_S:
            self._took, self._expected = self._took / 2, self._expected / 2
        self._took, self._expected, self._mark = self._took + now - self._mark, self._expected + expected, now

    def slower(self) -> float:
        """Return how many times longer than foretold work takes now, at least 1."""
        # Of less than a second of work the first step, which pays for memory and kernels, would be most.
        return max(1.0, self._took / self._expected) if self._expected >= _LEAST_S else 1.0

    def spent(self) -> float:
        """Return the seconds so far."""
        return self._now() - self._began

    def share(self) -> float:
        """Return the share of the learning's budget that is spent, 0 without one, at most 1."""
        if math.isinf(self._budget):
            return 0.0
        kept_back = (self.foretold.judge + self.foretold.after) * self.slower()
        return min(1.0, self.spent() / max(self._budget - kept_back, 1e-9))

    def is_over(self) -> bool:
        """Return whether the budget is spent."""
        return self.share() >= 1


_WINDOW_S, _LEAST_S = 60.0, 1.0
"""Seconds of foretold work by which it is told how much slower the machine has become, at most and at least."""
