"""Drawn photos for the finder's tests: a box of a colour is a vehicle, its dark end says which way it looks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = ("path", "part", "source", "kind", "viewpoint", "x1", "y1", "x2", "y2", "ignore", "ad_id")
RECIPE = """
task = "finder"
name = "tiny-finder"

[data]
labels = "photos.csv"

[model]
backbone = "test_efficientnet"

[input]
width = 64
height = 48
fit = "letterbox"

[augment]
min_area = 0.8
zoom_out = 0.2
aspect = 0.05
rotate = 3.0
color = 0.1
gray = 0.05

[train]
batch = 8
lr = 3e-3
ema = 0.8
precision = "float32"
threads = 1

[[phases]]
epochs = 1
width = 64
height = 48

[[phases]]
epochs = 1
width = 64
height = 48
frozen = 1
"""


def drawn_photo(vehicle: tuple[int, int, int, int] | None, view: str, random: np.random.Generator) -> np.ndarray:
    """Draw grey noise, uint8 (60, 80, 3), and a red vehicle (x1, y1, x2, y2) whose nose, the dark end, is its front."""
    pixels = random.integers(90, 130, (60, 80, 3), dtype=np.uint8)
    if vehicle is not None:
        x1, y1, x2, y2 = vehicle
        pixels[y1:y2, x1:x2] = (220, 40, 30)
        nose = (x2 - x1) // 3
        if view == "left":
            pixels[y1:y2, x1 : x1 + nose] = 20
        elif view == "right":
            pixels[y1:y2, x2 - nose : x2] = 20
    return pixels


def write_photos(folder: Path, n: int = 32) -> Path:
    """Write a recipe, drawn photos and their manifest; return the recipe's path."""
    random = np.random.default_rng(0)
    rows = []
    for index in range(n):
        part = "choose" if index % 4 == 3 else "train"
        kind = "other" if index % 3 == 2 else "exterior"
        view = ("left", "right")[index % 2]
        x, y = int(random.integers(2, 30)), int(random.integers(2, 25))
        vehicle = (x, y, x + int(random.integers(30, 46)), y + int(random.integers(15, 30)))
        source = "not-cars" if kind == "other" else "crops" if index % 8 == 4 else "ads"
        pixels = drawn_photo(None if kind == "other" else vehicle, view, random)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        corners = dict(zip(("x1", "y1", "x2", "y2"), vehicle, strict=True)) if kind == "exterior" else {}
        rows.append(
            {"path": f"{index}.png", "part": part, "source": source, "kind": kind, **corners}
            | ({"viewpoint": view} if corners else {})
        )
    with (folder / "photos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "recipe.toml").write_text(RECIPE.replace("photos.csv", f"{folder}/photos.csv"))
    return folder / "recipe.toml"
