"""`carspotter train`: a recipe in, a run folder out. A thin call to `training`, which needs the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from carspotter.errors import MissingExtraError

# The heavy packages of the extras `train` and `export`, by the name they are imported with.
HEAVY = {"torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript"}

_Task = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="NAME",
        help="Learn kind, viewpoint, body, colour or a column of your own: of a project, a CSV photo,label or a folder "
        "of folders, named in place of the recipe.",
        show_default=False,
    ),
]
_How = Annotated[
    Literal["head", "fine-tune", "scratch", "features", "hog"],
    typer.Option("--how", help="With --task: a head on shipped features, a network, frozen features, HOG."),
]
_Backbone = Annotated[
    str, typer.Option("--backbone", help="With --task: one of timm's, for features or fine-tune.", show_default=False)
]
_Merge = Annotated[
    bool, typer.Option("--merge-sides", help="With --task: left and right are one, five sides of eight.")
]
_Epochs = Annotated[int, typer.Option("--epochs", min=0, help="With --task: of a network; 0: as its recipe says.")]


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
    task: _Task = "",
    how: _How = "head",
    backbone: _Backbone = "",
    merge_sides: _Merge = False,
    epochs: _Epochs = 0,
) -> None:
    """Train a network from a recipe, or with --task an attribute of your own from labelled photos."""
    if task:
        from carspotter.cli.train_attribute import train_attribute

        options = {"how": how, "backbone": backbone, "merge_sides": merge_sides, "epochs": epochs}
        train_attribute(recipe, task, out, **options)
        return
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
