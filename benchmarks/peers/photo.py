"""Answer photographs as tutorials do: Pillow's full decode, torchvision's transforms, two timm networks in eager torch.

Runs in the peers' environment (requirements.txt), knows nothing of carspotter, and prints one JSON object:
milliseconds of each photograph on one thread. The networks are of the same family and input size as carspotter's; their
weights are random, which costs the same time.

    python peers/photo.py FOLDER [--once]
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import timm
import torch
from PIL import Image
from torchvision import transforms

CLASSES = 196
PACKAGES = ("timm", "torch", "torchvision", "pillow")


def main() -> None:
    """Answer the photographs of a folder, one after the other; `--once` only the first."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--once", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    networks = [timm.create_model("tf_efficientnet_lite0", num_classes=CLASSES).eval() for _ in range(2)]
    prepare = [
        transforms.Compose([transforms.Resize(size), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
        for size in ((192, 256), (224, 224))
    ]
    paths = sorted(given.folder.iterdir())
    taken = []
    for path in paths[:1] if given.once else paths[:5] + paths:
        start = time.perf_counter()
        with torch.inference_mode():
            image = Image.open(path).convert("RGB")
            for network, change in zip(networks, prepare, strict=True):
                network(change(image)[None]).softmax(1).max()
        taken.append((time.perf_counter() - start) * 1000)
    print(
        json.dumps({"ms": taken if given.once else taken[5:], "versions": {name: version(name) for name in PACKAGES}})
    )


if __name__ == "__main__":
    main()
