"""Photos that need no camera: a drawn car and pure noise, as JPEG bytes.

The drawing stands in where no real photograph may lie: in `make demo` without a photo and in the speed benchmarks. No
network was trained on it, so what is answered for it says nothing about accuracy. Noise is the hardest JPEG to decode;
real photos lie between the two.
"""

import sys
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from drawn_car import EYE, Floats, light, shade, trace

HEADING, HORIZON = 0.69, 0.36  # from where the camera looks, in radians; share of the height above the horizon
AHEAD, ASIDE = (np.cos(HEADING), np.sin(HEADING)), (np.sin(HEADING), -np.cos(HEADING))
LEFT, RIGHT, TOP, BOTTOM = -0.2535, 0.2010, 0.03, -0.26  # where the car ends, at one metre before the camera
FINE = 3  # points along each side of a pixel
CHUNK = 16384  # rays at once: their arrays stay in the processor's cache


def _film(seen: Floats) -> NDArray[np.uint8]:
    """Return the pixels (..., 3) that a camera makes of light (3, ...): a soft shoulder and the curve of sRGB."""
    toned = seen * (2.27 * seen + 0.03) / (seen * (2.19 * seen + 0.56) + 0.14)  # the usual fit of the ACES curve
    return np.moveaxis((255 * np.clip(toned, 0, 1) ** (1 / 2.2) + 0.5).astype(np.uint8), 0, -1)


