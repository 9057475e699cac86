"""Make the finder's manifest from the project's development photographs.

In: the folder of photographs (`used-car-ads`, `car-boxes`, `not-cars`, `stanford-cars`) and the teacher's boxes (JSON
written by `teach_finder.py`). Out: `manifest.csv`, the form that `carspotter train recipes/finder.toml` reads, with
each photo in one part: `train`, `choose` (settings and thresholds) or `report` (figures only). It copies no photo.

    python benchmarks/prepare_finder_data.py --data ../shared/data --teacher teacher.json --out manifest.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carspotter.geometry import BoundingBox, iou_matrix, suppress

SEED = 20
COLUMNS = ("path", "part", "source", "kind", "viewpoint", "x1", "y1", "x2", "y2", "ignore", "ad_id")
# The ads name what points to the left of the picture; by the vehicle's own sides a back on the left is back-right.
VIEWS = {
    "front": "front",
    "back": "back",
    "angle-front-on-left": "front-left",
    "angle-front-on-right": "front-right",
    "profile-on-left": "left",
    "profile-on-right": "right",
    "angle-back-on-left": "back-right",
    "angle-back-on-right": "back-left",
}
FIVE_VIEWS = ("front", "front-side", "side", "back-side", "back")
# A teacher's box of this score is a vehicle; one below it, down to the lower number, is neither vehicle nor background.
SURE, UNSURE = 0.5, 0.15
# The photo's own vehicle covers at least this part of an ad's exterior photo; all with less are bystanders.
OWN_AREA = 0.05
# Stanford's crops are the official box plus 16 px of the original photo, squashed to 224: by eye 7 px across, 12 down.
CROP_BOX = (7, 12, 217, 212)
MAX_CROPS_A_VIEW = 1500  # front-side alone has 5246
SAME_PHOTO_BITS = (
    6  # of 64: difference hashes of recompressed copies differ by 0-4, those of other photos by 15 and more
)

Row = dict[str, Any]


def main() -> None:
    """Write the manifest and print how many rows each part has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hand", type=Path, help="corrections by eye, CSV: path,view,x1,y1,x2,y2; empty cells stay")
    options = parser.parse_args()
    teacher = json.loads(options.teacher.read_text())
    hand = {row["path"]: row for row in _read(options.hand)} if options.hand else {}
    rows = [
        *_ads(options.data, teacher, hand),
        *_negatives(options.data),
        *_car_boxes(options.data),
        *_crops(options.data),
    ]
    rows += _main_photos(options.data, teacher, [row for row in rows if row["source"] == "ads"])
    for row in rows:
        row["path"] = Path(os.path.relpath(options.data / row["path"], options.out.parent)).as_posix()
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    for part in ("train", "choose", "report"):
        paths = {(row["source"], row["path"]) for row in rows if row["part"] == part}
        sources = sorted({source for source, _ in paths})
        print(part, {source: sum(name == source for name, _ in paths) for source in sources})


def _ads(data: Path, teacher: dict[str, Any], hand: dict[str, Row]) -> Iterator[Row]:
    listed = _read(data / "used-car-ads" / "photos.csv")
    part_of = _parts(sorted({row["ad_id"] for row in listed}), report=0.2, choose=0.1)
    for row in listed:
        by_eye = hand.get(row["path"], {})
        view = by_eye.get("view") or row["view"]
        start = {
            "path": f"used-car-ads/{row['path']}",
            "part": part_of[row["ad_id"]],
            "source": "ads",
            "kind": {"in": "interior", "d": "detail"}.get(view, "exterior"),
            "viewpoint": VIEWS.get(view, ""),
            "ad_id": row["ad_id"],
        }
        if start["kind"] != "exterior":
            yield start
        elif by_eye.get("x1"):
            yield start | {name: by_eye[name] for name in ("x1", "y1", "x2", "y2")}
        else:
            yield from _with_boxes(start, teacher[row["path"]])


def _main_photos(data: Path, teacher: dict[str, Any], ads: list[Row]) -> Iterator[Row]:
    """Yield the lead photos as training rows, less those that are a copy of an ad's photo outside of training."""
    held = {row["path"] for row in ads if row["part"] != "train"}
    held_hashes = np.array([_hash(data / path) for path in sorted(held)])
    dropped = 0
    for row in _read(data / "used-car-ads" / "main.csv"):
        path = f"used-car-ads/{row['path']}"
        if (held_hashes != _hash(data / path)).sum(axis=1).min() <= SAME_PHOTO_BITS:
            dropped += 1
            continue
        start = {"path": path, "part": "train", "source": "main", "kind": "exterior", "viewpoint": ""}
        yield from _with_boxes(start, teacher[row["path"]])
    print(f"{dropped} lead photos dropped: copies of photos outside of training")


