"""The endpoint that most people write first: FastAPI, Pillow's full decode, ONNX Runtime with its own settings.

It runs the same two networks on the same photos as `carspotter serve`, and answers with the same make. `app` decodes
and runs inside an `async` function, `threaded` inside a plain one, which FastAPI calls from a pool of threads.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps

from carspotter.runtime.bundle import shipped

FINDER, IDENTIFIER = shipped("finder"), shipped("identifier")
finder = onnxruntime.InferenceSession(str(FINDER.model_path))
identifier = onnxruntime.InferenceSession(str(IDENTIFIER.model_path))
assert IDENTIFIER.taxonomy is not None
MAKES = IDENTIFIER.taxonomy.names("make")


def answer(data: bytes) -> dict[str, Any]:
    """Decode, find the largest vehicle, crop it, name its make."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    outputs = run(finder, image.resize((FINDER.preprocessing.width, FINDER.preprocessing.height)))
    boxes = outputs["boxes"][0][outputs["scores"][0] > 0.4]
    if not len(boxes):
        return {"make": None}
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    box = scaled(boxes[areas.argmax()], image)
    crop = image.crop(box).resize((IDENTIFIER.preprocessing.width, IDENTIFIER.preprocessing.height))
    makes = run(identifier, crop)["make"][0]
    return {"make": MAKES[int(makes.argmax())], "probability": float(makes.max()), "box": list(box)}


def scaled(box: np.ndarray[Any, Any], image: Image.Image) -> tuple[float, float, float, float]:
    """Return a relative box in pixels."""
    x1, y1, x2, y2 = (float(value) for value in box.clip(0, 1))
    return x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height


def run(session: Any, image: Image.Image) -> dict[str, Any]:
    """Run one image."""
    names = [output.name for output in session.get_outputs()]
    batch = np.asarray(image, np.uint8)[None]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: batch}), strict=True))


app = FastAPI()
threaded = FastAPI()


@app.post("/v1/photos")
async def photos(photo: UploadFile) -> dict[str, Any]:
    """Answer in the event loop."""
    return answer(await photo.read())


@threaded.post("/v1/photos")
def photos_threaded(photo: UploadFile) -> dict[str, Any]:
    """Answer in a pool of threads."""
    return answer(photo.file.read())
