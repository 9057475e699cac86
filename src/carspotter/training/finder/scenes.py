"""Draw scenes of several vehicles: vehicles pasted on photos, and two photos side by side.

In: crops of whole vehicles and vehicles that were cut out, photos, a random generator. Out: Pictures whose boxes are
exact, with what hides what taken into account. It reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from carspotter.geometry import iou_matrix
from carspotter.pixels import Pixels
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder.augment import SMALLEST, VIEW_VISIBLE, VISIBLE, Picture, Variation, place, resize
from carspotter.training.finder.data import FloatArray, LabelledPhoto, flip_views
from carspotter.training.finder.masks import Mask, mask_box

EXTERIOR = KINDS.index("exterior")
# Width over height of the whole vehicle by what is seen of it: crops are squashed, so their own is lost.
ASPECTS = {"front": (1.0, 1.45), "front-left": (1.25, 2.0), "left": (2.0, 3.0)}
# Two boxes overlap by this much at most; those of cut-outs, of which we know what is hidden, by more.
MOST_OVERLAP, MOST_OVERLAP_CUT_OUT = 0.2, 0.5
# Widths of what is pasted, as parts of the picture's. A cut-out grows by ENLARGED at most, or it would be blurred.
WIDTHS, ROW_WIDTHS, ENLARGED = (0.16, 0.95), (0.12, 0.4), 1.8
TRIES = 8


@dataclass(slots=True, kw_only=True, eq=False)
class Scene:
    """A picture that is pasted on, and the silhouette (h, w) of each of its vehicles where it is known."""

    picture: Picture
    shapes: list[Mask | None] = field(default_factory=list)

    @classmethod
    def on(cls, background: Picture) -> Scene:
        """Begin with a copy of a background and the vehicles on it."""
        picture = Picture(
            pixels=background.pixels.copy(),
            kind=background.kind,
            boxes=background.boxes.copy(),
            views=background.views.copy(),
            ignore=background.ignore.copy(),
            boxes_known=background.boxes_known,
        )
        return cls(picture=picture, shapes=[None] * len(background.boxes))

    def has_room(self, box: FloatArray, most: float) -> bool:
        """Return whether a box (4,) overlaps none of the vehicles by more than `most`."""
        boxes = self.picture.boxes
        return not len(boxes) or float(iou_matrix(box[None], boxes).max()) <= most

    def hide(self, cover: Mask) -> None:
        """Take back what is covered: boxes shrink to what is seen of a silhouette, labels go where too little is."""
        for index, shape in enumerate(self.shapes):
            x1, y1, x2, y2 = np.round(self.picture.boxes[index]).astype(int)
            if shape is None:
                covered = cover[max(y1, 0) : y2, max(x1, 0) : x2]
                left = 1 - float(covered.mean()) if covered.size else 1.0
            else:
                seen = shape & ~cover
                left = seen.sum() / max(shape.sum(), 1)
                box = mask_box(seen)
                self.picture.boxes[index] = self.picture.boxes[index] if box is None else box
            self.picture.ignore[index] |= left < VISIBLE
            self.picture.views[index] *= left >= VIEW_VISIBLE

    def add(self, box: FloatArray, views: FloatArray, shape: Mask | None, *, ignore: bool = False) -> None:
        """Add a vehicle with the box (4,), clipped to the picture, and its viewpoint (1, 8)."""
        picture = self.picture
        height, width = picture.pixels.shape[:2]
        clipped = np.clip(box, 0, np.array([width, height] * 2, dtype=np.float32))[None].astype(np.float32)
        is_small = (clipped[:, 2:] - clipped[:, :2]).min(axis=1) < SMALLEST
        picture.boxes, picture.views = np.concatenate([picture.boxes, clipped]), np.concatenate([picture.views, views])
        picture.ignore = np.concatenate([picture.ignore, is_small | ignore])
        picture.kind = EXTERIOR
        self.shapes.append(shape)


def pasted_scene(
    background: Picture, crops: list[LabelledPhoto], patches: list[LabelledPhoto], rng: np.random.Generator
) -> Picture:
    """Paste vehicles (crops with one box each, or cut-outs) and patches of other things on a background.

    The patches share the pasted look, so that a seam alone does not say vehicle.
    """
    scene = Scene.on(background)
    for patch in patches:
        _paste(scene, patch, rng, is_vehicle=False)
    for crop in crops:
        if crop.mask is not None:
            _paste_cut_out(scene, crop, rng, _anywhere(scene, crop, rng))
        else:
            _paste(scene, crop, rng, is_vehicle=True)
    return scene.picture


def parked_row(background: Picture, cut_outs: list[LabelledPhoto], rng: np.random.Generator) -> Picture:
    """Paste cut-outs side by side at one height, each hiding a part of the one before it, as cars for sale stand."""
    scene = Scene.on(background)
    height, width = background.pixels.shape[:2]
    # Uniform in the logarithm: as many rows of half the size as of the whole.
    size = float(np.exp(rng.uniform(*np.log(ROW_WIDTHS)))) * width
    x, ground = rng.uniform(-0.3, 0.2) * width, rng.uniform(0.5, 1.0) * height
    step = rng.uniform(0.5, 1.1)
    for cut_out in cut_outs:
        # 1.7 is width over height of a car seen at an angle: cars of a row have one height, not one width.
        own = size * rng.uniform(0.9, 1.1) * _aspect_of(cut_out) / 1.7
        box = np.array([x, ground - own / _aspect_of(cut_out), x + own, ground], dtype=np.float32)
        _paste_cut_out(scene, cut_out, rng, box)
        x += own * step
    return scene.picture


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
        # -1: of two kinds neither is the picture's, and its kind is not learnt.
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
    # With grain, or a smooth ground would say "no photograph".
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


def on_another_color(photo: LabelledPhoto, rng: np.random.Generator) -> Pixels:
    """Return a cut-out's pixels with a plain colour in place of the black."""
    assert photo.mask is not None
    color = rng.integers(0, 256, 3).astype(np.uint8)
    return np.where(photo.mask[..., None], photo.image, color)


