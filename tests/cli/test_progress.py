"""The bar: only for a person, only when it takes long, and never in the way of results."""

import io
import itertools
import sys
from collections.abc import Callable

import pytest

from carspotter.cli import progress
from carspotter.cli.building import sentence


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which each look is an hour later."""
    ticks = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks) * 3600.0)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[io.StringIO, io.StringIO]]:
    def set_streams(out: io.StringIO, err: io.StringIO) -> tuple[io.StringIO, io.StringIO]:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setenv("TERM", "xterm")
        return out, err

    return set_streams


def test_a_long_wait_has_a_bar_on_stderr(hours: None, streams: Callable[..., tuple[io.StringIO, io.StringIO]]) -> None:
    out, err = streams(Terminal(), Terminal())
    for item in progress.watched(iter("abc"), 3):
        sys.stdout.write(item)
    assert out.getvalue() == "abc"
    assert "3/3" in err.getvalue()


def test_a_total_that_nobody_knows_foretells_nothing(
    hours: None, streams: Callable[..., tuple[io.StringIO, io.StringIO]]
) -> None:
    _, err = streams(io.StringIO(), io.StringIO())
    log = progress.LogLines("import")
    for found in (0, 4, 7204):
        log.advance(found, 0)
    assert err.getvalue().splitlines() == ["import      4 so far", "import      7204 so far, 2.0 a second"]


def test_a_short_wait_has_none(streams: Callable[..., tuple[io.StringIO, io.StringIO]]) -> None:
    out, err = streams(Terminal(), Terminal())
    assert list(progress.watched(iter("abc"), 3)) == ["a", "b", "c"]
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_a_log_gets_lines_with_the_time_that_is_left(
    hours: None, streams: Callable[..., tuple[io.StringIO, io.StringIO]]
) -> None:
    out, err = streams(io.StringIO(), io.StringIO())
    assert list(progress.watched(iter("abc"), 3)) == ["a", "b", "c"]
    first, second, last = err.getvalue().splitlines()
    assert first == "photos      1 of 3"  # the first one has paid for the start, so that no pace is known
    assert second == "photos      2 of 3, about 60 min left"
    assert "3 of 3" in last
    assert "left" not in last
    assert out.getvalue() == ""


def test_a_short_wait_writes_no_line_in_a_log(streams: Callable[..., tuple[io.StringIO, io.StringIO]]) -> None:
    _, err = streams(io.StringIO(), io.StringIO())
    assert list(progress.watched(iter("abc"), 3)) == ["a", "b", "c"]
    assert err.getvalue() == ""


def test_lines_on_the_same_terminal_are_not_cut_by_a_bar(
    hours: None, streams: Callable[..., tuple[io.StringIO, io.StringIO]]
) -> None:
    _, err = streams(Terminal(), Terminal())
    assert list(progress.watched(iter("abc"), 3, is_streaming=True)) == ["a", "b", "c"]
    assert err.getvalue() == ""


def test_what_a_step_hints_at_stands_in_its_line_as_a_sentence() -> None:
    hint = "Audi A4 and Audi S4 are taken for each other in 40% (10 photos): merge?"
    assert (
        sentence({"classes": 9, "left out or merged": {"merged": 2}, "hints": [hint]}) == f"9 classes; 2 merged; {hint}"
    )
