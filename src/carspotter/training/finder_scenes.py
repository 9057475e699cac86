"""Draw scenes of several vehicles: cut-out vehicles pasted on photos, and two photos side by side.

In: crops of whole vehicles, photos, a random generator. Out: Pictures whose boxes are exact, with what hides what
taken into account. It reads no file.
"""

from __future__ import annotations

import numpy as np

from carspotter.geometry import iou_matrix
from carspotter.pixels import Pixels
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder_augment import VIEW_VISIBLE, VISIBLE, Picture, Variation, area, place, resize
from carspotter.training.finder_data import FloatArray, LabelledPhoto, flip_views

EXTERIOR = KINDS.index("exterior")
# Width over height of the whole vehicle by what is seen of it: crops are squashed, so their own is lost.
ASPECTS = {"front": (1.0, 1.45), "front-left": (1.25, 2.0), "left": (2.0, 3.0)}
MOST_OVERLAP = 0.2
TRIES = 8


def pasted_scene(
    background: Picture, crops: list[LabelledPhoto], patches: list[LabelledPhoto], rng: np.random.Generator
) -> Picture:
    """Paste vehicles (crops with one box each) and patches of things that are none on a background.

    The patches share the pasted look, so that a seam alone does not say vehicle.
    """
    scene = Picture(
        pixels=background.pixels.copy(),
        kind=background.kind,
        boxes=background.boxes,
        views=background.views,
        ignore=background.ignore,
        boxes_known=background.boxes_known,
    )
    for patch in patches:
        _paste(scene, patch, rng, is_vehicle=False)
    for crop in crops:
        _paste(scene, crop, rng, is_vehicle=True)
    return scene


def side_by_side(
    photos: tuple[LabelledPhoto, LabelledPhoto], size: tuple[int, int], rng: np.random.Generator, variation: Variation
) -> Picture:
    """Put two photos into one picture of `size` (width, height), beside or above each other."""
    share = rng.uniform(0.35, 0.65)
    beside = rng.random() < 0.6
    cut = round((size[0] if beside else size[1]) * share)
    sizes = ((cut, size[1]), (size[0] - cut, size[1])) if beside else ((size[0], cut), (size[0], size[1] - cut))
    left, right = (place(photo, part, rng, variation) for photo, part in zip(photos, sizes, strict=True))
    offset = np.array([cut, 0, cut, 0] if beside else [0, cut, 0, cut], dtype=np.float32)
    return Picture(
        pixels=np.concatenate([left.pixels, right.pixels], axis=1 if beside else 0),
        kind=left.kind if left.kind == right.kind else -1,
        boxes=np.concatenate([left.boxes, right.boxes + offset]),
        views=np.concatenate([left.views, right.views]),
        ignore=np.concatenate([left.ignore, right.ignore]),
        boxes_known=left.boxes_known and right.boxes_known,
    )


