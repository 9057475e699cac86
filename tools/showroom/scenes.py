"""Where the cars stand: a street, a dealer's yard, a showroom's hall, a field; and the camera's last touches.

In: a camera, a random generator, the footprints of the cars. Out: the picture without cars, 0..255, and the `Light`
that falls on them. `photograph` makes a photo of a finished picture. It draws no car.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from tools.showroom.render import Camera
from tools.showroom.shapes import Floats
from tools.showroom.surface import Light, around

Place = Literal["street", "yard", "hall", "field"]
PLACES: tuple[Place, ...] = get_args(Place)

RGB = tuple[int, int, int]
_TILE = 512  # side of the noise that repeats over the ground
_GROUND: dict[Place, tuple[RGB, ...]] = {
    "street": ((112, 112, 112), (98, 99, 102), (124, 120, 114)),
    "yard": ((134, 131, 126), (118, 117, 115), (146, 138, 126)),
    "hall": ((176, 174, 170), (120, 122, 126), (196, 190, 180)),
    "field": ((106, 116, 66), (140, 128, 92), (92, 104, 58)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The colours of a sky from the horizon up, and the light that comes from it."""

    low: RGB
    high: RGB
    sun_colour: tuple[float, float, float]
    dome: tuple[float, float, float]
    shadow: float  # how dark the sun's shadow is, 0..1


