"""YOLOX-nano as a teacher of boxes: a photo in, boxes of vehicles with scores and kinds out (Ge et al. 2021).

The file is the public ONNX export (Apache-2.0): 416x416, letterboxed at the top left with grey 114, BGR 0…255; its
answers count in cells of strides 8, 16 and 32.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from carspotter.geometry import suppress
from carspotter.runtime.session import open_session

SIDE = 416
KINDS = {2: "car", 5: "bus", 7: "truck"}
"""Vehicles among COCO's 80 classes."""
Floats = npt.NDArray[np.float32]


class YoloxNano:
    """Find cars, buses and trucks."""

    def __init__(self, path: Path, *, score: float = 0.3, iou: float = 0.5) -> None:
        self.session = open_session(path, "onnxruntime", threads=1)
        self.score, self.iou = score, iou
        cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(SIDE // stride) for x in range(SIDE // stride)]
        self.cells = np.array(cells, np.float32)

    def detect(self, pixels: npt.NDArray[np.uint8]) -> list[tuple[list[float], float, str]]:
        """Return (box x1, y1, x2, y2 in pixels of the photo, score, kind), best first, of an sRGB photo (h, w, 3)."""
        scale = SIDE / max(pixels.shape[:2])
        width, height = (max(1, round(side * scale)) for side in (pixels.shape[1], pixels.shape[0]))
        canvas = np.full((SIDE, SIDE, 3), 114, np.float32)
        canvas[:height, :width] = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
        answer: Any = next(
            iter(self.session.run(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1)[None])).values())
        )
        boxes, scores, classes = self._read(np.asarray(answer)[0])
        kept = suppress(boxes, scores, self.iou)
        limit = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        return [((boxes[i] / scale).clip(0, limit).tolist(), float(scores[i]), KINDS[int(classes[i])]) for i in kept]

    def _read(self, rows: Floats) -> tuple[npt.NDArray[np.float64], Floats, npt.NDArray[np.intp]]:
        """Return boxes (n, 4) in pixels of the input, scores (n,) and classes (n,) that reach the least score."""
        stride = self.cells[:, 2:]
        center, size = (rows[:, :2] + self.cells[:, :2]) * stride, np.exp(rows[:, 2:4]) * stride
        chances = rows[:, 4:5] * rows[:, 5:]
        wanted = np.array(list(KINDS))
        classes, scores = wanted[chances[:, wanted].argmax(1)], chances[:, wanted].max(1)
        order = np.flatnonzero(scores >= self.score)
        order = order[np.argsort(-scores[order], kind="stable")]
        boxes = np.concatenate([center - size / 2, center + size / 2], axis=1).astype(np.float64)
        return boxes[order], scores[order], classes[order]
