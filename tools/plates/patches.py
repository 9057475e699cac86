"""Patches that the network learns from: photographs with plates drawn onto them, and what it should say of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from carspotter.errors import CarspotterError, TrainingError
from carspotter.geometry import BoundingBox
from carspotter.headers import SUFFIXES
from carspotter.pixels import decode
from carspotter.runtime.blur import STRIDE
from tools.plates.drawing import paste_plate

Floats = npt.NDArray[np.float32]

SIDE = 160
"""Pixels of a patch's sides."""
KEPT = 400  # pixels of the longer side of a photo in memory
LONGEST = (230, 520)  # of a photo from which a patch is cut: plates are 5 to 40 % of a car's width
WIDEST = (22, 110)  # pixels of a pasted plate
PER_CENTRE = 6  # the heat of a plate falls off over a sixth of its sides


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A photo, RGB, with the boxes of its real plates.

    Where `is_open`, there may be real plates without a box: a sure answer there is not held against the network.
    """

    photo: Image.Image
    plates: tuple[BoundingBox, ...] = ()
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """Pixels (3, SIDE, SIDE) and what is true at each place of the grid: heat and `near` (h, w), the others (2, h, w).

    Logarithm of the size and offset count where `near` is 1, at and beside the middle of a plate.
    """

    pixels: npt.NDArray[np.uint8]
    heat: Floats
    size: Floats
    offset: Floats
    near: Floats
    is_open: bool


def scenes_of(folder: Path, *, at_most: int, random: Random, is_open: bool) -> list[Scene]:
    """Return some of the photos below a folder in a random order; what cannot be read is passed over."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    random.shuffle(paths)
    scenes: list[Scene] = []
    for path in paths:
        if len(scenes) == at_most:
            break
        try:
            photo = Image.fromarray(decode(path.read_bytes()).pixels)
        except CarspotterError:
            continue
        photo.thumbnail((KEPT, KEPT))
        scenes.append(Scene(photo=photo, is_open=is_open))
    if not scenes:
        raise TrainingError(f"{folder}: no photo in this folder; looked for {' '.join(SUFFIXES)}")
    return scenes


def confirmed(table: Path) -> list[Scene]:
    """Return the photos of a table `path,x1,y1,x2,y2` with their plates' boxes, in pixels of the upright photo.

    Paths are as `propose` wrote them; a photo's lines must be all of its plates.
    """
    plates: dict[str, list[BoundingBox]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            box = BoundingBox(*(float(row[side]) for side in ("x1", "y1", "x2", "y2")))
            plates.setdefault(row["path"], []).append(box)
    scenes = []
    for path, boxes in plates.items():
        photo = Image.fromarray(decode(Path(path).read_bytes()).pixels)
        scale = min(1.0, KEPT / max(photo.size))
        size = round(photo.width * scale), round(photo.height * scale)
        scenes.append(Scene(photo=photo.resize(size), plates=tuple(box.scale(scale, scale) for box in boxes)))
    return scenes


def cut_patch(scene: Scene, random: Random, fonts: Sequence[str] = ()) -> Patch:
    """Cut a patch out of a photo at a random size, mostly around a real plate, and paste drawn ones onto it."""
    photo, plates = _resized(scene, random)
    if random.random() < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        plates = [BoundingBox(photo.width - each.x2, each.y1, photo.width - each.x1, each.y2) for each in plates]
    left, top = _corner(photo.size, plates, random)
    photo = photo.crop((left, top, left + SIDE, top + SIDE))
    plates = [each.shift(-left, -top) for each in plates]
    for _ in range(random.choice((0, 0, 1) if plates else (0, 1, 1, 2))):
        center = random.uniform(15, SIDE - 15), random.uniform(15, SIDE - 15)
        width = exp(random.uniform(*map(log, WIDEST)))
        if not any(_is_close(center, width, each) for each in plates):
            plates.append(paste_plate(photo, center, width, random=random, fonts=fonts))
    pixels = np.asarray(_changed(photo, random)).transpose(2, 0, 1)
    heat, size, offset, near = targets(plates)
    return Patch(pixels=pixels, heat=heat, size=size, offset=offset, near=near, is_open=scene.is_open)


def targets(plates: Sequence[BoundingBox], n: int = SIDE // STRIDE) -> tuple[Floats, Floats, Floats, Floats]:
    """Return a patch's heat (n, n), log size and offset (2, n, n), and where these two count (n, n)."""
    heat, near = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    size, offset = np.zeros((2, n, n), np.float32), np.zeros((2, n, n), np.float32)
    y, x = np.mgrid[:n, :n]
    for plate in plates:
        (middle_x, middle_y), width, height = plate.center, plate.width / STRIDE, plate.height / STRIDE
        middle_x, middle_y = middle_x / STRIDE, middle_y / STRIDE
        column, row = int(middle_x), int(middle_y)
        if not (0 <= middle_x < n and 0 <= middle_y < n):
            continue
        # Wider than high, as plates are: beside the middle an answer is nearly right, above it is none.
        wide, high = max(0.55, width / PER_CENTRE), max(0.55, height / PER_CENTRE)
        bump = np.exp(-((x - column) ** 2 / (2 * wide**2) + (y - row) ** 2 / (2 * high**2)))
        heat = np.maximum(heat, bump.astype(np.float32))
        heat[row, column] = 1
        here = (abs(x - column) <= max(1, width / 8)) & (abs(y - row) <= 1)
        near[here] = 1
        size[:, here] = np.array([[log(width)], [log(max(height, 0.5))]])
        offset[:, here] = np.stack([middle_x - x[here], middle_y - y[here]])
    return heat, size, offset, near


def _resized(scene: Scene, random: Random) -> tuple[Image.Image, list[BoundingBox]]:
    photo = scene.photo
    scale = random.uniform(*LONGEST) / max(photo.size)
    size = max(SIDE, round(photo.width * scale)), max(SIDE, round(photo.height * scale))
    across, down = size[0] / photo.width, size[1] / photo.height
    return photo.resize(size, Image.Resampling.BILINEAR), [each.scale(across, down) for each in scene.plates]


def _corner(size: tuple[int, int], plates: Sequence[BoundingBox], random: Random) -> tuple[int, int]:
    """Return a patch's upper left corner, three times of four so that a real plate is inside."""
    room = size[0] - SIDE, size[1] - SIDE
    if plates and random.random() < 0.75:
        plate = random.choice(plates)
        x = random.uniform(max(0.0, plate.x2 - SIDE + 4), max(1.0, plate.x1 - 4))
        y = random.uniform(max(0.0, plate.y2 - SIDE + 4), max(1.0, plate.y1 - 4))
        return min(max(0, int(x)), room[0]), min(max(0, int(y)), room[1])
    return random.randint(0, room[0]), random.randint(0, room[1])


def _is_close(center: tuple[float, float], width: float, plate: BoundingBox) -> bool:
    x, y = plate.center
    return abs(center[0] - x) < 60 + width / 2 and abs(center[1] - y) < 35


def _changed(photo: Image.Image, random: Random) -> Image.Image:
    """Return a photo in another light, with other colours, and as a JPEG leaves it."""
    if random.random() < 0.5:
        photo = ImageEnhance.Brightness(photo).enhance(random.uniform(0.6, 1.4))
    if random.random() < 0.5:
        photo = ImageEnhance.Color(photo).enhance(random.uniform(0, 1.5))
    if random.random() < 0.5:
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=random.randint(35, 90))
        photo = Image.open(buffer).convert("RGB")
    return photo
