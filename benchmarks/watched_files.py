"""How long a build looks at local photos that have not changed: seconds and memory for so many files.

In: a number of files. Out: one line. Files are empty and lie in a temporary folder, 1000 to an ad.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from carspotter.catalog.catalog import Catalog
from carspotter.photos import disk

PER_AD = 1000


def fill(project: Path, photos: Path, ads: int) -> None:
    """Make files, and a catalogue that knows them."""
    with Catalog.open(project) as catalog, catalog.writer():
        for ad in range(ads):
            (photos / str(ad)).mkdir(parents=True)
            paths = [photos / str(ad) / f"{number}.jpg" for number in range(PER_AD)]
            for path in paths:
                path.touch()
            urls, same = [str(path) for path in paths], [f"{ad}"] * PER_AD
            keys = {"photo_id": [f"{ad}/{number}" for number in range(PER_AD)], "status": ["ok"] * PER_AD}
            catalog.append("listings", [{"ad_id": f"{ad}", "source": "table", "status": "ok"}])
            catalog.append("listing_photos", {**keys, "ad_id": same, "url": urls})
            times = [path.stat().st_mtime_ns for path in paths]
            facts = {"path": urls, "bytes": [0] * PER_AD, "sha256": ["0" * 64] * PER_AD, "modified": times}
            catalog.append("files", keys | facts)


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    files = parser.parse_args().files
    with TemporaryDirectory() as folder:
        project = Path(folder, "project")
        fill(project, Path(folder, "photos"), files // PER_AD)
        with Catalog.open(project) as catalog:
            start = time.monotonic()
            rows = catalog.rows(disk.WATCHED)
            asked = time.monotonic()
            changed = disk.news(project, rows)
            looked = time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    words = f"asked in {asked - start:.1f} s, looked at in {looked - asked:.1f} s, {len(changed)} changed, {memory} MB"
    print(f"{len(rows)} files: {words}")


if __name__ == "__main__":
    main()
