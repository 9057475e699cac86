"""Let a foreign detector say where the vehicles of the ads' photos are, as labels for the finder's training.

In: the folder of photographs and a detector's file. Out: JSON, for each photo its size and what was seen in it and in
copies of it: flipped, and padded with grey, since this detector misses vehicles that fill the photo, most of all
profiles. `prepare_finder_data.py` merges them.

    python benchmarks/teach_finder.py --data ../shared/data --detector vehicle-detection-0200.xml --out teacher.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from carspotter.geometry import BoundingBox
from carspotter.pixels import LETTERBOX_GREY, Pixels, decode
from carspotter.vehicles.detector import Detector, open_detector

LEAST_SCORE = 0.1
# Sides of the padded copies against the photo's: by how much width and height grow.
PADDED = {"pad1.3": (1.3, 1.3), "pad1.7": (1.7, 1.7), "padv2.2": (1.1, 2.2)}

Seen = list[tuple[float, float, float, float, float]]


def main() -> None:
    """Look at every photo of the ads and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    detector = open_detector(options.detector, score=LEAST_SCORE, threads=1)
    ads = options.data / "used-car-ads"
    seen: dict[str, dict[str, object]] = {}
    for table in ("photos.csv", "main.csv"):
        with (ads / table).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                photo = decode((ads / row["path"]).read_bytes())
                seen[row["path"]] = {"size": (photo.width, photo.height), **dict(_copies(detector, photo.pixels))}
                if len(seen) % 200 == 0:
                    print(f"{len(seen)} photos", file=sys.stderr)
    options.out.write_text(json.dumps(seen))


def _copies(detector: Detector, pixels: Pixels) -> Iterator[tuple[str, Seen]]:
    """Yield the name of each copy of a photo and what was seen in it: score, x1, y1, x2, y2 relative to the photo."""
    height, width = pixels.shape[:2]
    yield "plain", _seen(detector, pixels, (0, 0), (width, height))
    flipped = _seen(detector, np.ascontiguousarray(pixels[:, ::-1]), (0, 0), (width, height))
    yield "flip", [(score, 1 - x2, y1, 1 - x1, y2) for score, x1, y1, x2, y2 in flipped]
    for name, (wider, higher) in PADDED.items():
        canvas = np.full((round(height * higher), round(width * wider), 3), LETTERBOX_GREY, dtype=np.uint8)
        left, top = (canvas.shape[1] - width) // 2, (canvas.shape[0] - height) // 2
        canvas[top : top + height, left : left + width] = pixels
        yield name, _seen(detector, canvas, (left, top), (width, height))


def _seen(detector: Detector, pixels: Pixels, offset: tuple[int, int], size: tuple[int, int]) -> Seen:
    seen: Seen = []
    for detection in detector.detect(pixels):
        box: BoundingBox = detection.box.shift(-offset[0], -offset[1]).relative(*size).clip(1, 1)
        seen.append((detection.score, box.x1, box.y1, box.x2, box.y2))
    return seen


if __name__ == "__main__":
    main()
