"""A crawl's folder: a journal with a line for each page that was read, and what the last crawl ended with.

A line is JSON and ends at a line feed alone: addresses and words may hold any other character that ends a line. Each
line is on the disk before anything else is asked, so that a kill loses the pages under way and nothing more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from carspotter import storage

JOURNAL = "pages.jsonl"
"""The file of a crawl's folder that has a line for each page that was read."""
STATE = "done.json"
"""The file that says what a crawl ended with; none while it is under way, or was killed."""

_PARTS: Mapping[str, type] = {"url": str, "asked": str, "offers": list, "listings": list, "pages": list}


class Journal:
    """Append the pages of a crawl, after a line that a kill has torn was cut off."""

    def __init__(self, place: Path) -> None:
        """Open the journal of a crawl's folder."""
        path = place / JOURNAL
        data = path.read_bytes() if path.exists() else b""
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)  # writing it anew would risk the whole lines on a full disk
        self._file = path.open("ab")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a page, safe from a power cut."""
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_pages(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the pages of a journal; a line that a kill or a power cut has damaged is left out, and its page asked."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in _PARTS.items()):
                yield record


def read_state(place: Path) -> dict[str, Any] | None:
    """Return what a crawl ended with, or None where it is not at an end."""
    try:
        content = json.loads((place / STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_state(place: Path, state: Mapping[str, Any]) -> None:
    """Write what a crawl ended with."""
    storage.write_json(place / STATE, state)


def set_aside(place: Path, pages: Sequence[Mapping[str, Any]]) -> None:
    """Make the next crawl start over; what its pages say so far is kept beside the new journal."""
    if pages:
        name = f"pages-{time.strftime('%Y%m%dT%H%M%S')}"
        taken = len(list(place.glob(f"{name}*.jsonl")))
        lines = b"".join(json.dumps(page).encode() + b"\n" for page in pages)
        storage.write(place / f"{name}-{taken:03}.jsonl", lines)
    for file in (STATE, JOURNAL):
        (place / file).unlink(missing_ok=True)


def former(place: Path) -> Path | None:
    """Return the journal that the present one took the place of."""
    return max(place.glob("pages-*.jsonl"), default=None)
