"""Show a build on stderr: a line for each step, and a bar while one takes long. Commands print the results."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from carspotter.cli.progress import PATIENCE_S, LogLines
from carspotter.progress import duration

if TYPE_CHECKING:
    from rich.progress import Progress

    from carspotter.project.advice import Advice


class Display:
    """Show a build: a bar on a terminal, plain lines in a log. It is the `Watch` of a build."""

    def __init__(self, bar: Progress | None) -> None:
        """Draw on the given bar; without one write lines."""
        self._bar = bar
        self._task: Any = None
        self._began = 0.0
        self._about = ""
        self._log = LogLines("")

    def start(self, step: str, about: str) -> None:
        """Show that a step begins."""
        self._about, self._began = about, time.monotonic()
        self._log = LogLines(step)
        if self._bar is not None:
            self._task = self._bar.add_task(f"{step:<12}{about}", total=None)

    def advance(self, done: int, total: int) -> None:
        """Show how far the step is; a total of 0 is not known."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)
        else:
            self._log.advance(done, total)

    def end(self, step: str, stats: Mapping[str, Any]) -> None:
        """Show what the step had to say; the line stays."""
        if self._bar is not None:
            self._bar.remove_task(self._task)
        seconds = time.monotonic() - self._began
        took = f"  ({duration(seconds)})" if seconds > PATIENCE_S else ""
        line = f"{step:<12}{self._about}: {sentence(stats)}{took}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(line + "\n")
        for warning in stats.get("warnings", ()):
            self._warn(str(warning))

    def say(self, line: str) -> None:
        """Show a line that stays, while a step is under way."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _warn(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(f"warning: {text}", markup=False, highlight=False, style="bold yellow")
        else:
            sys.stderr.write(f"warning: {text}\n")


WARNED = 3
"""The exit code of a build that did what it could, and has something to say that nobody must miss."""


def print_json(content: Any) -> None:
    """Print JSON for programs on stdout."""
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2, default=str))


def finish(stats: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """End a command: print what its steps said for programs, and exit with `WARNED` where one had a warning."""
    if as_json:
        print_json({name: dict(words) for name, words in stats.items()})
    if any(words.get("warnings") for words in stats.values()):
        raise typer.Exit(WARNED)


def show_advice(advices: Sequence[Advice], *, err: bool = False) -> None:
    """Print what to do next, a line each, the most useful first."""
    for advice in advices:
        typer.echo(f"next: {advice.text}", err=err)


_APART = ("warnings", "examples")  # what a step says in lines of their own


def sentence(stats: Mapping[str, Any]) -> str:
    """Write what a step said as one line: "300 listings, 1508 photos; 12 broken-row"."""
    if "unchanged" in stats:
        return "unchanged"
    if "text" in stats:
        return str(stats["text"])
    stats = {name: value for name, value in stats.items() if name not in _APART}
    if set(stats) <= {"done", "ads"} and not any(_numbers(stats)):
        return "nothing to do"
    return "; ".join(_words(stats)) or "nothing to do"


def _numbers(stats: Mapping[str, Any]) -> Iterator[Any]:
    for value in stats.values():
        yield from value.values() if isinstance(value, Mapping) else (value,)


def _words(stats: Mapping[str, Any]) -> Iterator[str]:
    for name, value in stats.items():
        if isinstance(value, Mapping):
            if value:
                yield ", ".join(f"{number} {reason}" for reason, number in value.items())
        elif isinstance(value, list):  # sentences
            yield from value
        elif isinstance(value, float):
            yield f"{name.replace('_', ' ')} {value:.3f}"
        else:
            yield f"{value} {name.replace('_', ' ')}"


@contextmanager
def display() -> Iterator[Display]:
    """Give what shows a build, with a bar where a person watches stderr."""
    if not sys.stderr.isatty():
        yield Display(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        yield Display(bar)
