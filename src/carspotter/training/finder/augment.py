"""Vary a photo the way photos vary: where the vehicle stands in it, how large, in which light, how well recorded.

In: a LabelledPhoto with pixels, a random generator, the network's size. Out: a Picture of that size with its boxes.
It draws no scenes of several photos and knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import cos, exp, radians, sin
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from carspotter.pixels import LETTERBOX_GREY, Pixels
from carspotter.records import KINDS
from carspotter.training.finder.data import FloatArray, LabelledPhoto, flip_views

UNKNOWN_KIND = -1
# How far the box of a turned box goes from that of the ellipse inside it to that of its corners: closest to the turned
# silhouettes of 300 cut-outs (IoU 0.90 at 20 degrees; the ellipse alone 0.86, the corners 0.69).
CORNERS = 0.25
TURNED = 0.35
# Light that is left on a photo taken at night or against the sun.
DARK = (0.2, 0.6)
# Nothing is asked of a vehicle that is narrower or lower in the picture.
SMALLEST = 6.0
# Of a vehicle of which less is left in the picture nothing is asked; below the second its viewpoint is not asked.
VISIBLE, VIEW_VISIBLE = 0.3, 0.6


@dataclass(slots=True, kw_only=True, eq=False)
class Picture:
    """A training picture: pixels (h, w, 3) of the network's size, its kind (-1 unknown) and its vehicles."""

    pixels: Pixels
    kind: int
    boxes: FloatArray
    views: FloatArray
    ignore: npt.NDArray[np.bool_]
    boxes_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How strongly pictures vary; the default 0 is the photo as serving sees it."""

    zoom_out: float = 0.0  # down to 1 - this
    zoom_in: float = 0.0  # up to 1 + this
    stretch: float = 0.0  # of one side against the other
    turn: float = 0.0  # degrees, in a third of the pictures
    light: float = 0.0  # brightness, contrast, saturation and white balance, as a part
    damage: float = 0.0  # chance each of grey, dark, blur, noise, coarse JPEG, something in front


def place(
    photo: LabelledPhoto, size: tuple[int, int], rng: np.random.Generator, variation: Variation | None = None
) -> Picture:
    """Lay a photo into a picture of `size` (width, height): letterboxed as in serving, or varied."""
    pixels, boxes, views = photo.image, photo.boxes, photo.views
    there = _Place()
    if variation is not None:
        if rng.random() < 0.5:
            pixels, boxes, views = _flip(pixels, boxes, views)
        if variation.turn and rng.random() < TURNED:
            pixels, boxes = turn(pixels, boxes, rng.triangular(-variation.turn, 0, variation.turn))
        there = _any_place(rng, variation)
    canvas, scale, offset = _lay(pixels, size, there)
    moved = boxes * np.tile(scale, 2) + np.tile(offset, 2)
    return crop_labels(photo, canvas, moved.astype(np.float32), views)


def crop_labels(photo: LabelledPhoto, canvas: Pixels, boxes: FloatArray, views: FloatArray) -> Picture:
    """Return the picture with boxes clipped, and labels taken back where too little of a vehicle is left."""
    height, width = canvas.shape[:2]
    clipped = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
    # The part of each vehicle that is still in the picture decides what may be asked of it.
    left = area(clipped) / np.maximum(area(boxes), 1e-6)
    own_left = left[np.argmax(area(boxes))] if len(boxes) else 1.0
    # A photo whose car has left the frame is no exterior any more, and no other kind either: it is unknown.
    kind = photo.kind if own_left >= VIEW_VISIBLE or KINDS[photo.kind] != "exterior" else UNKNOWN_KIND
    keep = area(clipped) > 9  # three pixels a side: too small to name
    return Picture(
        pixels=canvas,
        kind=kind,
        boxes=clipped[keep],
        views=(views * (left >= VIEW_VISIBLE)[:, None]).astype(np.float32)[keep],
        ignore=(photo.ignore | (left < VISIBLE) | ((clipped[:, 2:] - clipped[:, :2]).min(axis=1) < SMALLEST))[keep],
        boxes_known=photo.boxes_known,
    )


def area(boxes: FloatArray) -> FloatArray:
    """Return the areas (k,) of boxes (k, 4)."""
    result: FloatArray = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return result


def recolor(pixels: Pixels, rng: np.random.Generator, variation: Variation) -> Pixels:
    """Change light and colours; now and then make it grey, dark, blurred, noisy, coarse, or put something in front."""
    chance = variation.damage
    if rng.random() < chance:
        pixels = _cover(pixels, rng)
    if rng.random() < chance:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6))))
    if rng.random() < chance:
        pixels = _coarse(pixels, int(rng.integers(15, 60)))
    strength = variation.light
    values = pixels.astype(np.float32)
    if rng.random() < chance:
        values *= np.float32(rng.uniform(*DARK))
    # Light is multiplied: brightness for all channels, and a third as much for each, as white balance errs.
    gain = np.exp(rng.uniform(-1, 1) * strength) * np.exp(rng.uniform(-1, 1, 3) * strength / 3)
    values *= gain.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < chance else rng.uniform(1 - strength, 1 + strength)
    contrast = rng.uniform(1 - strength, 1 + strength)
    middle = float(grey.mean())
    # Saturation moves colours towards their own grey, contrast towards the photo's mean.
    values = (grey + (values - grey) * np.float32(saturation) - middle) * np.float32(contrast) + middle
    if rng.random() < chance:
        values += rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(3, 14))
    result: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return result


def resize(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Return a part of the pixels (h, w, 3) or (h, w), or all, at `size` (width, height).

    It is antialiased as `pixels.network_input` does it.
    """
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=box))


