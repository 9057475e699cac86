"""What became of the photographs that lie on a disk, since they were read: changed, gone, or there at last.

In: what the table `files` remembers of each. Out: rows for those of which it is no longer true. A file is looked at,
never read: its time and size tell, as they tell `make` and `rsync`, and so does the time at which the disk last changed
anything of it, which no program can set back.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.tables import OK

Row = dict[str, Any]

CHANGED = "changed"
"""The status of a photo that is to be read again, because its file is another one than before, or there again."""

WATCHED = """SELECT p.photo_id, p.url, CASE WHEN f.path <> p.url THEN f.path END AS path, f.bytes, f.modified, f.status,
f.stage_version
FROM listing_photos p JOIN listings l USING (ad_id) JOIN files f USING (photo_id)
WHERE p.status = 'ok' AND l.status = 'ok' AND f.status IN ('ok', 'missing', 'too-large')
AND (f.status = 'ok' OR NOT contains(p.url, '://') OR p.url ILIKE 'file://%')"""
"""SQL: the photos that may have changed on a disk; those behind URLs only where they were fetched. `path` is null where
it is the URL: of a million photos every column weighs."""

# Looking at a file of a network's disk takes some 0.3 ms, most of which is waiting.
_AT_ONCE, _CHUNK = 16, 2048


def news(project: Path, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a new row of `files`, without its checksum, for each of `rows` (of `WATCHED`) that its file contradicts.

    A local photo of another time or size, or that came back as another, is `changed`; one that went is `missing`; one
    that came back as it was is `ok`. A photo that was fetched and is no longer there, or not whole, is `changed`.
    """
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [row for found in pool.map(_news, repeat(str(project)), chunks) for row in found]


def _news(project: str, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    found = (_fetched(project, row) if _is_remote(row["url"]) else _local(project, row) for row in rows)
    return [row for row in found if row is not None]


def _local(project: str, row: Mapping[str, Any]) -> Row | None:
    place = find(project, row["url"])
    is_copy = row["path"] is not None and row["path"] != (place and place[0])
    if place is None:
        if row["status"] != OK or (is_copy and _is_there(project, row["path"])):
            return None
        kept = {name: row[name] for name in ("bytes", "modified")}  # with its checksum: it need not be read again
        return {"photo_id": row["photo_id"], **kept, "status": "missing", "message": "the file is no longer there"}
    path, state = place
    if is_copy:  # repaired, or copied by `copy_local`
        is_same = row["modified"] in (None, state.st_mtime_ns) and _is_there(project, row["path"])
    else:
        is_same = (row["modified"], row["bytes"]) == (state.st_mtime_ns, state.st_size)
    # Another photo may come under the time and size of the one before, as `cp -p` leaves it.
    is_same = is_same and state.st_ctime_ns <= _seen_ns(row["stage_version"])
    if not is_same and not (row["status"] == "too-large" and row["modified"] == state.st_mtime_ns):
        return _changed(row, "its file has changed on the disk")
    if row["status"] == "missing":
        return {**{name: row[name] for name in ("photo_id", "bytes", "modified")}, "path": path, "status": OK}
    return None


@lru_cache(maxsize=64)  # a table has one version a build
def _seen_ns(version: str) -> float:
    """Return when the build of a version began, in ns since 1970, before it read any photo; infinity for others."""
    found = re.search(r"\d{8}T\d{6}\.\d{6}", version)
    if found is None:
        return float("inf")
    return int(datetime.strptime(f"{found[0]}+0000", "%Y%m%dT%H%M%S.%f%z").timestamp() * 1e6) * 1000


def _fetched(project: str, row: Mapping[str, Any]) -> Row | None:
    try:
        state = _state(project, row["path"])
    except (OSError, ValueError, TypeError):
        return _changed(row, "its file is no longer there")
    return None if row["bytes"] in (None, state.st_size) else _changed(row, "its file is not the one that was fetched")


def _changed(row: Mapping[str, Any], message: str) -> Row:
    return {"photo_id": row["photo_id"], "status": CHANGED, "message": message}


def _is_remote(url: str) -> bool:
    return "://" in url and storage.is_url(url) and url[:7].casefold() != "file://"


def _is_there(project: str, path: str) -> bool:
    try:
        return bool(_state(project, path))
    except (OSError, ValueError):
        return False


def _state(project: str, path: str) -> os.stat_result:
    return os.stat(os.path.join(project, path))  # noqa: PTH116, PTH118  # a Path takes longer than the look


def find(project: str, url: str) -> tuple[str, os.stat_result] | None:
    """Return the path of a local photo as it is on the disk, relative where the URL is, and its state; None for none.

    Systems disagree on letters and separators: a name is also looked for with its accents composed and apart (macOS),
    and with `/` where it has a backslash (Windows).
    """
    try:
        path = str(storage.local_path(url)) if "://" in url else url
        return next(_found(project, path), None)
    except ValueError:  # a broken `file://`, or a null in a name
        return None


def _found(project: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
    for name in _spellings(path):
        try:
            yield name, _state(project, name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return  # reading it says why


def _spellings(path: str) -> Iterator[str]:
    yield path
    if path.isascii() and "\\" not in path:
        return
    slashed = path.replace("\\", "/")
    for text in (slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)):
        if text != path:
            yield text
