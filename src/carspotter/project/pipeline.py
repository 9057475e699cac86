"""A project in, the same project built out: every pending step in order, each able to go on where it was killed.

Row stages ask the catalogue which rows lack their facts; whole-catalogue steps are done again when what they read has
changed. Either way a second build of an unchanged project does nothing, and a killed one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carspotter import __version__
from carspotter.catalog.tables import TABLES
from carspotter.errors import ProjectError, suggestion
from carspotter.progress import Quiet, Watch
from carspotter.project import doubting, fetching, intake
from carspotter.project.build import Build, Journal
from carspotter.project.classes import choose_classes
from carspotter.project.deduplicate import group_duplicates
from carspotter.project.folder import Project
from carspotter.project.learn import learn_classes
from carspotter.project.look import look_at_photos
from carspotter.project.report import write_report
from carspotter.project.resolve import resolve_labels
from carspotter.project.shard import write_shards
from carspotter.project.split import split_dataset
from carspotter.runtime import blur
from carspotter.sources.crawl import source as crawl
from carspotter.sources.crawl.report import CrawlReport
from carspotter.sources.crawl.settings import CrawlSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a build: `work` does what is pending and returns what there is to say about it."""

    name: str
    about: str
    work: Callable[[Build], Mapping[str, Any]]


_SHOWN = (
    *(f"SELECT * FROM {name}" for name in TABLES if name not in ("embeddings", "files")),
    "SELECT * EXCLUDE (stage_version, message, modified) FROM files",  # a photo may have been asked for again in vain
)
"""What the report shows: every table, but for the vectors."""


def _report(build: Build) -> Mapping[str, Any]:
    """Draw the report, unless nothing that it shows has changed: plates and faces are looked for in its pictures."""
    project, journal = build.project, build.journal

    def work() -> Mapping[str, Any]:
        write_report(project, build.catalog, journal)
        return {}

    if not project.report.exists():
        journal.forget("report")
    said = {name: dict(journal.stats(name)) for name in ("deduplicate", "split", "learn", "shard")}
    settings = [__version__, project.settings.name, project.settings.share, blur.KINDS, said]
    build.whole("report", reads=_SHOWN, writes=(), settings=settings, work=work)
    return {"text": str(project.report)}


STEPS: tuple[Step, ...] = (
    Step(name="import", about="read the listings of every source", work=intake.import_listings),
    Step(name="fetch", about="fetch photographs that are not on disk", work=fetching.fetch_photos),
    Step(name="locate", about="check, locate and embed photos, each decoded once", work=look_at_photos),
    Step(name="deduplicate", about="group photos that show the same picture", work=group_duplicates),
    Step(name="resolve", about="turn sellers' words into taxa", work=resolve_labels),
    Step(name="classes", about="choose the classes", work=choose_classes),
    Step(name="split", about="split without leaks", work=split_dataset),
    Step(name="learn", about="fit the classes on embeddings", work=learn_classes),
    Step(name="shard", about="write the dataset for training", work=write_shards),
    Step(name="report", about="draw the report", work=_report),
)
"""The steps of a build, in order."""

CHECK = Step(name="check", about="check photos", work=lambda build: look_at_photos(build, ("checks",)))
PARTS: tuple[Step, ...] = (CHECK, Step(name="doubts", about="find labels to be doubted", work=doubting.find))
"""What can be asked for alone: the first half of `locate`, and what needs a person afterwards."""


def build(
    project: Project,
    *,
    until: str | None = None,
    only: Sequence[str] = (),
    on: str = "local",
    workers: int | None = None,
    watch: Watch | None = None,
    again: tuple[str, ...] = (),
) -> dict[str, Mapping[str, Any]]:
    """Do the pending steps of a project in order and return what each had to say.

    `until` ends after that step; `only` does just these. `on` says where row stages run (see `compute.run`). `again`
    names statuses whose photos are fetched once more. Raises ProjectError for an unknown step or status, CatalogError
    when another process builds the project.
    """
    chosen = _chosen(until, only)
    watch = watch or Quiet()
    stats: dict[str, Mapping[str, Any]] = {}
    with project.catalog() as catalog, catalog.writer():
        work = Build(
            project=project,
            catalog=catalog,
            journal=Journal(project.folder),
            watch=watch,
            on=on,
            workers=workers,
            again=again,
        )
        for step in chosen:
            watch.start(step.name, step.about)
            stats[step.name] = step.work(work)
            watch.end(step.name, stats[step.name])
    return stats


def preview(project: Project, *, watch: Watch | None = None) -> Mapping[str, Any]:
    """Return what `import` would change, with examples; nothing is written."""
    watch = watch or Quiet()
    with project.catalog() as catalog:
        watch.start("import", "compare the listings of every source with the catalogue")
        work = Build(project=project, catalog=catalog, journal=Journal(project.folder), watch=watch)
        stats = intake.what_would_change(work)
        watch.end("import", stats)
    return stats


def _chosen(until: str | None, only: Sequence[str]) -> tuple[Step, ...]:
    names = [step.name for step in STEPS]
    if until == CHECK.name:  # what the funnel calls a step can be the last one
        return (*STEPS[: names.index("locate")], CHECK)
    if until is not None and until not in names:
        raise ProjectError(f"step {until!r} is unknown; {suggestion(until, names, limit=len(names))}")
    if only:
        known = {step.name: step for step in (*PARTS, *STEPS)}
        unknown = next((name for name in only if name not in known), None)
        if unknown is not None:
            raise ProjectError(f"step {unknown!r} is unknown; {suggestion(unknown, known, limit=len(known))}")
        return tuple(known[name] for name in only)
    return STEPS[: names.index(until) + 1] if until else STEPS


def plan_crawl(project: Project) -> list[dict[str, str]]:
    """Return what the sites of a project would be asked for, from their start pages alone; writes nothing."""
    return [row for settings in _sites(project) for row in crawl.plan(settings)]


def crawl_project(project: Project, *, again: bool = False, watch: Watch | None = None) -> Mapping[str, Any]:
    """Crawl the sites of a project and import what they list; with `again` also what they listed before.

    Pages that could not be read the last time are asked again. Returns what the import said, for each site what was
    read, with "remarks" as sentences. Raises CatalogError when another process builds the project.
    """
    sites, folder = list(_sites(project)), project.crawl
    with project.catalog() as catalog, catalog.writer():  # refused before anything is forgotten of a crawl that runs
        for settings in sites:
            (crawl.forget if again else crawl.ask_again)(settings, folder)
    stats = build(project, only=("import",), watch=watch)["import"]
    reports = [(settings, crawl.report(settings, folder)) for settings in sites]
    told = [{"start": settings.start[0], **_told(report)} for settings, report in reports if report is not None]
    return {**stats, "sites": told}


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
