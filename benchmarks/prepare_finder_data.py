"""Make the finder's manifest from the project's development photographs.

In: the folder of photographs (`used-car-ads`, `car-boxes`, `not-cars`, `stanford-cars`, `more-cars`, `scenes`,
`cut-out-views`) and the teachers' boxes (JSON written by `pseudo_label.py`). Out: `manifest.csv`, the form that
`carspotter train recipes/finder.toml` reads, with each photo in one part: `train`, `choose` (settings and thresholds)
or `report` (figures only). It copies no photo.

    python benchmarks/prepare_finder_data.py --data ../shared/data --teacher teacher.json --out manifest.csv
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carspotter.geometry import BoundingBox, iou_matrix, suppress
from carspotter.pixels import decode
from carspotter.training.finder.masks import cut_out_mask, mask_box

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
SURE, UNSURE = {"yolox": 0.4, "zoo": 0.5}, 0.15
# Ranks of a sure box, seen in a padded copy and in the photo or its mirror image. What is not the better teacher's, and
# lies by PART_OF in a box before it or around it, is the same vehicle seen badly.
RANKS = {"zoo": (1.0, 2.0), "yolox": (3.0, 3.0)}
LEAST_BEST, PART_OF = 3.0, 0.6
# A box that covers so much of the photo, and that the better teacher does not see, is refused.
WHOLE_PHOTO = 0.9
# The photo's own vehicle covers at least this part of an ad's exterior photo; all with less are bystanders.
OWN_AREA = 0.05
# Stanford's crops are the official box plus 16 px of the original photo, squashed to 224: by eye 7 px across, 12 down.
CROP_BOX = (7, 12, 217, 212)
MAX_CROPS_A_VIEW = 1500  # front-side alone has 5246
# Crops of `more-cars` are the vehicle's box and 4 % more, squashed to 224. Their viewpoint is unknown.
MORE_BOX, MAX_MORE = (8, 8, 216, 216), 1500
SCENE_VEHICLES = ("car", "bus", "truck")
SCENES_REPORT, SCENES_CHOOSE = 0.2, 0.06
# A mask of less of its photo is what is left of a vehicle that was cut out badly.
LEAST_MASK = 0.04
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
        *_more_crops(options.data),
        *_scenes(options.data),
        *_cut_outs(options.data),
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
        for path, part in _parts(paths, report=report, choose=0.25).items():
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


def _more_crops(data: Path) -> Iterator[Row]:
    paths = [f"more-cars/{row['path']}" for row in _read(data / "more-cars" / "labels.csv")]
    random.Random(SEED).shuffle(paths)
    corners = dict(zip(("x1", "y1", "x2", "y2"), MORE_BOX, strict=True))
    for path in paths[:MAX_MORE]:
        yield {"path": path, "part": "train", "source": "crops", "kind": "exterior", "viewpoint": ""} | corners


def _scenes(data: Path) -> Iterator[Row]:
    """Yield streets with all their vehicles; motorbikes, bikes and people are background."""
    photos: dict[str, list[Row]] = {}
    for row in _read(data / "scenes" / "boxes.csv"):
        photos.setdefault(row["path"], []).append(row)
    for path, entries in photos.items():
        source = entries[0]["source"]
        part = _hashed_part(path, report=SCENES_REPORT, choose=SCENES_CHOOSE) if source == "street" else "train"
        vehicles = [row for row in entries if row["kind"] in SCENE_VEHICLES]
        start = {"path": f"scenes/{path}", "part": part, "source": source}
        if not vehicles:
            yield start | {"kind": "other"}
        for row in vehicles:
            corners = {name: row[name] for name in ("x1", "y1", "x2", "y2")}
            yield start | {"kind": "exterior", "viewpoint": ""} | corners


def _cut_outs(data: Path) -> Iterator[Row]:
    for row in _read(data / "cut-out-views" / "labels.csv"):
        path = data / "cut-out-views" / row["path"]
        mask = cut_out_mask(decode(path.read_bytes()).pixels)
        box = mask_box(mask)
        if box is None or mask.mean() < LEAST_MASK:
            continue
        part = _hashed_part(row["path"], report=0.2, choose=0.05)
        corners = dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))
        start = {"path": f"cut-out-views/{row['path']}", "part": part, "source": "cut-outs", "kind": "exterior"}
        yield start | {"viewpoint": row["view"]} | corners


def _hashed_part(name: str, *, report: float, choose: float) -> str:
    """Return the part of a name by its hash alone, so that it stays where it is when others come; shares of all."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "report" if place < report else "choose" if place < report + choose else "train"


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
    own = max((box for box, is_sure in boxes if is_sure), key=lambda box: box.area, default=None)
    if own is None or own.area < OWN_AREA:
        yield start
        return
    width, height = seen["size"]
    for box, is_sure in boxes:
        corners = dict(zip(("x1", "y1", "x2", "y2"), box.scale(width, height).to_list(), strict=True))
        row = start | {name: round(value, 1) for name, value in corners.items()}
        if box is not own:
            row["viewpoint"] = ""
        yield row | {"ignore": int(not is_sure)}


def merge(seen: dict[str, Any]) -> list[tuple[BoundingBox, bool]]:
    """Merge what two teachers saw in a photo and in its copies: relative boxes, and whether each is surely a vehicle.

    Where both see the same vehicle YOLOX's box stands. What only the other sees beside a sure vehicle is unsure.
    """
    found: list[tuple[float, bool, list[float]]] = []
    for name, detections in seen.items():
        teacher, _, copy = name.partition(" ")
        if teacher == "size":
            continue
        for score, *corners in detections:
            is_whole = (corners[2] - corners[0]) * (corners[3] - corners[1]) > WHOLE_PHOTO
            if (
                score < UNSURE
                or corners[2] <= corners[0]
                or corners[3] <= corners[1]
                or (teacher == "zoo" and is_whole)
            ):
                continue
            is_sure = score >= SURE[teacher]
            found.append((score + is_sure * RANKS[teacher][copy in ("plain", "flip")], is_sure, corners))
    if not found:
        return []
    corners_of = np.array([corners for _, _, corners in found])
    kept = suppress(corners_of, np.array([rank for rank, _, _ in found]), 0.5)
    overlap = iou_matrix(corners_of, corners_of)
    boxes: list[tuple[BoundingBox, bool]] = []
    for index in kept:
        box = BoundingBox.from_list(corners_of[index].tolist()).clip(1, 1)
        is_sure = any(found[other][1] for other in np.flatnonzero(overlap[index] > 0.5))
        is_best = is_sure and found[index][0] >= LEAST_BEST
        is_sure = is_best or (is_sure and not any(is_sure for _, is_sure in boxes))
        if is_best or not any(_share(box, other) > PART_OF for other, other_is_sure in boxes if other_is_sure):
            boxes.append((box, is_sure))
    return boxes


def _share(box: BoundingBox, other: BoundingBox) -> float:
    """Return how much of the smaller of two boxes lies in the other."""
    width = min(box.x2, other.x2) - max(box.x1, other.x1)
    height = min(box.y2, other.y2) - max(box.y1, other.y1)
    return max(width, 0.0) * max(height, 0.0) / max(min(box.area, other.area), 1e-9)


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
