"""Arguments as hurried hands write them: no list of them ends in a traceback, whatever the command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from carspotter.cli.main import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # it is a group
# These would begin to serve, build or fetch with arguments that are right by chance: they get one that never is.
AT_WORK = {"serve", "demo", "browser", "review"}
WORDS = (
    "--project",
    "--json",
    "--from",
    "--out",
    "--until",
    "--on",
    "--workers",
    "--labels",
    "--set",
    "--person",
    "--file",
    "--queue",
    "--draw",
    "--top",
    "--select",
    "--finder",
    "--identifier",
    "--server",
    "--debug",
    "--",
    "-",
    "--help",
    "=",
    "nothing",
    "0",
    "-1",
    "1e9",
    "nan",
    "",
    " ",
    "a\nb",
    "[/a]",
    "é",
    "\udcff",
    "~nobody99/x",
    "x" * 5000,
    "no\x00thing",
    "http://127.0.0.1:9/x",
    "s3://",
    "file:///",
    "ftp://x/y",
    "train.lr=1",
    "=x",
    "x.toml",
    "x.csv",
    "showroom",
    "folder",
)


def check(words: list[str]) -> None:
    """Run a command; it may succeed, or fail with 1 or 2 and something to read."""
    done = CliRunner().invoke(app, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
    assert done.exit_code in (0, 1, 2), (words, done.stderr)
    if done.exit_code == 1:
        assert done.stderr.splitlines()[-1].startswith("carspotter: "), (words, done.stderr)
    assert "Traceback" not in done.stderr or "--debug" in words


arguments = st.tuples(
    st.sampled_from(COMMANDS), st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=5)
).map(lambda drawn: [drawn[0], *drawn[1], *(["--no-such-option"] if drawn[0] in AT_WORK else [])])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=arguments)
@example(words=["compare", "\udcff"])  # a name that is no UTF-8
def test_no_arguments_end_in_a_traceback(words: list[str]) -> None:
    check(words)


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("CARSPOTTER_FUZZ", "5000")),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(words=arguments)
def test_no_arguments_end_in_a_traceback_at_length(words: list[str]) -> None:
    check(words)
