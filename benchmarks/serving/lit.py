"""The same two networks behind LitServe with batching: decode, batch, predict, encode as its documentation shows them.

Run as a program: `python lit.py PORT WORKERS BATCH`. Each worker is a process with sessions of one thread.
"""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from carspotter.runtime.bundle import shipped


class Api(litserve.LitAPI):  # type: ignore[misc]  # it carries no types
    """Name the make of the largest vehicle."""

    def setup(self, _device: str) -> None:
        """Open both networks."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.bundles = {task: shipped(task) for task in ("finder", "identifier")}
        self.sessions = {
            task: onnxruntime.InferenceSession(str(bundle.model_path), options) for task, bundle in self.bundles.items()
        }

    def decode_request(self, request: dict[str, str]) -> Image.Image:
        """Decode a photo in base64: files of a form cannot be handed to LitServe's workers with today's Starlette."""
        data = base64.b64decode(request["photo"])
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")

    def batch(self, inputs: list[Image.Image]) -> list[Image.Image]:
        """Keep photos as a list: they are of several sizes."""
        return list(inputs)

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the answers one by one."""
        return output

    def predict(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        """Find, crop and name, each network once a batch."""
        found = self.run("finder", [self.sized(image, "finder") for image in images])
        crops, which = [], []
        for index, image in enumerate(images):
            boxes = found["boxes"][index][found["scores"][index] > 0.4]
            if len(boxes):
                areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
                x1, y1, x2, y2 = (float(value) for value in boxes[areas.argmax()].clip(0, 1))
                box = (x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height)
                crops.append(self.sized(image.crop(box), "identifier"))
                which.append(index)
        answers: list[dict[str, Any]] = [{"make": None} for _ in images]
        if crops:
            taxonomy = self.bundles["identifier"].taxonomy
            assert taxonomy is not None
            for index, makes in zip(which, self.run("identifier", crops)["make"], strict=True):
                best = int(makes.argmax())
                answers[index] = {"make": taxonomy.names("make")[best], "probability": float(makes[best])}
        return answers

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return JSON values."""
        return output

    def sized(self, image: Image.Image, task: str) -> np.ndarray[Any, Any]:
        """Resize for a network."""
        target = self.bundles[task].preprocessing
        return np.asarray(image.resize((target.width, target.height)), np.uint8)

    def run(self, task: str, images: list[Any]) -> dict[str, Any]:
        """Run a batch."""
        session = self.sessions[task]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {session.get_inputs()[0].name: np.stack(images)}), strict=True))


if __name__ == "__main__":
    port, workers, batch = (int(word) for word in sys.argv[1:4])
    api = Api(max_batch_size=batch, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(port=port, generate_client_file=False, log_level="error", num_api_servers=1)
