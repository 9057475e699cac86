"""The command line as tests call it: inside this process, or as the words that start it as a program."""

from __future__ import annotations

import sys
from typing import NamedTuple

from typer.testing import CliRunner

from carspotter.cli.main import app

COMMAND = (sys.executable, "-m", "carspotter.cli.main")
"""The words that start the command as a program."""


class Said(NamedTuple):
    """What a command said: its exit code, and both streams."""

    code: int
    out: str
    err: str


def call(*words: object, input: bytes | None = None, columns: int | None = None) -> Said:
    """Run the command in this process, on a terminal of so many columns; anything but an exit is an error."""
    runner = CliRunner(env={"COLUMNS": str(columns)} if columns else None)
    done = runner.invoke(app, [str(word) for word in words], input=input)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Said(done.exit_code, done.stdout, done.stderr)
