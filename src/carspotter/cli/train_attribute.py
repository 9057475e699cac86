"""`carspotter train … --task`: labelled photos in, a bundle for an attribute of one's own out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from carspotter.cli.building import display
from carspotter.errors import typed
from carspotter.records import VIEWPOINTS

if TYPE_CHECKING:
    from carspotter.project_training.attribute import Trained


def train_attribute(source: str, task: str, out: Path | None, **options: Any) -> None:
    """Learn an attribute and say how good it is, and what to do with it."""
    from carspotter.project_training.attribute import train_attribute as run
    from carspotter.project_training.attribute_photos import AttributeSettings

    settings = AttributeSettings(task=task, **options)
    place = out or _place(Path(source), settings.how, settings.backbone, task)
    with display() as watch:
        found = run(Path(source), place, settings, watch)
    _show(found, place, task)


def _place(source: Path, how: str, backbone: str, task: str) -> Path:
    name = "-".join(part for part in (task, "" if how == "head" else how, backbone.replace("/", "-")) if part)
    return (source / "models" if (source / "carspotter.toml").is_file() else Path("runs")) / name


def _show(found: Trained, place: Path, task: str) -> None:
    if found.figures is None:
        typer.echo(f"{task}: no test photo of these labels; how good it is, is not known")
    else:
        figures = found.figures
        f1, right = figures.macro_f1, figures.top1
        typer.echo(
            f"{task} on {figures.labelled} test photos: macro-F1 {f1.value:.3f} ({f1.low:.3f}-{f1.high:.3f}), "
            f"accuracy {right.value:.3f}"
        )
        for each in figures.classes:
            typer.echo(
                f"  {each.name:<14} {each.support:>5} photos, precision {each.precision.value:.3f}, "
                f"recall {each.recall.value:.3f}, F1 {each.f1:.3f}"
            )
        typer.echo(f"The report: {place / 'report.html'}")
    if found.bundle is None:
        typer.echo(f"No bundle: for comparison alone, with carspotter compare {typed(place)} OTHER")
        return
    typer.echo(f"The bundle: {place}. Use it with: carspotter identify PHOTO --attribute {typed(place)}")
    words = found.bundle.attributes[task]
    if task == "kind" or (task == "viewpoint" and set(words) <= set(VIEWPOINTS)):
        # Paths in the settings count from the project.
        whole = place.resolve()
        project = next((folder for folder in whole.parents if (folder / "carspotter.toml").is_file()), None)
        path = (whole.relative_to(project) if project else whole).as_posix()
        typer.echo(f'In a build: attributes = ["{path}"] under [locate] of carspotter.toml')
