"""Print predictions and bundles as tables for people. Programs get JSON from the commands themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from carspotter.recognition.candidates import why_no_vehicle
from carspotter.records import UNKNOWN_VIEWPOINT, Candidate, Prediction, Vehicle

if TYPE_CHECKING:
    from carspotter.runtime.bundle import ModelBundle

PIPE_WIDTH = 140  # columns where no terminal says its own: five columns of a table without wrapping
BAR = 24  # characters of a bar at probability one
LEAST_SHOWN = 0.005  # a candidate that would read as 0.00 is of no use to a person
PANEL = 100  # columns: a wider panel puts names too far from their bars


def show(content: RenderableType) -> None:
    """Print to stdout in one write, so that a closed pipe is a BrokenPipeError here and not Rich's own exit."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    # What strangers wrote is shown as it is: no [markup], no :emoji:.
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(content)
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def clean(text: str) -> Text:
    """Make text from outside safe to print: no markup, no control character that would steer the terminal."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def show_photos(predictions: Iterable[Prediction]) -> None:
    """Print one row a vehicle; a photo without any has one row that says why.

    Only the answer shows its probability: eight numbers a row would leave no room for names on 80 columns.
    """
    table = Table("photo", "kind", "vehicle", "look", "viewpoint", "box", box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = table.columns[2].overflow = "fold"
    for prediction in predictions:
        for number, row in enumerate(_rows(prediction)):
            photo = clean(prediction.photo) if number == 0 else Text()
            table.add_row(photo, prediction.kind.name if prediction.kind and number == 0 else "", *row)
    show(table)


def _rows(prediction: Prediction) -> Iterator[tuple[Text, str, str, str]]:
    for vehicle in prediction.vehicles:
        own = (f"{name} {word.name if word else 'unsure'}" for name, word in vehicle.own.items())
        yield _verdict(vehicle), ", ".join(filter(None, (vehicle.look, *own))), vehicle.viewpoint.name, _box(vehicle)
    if prediction.error is not None:
        message = clean(prediction.error.message)
        message.stylize("red")
        yield message, "", "", ""
    elif not prediction.vehicles:
        yield Text(why_no_vehicle(prediction) or "", "dim"), "", "", ""


def show_photo(prediction: Prediction) -> None:
    """Print one photo as a panel: each vehicle with its ranked candidates per level as bars; nothing for an error."""
    if prediction.error is not None:
        return  # it is reported on stderr
    kind = f"{prediction.kind.name} {prediction.kind.probability:.2f}, " if prediction.kind else ""
    parts: list[RenderableType] = [Text(f"{kind}{prediction.width}x{prediction.height} px", "dim")]
    note = why_no_vehicle(prediction)
    if note:
        parts.append(Text(note, "yellow"))
    for vehicle in prediction.vehicles:
        parts += ["", _verdict(vehicle), *_beyond(vehicle), Text(_place(vehicle), "dim"), _candidates(vehicle)]
    spent = ", ".join(f"{step} {value:.0f} ms" for step, value in prediction.milliseconds.items())
    show(
        Panel(
            Group(*parts),
            title=clean(prediction.photo),
            title_align="left",
            subtitle=spent,
            subtitle_align="right",
            border_style="dim",
            width=min(PANEL, Console().width),
        )
    )


def _verdict(vehicle: Vehicle) -> Text:
    if vehicle.answer is None:
        return Text(vehicle.undecided or "undecided", "yellow")
    return Text.assemble((vehicle.answer.name, "bold"), f"  {vehicle.answer.probability:.2f}")


def _beyond(vehicle: Vehicle) -> list[Text]:
    """Say in words why an answer that names no more than a make does not go on to the model."""
    answer, models = vehicle.answer, vehicle.levels.get("model", ())
    if answer is None or answer.level != "make" or not models:
        return []
    if models[0].name == answer.name:
        return [Text("none of the models that it knows of this make", "dim")]
    return [Text(f"the model is not sure enough: {models[0].name} {models[0].probability:.2f}", "dim")]


def _viewpoint(vehicle: Vehicle) -> str:
    if vehicle.viewpoint.name == UNKNOWN_VIEWPOINT:
        return UNKNOWN_VIEWPOINT
    return f"{vehicle.viewpoint.name} {vehicle.viewpoint.probability:.2f}"


def _box(vehicle: Vehicle) -> str:
    return " ".join(f"{value:.0f}" for value in vehicle.box.to_list())


def _place(vehicle: Vehicle) -> str:
    said = [f"{word.name} {word.probability:.2f}, " for word in (vehicle.colour, vehicle.body) if word is not None]
    for name, own in vehicle.own.items():
        said.append(f"{name} {own.name} {own.probability:.2f}, " if own else f"{name} unsure, ")
    return f"{''.join(said)}seen from {_viewpoint(vehicle)}, box {_box(vehicle)}, score {vehicle.score:.2f}"


def _candidates(vehicle: Vehicle) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_column(width=BAR, no_wrap=True)
    table.add_column(justify="right")
    above: set[str] = set()
    for level, candidates in vehicle.levels.items():
        shown = [c for c in candidates if c is candidates[0] or c.probability >= LEAST_SHOWN]
        names = {c.name for c in shown}
        # A class without a generation or a year has the name of its model there: a level that says no more is left out.
        for number, candidate in enumerate(shown if not names <= above else ()):
            told = f"{candidate.name}, another model" if level == "model" and candidate.name in above else ""
            table.add_row(*_bar(level if number == 0 else "", candidate, told))
        above |= names
    return table


def _bar(level: str, candidate: Candidate, told: str = "") -> tuple[str, Text, Text, str]:
    filled = round(candidate.probability * BAR)
    bar = Text.assemble(("█" * filled, "green"), ("░" * (BAR - filled), "dim"))
    return level, Text(told or candidate.name), bar, f"{candidate.probability:.2f}"


def show_bundles(bundles: Sequence[ModelBundle]) -> None:
    """Print one row a bundle: its task, size, figures and licence."""
    table = Table("name", "task", "size", "figures", "licence", box=None, header_style="bold", pad_edge=False)
    for bundle in bundles:
        size = f"{bundle.model_path.stat().st_size / 1e6:.1f} MB"
        table.add_row(
            clean(bundle.name), bundle.task, size, _figures(bundle.card["figures"]), clean(str(bundle.card["licence"]))
        )
    show(table)


def _figures(figures: object) -> Text:
    """Set one figure a line; a card may also tell its figures in words."""
    if not isinstance(figures, Mapping):
        return clean(str(figures))
    lines = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    ]
    return Text("\n").join(map(clean, lines))
