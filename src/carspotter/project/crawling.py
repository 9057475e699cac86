"""`carspotter crawl`: the sites among a project's sources, planned or crawled, and their listings imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carspotter.errors import ProjectError
from carspotter.project.build import Watch
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.sources.crawl import source as crawl
from carspotter.sources.crawl.report import CrawlReport
from carspotter.sources.crawl.settings import CrawlSettings


def plan_crawl(project: Project) -> list[dict[str, str]]:
    """Return what the sites of a project would be asked for, from their start pages alone; writes nothing."""
    return [row for settings in _sites(project) for row in crawl.plan(settings)]


def crawl_project(project: Project, *, again: bool = False, watch: Watch | None = None) -> Mapping[str, Any]:
    """Crawl the sites of a project and import what they list; with `again` also what they listed before.

    Pages that could not be read the last time are asked again. Returns what the import said, for each site what was
    read, with "remarks" as sentences.
    """
    sites, folder = list(_sites(project)), project.crawl
    for settings in sites:
        (crawl.forget if again else crawl.ask_again)(settings, folder)
    said = build(project, only=("import",), watch=watch)["import"]
    reports = [(settings, crawl.report(settings, folder)) for settings in sites]
    told = [{"start": settings.start[0], **_told(report)} for settings, report in reports if report is not None]
    return {**said, "sites": told}


def _told(report: CrawlReport) -> dict[str, Any]:
    return {
        "pages": report.pages,
        "listings": report.listings,
        "photos": report.photos,
        "failed": {reason: list(urls) for reason, urls in report.failed.items()},
        "remarks": report.remarks(),
    }


def _sites(project: Project) -> Iterator[CrawlSettings]:
    found = [source.settings for source in project.settings.sources if source.kind == "crawl"]
    if not found:
        raise ProjectError(
            f'{project.folder / "carspotter.toml"}: no source of kind "crawl"; add one under [[sources]]'
        )
    yield from found
