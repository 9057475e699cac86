"""The commands for a whole project: make one, build it, ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carspotter import storage
from carspotter.cli.building import display, print_json, sentence, show_advice
from carspotter.cli.options import JsonOption, ProjectArgument, Run, WorkersOption, option, require, with_options
from carspotter.errors import CarspotterError, ProjectError, typed

if TYPE_CHECKING:
    from carspotter.catalog.funnel import Funnel
    from carspotter.project.advice import Advice
    from carspotter.project.folder import Project

_TAKES = "Building 100 drawn ads with 505 photographs: half a minute on two cores, and 20 MB in {folder}."


def init(
    project: Annotated[Path, typer.Argument(help="The folder of the new project.", show_default=False)],
    *,
    source: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="A table (.csv, .jsonl, .parquet), a folder of photos, a site's start page, or the word showroom.",
            show_default=False,
        ),
    ],
) -> None:
    """Make a project: a folder with carspotter.toml, in which every setting stands explained."""
    from carspotter.project.folder import SETTINGS

    _create(project, source)
    for table in source:
        _tell_columns(table, project / SETTINGS)
    typer.echo(f"{project / SETTINGS}: look through it, then run: carspotter build {typed(project)}")


def _tell_columns(table: str, settings: Path) -> None:
    """Say which columns of a table on this disk were understood, or what must be said before a build can read it."""
    from carspotter.sources.table import TableSettings, understood

    # A packed table would be unpacked whole first, and a remote one fetched: the build does that.
    if storage.is_url(table) or not Path(table).is_file() or table.casefold().endswith(".gz"):
        return
    try:
        columns = understood(TableSettings(path=table))
    except CarspotterError as error:
        typer.secho(f"warning: {error}; before the build, mend the table or {settings}", err=True, fg="yellow")
        return
    said = ", ".join(f"{name} = {' + '.join(found)}" for name, found in columns.items())
    typer.echo(f"{table}: {said}" if said else f"{table}: there is no ad in its first lines")


def _create(project: Path, sources: Sequence[str]) -> None:
    """Make a project; the showroom is unpacked before its settings are written, which say that it is there."""
    from carspotter.project.folder import SETTINGS, create
    from carspotter.project.template import settings_text
    from carspotter.sources.showroom import FOLDER, unpack

    for source in sources:
        if source != FOLDER and not storage.is_url(source) and not Path(source).exists():
            raise ProjectError(
                f"source {source!r} is not there: no such file or folder; give a table or a folder of photos, a URL, "
                f"or the word {FOLDER}"
            )
    text = settings_text(project, sources)
    if FOLDER in sources and not (project / SETTINGS).exists():
        unpack(project / FOLDER)
    create(project, text)


@with_options
def build(
    project: ProjectArgument = Path(),
    *,
    until: Annotated[str | None, option("--until", metavar="STEP", help="Stop after this step.")] = None,
    run: Run,
) -> None:
    """Do every pending step of a project in order; a killed build goes on where it was."""
    from carspotter.project.folder import Project

    opened = Project.open(project)
    stats = run.steps(opened, until=until)
    if not run.as_json:
        if "report" in stats:
            typer.echo(opened.report)
        show_advice(_asked(opened)[1], err=True)
    run.finish(stats)


def status(project: ProjectArgument = Path(), *, as_json: JsonOption = False) -> None:
    """Print how many photos stand at each step, why the others stopped, what was learned, and what to do next."""
    from carspotter.cli.funnel import show_funnel
    from carspotter.project.build import Journal
    from carspotter.project.folder import Project

    opened = Project.open(project)
    found, advices = _asked(opened)
    learned = Journal(opened.folder).stats("learn")
    if as_json:
        print_json(found.to_dict() | {"learn": dict(learned), "advice": [asdict(advice) for advice in advices]})
    else:
        show_funnel(found)
        if learned:
            typer.echo(f"learn: {sentence(learned)}")
        show_advice(advices)


def _asked(project: Project) -> tuple[Funnel, tuple[Advice, ...]]:
    """Return the funnel of a project and what to do next."""
    from carspotter.catalog.funnel import funnel
    from carspotter.project.advice import advise

    with project.catalog() as catalog:
        found = funnel(catalog)
        return found, advise(project, catalog, found)


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the catalogue's tables.", show_default=False)],
    *,
    project: Annotated[Path, typer.Option("--project", help="The project's folder.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Ask the catalogue in SQL; `SHOW TABLES` lists the tables, `DESCRIBE listing_photos` a table's columns."""
    from carspotter.cli.funnel import show_rows
    from carspotter.project.folder import Project

    with Project.open(project).catalog() as catalog:
        rows = catalog.rows(query)
    if as_json:
        print_json(rows)
    else:
        show_rows(rows)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's project is made.")] = Path("carspotter-demo"),
    *,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a hundred drawn ads with planted flaws, and say how many of the flaws were found; under a minute."""
    from carspotter.catalog.funnel import funnel
    from carspotter.cli.funnel import show_funnel, show_scorecard
    from carspotter.cli.scorecard import scorecard
    from carspotter.project.folder import SETTINGS, Project
    from carspotter.project.pipeline import build as run
    from carspotter.sources.showroom import FOLDER, truth

    require("data", "duckdb")  # or a folder would stay half filled
    if not (folder / SETTINGS).exists():
        typer.echo(_TAKES.format(folder=folder), err=True)
        _create(folder, [FOLDER])
    project = Project.open(folder)
    truth(project.folder / FOLDER)  # before a project of somebody's own is built for nothing
    with display() as watch:
        stats = run(project, workers=workers, watch=watch)
    with project.catalog() as catalog:
        found, card = funnel(catalog), scorecard(project, catalog)
    if as_json:
        print_json({"funnel": found.to_dict(), **card.to_dict(), "learn": dict(stats["learn"])})
        return
    show_funnel(found)
    show_scorecard(card, stats["learn"])
    typer.echo(f"The report: {typed(project.report)}")
