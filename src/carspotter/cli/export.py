"""`carspotter export`: a training run or a bundle in, a bundle for an engine out. Thin calls to `export`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carspotter.cli.inputs import check_out, chosen_bundle
from carspotter.cli.train import missing
from carspotter.errors import BundleError

if TYPE_CHECKING:
    from carspotter.export.parity import Parity
    from carspotter.runtime.bundle import ModelBundle

_SHIPPED = ("finder", "identifier")


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of a training run, a bundle or a project; or finder, identifier: those that ship.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.", show_default=False)],
    to: Annotated[Literal["onnx", "openvino", "litert", "coreml"], typer.Option(help="What is to run it.")] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="What it calculates in.")
    ] = "float32",
    photos: Annotated[
        str | None,
        typer.Option(
            help="Photos to calibrate int8 and to compare on: a folder, a CSV (path, x1,y1,x2,y2) or a project.",
            metavar="FOLDER|CSV|PROJECT",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of labelled photos, to count the points lost.", show_default=False)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="CSV that says what each class_id is.", show_default=False)
    ] = None,
) -> None:
    """Export a training run or a bundle, and compare both.

    A run is written as ONNX first. What answers too differently from its source is not written, and is an error.
    """
    check_out(out)
    if classes and not labels:
        raise typer.BadParameter("--classes says what each class_id of --labels is; add --labels")
    source = source if source in _SHIPPED else chosen_bundle(source) or source
    is_run = source not in _SHIPPED and (Path(source) / "recipe.json").is_file()
    is_bundle = source in _SHIPPED or (Path(source) / "bundle.json").is_file()
    if not is_run and not is_bundle:
        raise BundleError(
            f"{source} is neither a run (recipe.json), a bundle (bundle.json) nor a project (carspotter.toml), nor the "
            "word finder or identifier; `carspotter train` prints its run's folder, `carspotter models` lists the "
            "bundles that ship"
        )
    try:
        if not is_bundle and to == "onnx" and precision == "float32":
            if photos or labels:
                raise typer.BadParameter(
                    f"{'--photos' if photos else '--labels'} is for what is converted; a run is written as it is"
                )
            from carspotter.export.onnx import export as write

            write(source, out)
            typer.echo(str(out))
            return
        with tempfile.TemporaryDirectory() as folder:
            bundle = _bundle(source, Path(folder))
            _convert(bundle, out, to=to, precision=precision, given=(photos, labels, classes))
    except ModuleNotFoundError as error:
        raise missing(error, "export") from error


def _bundle(source: str, folder: Path) -> ModelBundle:
    """Return the bundle to convert; of a run it is written into `folder` first."""
    from carspotter.runtime.bundle import ModelBundle, shipped

    if source == "finder":
        return shipped("finder")
    if source == "identifier":
        return shipped("identifier")
    if (Path(source) / "bundle.json").is_file():
        return ModelBundle.load(source)
    from carspotter.export.onnx import export as write

    return write(source, folder)


def _convert(
    bundle: ModelBundle, out: Path, *, to: str, precision: str, given: tuple[str | None, Path | None, Path | None]
) -> None:
    from carspotter.cli.export_photos import read_inputs
    from carspotter.export.convert import check, convert

    photos, labels, classes = given
    check(bundle, to=to, precision=precision, has_photos=photos is not None)
    inputs = read_inputs(bundle, photos, labels=labels, classes=classes)
    parity = convert(bundle, out, to=to, precision=precision, inputs=inputs)
    if parity is None:
        typer.echo("carspotter: Core ML runs on Apple's systems alone: the package was not compared", err=True)
    else:
        _show(parity)
    typer.echo(str(out))


def _show(parity: Parity) -> None:
    for name, value, bar in parity.rows():
        typer.echo(f"{name:22} {value:>32}  {'bar ' + bar if bar else ''}".rstrip(), err=True)