_WEATHERS = (
    Weather(
        low=(214, 226, 236), high=(92, 142, 206), sun_colour=(1.25, 1.17, 1.05), dome=(0.90, 1.0, 1.15), shadow=0.60
    ),
    Weather(
        low=(222, 224, 226), high=(182, 190, 200), sun_colour=(0.35, 0.35, 0.35), dome=(1.25, 1.28, 1.32), shadow=0.18
    ),
    Weather(
        low=(244, 214, 178), high=(122, 148, 190), sun_colour=(1.35, 1.02, 0.70), dome=(0.80, 0.86, 1.0), shadow=0.50
    ),
    Weather(
        low=(206, 214, 220), high=(134, 160, 190), sun_colour=(0.80, 0.78, 0.74), dome=(1.05, 1.12, 1.20), shadow=0.40
    ),
)
_INDOORS = Weather(
    low=(206, 206, 204), high=(232, 232, 230), sun_colour=(0.55, 0.55, 0.54), dome=(1.05, 1.05, 1.04), shadow=0.30
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where an ad's photos were taken: the same place, weather and sun for all of them."""

    place: Place
    weather: int
    sun_turn: float  # radians around the car
    sun_height: float
    ground: int
    phase: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a car covers on the ground: its middle, its heading in radians, half its length and width."""

    x: float = 0.0
    y: float = 0.0
    heading: float = 0.0
    half_length: float = 2.1
    half_width: float = 0.88


def choose(random: np.random.Generator) -> Setting:
    """Choose a setting for an ad."""
    place = PLACES[int(random.choice(4, p=(0.34, 0.30, 0.18, 0.18)))]
    return Setting(
        place=place,
        weather=int(random.integers(len(_WEATHERS))),
        sun_turn=float(random.uniform(-np.pi, np.pi)),
        sun_height=float(random.uniform(0.55, 1.0)),
        ground=int(random.integers(3)),
        phase=float(random.uniform(0, 50)),
    )


def weather(setting: Setting) -> Weather:
    """Return the weather of a setting; a hall has its own."""
    return _INDOORS if setting.place == "hall" else _WEATHERS[setting.weather]


@lru_cache(maxsize=4)  # the photos of an ad share it
def light(setting: Setting) -> Light:
    """Return the light that falls on a car there."""
    sky = weather(setting)
    turn, height = setting.sun_turn, setting.sun_height
    sun = np.array([np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height)], np.float32)
    spark = 1.0 if sky.shadow < 0.35 else 5.0
    return Light(sun=sun, sun_colour=sky.sun_colour, dome=sky.dome, around=_around(setting), spark=spark)


def _linear(colour: RGB) -> Floats:
    return ((np.array(colour, np.float32) / 255) ** 2.2).astype(np.float32)


def _around(setting: Setting) -> Floats:
    """Return what the paint mirrors: sky over a skyline over the ground."""
    sky = weather(setting)
    wall = {"street": 0.10, "yard": 0.16, "hall": 0.30, "field": 0.045}[setting.place]

    def seen(rays: Floats) -> Floats:
        rise, turn = rays[2][:, None], np.arctan2(rays[1], rays[0])[:, None]
        share = np.clip(rise, 0, 1) ** 0.6
        above = _linear(sky.low) * (1 - share) + _linear(sky.high) * share
        if setting.place == "hall":
            strips = (np.abs(np.sin(3 * turn)) > 0.80) & (rise > 0.45) & (rise < 0.85)
            above = np.where(strips, 2.2, 0.45 * above)
        skyline = 0.16 + 0.06 * np.sin(5 * turn + setting.phase) + 0.03 * np.sin(17 * turn)
        over = np.clip((rise - skyline) / 0.05 + 0.5, 0, 1)
        side = wall * (1 + 0.35 * np.sin(11 * turn + setting.phase)) * np.array([1.0, 1.02, 0.95], np.float32)
        under = np.clip(0.5 - rise / 0.03, 0, 1)
        ground = _linear(_GROUND[setting.place][setting.ground]) * (0.95 + 0.4 * np.clip(rise, -1, 0))
        result: Floats = ((above * over + side * (1 - over)) * (1 - under) + ground * under).T
        return result

    return around(seen)


@lru_cache(maxsize=4)
def noise(power: float) -> Floats:
    """Return noise (512, 512) that repeats; the greater `power`, the smoother. Mean 0, deviation 1."""
    random = np.random.default_rng(7)
    waves = np.fft.rfft2(random.standard_normal((_TILE, _TILE)))
    down, across = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None]
    result = np.fft.irfft2(waves / (np.hypot(down, across) + 1 / _TILE) ** power)
    even: Floats = ((result - result.mean()) / result.std()).astype(np.float32)
    return even


def draw(setting: Setting, camera: Camera, cars: list[Footprint], random: np.random.Generator) -> Image.Image:
    """Draw the place without its cars but with their shadows.

    It is computed at half size: three quarters of the time saved, and the softness that a place behind a car has.
    """
    size, half = camera.size, (camera.size[0] // 2, camera.size[1] // 2)
    centre = (camera.centre[0] * half[0] / size[0], camera.centre[1] * half[1] / size[1])
    small = _draw(
        setting, replace(camera, size=half, centre=centre, focal=camera.focal * half[0] / size[0]), cars, random
    )
    image = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))
    return image.resize(size, Image.Resampling.BILINEAR)


def _draw(setting: Setting, camera: Camera, cars: list[Footprint], random: np.random.Generator) -> Floats:
    width, height = camera.size
    x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    rays = camera.rays(x, y)
    slope = rays[2] / np.sqrt(rays[0] ** 2 + rays[1] ** 2)
    picture = _backdrop(setting, camera, slope, random)
    flat = np.flatnonzero(slope.ravel() < -0.004)
    if len(flat):
        colours = _floor(setting, camera, rays.reshape(3, -1)[:, flat], cars)
        share = np.clip((-slope.ravel()[flat] - 0.004) / 0.012, 0, 1)[:, None]
        lines = picture.reshape(-1, 3)
        lines[flat] = colours * share + lines[flat] * (1 - share)
    return picture


def _backdrop(setting: Setting, camera: Camera, slope: Floats, random: np.random.Generator) -> Floats:
    sky = weather(setting)
    share = np.clip(slope * 2.2, 0, 1)[..., None] ** 0.7
    air = np.array(sky.low, np.float32) * (1 - share) + np.array(sky.high, np.float32) * share
    if setting.place != "hall":
        air += _clouds(slope.shape, random)[..., None] * share * 12
    image = Image.fromarray(np.clip(air, 0, 255).astype(np.uint8))
    middle = slope.shape[1] // 2
    horizon = int(np.argmin(np.abs(slope[:, middle])))
    pen = ImageDraw.Draw(image)
    {"street": _houses, "yard": _yard, "hall": _hall, "field": _trees}[setting.place](pen, camera, horizon, random)
    return np.array(image.filter(ImageFilter.BoxBlur(slope.shape[1] / 480)), np.float32)


def _clouds(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    top, left = random.integers(0, _TILE, 2)
    rows = (np.arange(shape[0]) // 2 + top) % _TILE
    columns = (np.arange(shape[1]) // 4 + left) % _TILE
    taken: Floats = noise(1.6)[rows[:, None], columns]
    return taken


def _box(pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], fill: RGB) -> None:
    if box[2] > box[0] and box[3] > box[1]:  # what lies above the picture turns over, and Pillow refuses it
        pen.rectangle(box, fill=fill)


def _tone(colour: RGB, factor: float) -> RGB:
    red, green, blue = (min(int(value * factor), 255) for value in colour)
    return red, green, blue


def _tree(pen: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, random: np.random.Generator) -> None:
    """Draw a crown of many leaves' worth of blobs, lighter towards the top."""
    base = (58 + int(random.integers(24)), 78 + int(random.integers(30)), 40 + int(random.integers(16)))
    x, y = foot
    _box(pen, (x - 0.05 * size, y - 0.5 * size, x + 0.05 * size, y), fill=(62, 50, 40))
    for layer in range(3):
        spots = random.normal(0, 1, (11, 2))
        for across, up in spots:
            cx, cy = x + 0.22 * size * across, y - size * (0.62 + 0.07 * layer) - 0.13 * size * up
            r = size * (0.17 - 0.035 * layer)
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=_tone(base, 0.72 + 0.22 * layer))


