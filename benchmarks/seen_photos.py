"""Write the list of what the shipped identifier has learnt from, and measure what it finds and what it finds wrongly.

Learnt crops are saved smaller (0.7 of each side) and again as JPEG, or get boxes whose sides are off by up to a share
of the box, and must be found. Crops that were not learnt, of other vehicles (split `test`), must not be.

    python benchmarks/seen_photos.py runs/identifier/labels.csv --out src/carspotter/models/identifier/seen.bin
"""

import argparse
import csv
import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from carspotter.cores import cores
from carspotter.crops import crop_of
from carspotter.geometry import BoundingBox
from carspotter.pixels import Preprocessing
from carspotter.runtime.seen import are_seen, hashes_of, to_bytes

INPUT = Preprocessing(width=224, height=224, fit="squash", pad=0.04)
CHANGED = 2000
SHRINK, QUALITY = 0.7, 60
SHIFTS = (0.02, 0.04, 0.08)


def main() -> None:
    """Hash, write and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with given.labels.open(encoding="utf-8", newline="") as file:
        rows = [row | {"path": str(given.labels.parent / row["path"])} for row in csv.DictReader(file)]
    learnt, others = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    with ThreadPoolExecutor(cores()) as pool:
        seen = hashes_of(pool.map(crop, learnt))
        wrong = are_seen(hashes_of(pool.map(crop, others)), seen)
    if given.out:
        given.out.write_bytes(to_bytes(seen))
    print(f"{len(seen)} learnt; of {len(others)} others {int(wrong.sum())} are taken for learnt: {wrong.mean():.4f}")
    print("for instance:", *[row["path"] for row, hit in zip(others, wrong, strict=True) if hit][:5], sep="\n  ")
    dice = random.Random(0)
    chosen = dice.sample(learnt, min(CHANGED, len(learnt)))
    print(f"smaller, JPEG {QUALITY}: {are_seen(hashes_of(map(smaller, chosen)), seen).mean():.4f} found")
    for shift in SHIFTS:
        print(f"box off by {shift}: {are_seen(hashes_of(shifted(chosen, shift, dice)), seen).mean():.4f} found")


def box_of(row: dict[str, str]) -> BoundingBox | None:
    """Return the vehicle's box of a row, None where the photo is a crop."""
    return BoundingBox(*(float(row[side]) for side in ("x1", "y1", "x2", "y2"))) if row["x2"] else None


def crop(row: dict[str, str]) -> np.ndarray:
    """Return what the network sees of a row."""
    return crop_of(Path(row["path"]).read_bytes(), INPUT, box_of(row))


def smaller(row: dict[str, str]) -> np.ndarray:
    """Return what it would see of the photo in a smaller, more compressed file."""
    picture = Image.open(row["path"]).convert("RGB")
    picture = picture.resize((round(picture.width * SHRINK), round(picture.height * SHRINK)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    box = box_of(row)
    scaled = BoundingBox(*(side * SHRINK for side in (box.x1, box.y1, box.x2, box.y2))) if box else None
    return crop_of(buffer.getvalue(), INPUT, scaled)


def shifted(rows: list[dict[str, str]], shift: float, dice: random.Random) -> Iterator[np.ndarray]:
    """Yield what it would see with boxes whose sides are off by up to a share of the box."""
    for row in rows:
        data = Path(row["path"]).read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        box = box_of(row) or BoundingBox(0, 0, width, height)
        across, down = shift * (box.x2 - box.x1), shift * (box.y2 - box.y1)
        yield crop_of(
            data,
            INPUT,
            BoundingBox(
                max(0.0, box.x1 + dice.uniform(-across, across)),
                max(0.0, box.y1 + dice.uniform(-down, down)),
                min(float(width), box.x2 + dice.uniform(-across, across)),
                min(float(height), box.y2 + dice.uniform(-down, down)),
            ),
        )


if __name__ == "__main__":
    main()