def _paste(scene: Scene, crop: LabelledPhoto, rng: np.random.Generator, *, is_vehicle: bool) -> None:
    """Paste one crop at a place where it hides little of the others; leave the scene as it is when there is none."""
    height, width = scene.picture.pixels.shape[:2]
    pixels, box, views = crop.image, crop.boxes[:1], crop.views[:1]
    if is_vehicle and rng.random() < 0.5:
        pixels, views = pixels[:, ::-1], flip_views(views)
        box = np.stack([pixels.shape[1] - box[:, 2], box[:, 1], pixels.shape[1] - box[:, 0], box[:, 3]], axis=1)
    aspect = rng.uniform(*_aspect(views[0])) if is_vehicle else rng.uniform(0.8, 2.0)
    where = _free_place(scene, aspect, (WIDTHS[0] * width, WIDTHS[1] * width), rng, most=MOST_OVERLAP)
    if where is None:
        return
    # The box lands on `where`, so that the label is exact; what the crop shows around it lies outside.
    target = _whole_crop(where, box[0], pixels.shape[:2]) if is_vehicle else where
    _blend(scene.picture.pixels, pixels, target, rng)
    x1, y1, x2, y2 = np.maximum(np.round(where), 0).astype(int)
    cover = np.zeros((height, width), dtype=np.bool_)
    cover[y1:y2, x1:x2] = True
    scene.hide(cover)
    if is_vehicle:
        scene.add(where, views, None)


def _free_place(
    scene: Scene, aspect: float, widths: tuple[float, float], rng: np.random.Generator, *, most: float
) -> FloatArray | None:
    """Return a box (4,) of the aspect ratio that overlaps no vehicle by more than `most`; None where none is hit on."""
    height, width = scene.picture.pixels.shape[:2]
    for _ in range(TRIES):
        # Uniform in the logarithm, as sizes are in photographs: small ones are not drowned by large.
        new_width = float(np.exp(rng.uniform(*np.log(widths))))
        new_height = new_width / aspect
        if new_height > height:
            continue
        # A little beyond the picture as well: vehicles are cut by its edge.
        x, y = rng.uniform(-0.06, 1.06) * (width - new_width), rng.uniform(-0.06, 1.06) * (height - new_height)
        where = np.array([x, y, x + new_width, y + new_height], dtype=np.float32)
        if scene.has_room(where, most):
            return where
    return None


def _anywhere(scene: Scene, crop: LabelledPhoto, rng: np.random.Generator) -> FloatArray | None:
    width = scene.picture.pixels.shape[1]
    own = float(crop.boxes[0, 2] - crop.boxes[0, 0])
    least = 0.1 * width
    # No larger than its pixels bear: a blurred car would be known by its blur.
    widths = (least, max(least * 1.1, min(WIDTHS[1] * width, ENLARGED * own)))
    return _free_place(scene, _aspect_of(crop) * rng.uniform(0.92, 1.08), widths, rng, most=MOST_OVERLAP_CUT_OUT)


