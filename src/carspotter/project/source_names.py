"""By which name each source of a project is known, and what its ads' ids begin with: settings in, `sources.json` out.

An ad is known by its source and its id. The ids of a project's first source stand as they are, those of every other
begin with the source's name, so that two sources may use the same ids. What a source was called is remembered: neither
another order of the sources nor a table that got another file name makes its ads other ads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from carspotter import storage
from carspotter.project.settings import SourceSettings
from carspotter.sources.listing import clean

FILE = "sources.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSource:
    """A source: its `kind` and `place` as the settings say them, its `name`, and the `prefix` of its ads' ids."""

    kind: str
    place: str
    name: str
    prefix: str


def known_sources(folder: Path, settings: Sequence[SourceSettings]) -> list[KnownSource]:
    """Return what each source of the settings is known as, in their order; new ones get a name of their own."""
    before = _read(folder / FILE)
    found: list[KnownSource | None] = []
    for source in settings:
        same = next((known for known in before if _is(known, source) and known not in found), None)
        found.append(same)
    gone = [known for known in before if known not in found]
    for index, source in enumerate(settings):
        renamed = [known for known in gone if known.kind == source.kind]
        alone = sum(place is None and other.kind == source.kind for place, other in zip(found, settings, strict=True))
        if found[index] is None and len(renamed) == alone == 1:  # one went and one came: the same under another name
            found[index] = renamed[0]
            gone.remove(renamed[0])
    known: list[KnownSource] = []
    for source, old in zip(settings, found, strict=True):
        others = [*known, *(other for other in found[len(known) + 1 :] if other is not None), *gone]
        known.append(_known(source, old, others))
    return known


def remember(folder: Path, sources: Iterable[KnownSource]) -> None:
    """Write what the sources are known as; those that are no longer in the settings stay known."""
    now = list(sources)
    left = [old for old in _read(folder / FILE) if not any(old.prefix == source.prefix for source in now)]
    text = json.dumps([asdict(source) for source in (*now, *left)], indent=2, ensure_ascii=False)
    storage.write(folder / FILE, (text + "\n").encode())


def _read(path: Path) -> list[KnownSource]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [KnownSource(**entry) for entry in content]
    except (OSError, ValueError, TypeError):
        return []


def _is(known: KnownSource, source: SourceSettings) -> bool:
    return (known.kind, known.place) == (source.kind, _place(source.settings))


def _place(settings: Any) -> str:
    if hasattr(settings, "path"):
        return str(settings.path)
    return " ".join(getattr(settings, "start", ())) or str(getattr(settings, "name", ""))


def _known(source: SourceSettings, old: KnownSource | None, others: Sequence[KnownSource]) -> KnownSource:
    taken = {other.name for other in others}
    place = _place(source.settings)
    name = next(name for name in _names(source, place) if name not in taken)
    if old is not None:
        prefix = old.prefix
    else:
        prefix = f"{name}:" if any(not other.prefix for other in others) else ""
    return KnownSource(kind=source.kind, place=place, name=name, prefix=prefix)


def _names(source: SourceSettings, place: str) -> Iterable[str]:
    """Yield names for a source, the shortest first; there is always one more."""
    given = getattr(source.settings, "name", None)
    parts = [clean(part) or "" for part in unquote(urlsplit(place).path or place).replace("\\", "/").split("/")]
    parts = [part for part in parts if part] or ["source"]
    word = {"folders": "folder"}.get(source.kind, source.kind)
    if given:
        yield given
    for length in range(1, len(parts) + 1):
        yield f"{word}:{'/'.join(parts[-length:])}"
    number = 2
    while True:
        yield f"{given or f'{word}:{parts[-1]}'}#{number}"
        number += 1
