"""Draw one planned photo: from its plan to the bytes of its file, with the boxes of what can be seen.

In: a `PhotoPlan`. Out: `Drawn`: bytes (None where the file is missing on purpose), size, boxes. All chance comes from
the plan's seed, so the same plan gives the same bytes. It writes no file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from tools.showroom import interiors, scenes
from tools.showroom.flaws import Box, break_bytes, change, encode, spoil
from tools.showroom.garage import MODELS, PAINTS, Model
from tools.showroom.listings import BROKEN, Look, PhotoPlan
from tools.showroom.render import Camera, Layer, render
from tools.showroom.scenes import Footprint
from tools.showroom.shapes import build
from tools.showroom.surface import Finish, shade

# Sellers who photograph a corner stand nearer to its end than to its side; a straight view is held more strictly.
_LEAN, _STRAIGHT, _CORNER = np.deg2rad(2.0), np.deg2rad(4.5), np.deg2rad(6.5)
_LEAST_SHOWN = 0.25  # of a second car, for it to be told as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawn photo: its file's bytes, the size of the picture in pixels, and the boxes, the main car first."""

    data: bytes | None
    size: tuple[int, int]
    boxes: tuple[Box, ...]


def draw_photo(photo: PhotoPlan) -> Drawn:
    """Draw a photo with its flaw or its change."""
    image, boxes = draw_image(photo)
    random = np.random.default_rng([photo.seed, 1])
    quality = int(random.integers(82, 93))
    if photo.change is not None:
        image, boxes, quality = change(
            image, boxes, photo.change, np.random.default_rng([photo.seed, *photo.image_id.encode()])
        )
    if photo.flaw is not None:
        image, boxes = spoil(image, boxes, photo.flaw, random)
    written = encode(image, quality, form="JPEG" if photo.flaw in BROKEN else "WEBP")
    return Drawn(data=break_bytes(written, photo.flaw, random), size=image.size, boxes=boxes)


def draw_image(photo: PhotoPlan) -> tuple[Image.Image, tuple[Box, ...]]:
    """Draw a photo as it was before anything happened to it, with the boxes of its cars."""
    random = np.random.default_rng([photo.seed, 0])
    if photo.scene in ("car", "several"):
        picture, boxes = _outside(photo, random)
    elif photo.scene in ("wheel", "lamp"):
        return _close_up(photo, random), ()
    else:
        drawings = {"interior": interiors.INTERIORS, "detail": interiors.DETAILS, "other": interiors.OTHERS}
        choice = drawings.get(photo.scene, (interiors.placeholder,))
        picture, boxes = choice[int(random.integers(len(choice)))](photo.size, random), ()
        if photo.scene == "placeholder":
            return picture, boxes
    return scenes.photograph(picture, random), boxes


def finish(look: Look, *, lit: bool = False, steer: float = 0.0) -> Finish:
    """Return the paint and the face of the car that an ad sells."""
    model = MODELS[look.model]
    return Finish(
        body=model.body, face=model.face, paint=PAINTS[look.paint], plate_text=look.plate, lit=lit, steer=steer
    )


def camera_at(photo: PhotoPlan, random: np.random.Generator) -> Camera:
    """Return a camera that sees the whole car from the planned side, standing where a person with a phone would."""
    body = MODELS[photo.look.model].body
    view = photo.viewpoint or 0
    turn = -view * np.pi / 4
    if view % 2:
        turn += _LEAN * (1 if view in (1, 5) else -1)  # towards the end
        turn += float(np.clip(random.normal(0, _CORNER), -0.21, 0.21))
    else:
        turn += float(np.clip(random.normal(0, _STRAIGHT), -0.18, 0.18))
    length = body.nose - body.tail
    way = length * float(random.uniform(1.25, 1.9))
    eye = (
        way * float(np.cos(turn)),
        way * float(np.sin(turn)),
        float(random.uniform(1.15, 1.85)) + 0.25 * (body.height - 1.45),
    )
    width, height = photo.size
    start = Camera(
        eye=eye,
        target=(0.0, 0.0, 0.45 * body.height),
        focal=float(width),
        centre=(width / 2, height / 2),
        size=photo.size,
        roll=float(random.normal(0, 0.010)),
    )
    pixels, _ = start.project(build(body).vertices)
    low, high = pixels.min(0), pixels.max(0)
    fill = float(random.uniform(0.66, 0.92))
    zoom = float(min(fill * width / (high[0] - low[0]), 0.84 * height / (high[1] - low[1])))
    middle = (0.5 * (low + high) - (width / 2, height / 2)) * zoom
    slack = (np.array([width, height]) - zoom * (high - low)) / 2
    shift = random.uniform(-0.45, 0.45, 2) * slack + (0, 0.10 * slack[1])
    centre = np.array([width / 2, height / 2]) - middle + shift
    return replace(start, focal=start.focal * zoom, centre=(float(centre[0]), float(centre[1])))


