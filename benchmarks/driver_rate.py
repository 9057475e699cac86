"""How many photos a second can the one process that writes the catalogue keep up with?

The stage does nothing: it gives each photo the rows of a look (a check, a finding, an embedding of 1280 numbers) at
once, so that what is left is the driver's own work: handing out batches, taking rows back, and appending them. Workers
are this process, two processes, and two actors of a Ray that is started here; then two actors that do not see the
photographs, so that each is read and sent along. The driver's rate is where more workers stop to pay.

    python benchmarks/driver_rate.py [--photos 20000] [--kilobytes 250] [--json]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.catalog import Catalog
from carspotter.compute import run
from measure import parser, report

DIMENSIONS = 1280  # of the shipped identifier's embedding
PER_AD = 5


@dataclass(kw_only=True)
class Give:
    """Answer each row at once; with a `folder`, as if this machine did not see it."""

    folder: str = ""
    name: str = "give"
    reads: str = "SELECT photo_id, path FROM files WHERE status = 'ok'"
    writes: Mapping[str, str] = field(default_factory=lambda: {"checks": "1", "findings": "1", "embeddings": "1"})

    def setup(self) -> None:
        """Take away the landmark by which compute sees that the folder is here."""
        if self.folder:
            for landmark in Path(self.folder).glob(".seen-*"):
                landmark.unlink(missing_ok=True)
        self.vector = np.random.default_rng(0).random(DIMENSIONS).astype(np.float16)

    def process(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Give rows of the size that a look gives."""
        ids = [row["photo_id"] for row in rows]
        if self.folder:
            assert all(Path(row["path"]).is_absolute() and Path(row["path"]).stat().st_size for row in rows)
        return {
            "checks": [
                {
                    "photo_id": name,
                    "width": 1600,
                    "height": 1200,
                    "format": "JPEG",
                    "sha256": "0" * 64,
                    "phash": 1,
                    "dhash": 2,
                    "brightness": 0.5,
                    "contrast": 0.2,
                    "sharpness": 300.0,
                    "plainness": 0.1,
                    "flags": [],
                    "status": "ok",
                }
                for name in ids
            ],
            "findings": [
                {
                    "photo_id": name,
                    "kind": "exterior",
                    "kind_probability": 0.9,
                    "exterior": 0.9,
                    "passed": True,
                    "vehicles": 1,
                    "x1": 1.0,
                    "y1": 2.0,
                    "x2": 3.0,
                    "y2": 4.0,
                    "score": 0.9,
                    "viewpoint": "front",
                    "viewpoint_probability": 0.8,
                    "status": "ok",
                }
                for name in ids
            ],
            "embeddings": [{"photo_id": name, "bundle": "b", "embedding": self.vector, "status": "ok"} for name in ids],
        }


def fill(folder: Path, photos: int, kilobytes: int) -> Catalog:
    """Make a catalogue of photos that are all one file."""
    catalog = Catalog.open(folder)
    photo = folder / "photo.jpg"
    photo.write_bytes(os.urandom(kilobytes << 10))
    rows = [
        {"photo_id": f"{number // PER_AD:08}/{number}", "path": f"{number}.jpg", "status": "ok"}
        for number in range(photos)
    ]
    for row in rows:
        os.link(photo, folder / row["path"])
    catalog.append("files", rows)
    return catalog


def measure(photos: int, kilobytes: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of workers."""
    kinds: tuple[tuple[str, dict[str, Any], bool], ...] = (
        ("this process", {"workers": 0}, False),
        ("two processes", {"workers": 2}, False),
        ("two actors", {"workers": 2, "on": "ray"}, False),
        ("two actors, photographs sent along", {"workers": 2, "on": "ray"}, True),
    )
    for name, how, travels in kinds:
        with tempfile.TemporaryDirectory() as folder:
            with fill(Path(folder), photos // (5 if travels else 1), kilobytes) as catalog:
                first: list[float] = []
                before = time.process_time()
                summary = run(
                    Give(folder=folder if travels else ""),
                    catalog,
                    progress=lambda *_, seen=first: seen.append(time.monotonic()),
                    **how,
                )
                own = time.process_time() - before
            rate = (summary.done - 64) / (first[-1] - first[0])  # from the first batch on: without starting
            yield {
                "workers": name,
                "photos": summary.done,
                "photos a second": round(rate),
                "driver's processor time, ms a photo": round(1000 * own / summary.done, 3),
                **({"MB a second": round(rate * kilobytes / 1024)} if travels else {}),
            }


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__)
    options.add_argument("--photos", type=int, default=20_000)
    options.add_argument("--kilobytes", type=int, default=250)
    chosen = options.parse_args()
    rows = list(measure(chosen.photos, chosen.kilobytes))
    report("driver rate", rows, as_json=chosen.json, conditions={"kilobytes a photo": chosen.kilobytes})


if __name__ == "__main__":
    main()
