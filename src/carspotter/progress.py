"""Who shows long work to a person, and times in words. It draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Watch(Protocol):
    """Whoever shows a build or a training to a person."""

    def start(self, step: str, about: str) -> None:
        """Be called when a step begins."""

    def advance(self, done: int, total: int) -> None:
        """Be called with how far the step is: rows of a build, steps of a training."""

    def say(self, line: str) -> None:
        """Be called with a line that is worth keeping."""

    def end(self, step: str, stats: Mapping[str, Any]) -> None:
        """Be called when the step is done, with what it had to say."""


class Quiet:
    """Show nothing."""

    def start(self, step: str, about: str) -> None:
        """Pass over it."""

    def advance(self, done: int, total: int) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Pass over it."""

    def end(self, step: str, stats: Mapping[str, Any]) -> None:
        """Pass over it."""


def duration(seconds: float) -> str:
    """Write a time as people say it: "8 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, one: str, many: str = "") -> str:
    """Write how many of a thing: "1 photo", "1,200 photos"; `many` by default has an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