def plain_background(size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Draw a background of two colours that run into each other, with some grain."""
    top, bottom = rng.uniform(0, 255, (2, 1, 1, 3))
    ramp = np.linspace(0, 1, size[1])[:, None, None]
    values = top + (bottom - top) * ramp + rng.standard_normal((size[1], size[0], 1)) * rng.uniform(0, 12)
    return empty_picture(np.clip(values, 0, 255).astype(np.uint8), EXTERIOR)


def empty_picture(pixels: Pixels, kind: int) -> Picture:
    """Return a picture without vehicles."""
    return Picture(
        pixels=pixels,
        kind=kind,
        boxes=np.zeros((0, 4), dtype=np.float32),
        views=np.zeros((0, len(VIEWPOINTS)), dtype=np.float32),
        ignore=np.zeros(0, dtype=np.bool_),
        boxes_known=True,
    )


def _paste(scene: Picture, crop: LabelledPhoto, rng: np.random.Generator, *, is_vehicle: bool) -> None:
    """Paste one crop at a place where it hides little of the others; leave the scene as it is when there is none."""
    height, width = scene.pixels.shape[:2]
    pixels, box, views = crop.image, crop.boxes[:1], crop.views[:1]
    if is_vehicle and rng.random() < 0.5:
        pixels, views = pixels[:, ::-1], flip_views(views)
        box = np.stack([pixels.shape[1] - box[:, 2], box[:, 1], pixels.shape[1] - box[:, 0], box[:, 3]], axis=1)
    aspect = rng.uniform(*_aspect(views[0])) if is_vehicle else rng.uniform(0.8, 2.0)
    for _ in range(TRIES):
        new_width = float(np.exp(rng.uniform(np.log(0.16), np.log(0.95)))) * width
        new_height = new_width / aspect
        if new_height > height:
            continue
        x, y = rng.uniform(-0.06, 1.06) * (width - new_width), rng.uniform(-0.06, 1.06) * (height - new_height)
        target = np.array([x, y, x + new_width, y + new_height])
        if is_vehicle:
            target = _whole_crop(target, box[0], pixels.shape[:2])
        where = np.array([[x, y, x + new_width, y + new_height]], dtype=np.float32)
        if not len(scene.boxes) or float(iou_matrix(where, scene.boxes).max()) <= MOST_OVERLAP:
            _blend(scene.pixels, pixels, target, rng)
            _hide(scene, where[0])
            if is_vehicle:
                _add(scene, where, views)
            return


def _aspect(view: FloatArray) -> tuple[float, float]:
    """Return the range of width over height for a viewpoint label."""
    index = int(np.argmax(view))
    if not view.any() or index % 2:
        return ASPECTS["front-left"]
    return ASPECTS["front"] if index % 4 == 0 else ASPECTS["left"]


def _whole_crop(target: FloatArray, box: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return where the whole crop lies when its box lies at `target`."""
    scale = (target[2:] - target[:2]) / (box[2:] - box[:2])
    start = target[:2] - box[:2] * scale
    return np.concatenate([start, start + np.array([shape[1], shape[0]]) * scale]).astype(np.float32)


def _blend(canvas: Pixels, pixels: Pixels, target: FloatArray, rng: np.random.Generator) -> None:
    """Resize the crop to `target` and lay it on the canvas, its edge fading over some pixels."""
    x1, y1, x2, y2 = (round(float(value)) for value in target)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return
    resized = resize(np.ascontiguousarray(pixels), (x2 - x1, y2 - y1)).astype(np.float32)
    fade = rng.uniform(0.01, 0.06)
    alpha = _ramp(y2 - y1, fade)[:, None, None] * _ramp(x2 - x1, fade)[None, :, None]
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, canvas.shape[1]), min(y2, canvas.shape[0])
    inside = (slice(top - y1, bottom - y1), slice(left - x1, right - x1))
    under = canvas[top:bottom, left:right].astype(np.float32)
    canvas[top:bottom, left:right] = under + (resized[inside] - under) * alpha[inside]


def _ramp(length: int, fade: float) -> FloatArray:
    """Return (length,) that rises from 0 to 1 and falls again, over `fade` of the length at each end."""
    position = (np.arange(length, dtype=np.float32) + 0.5) / length
    ramp: FloatArray = np.clip(np.minimum(position, 1 - position) / np.float32(fade), 0, 1)
    return ramp


def _hide(scene: Picture, front: FloatArray) -> None:
    """Take labels back of what the pasted box hides."""
    if not len(scene.boxes):
        return
    low, high = np.maximum(scene.boxes[:, :2], front[:2]), np.minimum(scene.boxes[:, 2:], front[2:])
    left = 1 - np.clip(high - low, 0, None).prod(axis=1) / np.maximum(area(scene.boxes), 1e-6)
    scene.ignore = scene.ignore | (left < VISIBLE)
    scene.views = scene.views * (left >= VIEW_VISIBLE)[:, None].astype(np.float32)


def _add(scene: Picture, box: FloatArray, views: FloatArray) -> None:
    height, width = scene.pixels.shape[:2]
    clipped = np.clip(box, 0, np.array([width, height] * 2, dtype=np.float32))
    scene.boxes = np.concatenate([scene.boxes, clipped])
    scene.views = np.concatenate([scene.views, views])
    scene.ignore = np.concatenate([scene.ignore, np.zeros(1, dtype=np.bool_)])
    scene.kind = EXTERIOR
