"""What every benchmark needs: the facts of the machine, percentiles of timings, and one way to print a result.

In: rows of numbers. Out: a table for people or, with `--json`, one JSON object that names machine, versions and date.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

try:
    from carspotter.cores import cores
except ImportError:  # an older commit, which `against_commit.py` measures by this file

    def cores() -> int:
        """Return how many cores this process may use."""
        return len(os.sched_getaffinity(0))


PACKAGES = ("carspotter", "numpy", "pillow", "onnxruntime", "openvino", "torch", "timm")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Begin the command line of a benchmark with the option that all have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return result


def machine() -> dict[str, Any]:
    """Name the processor, the cores that this process may use, the versions and the date."""
    return {
        "cpu": cpu_model(),
        "cores": CORES,
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "date": datetime.now(UTC).date().isoformat(),
    }


def cpu_model() -> str:
    """Read the processor's name where Linux keeps it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


CORES = cores()  # counted before a benchmark binds itself to one of them


def keep_to_one_core() -> None:
    """Bind this process, and the threads that it starts later, to one core where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def installed(name: str) -> str | None:
    """Give the version of a package, or None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def timings(action: Callable[[], object], *, repeats: int, warm: int = 0) -> list[float]:
    """Time an action; give milliseconds, after `warm` runs that are not counted."""
    for _ in range(warm):
        action()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Give the median, the 95th percentile and the count."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "n": len(milliseconds)}


def report(title: str, rows: Sequence[dict[str, Any]], *, as_json: bool, conditions: dict[str, Any]) -> None:
    """Print the rows with the machine and the conditions they were measured under."""
    facts = machine()
    if as_json:
        print(json.dumps({"benchmark": title, "rows": rows, "conditions": conditions, "machine": facts}))
        return
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    print(f"# {title}\n")
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}, Python {facts['python']}, {facts['date']}")
    print(f"{versions}\n" + "; ".join(f"{name}: {value}" for name, value in conditions.items()) + "\n")
    print("\n".join(table(rows)))


def table(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Write rows as a Markdown table; a column that a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for line in (columns, ["-" * width for width in widths], *cells):
        yield "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
