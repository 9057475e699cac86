"""Draw how a training went and how right each class is, as SVG: within the report, and as files of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from carspotter.errors import EvaluationError
from carspotter.evaluation.metrics import ClassFigures

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 440, 220, 52, 34, 14
ROW, NAMES = 18, 210
MOST_CLASSES = 200
"""Classes on the picture, the worst first: a thousand bars cannot be read."""
_LOSSES = ("loss", "held-out loss")
_SKIPPED = ("epoch", "seconds")
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#5d6673}.grid{stroke:#dfe3e8}.curve{fill:none;stroke-width:2}"
    ".c0{stroke:#1769aa}.c1{stroke:#c2570c}.c2{stroke:#0a8a63}.c3{stroke:#a1447f}.hit{fill:#1769aa}.many{fill:#dfe3e8}"
    "</style>"
)

Epoch = Mapping[str, Any]


def read_log(path: Path) -> list[Epoch]:
    """Read the log of a run, a line of figures an epoch; empty without one. Raises EvaluationError for a broken one."""
    if not path.is_file():
        return []
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: no log of a training: {error}") from error


def curves(log: Sequence[Epoch]) -> dict[str, str]:
    """Return pictures by name, `losses` and `figures`, of two epochs or more; a figure that is null leaves a gap."""
    if len(log) < 2:
        return {}
    names = list(dict.fromkeys(key for line in log for key in line if key not in _SKIPPED))
    groups = {"losses": [n for n in names if n in _LOSSES], "figures": [n for n in names if n not in _LOSSES][:4]}
    return {name: _lines(log, of, name) for name, of in groups.items() if of}


def _lines(log: Sequence[Epoch], names: Sequence[str], title: str) -> str:
    values = [line[name] for line in log for name in names if isinstance(line.get(name), int | float)]
    high = max([*values, 1e-9]) if title == "losses" else 1.0
    first, last = log[0]["epoch"], log[-1]["epoch"]

    def place(epoch: float, value: float) -> str:
        x = LEFT + (epoch - first) / max(1, last - first) * (WIDTH - LEFT - 14)
        return f"{x:.1f},{HEIGHT - BOTTOM - value / high * (HEIGHT - BOTTOM - TOP):.1f}"

    marks = []
    for part in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
        marks.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 14}" y2="{y:.1f}"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{part * high:.3g}</text>')
    apart = min(26 + 7 * max(map(len, names)), (WIDTH - LEFT) // len(names))  # a letter is about 7 wide
    for number, name in enumerate(names):
        known = [line for line in log if isinstance(line.get(name), int | float)]
        points = " ".join(place(line["epoch"], line[name]) for line in known)
        marks.append(f'<polyline class="curve c{number}" points="{points}"><title>{escape(name)}</title></polyline>')
        at = LEFT + number * max(apart, 60)
        marks.append(f'<line class="curve c{number}" x1="{at}" y1="{HEIGHT - 6}" x2="{at + 14}" y2="{HEIGHT - 6}"/>')
        marks.append(f'<text x="{at + 18}" y="{HEIGHT - 2}">{escape(name)}</text>')
    marks.append(f'<text x="{WIDTH - 14}" y="{HEIGHT - BOTTOM + 14}" text-anchor="end">epoch {last}</text>')
    return _svg(f"{title} by epoch", WIDTH, HEIGHT, marks)


def class_bars(classes: Sequence[ClassFigures]) -> str:
    """Draw the recall of each class that has photos, which is its accuracy, the worst first."""
    shown = sorted((each for each in classes if each.support), key=lambda each: (each.recall.value, each.name))
    marks = []
    for row, each in enumerate(shown[:MOST_CLASSES]):
        y = row * ROW
        width = WIDTH - NAMES - 50
        said = f"{each.recall.count} of {each.recall.total}"
        marks += [
            f'<text x="{NAMES - 8}" y="{y + 13}" text-anchor="end">{escape(each.name[:34])}</text>',
            f'<rect class="many" x="{NAMES}" y="{y + 4}" width="{width}" height="10"/>',
            f'<rect class="hit" x="{NAMES}" y="{y + 4}" width="{width * each.recall.value:.1f}" height="10">'
            f"<title>{escape(each.name)}: {said}</title></rect>",
            f'<text x="{WIDTH - 46}" y="{y + 13}">{100 * each.recall.value:.0f} %</text>',
        ]
    return _svg("accuracy by class", WIDTH, max(1, len(shown[:MOST_CLASSES])) * ROW + 4, marks)


def alone(picture: str) -> bytes:
    """Return a picture as a file that stands by itself; in a page its colours are the page's."""
    return picture.replace("><", f">{_STYLE}<", 1).encode()


def _svg(title: str, width: int, height: int, marks: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(marks)}</svg>'
    )
