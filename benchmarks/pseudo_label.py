"""Let two foreign detectors say where the vehicles of the ads' photos are, as labels for the finder's training.

In: the folder of photographs and the detectors' files. Out: JSON, for each photo its size and what was seen in it and
in copies of it, `yolox` and `zoo` before the copy's name. Both look at the photo and its mirror image; the detector of
the Open Model Zoo also at copies padded with grey, since it misses vehicles that fill the photo, most of all profiles.
`prepare_finder_data.py` merges them.

    python benchmarks/pseudo_label.py --data ../shared/data --zoo vehicle-detection-0200.xml \
        --yolox yolox-nano.coco.onnx --out teacher.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from carspotter.geometry import BoundingBox, suppress
from carspotter.pixels import LETTERBOX_GREY, Pixels, Preprocessing, decode, network_input
from carspotter.recognition.detector import Detector, open_detector

LEAST_SCORE = 0.1
# Sides of the padded copies against the photo's: by how much width and height grow.
PADDED = {"pad1.3": (1.3, 1.3), "pad1.7": (1.7, 1.7), "padv2.2": (1.1, 2.2)}
YOLOX_SIDE, YOLOX_STRIDES = 416, (8, 16, 32)
COCO_VEHICLES = (2, 5, 7)  # car, bus, truck

Seen = list[tuple[float, float, float, float, float]]
Look = Callable[[Pixels], Seen]


def main() -> None:
    """Look at every photo of the ads and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--yolox", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    zoo, yolox = zoo_look(options.zoo), yolox_look(options.yolox)
    ads = options.data / "used-car-ads"
    seen: dict[str, dict[str, object]] = {}
    for table in ("photos.csv", "main.csv"):
        with (ads / table).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                photo = decode((ads / row["path"]).read_bytes())
                copies = {**dict(_copies("yolox", yolox, photo.pixels)), **dict(_copies("zoo", zoo, photo.pixels))}
                copies |= dict(_padded("zoo", zoo, photo.pixels))
                seen[row["path"]] = {"size": (photo.width, photo.height), **copies}
                if len(seen) % 200 == 0:
                    print(f"{len(seen)} photos", file=sys.stderr)
    options.out.write_text(json.dumps(seen))


def zoo_look(path: str) -> Look:
    """Open a detector of the Open Model Zoo; return what looks at pixels: score, x1, y1, x2, y2, relative."""
    detector: Detector = open_detector(path, score=LEAST_SCORE, threads=1)

    def look(pixels: Pixels) -> Seen:
        height, width = pixels.shape[:2]
        boxes = [(found.score, found.box.relative(width, height)) for found in detector.detect(pixels)]
        return [(score, *box.to_list()) for score, box in boxes]  # type: ignore[misc]

    return look


def yolox_look(path: str) -> Look:
    """Open YOLOX (COCO): letterboxed at the top left, BGR 0…255; each cell and stride tells corners and classes."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    sides = [YOLOX_SIDE // stride for stride in YOLOX_STRIDES]
    grids = [np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) for side in sides]
    grid = np.concatenate(grids)
    stride = np.repeat(YOLOX_STRIDES, [side * side for side in sides])[:, None]

    def look(pixels: Pixels) -> Seen:
        height, width = pixels.shape[:2]
        scale = YOLOX_SIDE / max(height, width)
        size = round(width * scale), round(height * scale)
        canvas = np.full((YOLOX_SIDE, YOLOX_SIDE, 3), LETTERBOX_GREY, dtype=np.uint8)
        canvas[: size[1], : size[0]] = network_input(pixels, Preprocessing(width=size[0], height=size[1]))
        batch = np.ascontiguousarray(canvas[None, ..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)
        output = session.run(None, {session.get_inputs()[0].name: batch})[0][0].astype(np.float64)
        scores = (output[:, 4:5] * output[:, 5:][:, COCO_VEHICLES]).max(1)
        middle, half = (output[:, :2] + grid) * stride, np.exp(output[:, 2:4]) * stride / 2
        corners = np.concatenate([middle - half, middle + half], 1) / np.tile(size, 2)
        rows = np.flatnonzero(scores >= LEAST_SCORE)
        rows = rows[suppress(corners[rows], scores[rows], 0.5)]
        return [(float(scores[row]), *corners[row].tolist()) for row in rows]

    return look


def _copies(name: str, look: Look, pixels: Pixels) -> Iterator[tuple[str, Seen]]:
    """Yield what is seen in the photo and in its mirror image, relative to the photo and clipped."""
    yield f"{name} plain", [_clipped(entry) for entry in look(pixels)]
    flipped = look(np.ascontiguousarray(pixels[:, ::-1]))
    yield f"{name} flip", [_clipped((score, 1 - x2, y1, 1 - x1, y2)) for score, x1, y1, x2, y2 in flipped]


def _padded(name: str, look: Look, pixels: Pixels) -> Iterator[tuple[str, Seen]]:
    """Yield what is seen in padded copies, relative to the photo and clipped."""
    height, width = pixels.shape[:2]
    for copy, (wider, higher) in PADDED.items():
        canvas = np.full((round(height * higher), round(width * wider), 3), LETTERBOX_GREY, dtype=np.uint8)
        left, top = (canvas.shape[1] - width) // 2, (canvas.shape[0] - height) // 2
        canvas[top : top + height, left : left + width] = pixels
        scale = np.array([canvas.shape[1] / width, canvas.shape[0] / height] * 2)
        start = np.array([left / width, top / height] * 2)
        seen = [(score, *(np.array(box) * scale - start).tolist()) for score, *box in look(canvas)]
        yield f"{name} {copy}", [_clipped(entry) for entry in seen]


def _clipped(entry: tuple[float, float, float, float, float]) -> tuple[float, float, float, float, float]:
    score, *corners = entry
    box = BoundingBox(*corners).clip(1, 1)
    return score, box.x1, box.y1, box.x2, box.y2


if __name__ == "__main__":
    main()
