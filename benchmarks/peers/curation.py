"""Curate photographs as scripts usually do: imagededup for hashes and embeddings, a YOLO detector from ultralytics.

Runs in the peers' environment (requirements.txt), knows nothing of carspotter, and prints one JSON object: seconds of
each step, imports and the loading of networks left out. Weights are random where none can be had: they cost the same
time, and finding nothing spares the detector work.

    python peers/curation.py FOLDER [--detector yolov8n]
"""

import argparse
import json
import logging
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")

import torch
from imagededup.methods import CNN, PHash
from imagededup.utils import CustomModel
from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small
from ultralytics import YOLO

PACKAGES = ("imagededup", "ultralytics", "torch", "torchvision")


def main() -> None:
    """Run the three steps over a folder."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--detector", default="yolov8n")
    given = options.parse_args()
    logging.disable(logging.WARNING)
    paths = sorted(str(path) for path in given.folder.iterdir())
    seconds = {
        "hash": hash_all(given.folder),
        "find": find_all(paths, given.detector),
        "embed": embed_all(given.folder),
    }
    versions = {name: version(name) for name in PACKAGES}
    print(
        json.dumps(
            {"photographs": len(paths), "seconds": seconds, "threads": torch.get_num_threads(), "versions": versions}
        )
    )


def hash_all(folder: Path) -> float:
    """Hash all photographs; imagededup starts a process a core by itself."""
    method = PHash(verbose=False)
    return timed(lambda: method.encode_images(image_dir=str(folder)))


def find_all(paths: list[str], name: str) -> float:
    """Find vehicles with the detector's own reading and scaling of files."""
    detector = YOLO(f"{name}.yaml", verbose=False)
    detector.predict(paths[:1], verbose=False)
    return timed(lambda: [len(found.boxes) for found in detector.predict(paths, verbose=False, stream=True)])


def embed_all(folder: Path) -> float:
    """Embed all photographs with imagededup's own network, MobileNetV3-small."""
    network = mobilenet_v3_small(weights=None)
    network.classifier = torch.nn.Identity()
    transform = MobileNet_V3_Small_Weights.IMAGENET1K_V1.transforms()
    method = CNN(verbose=False, model_config=CustomModel(model=network.eval(), transform=transform, name="v3-small"))
    return timed(lambda: method.encode_images(image_dir=str(folder)))


def timed(action) -> float:  # type: ignore[no-untyped-def]
    """Give the seconds that an action takes."""
    start = time.perf_counter()
    action()
    return round(time.perf_counter() - start, 3)


if __name__ == "__main__":
    main()
