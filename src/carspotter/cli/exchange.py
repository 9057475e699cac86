"""The commands that hand a dataset to other tools and take corrected labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from carspotter.cli.building import display, print_json
from carspotter.cli.options import JsonOption, ProjectArgument
from carspotter.errors import typed

_OPENS = {
    "coco": "FiftyOne: fiftyone.Dataset.from_dir({out!r}, fiftyone.types.COCODetectionDataset)",
    "label-studio": "Label Studio: set LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={out}, paste interface.xml, import tasks.json",
    "huggingface": "datasets.load_dataset('imagefolder', data_dir={out!r})",
}


def export_dataset(
    project: ProjectArgument = Path(),
    *,
    to: Annotated[
        Literal["coco", "label-studio", "huggingface"],
        typer.Option("--to", help="What is to open it; FiftyOne opens coco.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="The new folder.", show_default=False)],
    blur: Annotated[
        bool | None,
        typer.Option(
            "--blur/--no-blur", help="Hide number plates and faces; by default as [share] says.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the dataset for other tools: COCO (FiftyOne), Label Studio, Hugging Face datasets."""
    from carspotter.project.folder import Project
    from carspotter.review.exchange import export_dataset as run

    with display() as watch:
        stats = run(Project.open(project), out, to, blur=blur, watch=watch)
    if as_json:
        print_json(dict(stats))
        return
    typer.echo(f"{out}: {stats['photos']} photos. {_OPENS[to].format(out=str(out.resolve()))}")
    said = "are hidden where they were found; look before you hand it on" if stats["blurred"] else "are NOT hidden"
    typer.echo(f"Number plates and faces {said}.")
    typer.echo(f"Corrected labels come back by: carspotter import-labels {typed(project)} FILE")


def import_labels(
    project: ProjectArgument,
    file: Annotated[Path, typer.Argument(help="What the tool saved: JSON, metadata.jsonl or CSV.", show_default=False)],
    *,
    person: Annotated[
        str | None, typer.Option("--person", help="Who corrected; by default the name of the user.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take labels that were corrected in another tool; the next build obeys them."""
    from carspotter.project.folder import Project
    from carspotter.review.exchange import import_labels as run
    from carspotter.review.session import user_name

    stats = run(Project.open(project), file, person=person or user_name())
    if as_json:
        print_json(dict(stats))
        return
    said = ", ".join(f"{count} {word}" for word, count in stats.items()) or "no label"
    typer.echo(f"{file}: {said}. Next: carspotter build {typed(project)}")