def _paste_cut_out(scene: Scene, cut_out: LabelledPhoto, rng: np.random.Generator, where: FloatArray | None) -> None:
    """Paste a cut-out so that its box lies at `where` (4,); nothing where that is None or out of the picture."""
    canvas = scene.picture.pixels
    height, width = canvas.shape[:2]
    if where is None or cut_out.mask is None:
        return
    x1, y1, x2, y2 = (round(float(value)) for value in where)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right - left < SMALLEST or bottom - top < SMALLEST:
        return
    own = tuple(round(float(value)) for value in cut_out.boxes[0])
    pixels, mask = (part[own[1] : own[3], own[0] : own[2]] for part in (cut_out.image, cut_out.mask))
    views = cut_out.views[:1]
    if rng.random() < 0.5:
        pixels, mask, views = pixels[:, ::-1], mask[:, ::-1], flip_views(views)
    inside = (slice(top - y1, bottom - y1), slice(left - x1, right - x1))
    size = (x2 - x1, y2 - y1)
    # Another light than the ground's, as shade and sun give.
    light = np.float32(rng.uniform(0.75, 1.2))
    patch = np.clip(resize(np.ascontiguousarray(pixels), size)[inside] * light, 0, 255)
    alpha = resize(mask.astype(np.uint8) * np.uint8(255), size)[inside][..., None].astype(np.float32) / 255
    under = canvas[top:bottom, left:right].astype(np.float32)
    canvas[top:bottom, left:right] = under + (patch - under) * alpha
    shape = np.zeros((height, width), dtype=np.bool_)
    # Half covered is covered: the box of what is left follows the edge that is seen.
    shape[top:bottom, left:right] = alpha[..., 0] > 0.5
    scene.hide(shape)
    # The share within the picture: of a fender alone no side can be told.
    left_over = (right - left) * (bottom - top) / (size[0] * size[1])
    scene.add(where, views * (left_over >= VIEW_VISIBLE), shape, ignore=left_over < VISIBLE)


def _aspect_of(photo: LabelledPhoto) -> float:
    """Return width over height of a photo's own vehicle."""
    x1, y1, x2, y2 = (float(value) for value in photo.boxes[0])
    return (x2 - x1) / (y2 - y1)


def _aspect(view: FloatArray) -> tuple[float, float]:
    """Return the range of width over height for a viewpoint label."""
    index = int(np.argmax(view))
    if not view.any() or index % 2:
        return ASPECTS["front-left"]
    return ASPECTS["front"] if index % 4 == 0 else ASPECTS["left"]


def _whole_crop(target: FloatArray, box: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return where the whole crop lies when its box lies at `target`."""
    scale = (target[2:] - target[:2]) / (box[2:] - box[:2])
    # The same stretch as maps the box onto the target, applied to the whole crop.
    start = target[:2] - box[:2] * scale
    return np.concatenate([start, start + np.array([shape[1], shape[0]]) * scale]).astype(np.float32)


def _blend(canvas: Pixels, pixels: Pixels, target: FloatArray, rng: np.random.Generator) -> None:
    """Resize the crop to `target` and lay it on the canvas, its edge fading over some pixels."""
    x1, y1, x2, y2 = (round(float(value)) for value in target)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return
    resized = resize(np.ascontiguousarray(pixels), (x2 - x1, y2 - y1)).astype(np.float32)
    # A drawn fade: a seam of one width would be learnt as the sign of a vehicle.
    fade = rng.uniform(0.01, 0.06)
    alpha = _ramp(y2 - y1, fade)[:, None, None] * _ramp(x2 - x1, fade)[None, :, None]
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, canvas.shape[1]), min(y2, canvas.shape[0])
    inside = (slice(top - y1, bottom - y1), slice(left - x1, right - x1))
    under = canvas[top:bottom, left:right].astype(np.float32)
    canvas[top:bottom, left:right] = under + (resized[inside] - under) * alpha[inside]


def _ramp(length: int, fade: float) -> FloatArray:
    """Return (length,) that rises from 0 to 1 and falls again, over `fade` of the length at each end."""
    # At the middles of pixels, so that both ends fade alike.
    position = (np.arange(length, dtype=np.float32) + 0.5) / length
    ramp: FloatArray = np.clip(np.minimum(position, 1 - position) / np.float32(fade), 0, 1)
    return ramp