def _trees(pen: ImageDraw.ImageDraw, camera: Camera, horizon: int, random: np.random.Generator) -> None:
    width = camera.size[0]
    for shade in (0.86, 0.62):  # two ranges of hills
        points: list[tuple[float, float]] = [(0.0, float(horizon + 4))]
        phase = random.uniform(0, 6)
        for step in range(17):
            rise = camera.focal * (0.028 + 0.02 * np.sin(step * 0.7 + phase)) * (2 - 1.3 * shade)
            points.append((step * width / 16, horizon - float(rise)))
        pen.polygon([*points, (float(width), float(horizon + 4))], fill=_tone((112, 132, 122), shade))
    for _ in range(int(random.integers(5, 12))):
        size = camera.focal * float(random.uniform(0.06, 0.17))
        _tree(pen, (float(random.uniform(0, width)), horizon + 3.0), size, random)


def _houses(pen: ImageDraw.ImageDraw, camera: Camera, horizon: int, random: np.random.Generator) -> None:
    width, x = camera.size[0], -20.0
    walls: tuple[RGB, ...] = ((188, 168, 146), (206, 198, 184), (160, 112, 92), (176, 180, 184), (216, 206, 176))
    foot = horizon + camera.focal * 0.03
    while x < width:
        wide, tall = camera.focal * float(random.uniform(0.16, 0.34)), camera.focal * float(random.uniform(0.16, 0.36))
        wall = _tone(walls[int(random.integers(len(walls)))], float(random.uniform(0.75, 1.0)))
        _box(pen, (x, foot - tall, x + wide, foot), fill=wall)
        if random.random() < 0.5:
            roof = _tone((138, 82, 66), float(random.uniform(0.6, 1.1)))
            pen.polygon(
                [(x - 4, foot - tall), (x + wide + 4, foot - tall), (x + 0.5 * wide, foot - 1.35 * tall)], fill=roof
            )
        _windows(pen, (x, foot - tall, x + wide, foot), wall, camera.focal * 0.05)
        x += wide + float(random.choice([0.0, 0.0, 14.0]))
    for _ in range(int(random.integers(0, 4))):
        _tree(
            pen, (float(random.uniform(0, width)), foot + 2), camera.focal * float(random.uniform(0.12, 0.25)), random
        )


def _windows(pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], wall: RGB, step: float) -> None:
    x1, y1, x2, y2 = box
    rows, columns = max(int((y2 - y1) / step * 0.8), 1), max(int((x2 - x1) / step), 1)
    for row in range(rows):
        for column in range(columns):
            x, y = x1 + (column + 0.28) * (x2 - x1) / columns, y1 + (row + 0.22) * (y2 - y1) / rows
            _box(pen, (x - 1, y - 1, x + 0.46 * step + 1, y + 0.66 * step + 1), fill=_tone(wall, 1.15))
            _box(pen, (x, y, x + 0.46 * step, y + 0.66 * step), fill=(62, 72, 84))


