"""Read JSON as sites write it: in comments, several in a row, with commas too many."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from carspotter.errors import MissingExtraError

MAX_FORGIVEN = 128 << 10  # characters of a page that the slow reader of JSON takes, some seconds


_BETWEEN = re.compile(r"[\s,;]*")
_SCRIPT = re.compile(r"</?script\b[^<>]*>|<!--|-->|(?://|/\*)?\s*(?:<!\[CDATA\[|\]\]>)\s*(?:\*/)?", re.IGNORECASE)


def loads(text: str, *, readers: Sequence[Callable[[str], Any]]) -> Any:
    """Return the data of a block of JSON-LD by the first reader that can read it, or None.

    Comments and CDATA around it, a byte order mark, a last semicolon, entities, line ends inside texts and several
    values in a row are forgiven by all; comments inside, trailing commas, single quotes and names without quotes by
    `forgiving`.
    """
    texts = [text.strip().strip("\ufeff").strip()]
    texts += [_trimmed(texts[0]), _trimmed(html.unescape(texts[0])), _trimmed(_SCRIPT.sub(" ", texts[0]))]
    for read in readers:
        for candidate in dict.fromkeys(filter(None, texts)):
            try:
                data = read(candidate)
            except (ValueError, RecursionError):
                continue
            if isinstance(data, str) and len(data) < len(text):
                return loads(data, readers=readers)  # JSON in a text of JSON
            if isinstance(data, list | dict):
                return data
    return None


def _trimmed(text: str) -> str:
    """Return what stands between the first and the last bracket."""
    starts = [place for mark in "{[" if (place := text.find(mark)) >= 0]
    return text[min(starts) : max(text.rfind("}"), text.rfind("]")) + 1] if starts else ""


def strict(text: str) -> Any:
    """Read one value, line ends inside its texts forgiven."""
    return json.loads(text, strict=False)


def in_a_row(text: str) -> Any:
    """Read several values in a row, with commas or semicolons between them, as a list."""
    decoder, place, found = json.JSONDecoder(strict=False), 0, []
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        match = _BETWEEN.match(text, place)
        place = match.end() if match else place
    return found


def forgiving(text: str) -> Any:
    """Read JSON5: comments, trailing commas, single quotes. It is slow."""
    try:
        import json5
    except ModuleNotFoundError as error:
        raise MissingExtraError("json5", "crawl") from error
    return json5.loads(text, strict=False)
