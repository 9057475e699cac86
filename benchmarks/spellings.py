"""How often sellers' words are read rightly: a list of spellings in many languages against `resolve`, wrong ones named.

    python benchmarks/spellings.py [tests/labels/spellings.csv]

Right is make, model and generation as the list says. Honest is what says less: unresolved, or without the generation.
Wrong is another car, another generation, or any car where the list says that none can be told.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from carspotter.labels.resolve import Resolution, Resolver

LIST = Path(__file__).parents[1] / "tests" / "labels" / "spellings.csv"
SURE = 0.8
"""The score above which nothing may be wrong."""


def judge(row: Mapping[str, str], found: Resolution) -> str:
    """Return "right", "honest" or "wrong" for what was found of a row of the list."""
    truth = tuple(row[f"becomes_{part}"] or None for part in ("make", "model", "generation"))
    if found.name is None:
        return "right" if truth[1] is None else "honest"
    if (found.make, found.model) != truth[:2]:
        return "wrong"
    return "right" if found.generation == truth[2] else "honest" if found.generation is None else "wrong"


def measure(rows: Iterable[Mapping[str, str]]) -> tuple[Counter[str], list[str]]:
    """Return how many rows are right, honest, wrong and "wrong and sure", and a line for each that is not right."""
    resolver = Resolver()
    counts: Counter[str] = Counter()
    lines = []
    for row in rows:
        words = {name: row[name] or None for name in ("make", "model", "submodel", "title", "description")}
        found = resolver.resolve(**words)  # type: ignore[arg-type]
        verdict = judge(row, found)
        counts[verdict] += 1
        counts["wrong and sure"] += verdict == "wrong" and found.score > SURE
        if verdict != "right":
            said = " | ".join(word for word in words.values() if word)
            lines.append(
                f"{verdict:6} {row['language']} {said}: {found.name or found.message} ({found.method} {found.score})"
            )
    return counts, lines


def main() -> None:
    """Print what was measured."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else LIST
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    counts, lines = measure(rows)
    print("\n".join(lines))
    fair = counts["right"] + counts["honest"]
    print(f"{len(rows)} spellings in {len({row['language'] for row in rows})} languages: ", end="")
    print(f"{counts['right']} right, {counts['honest']} honestly unresolved, {counts['wrong']} wrong ", end="")
    print(f"({counts['wrong and sure']} of them above {SURE}); right or honest {fair / len(rows):.3f}")


if __name__ == "__main__":
    main()
