"""`carspotter evaluate` and `compare`: how good an identifier is, where it errs, and whether another one differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carspotter.cli.drawings import blurring
from carspotter.cli.inputs import check_out, chosen_bundle, tell_left_out
from carspotter.cli.progress import watched
from carspotter.cli.train import missing

if TYPE_CHECKING:
    from carspotter.evaluation.predictions import Predictions


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a bundle, a training run or a project: its better bundle, on its own photos.",
            show_default=False,
        ),
    ],
    *,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of photos: path, class_id or make, …, split.", show_default=False)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="CSV that says what each class_id is.", show_default=False)
    ] = None,
    shards: Annotated[
        str, typer.Option(help="Folder of a project's shards, instead of --labels.", show_default=False)
    ] = "",
    split: Annotated[str, typer.Option(help="The split to judge on; '' is all.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.", show_default=False)] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier evaluation, to show the difference.", show_default=False)
    ] = None,
    heat_maps: Annotated[
        bool, typer.Option("--heat-maps", help="Show which pixels decided the worst mistakes: minutes on a CPU.")
    ] = False,
    blur: Annotated[
        bool, typer.Option("--blur/--no-blur", help="Hide number plates and faces on the report's pictures.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Judge an identifier on labelled photos: figures with intervals, a page of mistakes, a prediction table."""
    folder = Path(chosen_bundle(model) or model)
    if folder != model and not labels and not shards:
        shards = str(model / "shards")
    model = folder
    if bool(labels) == bool(shards):
        raise typer.BadParameter("give --labels or --shards, one of the two")
    if classes and not labels:
        raise typer.BadParameter("--classes says what each class_id of --labels is; shards say it themselves")
    check_out(out)
    from carspotter.evaluation import evaluating
    from carspotter.evaluation.predictions import Predictions
    from carspotter.runtime.bundle import ModelBundle

    photos = (
        evaluating.from_labels(labels, split=split, classes=classes)
        if labels
        else evaluating.from_shards(shards, split=split)
    )
    bundle = ModelBundle.load(_bundle_of(model))
    other = Predictions.load(_table_of(against)) if against else None
    table, unread = evaluating.predict(bundle, watched(iter(photos), len(photos)))
    tell_left_out(list(unread.values()), len(photos))
    out = out or model / (split or "all")
    page = evaluating.write_evaluation(
        out,
        table,
        photos,
        bundle=bundle if heat_maps else None,
        other=other,
        log=model / "log.jsonl",
        blur=blurring() if blur else None,
    )
    _show(table, page, as_json=as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders that evaluate wrote, or tables.", show_default=False)],
    *,
    weights_from: Annotated[
        list[Path] | None,
        typer.Option("--ensemble", help="The same runs on validation photos: adds their fitted ensemble."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the ensemble's prediction table.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The comparison as JSON.")] = False,
) -> None:
    """Put evaluations side by side, on the photos in common, with intervals and McNemar's test."""
    from carspotter.evaluation import compare as comparing
    from carspotter.evaluation.predictions import Predictions

    if out and not weights_from:
        raise typer.BadParameter("--out is for the table of an ensemble; add --ensemble for each run")
    if weights_from and len(weights_from) != len(runs):
        raise typer.BadParameter(f"--ensemble: {len(weights_from)} tables for {len(runs)} runs; give one for each")
    tables = [Predictions.load(_table_of(run)) for run in runs]
    chosen_by = _in_order([Predictions.load(_table_of(run)) for run in weights_from or ()], tables)
    tables = _named(tables, runs)
    if chosen_by:
        weights = comparing.fit_weights(chosen_by)
        tables.append(comparing.ensemble(tables, weights, name="fitted ensemble"))
        if out:
            tables[-1].save(out)
    found = comparing.compare(tables)
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    from carspotter.cli.figures import show_comparison

    show_comparison(found)


def _named(tables: list[Predictions], runs: list[Path]) -> list[Predictions]:
    """Tell tables of one name apart by where they lie, as those of several seeds of a recipe."""
    names = [table.name for table in tables]
    return [
        replace(table, name=str(run)) if names.count(table.name) > 1 else table
        for table, run in zip(tables, runs, strict=True)
    ]


def _in_order(validation: list[Predictions], tables: list[Predictions]) -> list[Predictions]:
    """Put tables in the order of those of the same runs, so that each run gets its own weight; by their names."""
    asked, given = [table.name for table in tables], [table.name for table in validation]
    # Seeds of one recipe have one name: then the order says which is whose.
    if not given or len(set(asked)) < len(asked):
        return validation
    if sorted(asked) != sorted(given):
        raise typer.BadParameter(
            f"--ensemble: tables of {', '.join(given)} for runs of {', '.join(asked)}; give one of each run"
        )
    return sorted(validation, key=lambda table: asked.index(table.name))


def _bundle_of(model: Path) -> Path:
    """Return a bundle's folder; a run is exported first, and again when its weights are newer."""
    if not (model / "recipe.json").exists():
        return model
    bundle, weights = model / "bundle", model / "best.pt"
    manifest = bundle / "bundle.json"
    if not manifest.exists() or (weights.exists() and manifest.stat().st_mtime < weights.stat().st_mtime):
        try:
            from carspotter.export.onnx import export
        except ModuleNotFoundError as error:
            raise missing(error, "export") from error
        export(model, bundle)
    return bundle


def _table_of(path: Path) -> Path:
    return path / "predictions.parquet" if path.is_dir() else path


def _show(table: Predictions, page: Path, *, as_json: bool) -> None:
    from carspotter.evaluation.metrics import evaluate as figures_of

    figures: dict[str, Any] = figures_of(table).to_dict()
    if as_json:
        print(json.dumps(figures))
        return
    from carspotter.cli.figures import show_evaluation

    show_evaluation(figures)
    typer.echo(f"The report: {page}")
