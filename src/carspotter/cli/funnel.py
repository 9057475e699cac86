"""Print a funnel or the rows of a query as tables for people, on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from carspotter.catalog.funnel import STAGES, Funnel
from carspotter.cli.scorecard import Scorecard
from carspotter.cli.tables import clean, show

BAR = 12  # characters of a bar that holds every photo


def show_funnel(funnel: Funnel) -> None:
    """Print the photos that passed each step as bars, and why the others stopped."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = (("step", "left"), ("photos", "right"), ("", "left"), ("that", "left"), ("stopped here", "left"))
    for heading, justify in columns:
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich's own literals
    full = _bar(1.0 if funnel.photos else 0.0)
    table.add_row("listed", f"{funnel.photos:,}", full, "the sources name", _reasons(funnel.listings, "ads: "))
    for stage in funnel.stages:
        share = stage.passed / funnel.photos if funnel.photos else 0.0
        table.add_row(stage.name, f"{stage.passed:,}", _bar(share), STAGES[stage.name], _reasons(stage.stopped))
    show(table)
    if funnel.splits:
        show(Text("  ".join(f"{name} {count}" for name, count in funnel.splits.items())))


def _bar(share: float) -> str:
    return "█" * round(share * BAR)


def _reasons(counts: Mapping[str, int], prefix: str = "") -> Text:
    return clean(prefix + ", ".join(f"{reason} {count}" for reason, count in counts.items())) if counts else Text()


def show_scorecard(card: Scorecard, learned: Mapping[str, Any]) -> None:
    """Print how many of a showroom's planted flaws were found, what was good and kept, and what `learn` reaches."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, justify in (("planted", "left"), ("found", "right"), ("missed", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich's own literals
    for score in card.flaws:
        table.add_row(score.name, str(score.found), str(score.missed) if score.missed else "")
    table.add_section()
    for score in card.good:
        table.add_row(score.name, f"{score.found} of {score.planted}", str(score.missed) if score.missed else "")
    show(table)
    if "test_top1" in learned:
        share, ads = learned["test_top1"], learned["ad_top1"]
        show(
            Text(
                f"learn: {share:.1%} of {learned['test']} test photos right among {learned['classes']} classes, "
                f"{ads:.1%} of {learned['test_ads']} whole ads"
            )
        )


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of a query as a table."""
    if not rows:
        show(Text("no rows"))
        return
    table = Table(*(str(clean(name)) for name in rows[0]), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if value is None else clean(str(value)) for value in row.values()))
    show(table)
