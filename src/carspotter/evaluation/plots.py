"""Draw figures as inline SVG. Colours and fonts come from the style sheet of the page around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from carspotter.evaluation.curves import ReliabilityBin
from carspotter.evaluation.intervals import Estimate, Share
from carspotter.evaluation.metrics import LevelFigures
from carspotter.runtime.calibration import PRECISION

WIDTH, HEIGHT = 440, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46
FEWEST = 20
"""Photos below which a point of the coverage curve is left out: its precision is noise."""


def reliability_plot(bins: Sequence[ReliabilityBin]) -> str:
    """Draw the share right against the mean probability of each bin, with intervals; bars show how many photos."""
    marks = [f'<line class="ideal" {_ends(_x(0), _y(0), _x(1), _y(1))}/>']
    most = max((each.right.total for each in bins), default=1)
    for each in bins:
        x, width = _x(each.low), _x(each.high) - _x(each.low)
        # The tallest bar takes a fifth of the plot, so that bars stay behind what they are there to explain.
        top = _y(0.2 * each.right.total / most)
        said = (
            f"{each.right.total} photos at {each.mean_probability:.3f} on average, {100 * each.right.value:.1f} % right"
        )
        marks.append(
            f'<rect class="many" x="{x + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{_y(0) - top:.1f}">'
            f"<title>{said}</title></rect>"
        )
    for each in bins:
        x = _x(each.mean_probability)
        marks.append(f'<line class="whisker" {_ends(x, _y(each.right.low), x, _y(each.right.high))}/>')
        marks.append(f'<circle class="dot" cx="{x:.1f}" cy="{_y(each.right.value):.1f}" r="4"/>')
    ticks = [i / 5 for i in range(6)]
    return _svg(
        "Reliability: share right against probability",
        [*_axes(ticks, ticks, low=0.0), *marks, *_titles("probability of the answer, %", "right, %")],
    )


def coverage_plot(levels: Iterable[LevelFigures]) -> str:
    """Draw the share right among the answers against the share of photos answered, a line a level."""
    lines = [
        (number, level, [point for point in level.curve if point.coverage.count >= min(FEWEST, point.coverage.total)])
        for number, level in enumerate(levels)
    ]
    worst = min((point.precision.value for _, _, points in lines for point in points), default=0.0)
    low = min(0.9, max(0.0, int(worst * 10) / 10))
    step = 0.02 if low >= 0.9 else 0.05 if low >= 0.7 else 0.1 if low >= 0.3 else 0.2
    ticks = [low + step * i for i in range(round((1 - low) / step) + 1)]
    marks = [f'<line class="ideal" {_ends(_x(0), _y(PRECISION, low), _x(1), _y(PRECISION, low))}/>']
    for number, level, points in lines:
        path = " ".join(f"{_x(p.coverage.value):.1f},{_y(p.precision.value, low):.1f}" for p in points)
        marks.append(f'<polyline class="curve c{number}" points="{path}"/>')
        if level.at_precision is not None:
            x, y = _x(level.at_precision.coverage.value), _y(level.at_precision.precision.value, low)
            marks.append(f'<circle class="at c{number}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">')
            marks.append(
                f"<title>{escape(level.level)}: {100 * level.at_precision.coverage.value:.1f} %</title></circle>"
            )
    return _svg(
        "Precision against coverage by level",
        [*_axes([i / 5 for i in range(6)], ticks, low=low), *marks, *_titles("photos answered, %", "right of them, %")],
    )


def floor_of(figures: Iterable[Share | Estimate]) -> float:
    """Return a round share, 0 to 0.9, below all intervals: bars that begin there show their differences."""
    lowest = min((figure.low for figure in figures if figure.value == figure.value), default=0.0)
    return min(0.9, int(lowest * 10) / 10)


def interval_bar(figure: Share | Estimate, *, low: float = 0.0) -> str:
    """Draw a figure as a dot with its interval on a line from `low` to 1."""
    if figure.value != figure.value:
        return ""
    at = [5 + 130 * max(0.0, (each - low) / (1 - low)) for each in (figure.low, figure.value, figure.high)]
    return (
        f'<svg class="bar" viewBox="0 0 140 14" role="img" aria-label="{100 * figure.value:.1f} %">'
        f'<line class="rail" x1="5" y1="7" x2="135" y2="7"/>'
        f'<line class="whisker" x1="{at[0]:.1f}" y1="7" x2="{at[2]:.1f}" y2="7"/>'
        f'<circle class="dot" cx="{at[1]:.1f}" cy="7" r="3"/></svg>'
    )


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float = 0.0) -> float:
    return HEIGHT - BOTTOM - (value - low) / (1 - low) * (HEIGHT - TOP - BOTTOM)


def _ends(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'


def _axes(across: Sequence[float], up: Sequence[float], *, low: float) -> list[str]:
    marks = []
    for value in up:
        y = _y(value, low)
        marks.append(f'<line class="grid" {_ends(_x(0), y, _x(1), y)}/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>')
    for value in across:
        marks.append(
            f'<text x="{_x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{100 * value:.0f}</text>'
        )
    return marks


def _titles(across: str, up: str) -> list[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return [
        f'<text class="axis" x="{_x(0.5):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>',
        f'<text class="axis" transform="rotate(-90 14 {middle:.1f})" x="14" y="{middle:.1f}" '
        f'text-anchor="middle">{escape(up)}</text>',
    ]


def _svg(label: str, marks: Sequence[str]) -> str:
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(marks)}</svg>"