def _yard(pen: ImageDraw.ImageDraw, camera: Camera, horizon: int, random: np.random.Generator) -> None:
    width, focal = camera.size[0], camera.focal
    foot, top = horizon + 0.035 * focal, horizon - focal * float(random.uniform(0.10, 0.20))
    for _ in range(4):
        _tree(pen, (float(random.uniform(0, width)), top + 0.08 * focal), focal * 0.16, random)
    wall = ((196, 198, 200), (170, 178, 188), (204, 192, 170))[int(random.integers(3))]
    _box(pen, (-5, top, width + 5, foot), fill=wall)
    _box(
        pen,
        (-5, top, width + 5, top + 0.030 * focal),
        fill=((178, 44, 40), (34, 72, 130), (60, 66, 72))[int(random.integers(3))],
    )
    step = 0.17 * focal
    for number in range(int(width / step) + 2):
        x = number * step + float(random.uniform(-4, 4))
        _box(
            pen,
            (x, top + 0.055 * focal, x + 0.74 * step, foot - 2),
            fill=_tone((92, 104, 116), float(random.uniform(0.75, 1.25))),
        )
        pen.line((x + 0.37 * step, top + 0.055 * focal, x + 0.37 * step, foot - 2), fill=wall, width=2)
    if random.random() < 0.5:
        for x in range(-10, width, 7):
            pen.line((x, horizon - 0.04 * focal, x, foot + 4), fill=(66, 70, 72))


def _hall(pen: ImageDraw.ImageDraw, camera: Camera, horizon: int, random: np.random.Generator) -> None:
    width, focal = camera.size[0], camera.focal
    foot, top = horizon + 0.06 * focal, horizon - 0.22 * focal
    wall = ((214, 212, 208), (188, 192, 198), (226, 220, 208))[int(random.integers(3))]
    _box(pen, (-5, -5, width + 5, top), fill=_tone(wall, 0.62))
    for row in range(4):
        y, gap = top - 0.05 * focal * (row + 0.6) * (1 + 0.5 * row), (0.15 + 0.07 * row) * focal
        shift = float(random.uniform(0, gap))
        for number in range(-1, int(width / gap) + 2):
            x = number * gap + shift
            _box(pen, (x, y, x + 0.6 * gap, y + 0.010 * focal * (row + 1)), fill=(255, 255, 250))
    _box(pen, (-5, top, width + 5, foot), fill=wall)
    step = 0.24 * focal
    shift = float(random.uniform(0, step))
    is_glazed = random.random() < 0.6
    for number in range(-1, int(width / step) + 2):
        x = number * step + shift
        if is_glazed:
            _box(pen, (x, top + 0.03 * focal, x + 0.93 * step, foot - 0.02 * focal), fill=(198, 214, 226))
            _box(pen, (x, horizon - 0.01 * focal, x + 0.93 * step, foot - 0.02 * focal), fill=(150, 160, 150))
        else:
            pen.line((x, top, x, foot), fill=_tone(wall, 0.86), width=3)
    if not is_glazed:
        x = float(random.uniform(0.1, 0.7)) * width
        _box(
            pen,
            (x, top + 0.05 * focal, x + 0.36 * focal, top + 0.15 * focal),
            fill=((44, 62, 92), (150, 40, 40), (40, 92, 84))[int(random.integers(3))],
        )


def _floor(setting: Setting, camera: Camera, rays: Floats, cars: list[Footprint]) -> Floats:
    """Return the colours (n, 3) of the ground that rays (3, n) fall on."""
    way = camera.eye[2] / np.maximum(-rays[2], 0.003)
    x, y = camera.eye[0] + way * rays[0], camera.eye[1] + way * rays[1]
    near = np.clip(9 / way, 0, 1)
    u, v = x + setting.phase, y + 0.7 * setting.phase
    fine = _sample(0.0 if setting.place != "field" else 0.6, u * 60, v * 60) * near
    coarse = _sample(1.2, u * 9, v * 9)
    strength = {"street": (0.07, 0.05), "yard": (0.08, 0.06), "hall": (0.01, 0.01), "field": (0.16, 0.13)}[
        setting.place
    ]
    tone = 1 + strength[0] * fine + strength[1] * coarse
    colour = np.array(_GROUND[setting.place][setting.ground], np.float32) * tone[:, None]
    _mark(setting, colour, x=x, y=y, way=way)
    haze = np.clip((way - 12) / 60, 0, 0.6)[:, None]
    colour = colour * (1 - haze) + np.array(weather(setting).low, np.float32) * haze
    shaded: Floats = colour * _shadows(setting, x, y, cars)[:, None]
    return shaded


def _sample(power: float, x: Floats, y: Floats) -> Floats:
    rows, columns = x.astype(np.int32) & (_TILE - 1), y.astype(np.int32) & (_TILE - 1)
    return noise(power).ravel()[rows * _TILE + columns]


