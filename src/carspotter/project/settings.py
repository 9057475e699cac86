"""The text of carspotter.toml in, one frozen dataclass out: each section is the dataclass of the part it is for.

Sources have names, by which ads are known; `sources.json` remembers them, so that a source that moves keeps its ads.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from carspotter import storage
from carspotter.dataset.shards import ShardSettings
from carspotter.dataset.split import SplitSettings
from carspotter.errors import ProjectError, suggestion
from carspotter.labels.classes import ClassSettings
from carspotter.photos.checks import CheckSettings
from carspotter.photos.duplicates import DuplicateSettings
from carspotter.photos.rules import FetchSettings
from carspotter.project.locate import LocateSettings
from carspotter.recognition.gallery import LearnSettings
from carspotter.settings import parse_toml, read_section
from carspotter.sources.crawl.settings import CrawlSettings
from carspotter.sources.folders import FolderSettings
from carspotter.sources.listing import clean
from carspotter.sources.stanford import StanfordSettings
from carspotter.sources.table import TableSettings
from carspotter.storage_errors import shown

SOURCES: Mapping[str, type[Any]] = {
    "table": TableSettings,
    "folders": FolderSettings,
    "stanford": StanfordSettings,
    "crawl": CrawlSettings,
}
"""The kinds of a source, and the settings of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One table under `[[sources]]`: its kind, and the settings of that kind."""

    kind: str
    settings: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSettings:
    """What is handed on: the report, and datasets for other tools."""

    blur: bool = True
    """Hide number plates and faces on their pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """All settings of a project."""

    name: str = ""
    fetch: FetchSettings = field(default_factory=FetchSettings)
    check: CheckSettings = field(default_factory=CheckSettings)
    locate: LocateSettings = field(default_factory=LocateSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    classes: ClassSettings = field(default_factory=ClassSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    learn: LearnSettings = field(default_factory=LearnSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)
    share: ShareSettings = field(default_factory=ShareSettings)
    sources: tuple[SourceSettings, ...] = ()


def load_settings(path: str | Path) -> ProjectSettings:
    """Read carspotter.toml; raises ProjectError for a file that is none, an unknown key or an impossible value."""
    path = Path(path)
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} cannot be read: {error}") from error
    sources = content.pop("sources", [])
    if not isinstance(sources, list):
        raise ProjectError(f"{path.name}: sources is a table; write [[sources]], with two brackets")
    content["sources"] = []
    settings = read_section(ProjectSettings, content, where=path.name, error=ProjectError)
    read = tuple(_source(entry, f"{path.name}: sources[{number}]") for number, entry in enumerate(sources))
    return replace(settings, sources=read)


def _source(content: Any, where: str) -> SourceSettings:
    if not isinstance(content, dict) or "kind" not in content:
        raise ProjectError(f"{where}: kind must be given; allowed: {', '.join(SOURCES)}")
    kind, values = content["kind"], {key: value for key, value in content.items() if key != "kind"}
    if kind == "showroom":
        raise ProjectError(
            f"{where}: kind 'showroom' is gone, its ads are a table now; "
            "make the project anew in another folder: carspotter init FOLDER --from showroom"
        )
    if not isinstance(kind, str) or kind not in SOURCES:
        raise ProjectError(f"{where}: kind {kind!r} is unknown; {suggestion(str(kind), SOURCES)}")
    return SourceSettings(kind=kind, settings=read_section(SOURCES[kind], values, where=where, error=ProjectError))


FILE = "sources.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSource:
    """A source: its `kind` and `place` as the settings say them, its `name`, and the `prefix` of its ads' ids.

    `listed` says whether the settings named it when sources were last read.
    """

    kind: str
    place: str
    name: str
    prefix: str
    listed: bool = True


def known_sources(folder: Path, settings: Sequence[SourceSettings]) -> list[KnownSource]:
    """Return what each source of the settings is known as, in their order; new ones get a name of their own."""
    before = remembered(folder)
    found: list[KnownSource | None] = []
    for source in settings:
        same = next((known for known in before if _is(known, source) and known not in found), None)
        found.append(same)
    gone = [known for known in before if known not in found]
    _take_same_names(settings, found, gone)
    for index, source in enumerate(settings):
        # One that was taken out before is another source, whose ids, and decisions about them, are not to be had.
        renamed = [known for known in gone if known.listed and known.kind == source.kind]
        alone = sum(place is None and other.kind == source.kind for place, other in zip(found, settings, strict=True))
        if found[index] is None and len(renamed) == alone == 1:  # one went and one came: the same under another name
            found[index] = renamed[0]
            gone.remove(renamed[0])
    known: list[KnownSource] = []
    for source, old in zip(settings, found, strict=True):
        known.append(_known(source, old, [*known, *(other for other in before if other is not old)]))
    return known


def _take_same_names(
    settings: Sequence[SourceSettings], found: list[KnownSource | None], gone: list[KnownSource]
) -> None:
    """Take a source that came for one of its kind that went from another folder, where one alone has its file's name.

    Several that moved together, since their folder was renamed, can be told apart by nothing else.
    """
    came = [(source.kind, _file_name(source.kind, _place(source.settings))) for source in settings]
    for index, name in enumerate(came):
        same = [known for known in gone if known.listed and (known.kind, _file_name(known.kind, known.place)) == name]
        rivals = sum(place is None and other == name for place, other in zip(found, came, strict=True))
        if found[index] is None and name[1] and len(same) == rivals == 1:
            found[index] = same[0]
            gone.remove(same[0])


def _file_name(kind: str, place: str) -> str:
    return "" if kind == "crawl" else _parts(place)[-1]  # pages of many sites are called alike


def mistakable(before: Sequence[KnownSource], now: Sequence[KnownSource]) -> list[str]:
    """Say which sources came and went together, so that nobody can tell whether some are the same under other names."""
    known = {source.prefix for source in before}
    kept = {source.prefix for source in now}
    said = []
    for kind in SOURCES:
        went = [old.place for old in before if old.listed and old.kind == kind and old.prefix not in kept]
        came = [new.place for new in now if new.kind == kind and new.prefix not in known]
        if went and came:
            said.append(
                f"sources {_shown(came)} are new and {_shown(went)} gone; if some are the same under other names, put "
                "the old paths back, build, and change one path a build: they keep ids and decisions"
            )
    return said


def _shown(places: Sequence[str]) -> str:
    return ", ".join(shown(place) for place in places)


def listed_still(before: Sequence[KnownSource], now: Sequence[KnownSource], unread: Sequence[KnownSource]) -> set[str]:
    """Return the prefixes of the sources whose ads are not to be retired: of all `now`, and of some that left.

    A new source that is `unread` may be any of its kind that left, at another place.
    """
    known = {source.prefix for source in before}
    kinds = {source.kind for source in unread if source.prefix not in known}
    return {source.prefix for source in (*now, *(old for old in before if old.listed and old.kind in kinds))}


def remember(folder: Path, sources: Iterable[KnownSource], listed: Container[str]) -> None:
    """Write what sources are known as; `listed` are the prefixes of those whose ads are listed still."""
    known = [replace(source, listed=source.prefix in listed) for source in sources]
    storage.write_json(folder / FILE, [asdict(source) for source in known])


def remembered(folder: Path) -> list[KnownSource]:
    """Return what the sources of a project were known as when they were last read; none before the first time.

    Raises ProjectError for a file that cannot be read: without it ads would get new ids in silence.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return [KnownSource(**entry) for entry in content]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ProjectError(
            f"{folder / FILE} cannot be read: {error}; put back the one of before, or take it away: ads then get ids "
            "anew"
        ) from error


def _is(known: KnownSource, source: SourceSettings) -> bool:
    return (known.kind, known.place) == (source.kind, _place(source.settings))


def _place(settings: Any) -> str:
    if hasattr(settings, "path"):
        return str(settings.path)
    return " ".join(getattr(settings, "start", ())) or str(getattr(settings, "name", ""))


def _known(source: SourceSettings, old: KnownSource | None, others: Sequence[KnownSource]) -> KnownSource:
    taken = {word for other in others for word in (other.name, other.prefix.removesuffix(":"))}
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
    parts = _parts(place)
    word = {"folders": "folder"}.get(source.kind, source.kind)
    if given:
        yield given
    for length in range(1, len(parts) + 1):
        yield f"{word}:{'/'.join(parts[-length:])}"
    number = 2
    while True:
        yield f"{given or f'{word}:{parts[-1]}'}#{number}"
        number += 1


def _parts(place: str) -> list[str]:
    """Return the parts of a place's path, at least one."""
    parts = [clean(part) or "" for part in unquote(urlsplit(place).path or place).replace("\\", "/").split("/")]
    return [part for part in parts if part] or ["source"]
