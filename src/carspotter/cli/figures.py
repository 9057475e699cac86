"""Print evaluations and comparisons as tables of figures with their intervals, on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from carspotter.cli.tables import clean, show
from carspotter.taxonomy import LEVELS

if TYPE_CHECKING:
    from carspotter.evaluation.compare import Comparison


def show_evaluation(figures: Mapping[str, Any]) -> None:
    """Print the figures of one evaluation (`Evaluation.to_dict`)."""
    table = Table("figure", "value", "95 % interval", "photos", box=None, header_style="bold", pad_edge=False)
    for name, key in (("top-1", "top1"), ("top-5", "top5"), ("macro-F1", "macro_f1")):
        table.add_row(name, *_cells(figures[key]))
    for level in _distinct(figures["levels"]):
        table.add_row(_named(level["level"], figures["attribute"]), *_cells(level["right"]))
        at = level["at_precision"]
        if at:
            table.add_row("  answered at 95 % precision", *_cells(at["coverage"]))
    if figures["seen"] and figures["seen"]["photos"]:
        n = figures["seen"]["photos"]
        table.add_row(
            f"top-1 without {n} {'photo' if n == 1 else 'photos'} learnt from", *_cells(figures["seen"]["top1"])
        )
    error = figures["calibration_error"]
    table.add_row("calibration error", f"{error:.4f}" if error is not None else "-", "", "")
    show(table)
    if figures["markets"]:
        show(_markets(figures["markets"]))


def _distinct(levels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Leave out a level that is the one above once more: classes without years say nothing of years."""
    above: Mapping[str, Any] = {}
    for level in levels:
        if {**level, "level": ""} != {**above, "level": ""}:
            yield level
        above = level


def _markets(markets: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table of the markets, each by itself; what is answered at a level comes with its count."""
    head = ("market", "photos", "make", "make and model", "answered", "right where answered", *LEVELS)
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for market in markets:
        shares = [_cells(market[name])[0] for name in ("make", "model", "answered", "right")]
        levels = [_of(market["by_level"].get(level)) for level in LEVELS]
        table.add_row(str(clean(market["name"])), str(market["photos"]), *shares, *levels)
    return table


def _of(share: Mapping[str, Any] | None) -> str:
    return "-" if not share or share["value"] is None else f"{share['value']:.3f} of {share['total']}"


def show_comparison(found: Comparison) -> None:
    """Print runs side by side, then each pair's difference with McNemar's test."""
    content = found.to_dict()
    table = Table("right at", *map(str, map(clean, content["names"])), box=None, header_style="bold", pad_edge=False)
    attribute = found.evaluations[0].attribute
    for depth, shares in content["accuracy"].items():
        if any(share["value"] is not None for share in shares):
            table.add_row(_named(depth, attribute), *(_share(share) for share in shares))
    if found.same_classes:
        figures = [_cells(each["macro_f1"]) for each in content["evaluations"]]
        table.add_row("macro-F1", *(f"{value} ({span})" if span else value for value, span, _ in figures))
    show(table)
    pairs = Table(
        "pair", "at", "difference", "95 % interval", "p (McNemar, Holm)", box=None, header_style="bold", pad_edge=False
    )
    for pair in content["pairs"]:
        difference = pair["difference"]
        pairs.add_row(
            clean(f"{pair['b']} - {pair['a']}"),
            _named(pair["depth"], attribute),
            f"{difference['value']:+.4f}",
            f"{difference['low']:+.4f} to {difference['high']:+.4f}",
            f"{pair['p_holm']:.2g}",
        )
    show(pairs)


def _named(depth: str, attribute: str) -> str:
    """Name the class of an attribute by the attribute."""
    return str(clean(attribute)) if attribute and depth == "class" else depth


def _cells(estimate: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not estimate or estimate["value"] is None:
        return "-", "", ""
    total = str(estimate["total"]) if "total" in estimate else ""
    return f"{estimate['value']:.4f}", f"{estimate['low']:.4f}-{estimate['high']:.4f}", total


def _share(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "-"
    return f"{share['value']:.4f} ({share['low']:.4f}-{share['high']:.4f}) of {share['total']}"