def _mark(setting: Setting, colour: Floats, *, x: Floats, y: Floats, way: Floats) -> None:
    """Paint what lies on the ground: bay lines, kerbs, tiles, tracks."""
    if setting.place == "yard":
        line = (np.abs((y + 1.35) % 2.7 - 0.04) < 0.06) & (np.abs(x) < 2.9)
        colour[line] = 0.35 * colour[line] + 0.65 * 226
    elif setting.place == "street":
        side = -1.9 - 0.02 * setting.phase
        colour[y < side] = np.array((162, 158, 150), np.float32)
        seams = (y < side - 0.15) & ((np.abs(x % 0.6 - 0.3) < 0.012) | (np.abs(y % 0.6 - 0.3) < 0.012)) & (way < 14)
        colour[y < side - 0.15] = np.array((142, 138, 132), np.float32)
        colour[seams] *= 0.8
        line = (np.abs(y - 2.4) < 0.07) & (x % 6 < 3.2)
        colour[line] = 0.3 * colour[line] + 0.7 * 222
    elif setting.place == "hall":
        fade = np.clip(10 / way, 0, 1)
        seams = (np.abs(x % 1.2 - 0.6) < 0.01) | (np.abs(y % 1.2 - 0.6) < 0.01)
        colour[seams] *= (1 - 0.16 * fade[seams])[:, None]
        colour += (34 * np.clip((way - 4) / 9, 0, 1))[:, None]  # the windows on the polish
    else:
        track = np.minimum(np.abs(y - 0.72), np.abs(y + 0.72)) < 0.34 + 0.1 * _sample(1.2, x * 20, y * 20)
        colour[track] = 0.45 * colour[track] + 0.55 * np.array((140, 122, 94), np.float32)


def _shadows(setting: Setting, x: Floats, y: Floats, cars: list[Footprint]) -> Floats:
    """Return what share of its brightness the ground keeps, below the cars and in their shade from the sun."""
    kept = np.ones(len(x), np.float32)
    sun, depth = light_direction(setting), weather(setting).shadow
    for car in cars:
        turn_x, turn_y = np.cos(car.heading), np.sin(car.heading)
        along, aside = (x - car.x) * turn_x + (y - car.y) * turn_y, (y - car.y) * turn_x - (x - car.x) * turn_y
        below = np.hypot(
            np.maximum(np.abs(along) - car.half_length + 0.25, 0), np.maximum(np.abs(aside) - car.half_width + 0.14, 0)
        )
        kept *= 1 - 0.78 * np.exp(-((below / 0.22) ** 2))
        shift = 0.55 / max(sun[2], 0.3)
        cast_x, cast_y = x - car.x + shift * sun[0], y - car.y + shift * sun[1]
        along, aside = cast_x * turn_x + cast_y * turn_y, cast_y * turn_x - cast_x * turn_y
        cast = np.hypot(
            np.maximum(np.abs(along) - car.half_length + 0.45, 0), np.maximum(np.abs(aside) - car.half_width + 0.10, 0)
        )
        kept *= 1 - 0.75 * depth * np.clip(1.1 - cast / 0.34, 0, 1)
    return kept


def light_direction(setting: Setting) -> tuple[float, float, float]:
    """Return where the sun stands, of length one."""
    turn, height = setting.sun_turn, setting.sun_height
    return float(np.cos(turn) * np.cos(height)), float(np.sin(turn) * np.cos(height)), float(np.sin(height))


@lru_cache(maxsize=8)
def _vignette(size: tuple[int, int]) -> Image.Image:
    x, y = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)[:, None]
    share = 255 * (1 - 0.11 * (x * x + y * y))
    return Image.merge("RGB", [Image.fromarray(share.astype(np.uint8))] * 3)


@lru_cache(maxsize=1)
def _grain() -> Image.Image:
    """Return grey noise around 128 that repeats, a picture's length and more on each side."""
    tile = np.tile(np.clip(128 + 2.2 * noise(0.0), 0, 255).astype(np.uint8), (3, 3))
    return Image.merge("RGB", [Image.fromarray(tile)] * 3)


def photograph(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turn a picture into what a phone saves: vignette, white balance, exposure, grain."""
    balance = random.normal(1, 0.015, 3) * random.uniform(0.94, 1.06)
    left, top = (int(place) for place in random.integers(0, _TILE, 2))
    width, height = picture.size
    table = [min(round(value * float(share)), 255) for share in balance for value in range(256)]
    seen = ImageChops.multiply(picture.point(table), _vignette(picture.size))
    return ImageChops.add(seen, _grain().crop((left, top, left + width, top + height)), 1, -128)
