"""The `carspotter` command: its options, its commands, and how errors reach a person.

In: the arguments of the shell. Out: results on stdout, progress and errors on stderr, exit code 0, 1 (an error) or
2 (wrong usage). Commands import their stage when called, so that `--help` stays light.
"""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from carspotter import __version__
from carspotter.cli.browser import browser
from carspotter.cli.building_steps import STEP_COMMANDS, check, crawl, fetch, finder_rows, import_, split, step_command
from carspotter.cli.evaluate import compare, evaluate
from carspotter.cli.exchange import export_dataset, import_labels
from carspotter.cli.export import export
from carspotter.cli.identify import identify
from carspotter.cli.models import models
from carspotter.cli.project import build, demo, init, sql, status
from carspotter.cli.review import review
from carspotter.cli.serve import key, serve
from carspotter.cli.train import train
from carspotter.errors import CarspotterError, typed

INTERRUPTED = 130  # 128 + SIGINT, as shells count
# An argument without a value; `--split ""` alone may be so, and means all parts.
_EMPTY = re.compile(r"(--(?!split=)[a-z-]+=)?")


class _Commands(TyperGroup):
    """Turn what a command raises into one line and an exit code, in one place for all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: Typer carries a private copy of click's types
        """Take `--debug` out wherever it stands: people add it at the end of a line that has just failed."""
        # A shell writes nothing for a variable that is not set; as a path it would be the current folder.
        given = zip(["", *args], args, strict=False)
        if any(_EMPTY.fullmatch(argument) and before != "--split" for before, argument in given):
            ctx.fail("an argument is empty; is a variable of the shell not set?")
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["carspotter.debug"] = "--debug" in args[:end]
        return super().parse_args(ctx, [a for a in args[:end] if a != "--debug"] + args[end:])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is meant; a photo in its place is what people try first."""
        if self.get_command(ctx, args[0]) is None and Path(args[0]).exists():
            ctx.fail(f"No such command {args[0]!r}. Did you mean: carspotter identify {typed(args[0])}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a closed pipe ends it quietly, since the reader has what it wanted."""
        try:
            return super().invoke(ctx)
        except CarspotterError as error:
            if ctx.meta["carspotter.debug"]:
                traceback.print_exc()
            _tell(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("carspotter: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            _drop_output()
            raise typer.Exit(0) from error
        except OSError as error:  # a full disk, a folder that is gone or may not be written: the system's own words
            if ctx.meta["carspotter.debug"]:
                traceback.print_exc()
            _tell_of(error)
            raise typer.Exit(1) from error

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; a stream that the shell closed takes what is written and forgets it."""
        sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end
        sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # before any command began
            _tell_of(error)
            sys.exit(1)


def _tell(message: str) -> None:
    """Write an error as one line: a file's name may hold line breaks, and letters that steer a terminal."""
    text = "".join(" " if letter < " " or "\x7f" <= letter < "\xa0" else letter for letter in message)
    typer.echo(f"carspotter: {text}", err=True)


def _tell_of(error: OSError) -> None:
    """Return what the system refused and of which file, and let the program end without a second complaint."""
    where = f"{error.filename}: " if error.filename is not None else ""
    _tell(f"{where}{error.strerror or error}; check that the folder is there, has room and may be written")
    _drop_output()


def _drop_output() -> None:
    """Send what Python flushes at its end to the null device."""
    with suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=_Commands,
    name="carspotter",
    help="From used-car listings to a deployed recognizer: name make, model, generation and year of each vehicle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"carspotter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes that are no text, and a terminal may know no Unicode: neither may stop the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


app.command()(identify)
app.command()(serve)
app.command()(key)
app.command()(browser)
for _command in (init, build, status, sql, demo, crawl, fetch, check, split):
    app.command()(_command)
app.command("import")(import_)
for _name, _steps, _help in STEP_COMMANDS:
    app.command(_name)(step_command(_steps, _help))
app.command()(review)
app.command()(finder_rows)
app.command()(export_dataset)
app.command()(import_labels)
app.command()(models)
app.command()(train)
app.command()(evaluate)
app.command()(compare)
app.command()(export)

if __name__ == "__main__":
    app(prog_name="carspotter")
