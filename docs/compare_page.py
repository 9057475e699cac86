"""Draw a section of docs/accuracy.md, and docs/compare.svg, from what `benchmarks/compare.py` wrote.

In: its JSON. Out: the table, the machine and the versions, and a picture of the ratios.

    python docs/compare_page.py runs/compare.json
"""

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDTH, LINE, LEFT, TOP = 760, 34, 330, 34
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
OURS, BEHIND = "#2f81f7", "#bf8700"
STYLE = (
    "<style>text{fill:#24292f}.soft{fill:#6e7781}line{stroke:#8c959f;stroke-opacity:.35}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}}</style>"
)

BEGIN, END = "<!-- comparison: written by docs/compare_page.py -->", "<!-- /comparison -->"
SECTION = """
carspotter against what is usually taken for the same work, each pair in one run on the same photographs:
[benchmarks/compare.py](../benchmarks/compare.py) measures, and this section is drawn from what it wrote.

![How many times better than each peer, on a logarithmic scale](compare.svg)

{table}

A target is a ratio. Peers run as their documentation shows, in processes and with threads of their own choice; the
detector and the embedding of `imagededup + YOLOv8n`, and both networks of `torch + timm`, have random weights, which
cost the same time. Figures of one row come from the same minutes; rows of another machine or day cannot be compared.

{machine}

```sh
python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt
python benchmarks/compare.py PHOTOS --peers peers/bin/python --out runs/compare.json
python docs/compare_page.py runs/compare.json
```
"""


def main(path: Path) -> None:
    """Write both files."""
    found = json.loads(path.read_text(encoding="utf-8"))
    section = SECTION.format(table=table(found["rows"]), machine=machine(found["machine"]))
    before, _, rest = (HERE / "accuracy.md").read_text(encoding="utf-8").partition(BEGIN)
    page = before + BEGIN + section + END + rest.partition(END)[2]
    (HERE / "accuracy.md").write_text(page, encoding="utf-8")
    (HERE / "compare.svg").write_text(picture(found["rows"]), encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """Give the table in Markdown."""
    lines = ["| work | carspotter | the other | times better | target |", "|---|---|---|---|---|"]
    lines += [f"| {row['job']} | {row['ours']} | {row['peer']} | {row['times']:g} | {verdict(row)} |" for row in rows]
    return "\n".join(lines)


def verdict(row: dict[str, Any]) -> str:
    """Say whether a target was met."""
    if not row["target"]:
        return "–"
    return f"{row['target']}, {'met' if row['times'] >= float(row['target']) else 'missed'}"


def machine(facts: dict[str, Any]) -> str:
    """Give the machine and the versions in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    return f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}; {versions}."


def picture(rows: list[dict[str, Any]]) -> str:
    """Draw a bar a row, from 1 to its ratio, on a logarithmic scale."""
    least = min(0.5, *(row["times"] for row in rows))
    most = max(2.0, *(row["times"] for row in rows))
    height = TOP + LINE * len(rows) + 10
    start = place(1, least, most)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        STYLE,
        *(tick(value, least, most, height) for value in TICKS if least <= value <= most),
    ]
    for number, row in enumerate(rows):
        end, top = place(row["times"], least, most), TOP + LINE * number
        colour = OURS if row["times"] >= 1 else BEHIND
        work, ours, peer = (
            escape(row[key].rpartition(":")[0] if key != "job" else row[key]) for key in ("job", "ours", "peer")
        )
        parts += [
            f'<text x="{LEFT - 12}" y="{top + 11}" text-anchor="end">{work}</text>',
            f'<text x="{LEFT - 12}" y="{top + 24}" class="soft" font-size="10" text-anchor="end">'
            f"{ours} : {peer}</text>",
            f'<rect x="{min(start, end):.1f}" y="{top + 4}" width="{max(abs(end - start), 1.5):.1f}" '
            f'height="16" rx="3" fill="{colour}"/>',
            f'<text x="{max(start, end) + 6:.1f}" y="{top + 16}">{row["times"]:g}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def place(value: float, least: float, most: float) -> float:
    """Give where a ratio stands on the line."""
    return LEFT + (WIDTH - LEFT - 60) * (math.log(value / least) / math.log(most / least))


def tick(value: float, least: float, most: float, height: int) -> str:
    """Draw a mark of the scale."""
    x = place(value, least, most)
    return (
        f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 10}" />'
        f'<text x="{x:.1f}" y="{TOP - 14}" class="soft" text-anchor="middle">{value:g}</text>'
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
