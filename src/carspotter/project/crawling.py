"""`carspotter crawl`: the sites among a project's sources, planned or crawled, and their listings imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carspotter.errors import ProjectError
from carspotter.project.build import Watch
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.sources import crawl
from carspotter.sources.crawl_settings import CrawlSettings

FOLDER = "crawl"


def plan_crawl(project: Project) -> list[dict[str, str]]:
    """Say what the sites of a project would be asked for, from their start pages alone; writes nothing."""
    return [row for settings in _sites(project) for row in crawl.plan(settings)]


def crawl_project(project: Project, *, again: bool = False, watch: Watch | None = None) -> Mapping[str, Any]:
    """Crawl the sites of a project and import what they list; with `again` also those that were finished."""
    sites = list(_sites(project))
    if again:
        for settings in sites:
            crawl.forget(settings, project.folder / FOLDER)
    return build(project, only=("import",), watch=watch)["import"]


def _sites(project: Project) -> Iterator[CrawlSettings]:
    found = [source.settings for source in project.settings.sources if source.kind == "crawl"]
    if not found:
        raise ProjectError(
            f'{project.folder / "carspotter.toml"}: no source of kind "crawl"; add one under [[sources]]'
        )
    yield from found
