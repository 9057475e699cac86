"""What does each photograph and each ad cost the one process that builds: memory while it imports, bytes on the disk?

Rows are synthetic, of the lengths that real ones have: a listing with 13 columns, photo ids of 24 letters, the facts of
a look with an embedding of 1280 numbers. `docs/scale.md` multiplies these by a hundred million.

    python benchmarks/scale_memory.py [--photos 20000] [--json]
"""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.catalog import Catalog
from driver_rate import DIMENSIONS, PER_AD, Give
from measure import parser, report


def memory(make: Callable[[], object]) -> int:
    """Return the bytes that Python holds for what is made."""
    tracemalloc.start()
    held = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return size


def listing(number: int) -> dict[str, Any]:
    """Make an ad's row as an import remembers it."""
    return {
        "ad_id": f"{number:010}",
        "source": "table:cars.csv",
        "url": f"https://cars.example/ads/{number:010}",
        "make": f"Make {number % 40}",
        "model": f"Model {number % 800}",
        "submodel": f"Line {number % 50}",
        "year": 1990 + number % 35,
        "body": "Sedan",
        "title": f"A car number {number}, first hand, garaged",
        "price": 1000.0 + number,
        "currency": "EUR",
        "attributes": f'{{"color": "blue", "doors": {number % 6}}}',
        "status": "ok",
        "message": None,
    }


def _differing(table: str, random: np.random.Generator) -> dict[str, Any]:
    """Give values that no two photos share."""
    if table == "checks":
        scores = {name: float(random.random()) for name in ("brightness", "contrast", "sharpness", "plainness")}
        hashes = {name: int(random.integers(1 << 62)) for name in ("phash", "dhash")}
        return {"sha256": random.bytes(32).hex(), **hashes, **scores}
    if table == "findings":
        names = ("kind_probability", "exterior", "x1", "y1", "x2", "y2", "score", "viewpoint_probability")
        return {name: float(random.random()) for name in names}
    return {"embedding": random.normal(size=DIMENSIONS).astype(np.float16)}


def on_disk(folder: Path, photos: int) -> dict[str, float]:
    """Append the facts of a look; return the bytes a photo of each table."""
    stage = Give()
    stage.setup()
    rows = [{"photo_id": f"{n // PER_AD:010}/{n:012x}", "lacks": []} for n in range(photos)]
    random = np.random.default_rng(0)
    with Catalog.open(folder) as catalog, catalog.writer():
        for table, found in stage.process(rows).items():
            for row in found:  # equal values would be packed into nothing
                row |= _differing(table, random)
            catalog.append(table, found)
        return {
            table: sum(path.stat().st_size for path in (folder / "catalog" / table).rglob("*.parquet")) / photos
            for table in stage.writes
        }


def _row(what: str, size: float, for_each: float = 1.0) -> dict[str, Any]:
    return {"what": what, "bytes": round(size), "at 100 million photos, GB": round(size * for_each / 10)}


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__)
    options.add_argument("--photos", type=int, default=20_000)
    chosen = options.parse_args()
    photos, ads = chosen.photos, chosen.photos // PER_AD
    ids = memory(lambda: {f"{n // PER_AD:010}/{n:012x}" for n in range(photos)}) / photos
    kept = memory(lambda: {f"{n:010}": listing(n) for n in range(ads)}) / ads
    rows = [
        _row("import: a known photo id in memory", ids),
        _row("import: a known listing in memory", kept, 1 / PER_AD),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows += [_row(f"disk: a row of {table}", size) for table, size in on_disk(Path(folder), photos).items()]
    report("memory and disk a photo", rows, as_json=chosen.json, conditions={"photos an ad": PER_AD})


if __name__ == "__main__":
    main()
