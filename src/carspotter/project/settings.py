"""The text of carspotter.toml in, one frozen dataclass out: each section is the dataclass of the part it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from carspotter.dataset.shards import ShardSettings
from carspotter.dataset.split import SplitSettings
from carspotter.errors import ProjectError, suggestion
from carspotter.labels.classes import ClassSettings
from carspotter.photos.checks import CheckSettings
from carspotter.photos.duplicates import DuplicateSettings
from carspotter.photos.rules import FetchSettings
from carspotter.project.look import LocateSettings
from carspotter.recognition.gallery import LearnSettings
from carspotter.settings import parse_toml, read_section
from carspotter.sources.crawl.settings import CrawlSettings
from carspotter.sources.folders import FolderSettings
from carspotter.sources.stanford import StanfordSettings
from carspotter.sources.table import TableSettings

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
