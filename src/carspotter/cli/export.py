"""`carspotter export`: a training run in, a model bundle out. A thin call to `export`; it needs the extra `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carspotter.cli.train import missing


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.", show_default=False)],
) -> None:
    """Export a training run as a model bundle."""
    try:
        from carspotter.export.onnx import export as write
    except ModuleNotFoundError as error:
        raise missing(error, "export") from error
    write(run, out)
    typer.echo(str(out))