def _clouds(random: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> Floats:
    """Return smooth noise (h, w) of so many cells across and down."""
    coarse = Image.fromarray(random.standard_normal(cells[::-1], np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))


def _backdrop(u: Floats, v: Floats, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the pixels (h, w, 3) of the sky and of trees out of focus."""
    clouds = partial(_clouds, random, (u.size, v.size))
    share = np.clip(v / 0.3, 0, 1) ** 0.8
    sky = light(0.72, 0.83, 0.94)[..., None] * (1 - share) + light(0.20, 0.40, 0.78)[..., None] * share
    shade = np.exp(0.35 * clouds((14, 8)) + 0.45 * clouds((70, 50)) + 0.4 * clouds((200, 150)))
    crown = 0.085 + 0.018 * np.sin(9 * u + 1) + 0.012 * clouds((12, 1)) + 0.008 * clouds((40, 1))
    trees = light(0.045, 0.062, 0.022)[..., None] * shade
    scene = Image.fromarray(_film(np.where(v < crown + 0.003 * clouds((130, 100)), trees, sky)))
    return np.asarray(scene.filter(ImageFilter.GaussianBlur(u.size / 400)))


def _shadow(x: Floats, y: Floats) -> Floats:
    """Return the share of light that the car leaves the ground, in its shade from the sun and below it."""
    cast = np.hypot(np.maximum(np.abs(x + 0.30) - 1.75, 0), np.maximum(np.abs(y + 0.42) - 0.75, 0))
    below = np.hypot(np.maximum(np.abs(x) - 1.85, 0), np.maximum(np.abs(y) - 0.74, 0))
    result: Floats = (1 - 0.65 * np.clip(1 - cast / 0.30, 0, 1)) * (1 - 0.85 * np.exp(-((below / 0.2) ** 2)))
    return result


def _scene(u: Floats, v: Floats) -> Image.Image:
    """Return what lies behind and below the car, for columns u (w,) and rows v (h, 1)."""
    random = np.random.default_rng(0)
    clouds = partial(_clouds, random, (u.size, v.size))
    back = _backdrop(u, v, random)
    x, y, _ = EYE[..., None] + _rays(u, v) * (EYE[2, 0] / np.maximum(-v, 0.004))
    grain = 1 + 0.05 * clouds((10, 6)) + 0.05 * clouds((80, 60)) + 0.10 * clouds((u.size, v.size))
    ground = np.full((3, v.size, u.size), light(0.170, 0.168, 0.165)[..., None])
    for kerb, colour in ((-1.9, (0.36, 0.35, 0.33)), (-2.1, (0.25, 0.24, 0.225)), (-4.0, (0.055, 0.085, 0.026))):
        ground[:, y < kerb] = light(*colour)
    share = np.clip(-v / 0.012, 0, 1)[..., None]
    return Image.fromarray((_film(ground * grain * _shadow(x, y)) * share + back * (1 - share)).astype(np.uint8))


def _rays(u: Floats, v: Floats) -> Floats:
    """Return the directions (3, ...) of the places u aside and v above what lies one metre before the camera."""
    return np.stack(np.broadcast_arrays(-AHEAD[0] - u * ASIDE[0], -AHEAD[1] - u * ASIDE[1], v)).astype(np.float32)


def _refine(coarse: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Spread a traced picture (4, h, w) over the fine points; tell which of them lie by an edge."""
    depth = Image.fromarray(coarse[0])
    most, least = (np.asarray(depth.filter(rank(3))) for rank in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    edge = most - least > 0.10  # metres between neighbours: there the surface is not smooth
    size = (depth.width * FINE, depth.height * FINE)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in coarse]
    return np.stack(planes).reshape(4, -1), edge.repeat(FINE, 0).repeat(FINE, 1)


def _car(u: Floats, v: Floats) -> Image.Image:
    """Return the car on nothing for columns u (w,) and rows v (h,), traced once a pixel and finely by its edges."""
    coarse = np.zeros((4, v.size * u.size), np.float32)
    for part in _parts(np.arange(v.size * u.size)):
        coarse[:, part] = trace(_rays(u[part % u.size], v[part // u.size]))
    fine, edge = _refine(coarse.reshape(4, v.size, u.size))
    step = (np.arange(FINE) + 0.5) / FINE - 0.5
    u, v = (np.add.outer(side, step * (side[1] - side[0])).ravel() for side in (u, v))
    for part in _parts(np.flatnonzero(edge)):
        fine[:, part] = trace(_rays(u[part % u.size], v[part // u.size]))
    layer = np.zeros((v.size * u.size, 4), np.uint8)
    for part in _parts(np.flatnonzero(fine[0])):
        points = EYE + fine[0, part] * _rays(u[part % u.size], v[part // u.size])
        layer[part, :3], layer[part, 3] = _film(shade(points, fine[1:, part])), 255
    return Image.fromarray(layer.reshape(v.size, u.size, 4)).convert("RGBa").reduce(FINE).convert("RGBA")


def _parts(indices: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Cut indices into parts whose arrays stay in the processor's cache."""
    return np.array_split(indices, max(1, indices.size // CHUNK))


@cache
def _photograph(width: int, height: int, left: float, right: float) -> Image.Image:
    """Return the picture of `draw_car`, drawn once for each size."""
    scale = (RIGHT - LEFT) / ((right - left) * width)
    u = (LEFT + (np.arange(width) + 0.5 - left * width) * scale).astype(np.float32)
    v = ((HORIZON * height - np.arange(height) - 0.5) * scale).astype(np.float32)
    image = _scene(u, v[:, None])
    columns, rows = (u > LEFT - 0.01) & (u < RIGHT + 0.01), (v > BOTTOM) & (v < TOP)
    car = _car(u[columns], v[rows])
    image.paste(car, (int(columns.argmax()), int(rows.argmax())), car)
    return image


def draw_car(width: int = 800, height: int = 600, *, left: float = 0.1, right: float = 0.9) -> Image.Image:
    """Draw a red hatchback, seen from the front left, between the shares `left` and `right` of the width."""
    return _photograph(width, height, left, right).copy()


def draw_noise(width: int = 800, height: int = 600, *, seed: int = 0) -> Image.Image:
    """Draw smooth noise over the car, so that no two photos are alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    grain = random.integers(0, 24, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint16)
    noise = Image.fromarray(np.minimum(smooth + grain, 255).astype(np.uint8))
    return Image.blend(draw_car(width, height), noise, 0.35)


def jpeg(image: Image.Image, *, quality: int = 88) -> bytes:
    """Encode an image as JPEG."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(jpeg(draw_car()))
    print(f"No PHOTO named: drew a car into {target}. Its answer means nothing; try a photo of yours.")
