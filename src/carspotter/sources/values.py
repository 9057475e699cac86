"""Turn what programs write into the fields of a table into plain values: nothing, numbers, parts, lists of photos.

A list may be written as JSON, Python, NumPy, Postgres or a spreadsheet's cell has it.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from carspotter.headers import SUFFIXES
from carspotter.sources.listing import clean

# What pandas, R, databases and spreadsheets write where there is nothing.
_NOTHING = {
    "nan",
    "none",
    "null",
    "undefined",
    "\\n",
    "#n/a",
    "n/a",
    "<na>",
    "nat",
    "#null!",
    "#value!",
    "#ref!",
    "#div/0!",
    "#name?",
    "#num!",
    "#error!",
    "(null)",
    "[null]",
    "-",
    "--",
    "?",
}
_MAX_LITERAL = 100_000
_SCHEME = r"(?=[A-Za-z][A-Za-z0-9+.-]+://)"
_TOKEN = re.compile(r'"((?:[^"\\]|\\.|"")*)"|\'((?:[^\'\\]|\\.)*)\'|([^,\s][^,]*)', re.DOTALL)


def tidy(value: Any) -> Any:
    """Return a value, or None for a word for nothing and for bytes that are no text; bytes of zero are left out."""
    if not isinstance(value, str):
        return None if isinstance(value, bytes) else value
    text = value.replace("\0", "")
    return None if text.strip().casefold() in _NOTHING or text.strip() == "NA" else text


def number_text(text: str | None) -> str | None:
    """Return "4711" for "4711.0", as floats write whole numbers; in "1,000" the comma parts thousands."""
    return re.sub(r"^(?!\d{1,3}[.,]000$)(\d+)[.,]0+$", r"\1", text) if text else text


def is_rounded(text: str) -> bool:
    """Return whether a spreadsheet has rounded a long number, "1.23457E+11", so that several have become one."""
    return re.fullmatch(r"\d[.,]\d+[eE]\+\d+", text) is not None


def holds_bytes(value: Any) -> bool:
    """Return whether a value is, or lists, bytes that are no text, such as photos themselves."""
    if isinstance(value, Mapping):
        return _url_of(value) is None and any(isinstance(part, bytes) for part in value.values())
    return isinstance(value, bytes) or (isinstance(value, list) and any(map(holds_bytes, value)))


def photo_ids(value: Any, delimiter: str | None) -> tuple[list[str], int]:
    """Return the ids in a list or a text, and how many of its places are empty."""
    value = tidy(value)
    if isinstance(value, str):
        parts: list[Any] = value.split(delimiter) if delimiter else _parts(value.strip())
    elif isinstance(value, Sequence):
        parts = list(value)
    else:
        parts = [] if value is None else [value]
    names = [number_text(clean(tidy(_url_of(part)))) for part in parts]
    if names == [None]:
        return [], 0
    return [name for name in names if name], names.count(None)


def _parts(text: str) -> list[Any]:
    """Split a text as it seems to be written."""
    literal = _literal(text)
    if literal is not None:
        return literal
    if "://" in text:
        # A comma stands in URLs too: "https://a/b,c.jpg" is one, "a.jpg, https://…" are two.
        pieces = re.split(r"\s*[|;]\s*" + _SCHEME + r"|,?\s+" + _SCHEME + r"|[\r\n]+", text.rstrip("|; "))
        return [part for piece in pieces for part in _split_urls(piece)]
    marks = [mark for mark in ("\n", ",", "|", ";", "\t") if mark in text]
    for mark in marks:
        parts = text.split(mark)
        if all(part.strip().casefold().endswith(SUFFIXES) for part in parts if part.strip()):
            return parts
    if marks:
        return text.split(marks[0])
    words = text.split()
    return words if all(word.casefold().endswith(SUFFIXES) for word in words) else [text]


def _literal(text: str) -> list[Any] | None:
    """Return what a list in brackets holds, or None for any other text."""
    if len(text) < 2 or text[0] + text[-1] not in ("[]", "()", "{}") or len(text) > _MAX_LITERAL:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _python(text) if "{" in text[1:] or (text[0] == "{" and "':" in text) else None
    if isinstance(found, list | tuple | dict):
        return list(found) if not isinstance(found, dict) else [found]
    return [_unescaped(match) for match in _TOKEN.finditer(re.sub(r"(['\"])\s+(?=['\"])", r"\1,", text[1:-1]))]


def _python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None


def _unescaped(match: re.Match[str]) -> str | None:
    quoted = match[1] if match[1] is not None else match[2]
    if quoted is None:
        return str(match[3]).strip()
    return re.sub(r"\\([\\'\"/])", r"\1", quoted).replace('""', '"')


def _split_urls(text: str) -> list[str]:
    """Split at commas that a blank or another URL follows."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and "://" in parts[-1] and part.strip() and part == part.lstrip() and "://" not in part:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts


def _url_of(part: Any) -> Any:
    """Return the place in a photo that is an object, as sites' own data has them."""
    if isinstance(part, Mapping):
        return next((part[key] for key in ("url", "contentUrl", "src", "path", "id") if part.get(key)), None)
    return part
