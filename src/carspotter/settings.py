"""Turn plain values, as TOML or JSON hold them, into a frozen dataclass: the one validator.

A component owns its settings, and a file's format its keys: a dataclass beside it. This reads any of them, so that a
misspelt key is an error that names the nearest known one, whatever file it stands in. It reads TOML text, but no file,
and knows no component.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from carspotter.errors import CarspotterError, suggestion

Section = TypeVar("Section")


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_LINE = re.compile(r"at line (\d+)")


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML as editors save it, a byte order mark or not; raises ValueError that says what to do about it."""
    text = text.removeprefix("\ufeff")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines, found = text.split("\n"), _LINE.search(str(error))
        number = int(found[1]) if found else len(lines)
        line = lines[number - 1] if number <= len(lines) else ""
        if '"' in line and "\\" in line:
            raise ValueError(
                f"{error}: a backslash in double quotes has a meaning of its own; "
                f"write the path of line {number} in single quotes, or with forward slashes"
            ) from error
        raise
    except RecursionError as error:
        raise ValueError("its lists or tables are nested too deep") from error


class _WrongValueError(Exception):
    """Carry a message up to `read_section`, which knows the error to raise."""


def read_section(
    section: type[Section], content: Mapping[str, Any], *, where: str, error: type[CarspotterError]
) -> Section:
    """Build a settings dataclass from plain values; the type of each value is checked against the field's.

    `where` begins each message. Raises `error` for an unknown key, a missing one, and a value of the wrong type or
    one that the dataclass itself refuses by ValueError.
    """
    try:
        return _section(section, content, where)
    except _WrongValueError as wrong:
        raise error(str(wrong)) from wrong


def _section(section: type[Section], content: Mapping[str, Any], where: str) -> Section:
    if not isinstance(content, Mapping):
        raise _WrongValueError(f"{where}: expected keys and values, got {content!r}")
    hints = _hints(section)  # type: ignore[arg-type]  # a class is hashable
    items = fields(section)  # type: ignore[arg-type]  # only dataclasses come here
    names = [item.name for item in items]
    for key in content:
        if key not in names:
            raise _WrongValueError(f"{where}: unknown key {key!r}; {suggestion(key, names)}")
    missing = [item.name for item in items if _is_required(item) and item.name not in content]
    if missing:
        raise _WrongValueError(f"{where}: {', '.join(missing)} must be given")
    values = {key: _value(value, hints[key], f"{where}: {key}") for key, value in content.items()}
    try:
        return section(**values)
    except ValueError as error:
        raise _WrongValueError(f"{where}: {error}") from error


@lru_cache(maxsize=256)
def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section)


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _value(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _section(hint, value, where)
    origin = get_origin(hint)
    if origin in (UnionType, Union):  # X | None: TOML has no null, JSON has; a number, or one of some words
        if type(value) in get_args(hint):  # most values: a taxonomy of a thousand classes has four thousand
            return value
        inner = [part for part in get_args(hint) if part is not NoneType]
        words = [part for part in inner if get_origin(part) is Literal and isinstance(value, str)]
        return None if value is None and len(inner) < len(get_args(hint)) else _value(value, [*words, *inner][0], where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _WrongValueError(f"{where}: expected a list, got {value!r}")
        return tuple(_value(entry, get_args(hint)[0], f"{where}[{index}]") for index, entry in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _WrongValueError(f"{where}: expected a table, got {value!r}")
        return {str(key): _value(entry, get_args(hint)[1], f"{where}: {key}") for key, entry in value.items()}
    return _plain(value, hint, where)


def _plain(value: Any, hint: Any, where: str) -> Any:
    if hint is Any:
        return value
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise _WrongValueError(
                f"{where}: {value!r} is not possible; {suggestion(str(value), map(str, get_args(hint)))}"
            )
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _WrongValueError(f"{where}: the number has {len(str(value))} digits, which is too large") from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _WrongValueError(f"{where}: expected {_WORDS.get(hint, hint)}, got {value!r}")
    return value