def _negatives(data: Path) -> Iterator[Row]:
    interiors = sorted(path.relative_to(data).as_posix() for path in (data / "used-car-ads" / "interiors").iterdir())
    others = sorted(path.relative_to(data).as_posix() for path in (data / "not-cars").glob("**/*.jpg"))
    for source, kind, paths, report in (("interiors", "interior", interiors, 0.3), ("not-cars", "other", others, 0.5)):
        for path, part in _parts(paths, report=report, choose=0.1).items():
            yield {"path": path, "part": part, "source": source, "kind": kind}


def _car_boxes(data: Path) -> Iterator[Row]:
    listed = _read(data / "car-boxes" / "boxes.csv")
    part_of = _parts([row["path"] for row in listed], report=1 / 3, choose=0.1)
    for row in listed:
        corners = {name: row[name] for name in ("x1", "y1", "x2", "y2")}
        start = {"path": f"car-boxes/{row['path']}", "part": part_of[row["path"]], "source": "car-boxes"}
        yield start | {"kind": "exterior", "viewpoint": ""} | corners


def _crops(data: Path) -> Iterator[Row]:
    listed = [row for row in _read(data / "stanford-cars" / "labels.csv") if row["split"] == "train"]
    for view in FIVE_VIEWS:
        paths = [f"stanford-cars/{row['path']}" for row in listed if row["view"] == view]
        for path, part in list(_parts(paths, report=0.1, choose=0.03).items())[:MAX_CROPS_A_VIEW]:
            corners = dict(zip(("x1", "y1", "x2", "y2"), CROP_BOX, strict=True))
            yield {"path": path, "part": part, "source": "crops", "kind": "exterior", "viewpoint": view} | corners


def _parts(names: list[str], *, report: float, choose: float) -> dict[str, str]:
    """Deal names to parts, always the same way; `choose` is a share of what `report` leaves."""
    shuffled = list(names)
    random.Random(SEED).shuffle(shuffled)
    n_report = round(len(names) * report)
    n_choose = round((len(names) - n_report) * choose)
    parts = ["report"] * n_report + ["choose"] * n_choose + ["train"] * (len(names) - n_report - n_choose)
    return dict(zip(shuffled, parts, strict=True))


def _with_boxes(start: Row, seen: dict[str, Any]) -> Iterator[Row]:
    """Yield a row a vehicle; one row without a box when the photo's own vehicle was not seen."""
    boxes = merge(seen)
    own = max((box for box, score in boxes if score >= SURE), key=lambda box: box.area, default=None)
    if own is None or own.area < OWN_AREA:
        yield start
        return
    width, height = seen["size"]
    for box, score in boxes:
        corners = dict(zip(("x1", "y1", "x2", "y2"), box.scale(width, height).to_list(), strict=True))
        row = start | {name: round(value, 1) for name, value in corners.items()}
        if box is not own:
            row["viewpoint"] = ""
        yield row | {"ignore": int(score < SURE)}


def merge(seen: dict[str, Any]) -> list[tuple[BoundingBox, float]]:
    """Merge what the teacher saw in a photo and in its flipped and padded copies: relative boxes, scores.

    Where a copy sees the same vehicle the box of the plain photo stands; padded copies only add what it missed.
    """
    found: list[tuple[float, float, list[float]]] = []
    for name, detections in seen.items():
        if name != "size":
            bonus = 1.0 if name in ("plain", "flip") else 0.0
            for score, x1, y1, x2, y2 in detections:
                if score >= UNSURE and x2 > x1 and y2 > y1:
                    found.append((score + bonus * (score >= SURE), score, [x1, y1, x2, y2]))
    if not found:
        return []
    corners = np.array([entry[2] for entry in found])
    kept = suppress(corners, np.array([entry[0] for entry in found]), 0.5)
    overlap = iou_matrix(corners, corners)
    boxes = []
    for index in kept:
        best = max(found[other][1] for other in np.flatnonzero(overlap[index] > 0.5))
        boxes.append((BoundingBox.from_list(corners[index].tolist()).clip(1, 1), best))
    return boxes


def _hash(path: Path) -> np.ndarray[Any, Any]:
    """Return 64 bits: where brightness rises from left to right in a 9 x 8 copy (difference hash)."""
    with Image.open(path) as image:
        small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return np.asarray((np.diff(small, axis=1) > 0).ravel())


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