def _outside(photo: PhotoPlan, random: np.random.Generator) -> tuple[Image.Image, tuple[Box, ...]]:
    camera = camera_at(photo, random)
    place = photo.look.setting
    model = MODELS[photo.look.model]
    cars = [_footprint(model)]
    second = _second(photo, camera, random) if photo.scene == "several" else None
    if second is not None:
        cars.append(replace(_footprint(MODELS[second[0].model]), x=second[1], y=second[2]))
    picture = scenes.draw(place, camera, cars, random)
    main = _render(finish(photo.look, lit=bool(random.random() < 0.15), steer=float(random.random())), photo, camera)
    boxes = [main.box()]
    if second is not None:
        look, x, y = second
        moved = replace(camera, eye=_minus(camera.eye, (x, y)), target=_minus(camera.target, (x, y)))
        behind = _render(finish(look), photo, moved)
        _lay(picture, behind)
        box = _seen(behind, main, photo.size)
        boxes += [box] if box else []
    _lay(picture, main)
    return picture, tuple(boxes)


def _footprint(model: Model) -> Footprint:
    return Footprint(half_length=0.5 * (model.body.nose - model.body.tail), half_width=model.body.half_width)


def _minus(point: tuple[float, float, float], shift: tuple[float, float]) -> tuple[float, float, float]:
    return point[0] - shift[0], point[1] - shift[1], point[2]


def _render(paint: Finish, photo: PhotoPlan, camera: Camera) -> Layer:
    eye = np.array(camera.eye, np.float32)
    return render(
        build(paint.body),
        paint.body,
        camera,
        partial(shade, finish=paint, light=scenes.light(photo.look.setting), eye=eye),
    )


def _second(photo: PhotoPlan, camera: Camera, random: np.random.Generator) -> tuple[Look, float, float] | None:
    """Choose another car and park it beside or in line, never between the camera and the main car."""
    model = int(random.integers(len(MODELS)))
    body = MODELS[photo.look.model].body
    other = MODELS[model].body
    room = 0.5 * (body.nose - body.tail + other.nose - other.tail) + float(random.uniform(0.8, 1.6))
    places = [(0.0, 2.7), (0.0, -2.7), (room, 0.0), (-room, 0.0)]
    ahead = np.array(camera.eye[:2]) / np.hypot(*camera.eye[:2])
    near = [float(np.dot(place, ahead) / np.hypot(*place)) for place in places]
    fit = [index for index, share in enumerate(near) if -0.9 < share < 0.05]
    if not fit:
        return None
    x, y = places[fit[int(random.integers(len(fit)))]]
    paint = list(PAINTS)[int(random.integers(len(PAINTS)))]
    return replace(photo.look, model=model, paint=paint, plate=photo.look.plate[::-1]), x, y


def _lay(picture: Image.Image, layer: Layer) -> None:
    """Lay a drawn car over a picture."""
    rows, columns = layer.coverage.shape
    if not rows:
        return
    below = np.asarray(picture.crop((layer.left, layer.top, layer.left + columns, layer.top + rows)), np.float32)
    mixed = below * (1 - layer.coverage)[..., None]
    mixed += layer.colours
    picture.paste(Image.fromarray(mixed.astype(np.uint8)), (layer.left, layer.top))


def _seen(layer: Layer, before: Layer, size: tuple[int, int]) -> Box | None:
    """Return the box of what is left of a car behind another one, or None where too little is."""
    full = np.zeros((size[1], size[0]), bool)
    rows, columns = layer.coverage.shape
    full[layer.top : layer.top + rows, layer.left : layer.left + columns] = layer.coverage > 0
    total = int(full.sum())
    rows, columns = before.coverage.shape
    full[before.top : before.top + rows, before.left : before.left + columns] &= before.coverage < 1
    if full.sum() < max(_LEAST_SHOWN * total, 0.01 * full.size):
        return None
    down, across = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def _close_up(photo: PhotoPlan, random: np.random.Generator) -> Image.Image:
    """Draw a wheel or a headlamp from near; at a smaller size, since all of the picture is car."""
    body = MODELS[photo.look.model].body
    side = float(random.choice([-1.0, 1.0]))
    if photo.scene == "wheel":
        target = (
            body.axles[int(random.integers(2))] + float(random.normal(0, 0.04)),
            side * body.half_width,
            body.wheel * 1.05,
        )
        turn = side * (np.pi / 2 + float(random.normal(0, 0.16)))
        reach = 3.0 * body.wheel
    else:
        face = MODELS[photo.look.model].face
        target = (
            body.nose - 0.14,
            side * (0.5 * sum(face.lamp) + 0.04),
            body.hood - face.lamp_below - 0.5 * face.lamp_height,
        )
        turn = side * float(random.uniform(0.15, 0.75))
        reach = 0.85
    way = float(random.uniform(1.1, 1.5))
    eye = (
        target[0] + way * float(np.cos(turn)),
        target[1] + way * float(np.sin(turn)),
        target[2] + float(random.uniform(0.15, 0.5)),
    )
    size = (480, 360)
    focal = size[1] * way / reach * float(random.uniform(0.9, 1.2))
    shift = random.uniform(-0.06, 0.06, 2) * size
    camera = Camera(
        eye=eye,
        target=target,
        focal=focal,
        centre=(size[0] / 2 + float(shift[0]), size[1] / 2 + float(shift[1])),
        size=size,
        roll=float(random.normal(0, 0.03)),
    )
    picture = scenes.draw(photo.look.setting, camera, [_footprint(MODELS[photo.look.model])], random)
    _lay(picture, _render(finish(photo.look, steer=float(random.random())), photo, camera))
    return scenes.photograph(picture, random).resize(photo.size, Image.Resampling.BILINEAR)
