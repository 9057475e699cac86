"""Count the number plates that are hidden on photographs whose plates a person boxed, and what is hidden besides.

`python benchmarks/plates.py boxes.csv [--network plates.onnx]`: columns path, x1, y1, x2, y2 in pixels of the upright
photo, a row for each plate, and one with an empty box for a photo without. A plate counts as hidden where 80 % of its
box is: boxes drawn by hand are some pixels off.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carspotter.evaluation.intervals import Share
from carspotter.geometry import BoundingBox
from carspotter.pixels import decode
from carspotter.runtime.blur import LOOKS, Blurrer
from carspotter.runtime.session import open_session

WIDTHS = ((0, 40), (40, 60), (60, 10_000))
COVERED = 0.8


def main(path: Path, network: Path | None) -> None:
    """Print recall by the plates' width in pixels, and finds beside any plate a photo; by default of what ships."""
    plates: dict[str, list[BoundingBox]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[side]) for side in ("x1", "y1", "x2", "y2") if row[side]]
            plates[row["path"]] += [BoundingBox(*box)] if box else []
    blurrer = Blurrer({"plate": open_session(network, threads=1)}) if network else Blurrer.open(threads=1)
    hidden, beside, share = [], 0, 0.0
    for photo, truth in plates.items():
        pixels = decode(Path(photo).read_bytes()).pixels
        mask = np.zeros(pixels.shape[:2], bool)
        for find in blurrer.find(pixels):
            if find.kind == "plate":
                area = find.box.pad(LOOKS["plate"].margin).clip(pixels.shape[1], pixels.shape[0])
                mask[int(area.y1) : int(area.y2) + 1, int(area.x1) : int(area.x2) + 1] = True
                beside += all(area.iou(box) == 0 for box in truth)
        hidden += [(box.width, _covered(mask, box)) for box in truth]
        share += mask.mean()
    for low, high in WIDTHS:
        found = [covered >= COVERED for width, covered in hidden if low <= width < high]
        hits = Share(count=sum(found), total=len(found))
        print(f"{low}-{high} px: {hits.count} of {hits.total}, {hits.low:.0%}-{hits.high:.0%}")
    print(f"{beside / len(plates):.2f} finds a photo beside any plate; {share / len(plates):.1%} of pixels hidden")


def _covered(mask: NDArray[np.bool_], box: BoundingBox) -> float:
    part = mask[max(0, int(box.y1)) : int(box.y2) + 1, max(0, int(box.x1)) : int(box.x2) + 1]
    return float(part.mean()) if part.size else 0.0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("boxes", type=Path)
    options.add_argument("--network", type=Path)
    given = options.parse_args()
    main(given.boxes, given.network)
