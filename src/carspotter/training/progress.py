"""How far a training is: an epoch in words, and a clock against a budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping


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
