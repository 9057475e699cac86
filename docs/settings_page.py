"""Write `docs/settings.md` from the dataclasses that read the settings: keys, types, defaults and what each means.

In: the sections of a project's carspotter.toml and of a recipe, and the docstring below each field. Out: one Markdown
page. A field without a docstring is an error, so that no setting stays unexplained.
"""

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from carspotter.project.settings import SOURCES, ProjectSettings
from carspotter.training.recipe import Phase, Recipe

PAGE = Path(__file__).parent / "settings.md"

HEAD = """# Settings

What stands in `carspotter.toml`, the file of a project, and in a recipe, the file of a training. A key that is not
known is an error that names the
nearest known one. What is left out has its default. Options of commands stand on [their own page](cli.md).

This page is written by `make docs` from the code that reads the settings; do not edit it by hand.

## What a changed setting costs

`carspotter build` does again just what depends on it.

| changed | done again |
|---|---|
| thresholds of `[check]`, `gate` | nothing is decoded: stored scores are judged anew, and what follows from them |
| `finder`, `identifier` or `precision` of `[locate]` | each photo is looked at again |
| `[duplicates]`, `[classes]`, `[split]`, `[learn]`, `[shards]` | that step, and those after it whose input changes |
| `labels/words.csv`, `labels/classes.csv`, decisions | labels, classes, and what follows |

## A project: carspotter.toml

Paths count from the project's folder. Credentials never stand here; [they come from the
environment](sources.md#where-photos-may-be).

| key | type | default | |
|---|---|---|---|
| `name` | text | `""` | Name of the project, for its report. |
"""

RECIPE_HEAD = """
## A recipe

Paths count from the current folder, whether the file or `--set` gives them. [Train my
own](training.md#train-a-network) says what to choose.

| key | type | default | |
|---|---|---|---|
"""

NOT_WRITTEN = ("phases", "folder")
"""Fields of a recipe that have tables of their own, or that the program sets."""

_WORDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "NoneType": "nothing"}


def page() -> str:
    """Compose the page."""
    parts = [HEAD]
    parts += [
        section(f"Sources: {kind}", each, f'`[[sources]]` with `kind = "{kind}"`') for kind, each in SOURCES.items()
    ]
    parts += [section(f"`[{name}]`", each) for name, each in tables(ProjectSettings).items()]
    hints = get_type_hints(Recipe)
    plain = [each for each in fields(Recipe) if not is_dataclass(hints[each.name]) and each.name not in NOT_WRITTEN]
    parts.append(RECIPE_HEAD + "".join(rows(Recipe, plain)))
    parts += [section(f"Recipe: {name}", each, f"`[{name}]`") for name, each in tables(Recipe).items()]
    return "".join([*parts, section("Recipe: phases", Phase, "`[[phases]]`")])


def tables(settings: type) -> dict[str, Any]:
    """Give the dataclasses that are tables of a file, by their names."""
    return {name: kind for name, kind in get_type_hints(settings).items() if is_dataclass(kind)}


def section(title: str, settings: Any, written: str = "") -> str:
    """Describe one table of a file, with how it is written where the title does not say it."""
    words = ". ".join(part for part in (written, summary(settings)) if part)
    head = f"\n### {title}\n\n{words}\n\n| key | type | default | |\n|---|---|---|---|\n"
    return head + "".join(rows(settings, fields(settings)))


def summary(settings: type) -> str:
    """Give the first paragraph of a class's docstring without what it raises."""
    text = one_line(inspect.cleandoc(settings.__doc__ or "").split("\n\n")[0])
    return re.sub(r"; raises .*?\.$", ".", text)


def rows(settings: type, shown: Any) -> Iterator[str]:
    """Yield a row of the table for each field."""
    hints, meanings = get_type_hints(settings), field_docstrings(settings)
    for each in shown:
        if each.name not in meanings:
            raise ValueError(f"{settings.__name__}.{each.name} has no docstring below it; write what it means")
        meaning = one_line(meanings[each.name])
        yield f"| `{each.name}` | {cell(type_words(hints[each.name]))} | {default_words(each)} | {meaning} |\n"


def field_docstrings(settings: type) -> dict[str, str]:
    """Read the text below each field of a class out of its source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    found = {}
    body = getattr(tree, "body", [])
    for field_node, text in itertools.pairwise(body):
        if (
            isinstance(field_node, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[ast.unparse(field_node.target)] = str(text.value.value)
    return found


def type_words(kind: Any) -> str:
    """Name a type in words: its choices, or what TOML calls it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in inner)
    if origin in (Union, UnionType):
        return " or ".join(type_words(part) for part in inner if part is not NoneType)
    if origin is tuple:
        return f"list of {type_words(inner[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"table of {type_words(inner[1])}"
    return _WORDS.get(kind.__name__, str(kind.__name__))


def default_words(each: "Field[Any]") -> str:
    """Write a default as TOML does."""
    value = each.default_factory() if each.default_factory is not MISSING else each.default
    if value is MISSING:
        return "required"
    if value is None or value == {}:
        return "–"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def one_line(text: str) -> str:
    """Join the lines of a text and escape what would end a cell."""
    return cell(" ".join(text.split()))


def cell(text: str) -> str:
    """Escape what would end a cell of a Markdown table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
