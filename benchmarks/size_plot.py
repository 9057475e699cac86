"""Draw the curve of size, latency and accuracy: the rows of size_curve.py in, an SVG for light and dark pages out."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 64
COLORS = ("#3b82f6", "#e07b00", "#1a9c5b", "#b45fd6", "#d6455d")
"""Each reads on white and on near-black."""
STYLE = """text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px } .grid { stroke: #8c959f; stroke-opacity: .3 } .axis { stroke: #8c959f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }"""


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """Write the plot: latency ratio to the right, top-1 upwards, a line a network, a marker's area its file's size."""
    first = rows[0]
    xs = ticks(0.0, max(row["ratio"] for row in rows), 7)
    ys = ticks(min(row["top1"]["low"] for row in rows) * 100, max(row["top1"]["high"] for row in rows) * 100, 7)

    def place(row: dict[str, Any], share: float | None = None) -> tuple[float, float]:
        x = LEFT + (row["ratio"] - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        value = 100 * (row["top1"]["value"] if share is None else share)
        return x, HEIGHT - BOTTOM - (value - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)

    title = f"latency of one photo; 1 is {first['name']} at {first['size']} px, {first['p50_ms']:.0f} ms on one thread"
    parts = [*grid(xs, ys), text(WIDTH / 2 + 20, HEIGHT - 14, title, "middle"), text(8, 15, "top-1, %", "start")]
    names = list(dict.fromkeys(row["name"] for row in rows))
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if row["name"] == name), key=lambda row: row["ratio"])
        color = COLORS[number % len(COLORS)]
        parts += series(mine, [place(row) for row in mine], color, is_above=number % 2 == 0)
        parts += [bar(place(row, row["top1"]["low"]), place(row, row["top1"]["high"]), color) for row in mine]
        parts += legend(name, mine[0], number, len(names), color)
    inside = "\n".join(parts)
    label = "Top-1 against latency of each network and input size; the table beside it has the figures."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        f"<style>{STYLE}</style>\n{inside}\n</svg>\n"
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Give round numbers about `count` in all, from below `low` to above `high`."""
    raw = (high - low) / (count - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    begin, end = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 6) for number in range(begin, end + 1)]


def grid(xs: Sequence[float], ys: Sequence[float]) -> Iterable[str]:
    """Draw the lines of round numbers, and the numbers."""
    for number, x in enumerate(xs):
        at = LEFT + number / (len(xs) - 1) * (WIDTH - LEFT - RIGHT)
        yield line(at, TOP, at, HEIGHT - BOTTOM, "grid")
        yield text(at, HEIGHT - BOTTOM + 18, f"{x:g}", "middle")
    for number, y in enumerate(ys):
        at = HEIGHT - BOTTOM - number / (len(ys) - 1) * (HEIGHT - TOP - BOTTOM)
        yield line(LEFT, at, WIDTH - RIGHT, at, "grid")
        yield text(LEFT - 8, at + 4, f"{y:g}", "end")


def series(
    rows: Sequence[dict[str, Any]], places: Sequence[tuple[float, float]], color: str, *, is_above: bool
) -> Iterable[str]:
    """Draw a network's line, its markers and what each input size is: neighbours write on different sides."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
    for row, (x, y) in zip(rows, places, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius(row):.1f}" fill="{color}" fill-opacity=".8"/>'
        beside = -radius(row) - 5 if is_above else radius(row) + 14
        yield text(x, y + beside, f"{row['size']}", "middle", f'class="small" style="fill: {color}"')


def radius(row: dict[str, Any]) -> float:
    """Give a marker's radius: its area is the file's size."""
    return 3.2 * math.sqrt(row["bytes"] / 1e6)


def bar(low: tuple[float, float], high: tuple[float, float], color: str) -> str:
    """Draw an interval."""
    return f'<path d="M{low[0]:.1f} {low[1]:.1f}V{high[1]:.1f}" stroke="{color}" stroke-opacity=".6"/>'


def legend(name: str, row: dict[str, Any], number: int, count: int, color: str) -> Iterable[str]:
    """Name a network at the lower right, with its file's size."""
    y = HEIGHT - BOTTOM - 14 - 20 * (count - 1 - number)
    yield f'<circle cx="{WIDTH - RIGHT - 190}" cy="{y - 4}" r="6" fill="{color}"/>'
    yield text(WIDTH - RIGHT - 178, y, f"{name}, {row['bytes'] / 1e6:.1f} MB", "start")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str, look: str = "") -> str:
    """Write words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {look}>{words}</text>'
