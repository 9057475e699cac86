"""The commands that do one step of a build each, named with the verb of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from carspotter.cli.building import display, finish, print_json, sentence
from carspotter.cli.options import JsonOption, ProjectArgument, Run, WorkersOption, option, with_options
from carspotter.errors import typed

STEP_COMMANDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("locate", ("locate",), "Find kind, gate, box and viewpoint of each photo, and embed its largest vehicle."),
    ("deduplicate", ("deduplicate",), "Group photos that show the same picture, within ads and across them."),
    ("resolve", ("resolve",), "Turn sellers' words into taxa; what is unresolved is listed in labels/unresolved.csv."),
    ("classes", ("classes",), "Choose the classes: enough photos, merges and what to leave out."),
    ("learn", ("learn",), "Fit the classes on the identifier's embeddings: a bundle in seconds, without torch."),
    ("shard", ("shard",), "Write the dataset as WebDataset tars or TFRecord files."),
    ("doubts", ("doubts",), "Find labels to be doubted and outliers, for `carspotter review --queue doubts`."),
    ("report", ("report",), "Draw the report, one HTML page with pictures."),
)
"""Command, steps it does, help."""


def import_(
    project: ProjectArgument = Path(),
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change in the catalogue, and change nothing.")
    ] = False,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the listings of every source: new ones join the catalogue, changed ones change, those that went retire."""
    from carspotter.project.folder import Project
    from carspotter.project.pipeline import build, preview

    opened = Project.open(project)
    with display() as watch:
        if dry_run:
            stats: dict[str, Mapping[str, Any]] = {"import": preview(opened, watch=watch)}
        else:
            stats = build(opened, only=("import",), workers=workers, watch=watch)
    if dry_run and not as_json:
        for line in stats["import"]["examples"]:
            typer.echo(line)
    finish(stats, as_json=as_json)


def step_command(steps: tuple[str, ...], help_text: str) -> Callable[..., None]:
    """Make the function of a command that does some steps of a project."""

    def command(project: ProjectArgument = Path(), *, run: Run) -> None:
        from carspotter.project.folder import Project

        run.finish(run.steps(Project.open(project), only=steps))

    command.__doc__ = help_text
    return with_options(command)


@with_options
def split(
    project: ProjectArgument = Path(),
    *,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Deal out all photos anew, also those that stand in a split: for other classes."),
    ] = False,
    run: Run,
) -> None:
    """Split into train, validation and test by ad and duplicate group, with a leak certificate."""
    from carspotter.project.folder import Project
    from carspotter.project.split import forget_split

    opened = Project.open(project)
    if anew:
        forget_split(opened)
    run.finish(run.steps(opened, only=("split",)))


@with_options
def check(
    project: ProjectArgument = Path(),
    *,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Re-encode what can be saved, move the rest to quarantine/; nothing is deleted."),
    ] = False,
    run: Run,
) -> None:
    """Check photos: unreadable, truncated, too small, dark, blurred, placeholder."""
    from carspotter.project.fetching import fix_photos
    from carspotter.project.folder import Project

    opened = Project.open(project)
    stats = run.steps(opened, only=("check",))
    if fix:
        stats["fix"] = fix_photos(opened)
        typer.echo(sentence(stats["fix"]), err=True)
    run.finish(stats)


@with_options
def fetch(
    project: ProjectArgument = Path(),
    *,
    again: Annotated[
        list[str] | None,
        option(
            "--again",
            metavar="STATUS",
            help="Ask once more for photos of this status, such as missing, gone or unsupported-format.",
        ),
    ] = None,
    run: Run,
) -> None:
    """Fetch photographs that are not on disk, each once; what failed for a while is tried again."""
    from carspotter.project.folder import Project

    run.finish(run.steps(Project.open(project), only=("fetch",), again=tuple(again or ())))


def finder_rows(
    project: ProjectArgument = Path(),
    *,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")] = Path("finder.csv"),
    as_json: JsonOption = False,
) -> None:
    """Write a project's photos of known kind or viewpoint as a finder's manifest, for `carspotter train`."""
    from carspotter.project.folder import Project
    from carspotter.review.finder_rows import write_finder_rows

    stats = write_finder_rows(Project.open(project), out)
    if as_json:
        print_json(dict(stats))
        return
    kinds = ", ".join(f"{count} {name}" for name, count in stats["kinds"].items())
    typer.echo(
        f"{out}: {stats['photos']} photos ({kinds}); "
        f"next: carspotter train fine-tune-finder --set data.labels={typed(out)}"
    )


def crawl(
    project: ProjectArgument = Path(),
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which pages would be fetched, and fetch only the start pages.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Ask for all pages anew, also for those that were read.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Crawl the sites among a project's sources: robots.txt obeyed, slowly, resumable."""
    from carspotter.project.folder import Project
    from carspotter.project.pipeline import crawl_project, plan_crawl

    opened = Project.open(project)
    if dry_run:
        plan = plan_crawl(opened)
        if as_json:
            print_json(plan)
            return
        for line in plan:
            typer.echo(f"{line['verdict']:<10}{line['kind']:<9}{line['url']}")
        return
    with display() as watch:
        stats = crawl_project(opened, again=again, watch=watch)
    for site in stats["sites"]:
        for remark in site["remarks"]:
            typer.echo(f"{site['start']}: {remark}", err=True)
    if as_json:
        print_json(dict(stats))
    finish({"crawl": stats}, as_json=False)  # its JSON is the crawl alone; warnings were said as they were met
