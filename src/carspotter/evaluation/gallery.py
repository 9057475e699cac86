"""Maps of which pixels decided, and small pictures for a page.

It runs no network: the caller passes `predict`. Pictures leave as `data:` URIs, so that a page is one file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from carspotter.errors import EvaluationError
from carspotter.geometry import BoundingBox
from carspotter.pixels import LETTERBOX_GREY, Pixels
from carspotter.thumbnails import data_uri, of_height

Map = npt.NDArray[np.float32]
Predict = Callable[[Pixels], npt.NDArray[np.floating]]
"""Images (n, h, w, 3) in 0..255 in, probabilities (n, classes) out."""

BATCH = 32
MAP_SIDE = 224
"""Pixels of the longer side on which a map is made: networks look at no more, and a photo has fifty times as many."""
HEIGHT = 320
"""Pixels: three stand side by side in a card, and one opens large."""
# Two ends of ColorBrewer's diverging PuOr (Brewer 2003), which colour-blind people tell apart.
FOR, AGAINST = (255, 120, 0), (90, 60, 200)
FAINTEST = 0.05  # of probability: a map that never reaches it stays pale, or noise would look like a reason
STRONGEST = 0.72  # of the heat's colour at its strongest: the picture must shine through


def occlusion_map(predict: Predict, image: Pixels, target: int, *, patch: int, stride: int, batch: int = BATCH) -> Map:
    """Return (h, w) how much of the target's probability each pixel bears: which pixels decided.

    `image` is (h, w, 3). A grey square of side `patch` is laid over it in steps of `stride` (at most `patch`, so that
    every pixel is covered); a pixel has the mean drop of the target's probability over the squares that covered it
    (Zeiler & Fergus 2014, section 4.2). Below 0 the pixels spoke against the target. Takes a call of `predict` a
    `batch` of squares. Raises ValueError for a wrong image, patch or stride.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image of {image.dtype} {image.shape}; it must be uint8 (h, w, 3)")
    if not 1 <= stride <= patch:
        raise ValueError(f"stride {stride} with patch {patch}; the stride must be from 1 to the patch")
    height, width = image.shape[:2]
    # The last square of each side ends at the edge, so that no pixel stays uncovered and no division is by 0.
    corners = [(y, x) for y in _steps(height, patch, stride) for x in _steps(width, patch, stride)]
    whole = _probabilities(predict, image[None], target)[0]
    drops, covered = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(corners), batch):
        part = corners[start : start + batch]
        # Copies, since every square covers another part of the same picture.
        images = np.repeat(image[None], len(part), axis=0)
        for number, (y, x) in enumerate(part):
            # The grey that networks know from letterboxes says nothing; black would look like a shadow.
            images[number, y : y + patch, x : x + patch] = LETTERBOX_GREY
        for (y, x), p in zip(part, _probabilities(predict, images, target), strict=True):
            # Squares overlap, so that a pixel's drop is the mean of several: the map is finer than the patch.
            drops[y : y + patch, x : x + patch] += whole - p
            covered[y : y + patch, x : x + patch] += 1
    return np.asarray(drops / covered, np.float32)


def occlusion_map_of(predict: Predict, pixels: Pixels, target: int, *, box: BoundingBox | None = None) -> Map:
    """Return the occlusion map of the part of a photo inside a box, at most 224 pixels wide and high.

    A square has a fifth of the shorter side and moves by half of itself: some hundred calls, and parts such as a lamp
    or a grille still show.
    """
    image = Image.fromarray(crop(pixels, box))
    scale = min(1.0, MAP_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # `reducing_gap` first shrinks by whole blocks, which is enough for a map and much faster on a large photo.
    small = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    # At least 2, so that half of it is still a step forward.
    patch = max(2, min(size) // 5)
    return occlusion_map(predict, small, target, patch=patch, stride=max(1, patch // 2))


def crop(pixels: Pixels, box: BoundingBox | None) -> Pixels:
    """Return the part (h, w, 3) inside a box, at least a pixel; all of it without a box."""
    if box is None:
        return pixels
    height, width = pixels.shape[:2]
    inner = box.clip(width, height)
    # A box at the very edge, or without an area, still gives the pixel beside it.
    left, top = min(int(inner.x1), width - 1), min(int(inner.y1), height - 1)
    return pixels[top : max(top + 1, round(inner.y2)), left : max(left + 1, round(inner.x2))]


def parse_box(text: str, photo: str) -> BoundingBox | None:
    """Read the column `box` ("x1 y1 x2 y2"); None for an empty one. Raises EvaluationError for anything else."""
    if not text.strip():
        return None
    try:
        return BoundingBox.from_list([float(word) for word in text.split()])
    except ValueError as error:
        raise EvaluationError(
            f"photo {photo}: box is {text!r}; it must be 'x1 y1 x2 y2' in pixels ({error})"
        ) from error


def overlay(pixels: Pixels, heat: Map, *, height: int = HEIGHT) -> str:
    """Return a picture with its heat map laid over it as a `data:` URI.

    Orange pixels spoke for the answer, violet ones against it, the more the stronger, relative to the strongest.
    """
    image = of_height(pixels, height)
    # One scale for both colours: an orange of half strength and a violet one weigh the same.
    strongest = max(FAINTEST, float(np.abs(heat).max()))
    scaled = Image.fromarray(np.asarray(heat / strongest, np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    # Bicubic interpolation overshoots at the edges of squares.
    values = np.clip(np.asarray(scaled, np.float64), -1, 1)[..., None]
    grey = np.asarray(image.convert("L").convert("RGB"), np.float64)  # colours of the car must not look like heat
    color = np.where(values > 0, np.array(FOR, float), np.array(AGAINST, float))
    alpha = np.abs(values) * STRONGEST
    mixed = Image.fromarray(np.asarray(grey * (1 - alpha) + color * alpha, np.uint8))
    return data_uri(mixed)


def _steps(length: int, patch: int, stride: int) -> list[int]:
    """Return where squares begin along a side; the last one ends at the edge."""
    last = max(0, length - patch)
    return [*range(0, last, stride), last]


def _probabilities(predict: Predict, images: Pixels, target: int) -> npt.NDArray[np.float64]:
    answers = np.asarray(predict(images), np.float64)
    if answers.ndim != 2 or len(answers) != len(images) or not 0 <= target < answers.shape[1]:
        raise ValueError(f"predict answered {answers.shape} to {len(images)} images; target is {target}")
    return np.asarray(answers[:, target], np.float64)
