"""`carspotter train`: a recipe in, a run folder out. A thin call to `training`, which needs the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carspotter.errors import MissingExtraError

# The heavy packages of the extras `train` and `export`, by the name they are imported with.
HEAVY = {"torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript"}


def train(
    recipe: Annotated[
        str, typer.Argument(help="The recipe: a TOML file, or one that ships, such as fine-tune.", show_default=False)
    ],
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a value of the recipe, such as train.lr=1e-3.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; by default one under runs/.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the run.")] = False,
) -> None:
    """Train a network from a recipe."""
    for change in changes or ():
        if "=" not in change:
            raise typer.BadParameter(f"--set {change}: write it as KEY=VALUE, such as train.lr=1e-3")
    try:
        from carspotter.training.trainer import train as run
    except ModuleNotFoundError as error:
        raise missing(error, "train") from error
    if line := run(recipe, changes or [], out, resume):  # of several processes, the first alone has something to say
        typer.echo(line)


def missing(error: ModuleNotFoundError, extra: str) -> Exception:
    """Turn the missing import of an extra's package into the error that names its install command."""
    package = (error.name or "").split(".")[0]
    return MissingExtraError(package, extra) if package in HEAVY else error
