"""`carspotter train`: a project or a recipe in, a bundle or a run out. Thin calls, which need the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from carspotter.cli.building import display
from carspotter.cli.inputs import check_out
from carspotter.errors import MissingExtraError, typed

# The heavy packages of the extras `train` and `export`, by the name they are imported with.
HEAVY = {"torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript", "lightning_fabric", "tensorboard"}


def _of_project(words: str, **limits: Any) -> Any:
    return typer.Option(help=f"Of a project: {words[0].lower()}{words[1:]}", show_default=False, **limits)


_Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="Learn kind, viewpoint, body, colour or a column of your own: of a project, a CSV photo,label or a folder "
        "of folders, named in place of the recipe.",
        show_default=False,
    ),
]
_How = Annotated[
    Literal["head", "fine-tune", "scratch", "features", "hog"] | None,
    typer.Option(
        "--how",
        help="With --task: a head on shipped features (the default), a network, frozen features, HOG.",
        show_default=False,
    ),
]
_Merge = Annotated[
    bool, typer.Option("--merge-sides", help="With --task: left and right are one, five sides of eight.")
]


def train(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT|RECIPE",
            help="A project's folder; or a recipe: a TOML file, or one that ships, such as fine-tune.",
            show_default=False,
        ),
    ],
    *,
    epochs: Annotated[int | None, _of_project("Epochs, in place of what suits the data.", min=1)] = None,
    size: Annotated[int | None, _of_project("Pixels of a side of the input.", min=32, max=1024)] = None,
    minutes: Annotated[
        float | None, _of_project("Wall time for all: as many epochs as fit, and it ends in time.", min=0.5)
    ] = None,
    backbone: Annotated[
        str | None, _of_project("Any network of timm with its public weights, in place of the shipped identifier.")
    ] = None,
    recipe: Annotated[str | None, _of_project("The recipe to train by, a file or one that ships.")] = None,
    seed: Annotated[int | None, _of_project("Seed of all that is drawn at random.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Of a project: train anew, where data or settings have changed.")
    ] = False,
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
        Path | None,
        typer.Option("--out", help="Of a recipe: folder of the run; by default under runs/.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Of a recipe: go on from the newest checkpoint.")] = False,
    task: _Task = None,
    how: _How = None,
    merge_sides: _Merge = False,
) -> None:
    """Train a network on a project, in one command, or from a recipe; with --task an attribute of your own.

    A project's training goes on by itself where it was stopped, and ends with the bundle models/trained.
    """
    check_out(out)
    if task is not None:
        from carspotter.cli.train_attribute import train_attribute

        if recipe or size or changes or resume or fresh:
            raise typer.BadParameter(
                "--task goes with --how, --backbone, --epochs, --minutes, --merge-sides, --seed and --out"
            )
        options = {"how": how or "head", "backbone": backbone or "", "epochs": epochs or 0, "seed": seed or 0}
        options["minutes"] = minutes or 0.0
        try:
            train_attribute(what, task, out, merge_sides=merge_sides, **options)
        except ModuleNotFoundError as error:
            raise missing(error, "train") from error
        return
    if how or merge_sides:
        raise typer.BadParameter(f"{'--how' if how else '--merge-sides'} goes with --task NAME, an attribute to learn")
    for change in changes or ():
        if "=" not in change:
            raise typer.BadParameter(f"--set {change}: write it as KEY=VALUE, such as train.lr=1e-3")
    of_project = {"epochs": epochs, "size": size, "minutes": minutes, "backbone": backbone, "recipe": recipe}
    of_project |= {"seed": seed, "fresh": fresh or None}
    if Path(what).is_dir():
        if out or resume:
            raise typer.BadParameter("--out and --resume are for recipes: a project's run lies in it, and goes on")
        del of_project["fresh"]
        _train_project(Path(what), {**of_project, "changes": tuple(changes or ())}, fresh=fresh)
        return
    given = next((name for name, value in of_project.items() if value is not None), None)
    if given:
        raise typer.BadParameter(f"--{given} is for a project, and {what} is no folder; change a recipe with --set")
    try:
        from carspotter.training.run import train as run
    except ModuleNotFoundError as error:
        raise missing(error, "train") from error
    with display() as watch:
        watch.start("train", what)
        line = run(what, changes or [], out, resume, watch=watch)
    if line:  # of several processes, the first alone has something to say
        typer.echo(line)


def _train_project(folder: Path, wish: dict[str, Any], *, fresh: bool) -> None:
    from carspotter.project.folder import TRAINED, Project

    project = Project.open(folder)
    try:
        from carspotter.project_training.train import train_project
        from carspotter.training.plan import Wish

        with display() as watch:
            result = train_project(project, Wish(**wish), fresh=fresh, watch=watch)
    except ModuleNotFoundError as error:
        raise missing(error, "train") from error
    for line in result.words:
        typer.echo(line)
    typer.echo(f"The bundle: {typed(result.bundle)}")
    if result.report:
        typer.echo(f"The report: {typed(result.report)}")
    if result.chosen != TRAINED:
        typer.echo("The bundle that the build learned has no fewer photos right: it is the one used.")
    typer.echo(f"Ask it: carspotter identify PHOTO --identifier {folder}")


def missing(error: ModuleNotFoundError, extra: str) -> Exception:
    """Turn the missing import of an extra's package into the error that names its install command."""
    package = (error.name or "").split(".")[0]
    return MissingExtraError(package, extra) if package in HEAVY else error