def _flip(pixels: Pixels, boxes: FloatArray, views: FloatArray) -> tuple[Pixels, FloatArray, FloatArray]:
    width = pixels.shape[1]
    flipped = boxes.copy()
    # The left side of a mirrored box is what was its right one.
    flipped[:, 0], flipped[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return np.ascontiguousarray(pixels[:, ::-1]), flipped, flip_views(views)


def turn(pixels: Pixels, boxes: FloatArray, degrees: float) -> tuple[Pixels, FloatArray]:
    """Turn a photo and its boxes (k, 4) about the middle, to the left; grey fills the corners."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(LETTERBOX_GREY,) * 3)
    c, s = cos(radians(degrees)), sin(radians(degrees))
    middle = np.array([width / 2, height / 2])
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 - middle
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    center = np.stack([c * center[:, 0] + s * center[:, 1], -s * center[:, 0] + c * center[:, 1]], axis=1) + middle
    # Half sides of the box of the corners (their sum) and of the ellipse within (their hypotenuse).
    across, along = half * abs(c), half[:, ::-1] * abs(s)
    half = (1 - CORNERS) * np.hypot(across, along) + CORNERS * (across + along)
    return np.asarray(image), np.concatenate([center - half, center + half], axis=1).astype(np.float32)


class _Place(NamedTuple):
    """How large a photo lies in a picture, against letterboxed (x, y), where in its room, and on which colour."""

    zoom: tuple[float, float] = (1.0, 1.0)
    where: tuple[float, float] = (0.5, 0.5)
    fill: tuple[int, int, int] = (LETTERBOX_GREY,) * 3


def _any_place(rng: np.random.Generator, variation: Variation) -> _Place:
    place = _Place()
    if rng.random() < 0.75:
        zoom = rng.uniform(1 - variation.zoom_out, 1 + variation.zoom_in)
        stretch = exp(rng.uniform(-1, 1) * variation.stretch)
        place = place._replace(zoom=(zoom * stretch, zoom), where=(rng.random(), rng.random()))
    if rng.random() < 0.3:
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        place = place._replace(fill=(red, green, blue))
    return place


def _lay(pixels: Pixels, size: tuple[int, int], place: _Place) -> tuple[Pixels, FloatArray, FloatArray]:
    """Return the picture, and the scale and offset (x, y) that take points of the photo there."""
    height, width = pixels.shape[:2]
    # The letterboxed size is 1; zoom and stretch are against it.
    fit = min(size[0] / width, size[1] / height)
    new = np.array([max(round(width * fit * place.zoom[0]), 4), max(round(height * fit * place.zoom[1]), 4)])
    start = np.floor((np.array(size) - new) * np.array(place.where)).astype(int)
    # Only the part that is seen is resized: a photo zoomed in would else be made larger than the picture.
    first, last = np.maximum(start, 0), np.minimum(start + new, size)
    scale = new / np.array([width, height])
    source = (*((first - start) / scale), *((last - start) / scale))
    source = (source[0], source[1], min(source[2], width), min(source[3], height))
    shown = last - first
    canvas = np.empty((size[1], size[0], 3), dtype=np.uint8)
    canvas[:] = place.fill
    canvas[first[1] : last[1], first[0] : last[0]] = resize(pixels, (int(shown[0]), int(shown[1])), source)
    return canvas, scale.astype(np.float32), start.astype(np.float32)


def _cover(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Put a plain rectangle somewhere, of a third of each side at most."""
    height, width = pixels.shape[:2]
    box_width, box_height = int(width * rng.uniform(0.05, 0.33)), int(height * rng.uniform(0.05, 0.33))
    x, y = int(rng.integers(0, width - box_width)), int(rng.integers(0, height - box_height))
    covered = pixels.copy()
    covered[y : y + box_height, x : x + box_width] = rng.integers(0, 256, 3)
    return covered


def _coarse(pixels: Pixels, quality: int) -> Pixels:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image)
