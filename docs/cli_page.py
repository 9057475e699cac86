"""Write `docs/cli.md` from the commands themselves: names, help, options and defaults as `--help` knows them.

In: the Typer application, read through the signatures of its commands. Out: one Markdown page. The page holds no box
drawing and no terminal width, so that it is the same on every machine and a test can compare it with the file.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from carspotter.cli.main import app

PAGE = Path(__file__).parent / "cli.md"

HEAD = """# Command line

The command `carspotter` is the library at a prompt: each command is one call, named with the same verb. Results go to
stdout, progress and errors to stderr. Exit code 0: done, also when single photos failed and were reported; 1: nothing
could be read, or an error, in one line; 2: wrong usage; 3: a build did what it could and has a warning. `--debug` adds
the traceback.

This page is written by `make docs` from the commands' own help; do not edit it by hand.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument or option of a command: its name in Python, its type without None, its default, its help."""

    name: str
    kind: Any
    default: Any
    info: ArgumentInfo | OptionInfo

    @property
    def is_option(self) -> bool:
        """Tell an option from an argument."""
        return isinstance(self.info, OptionInfo)

    @property
    def spellings(self) -> list[str]:
        """List how an option may be written, its negation included."""
        # Inside Annotated the first spelling stands where a default would; Typer moves it when the command is built.
        words = [self.info.default, *(self.info.param_decls or ())]
        written = [part for word in words if isinstance(word, str) and word[:1] == "-" for part in word.split("/")]
        plain = f"--{self.name.replace('_', '-')}"
        return written or ([plain, f"--no-{plain[2:]}"] if self.kind is bool else [plain])

    @property
    def value(self) -> str:
        """Name what the parameter takes: its metavar, its choices, or its type; nothing for a flag."""
        if self.info.metavar:
            return self.info.metavar
        if self.kind is bool:
            return ""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is list else self.kind
        if get_origin(kind) is Literal:
            return "|".join(map(str, get_args(kind)))
        word: str = kind.__name__
        return {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}.get(word, word.upper())

    @property
    def shown_default(self) -> str:
        """Write the default; a flag that is off and an option that may stay away have none."""
        if self.default is inspect.Parameter.empty:
            return "required"
        none = self.default in (None, False, (), []) or self.info.show_default is False
        return "" if none else f"`{self.spellings[0] if self.default is True else self.default}`"

    @property
    def usage(self) -> str:
        """Write an argument as it stands in the usage line."""
        word = self.info.metavar or self.name.upper()
        word = f"{word}..." if get_origin(self.kind) is list and not word.endswith("...") else word
        return word if self.default in (inspect.Parameter.empty, ...) else f"[{word}]"


def commands() -> dict[str, Callable[..., Any]]:
    """Give the function of each command by the words that call it, the program itself first."""
    program = app.registered_callback
    found = {"carspotter": program.callback} if program else {}
    for command in app.registered_commands:
        if not command.hidden and command.callback:
            name = command.name or command.callback.__name__.replace("_", "-")
            found[f"carspotter {name}"] = command.callback
    return {words: function for words, function in sorted(found.items()) if function}


def parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    """Yield what a command takes, hidden options left out."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *extras = get_args(hints[name])
        info = next(extra for extra in extras if isinstance(extra, ArgumentInfo | OptionInfo))
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not NoneType)
        if not info.hidden:
            yield Parameter(name=name, kind=kind, default=parameter.default, info=info)


def page() -> str:
    """Compose the page."""
    return HEAD + "".join(section(words, function) for words, function in commands().items())


def section(words: str, function: Callable[..., Any]) -> str:
    """Describe one command."""
    taken = list(parameters(function))
    arguments = [parameter for parameter in taken if not parameter.is_option]
    options = [parameter for parameter in taken if parameter.is_option]
    tail = ["[OPTIONS]"] if options else []
    tail += [argument.usage for argument in arguments] if words != "carspotter" else ["COMMAND", "[ARGS]..."]
    help_text = (function.__doc__ if words != "carspotter" else app.info.help) or ""
    lines = ["", f"## {words}", "", help_text_lines(help_text), "", "```", " ".join([words, *tail]), "```", ""]
    if arguments:
        rows = [f"| `{cell(a.usage)}` | {one_paragraph(a.info.help)} |" for a in arguments]
        lines += ["| argument | |", "|---|---|", *rows, ""]
    if options:
        lines += ["| option | default | |", "|---|---|---|", *map(option_row, options), ""]
    return "\n".join(lines)


def option_row(option: Parameter) -> str:
    """Write an option as a row of the table."""
    names = ", ".join(f"`{name}`" for name in option.spellings)
    value = f" `{option.value.replace('|', ' / ')}`" if option.value else ""  # Markdown ends a cell at |, code or not
    return f"| {names}{value} | {option.shown_default} | {one_paragraph(option.info.help)} |"


def help_text_lines(text: str) -> str:
    """Take the indentation off a docstring and keep its paragraphs."""
    return "\n\n".join(one_paragraph(part) for part in inspect.cleandoc(text).split("\n\n"))


def one_paragraph(text: str | None) -> str:
    """Join the wrapped lines of a help text and escape what would end a cell."""
    return cell(" ".join((text or "").split()))


def cell(text: str) -> str:
    """Escape what would end a cell of a Markdown table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
