"""What a car's surface looks like: places and normals in, colours out.

Paint, glass, lamps, grille, seams and wheels are told by place; light is a dome, a sun and a table of what the car
mirrors. Linear light inside, sRGB 0..255 out. It knows no camera but the eye's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools.showroom.shapes import BODY, LINER, MIRROR, RAIL, WHEEL, Body, Floats, arch_radius, cabin, wheel_place

Mask = NDArray[np.bool_]
Colour = tuple[float, float, float]

_PAINT, _GLASS, _BLACK, _DARK, _RUBBER, _METAL, _SHELL, _LAMP, _RED, _AMBER, _PLATE, _PLASTIC, _RIM, _CHROME, _TOP = (
    range(15)
)
_GLOSS = np.array([1, 1.6, 0.3, 0, 0.1, 0.6, 1.5, 1.4, 1.3, 1.3, 0.2, 0.15, 0.6, 1.2, 1], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """How a make dresses its cars: grille, lamps and badge in metres, heights below the bonnet's edge."""

    grille: Literal["slats", "bars", "mesh", "split", "blade", "none"] = "slats"
    grille_half: float = 0.42  # half its width
    grille_height: float = 0.11
    grille_below: float = 0.09
    grille_taper: float = 0.0  # how much narrower it is per metre downwards
    grille_power: float = 6.0  # 2 is an ellipse, 8 a box
    chrome: bool = True
    lamp: tuple[float, float] = (0.43, 0.78)  # from the middle outwards
    lamp_height: float = 0.13
    lamp_below: float = 0.06
    lamp_slant: float = 0.12
    lamp_power: float = 5.0
    bulbs: tuple[float, ...] = (0.55, 0.68)
    strip: bool = False  # a row of light-emitting diodes
    intake: float = 0.5  # half width of the lower air intake
    fog: bool = True
    tail: Literal["tall", "bar", "round", "wide"] = "wide"
    tail_size: float = 0.2
    tail_height: float = 0.13
    tail_below: float = 0.12  # below the belt
    badge: Literal["disc", "diamond", "bar", "none"] = "disc"
    spokes: int = 5
    spoke_width: float = 0.8
    two_tone: bool = False
    dark_rim: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Light:
    """The light of a scene: the sun's direction, linear colours, and what lies around, as a table."""

    sun: Floats  # (3,) of length one
    sun_colour: Colour
    dome: Colour
    around: Floats
    spark: float = 5.0

    @cached_property
    def flat(self) -> Floats:
        """Return what lies around as (3, n)."""
        return np.ascontiguousarray(self.around.reshape(-1, 3).T)


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Paint one car: its body, its face, and the paint's linear colour."""

    body: Body
    face: Face
    paint: Colour
    top: Colour = (0.02, 0.02, 0.022)
    plate: Colour = (0.72, 0.74, 0.74)
    lit: bool = False  # the headlamps burn
    steer: float = 0.0
    plate_text: tuple[int, ...] = field(default=(3, 1, 4, 1, 5, 9, 2))

    @cached_property
    def palette(self) -> Floats:
        """Return the linear colour of each material (15, 3)."""
        lamp = (2.6, 2.5, 2.3) if self.lit else (0.75, 0.77, 0.78)
        rim = (0.05, 0.05, 0.055) if self.face.dark_rim else (0.40, 0.41, 0.43)
        top = self.top if self.face.two_tone else self.paint
        return np.array(
            [
                self.paint,
                (0.012, 0.015, 0.018),
                (0.014, 0.014, 0.015),
                (0.003, 0.003, 0.003),
                (0.016, 0.016, 0.017),
                (0.44, 0.45, 0.47),
                (0.07, 0.075, 0.08),
                lamp,
                (0.32, 0.006, 0.008),
                (0.55, 0.16, 0.01),
                self.plate,
                (0.035, 0.035, 0.037),
                rim,
                (0.55, 0.56, 0.58),
                top,
            ],
            np.float32,
        )


def _near(place: Floats, line: float | Floats, width: float = 0.012) -> Mask:
    result: Mask = np.abs(place - line) < width / 2
    return result


def _flank(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    """Give what covers the paint of the sides, upper layers last."""
    b, (x, y, z) = f.body, points
    radius = wheel_place(b, x, z)[2]
    screen, roof, hatch, side = cabin(b, x, y, z)
    above = z - b.belt + 0.02 * np.minimum(x, 0)
    clear = radius > arch_radius(b) + 0.02
    seams = np.zeros(x.shape, bool)
    for number, door in enumerate(b.doors):
        bend = 0.05 * np.abs(z - 0.6) if number == 0 else np.where(z > b.belt, 0.35 * above, 0) if number > 1 else 0
        seams |= _near(x, np.asarray(door - bend, np.float32))
    yield seams & clear & (z > b.sill + 0.10) & (above < 0.03), _DARK
    yield _near(z, b.belt - 0.33, 0.014) & (x < b.doors[0] + 0.6) & (x > b.doors[-1] - 0.5) & clear, _BLACK
    if b.cladding:
        yield (z < b.sill + b.cladding) | ((radius < arch_radius(b) + 0.07) & (z < b.belt - 0.2)), _PLASTIC
    yield z < b.sill + 0.06, _BLACK
    for door in b.doors[1:]:
        yield _near(x, door + 0.13, 0.19) & _near(z, b.belt - 0.145, 0.040), _DARK
        yield _near(x, door + 0.13, 0.19) & _near(z, b.belt - 0.139, 0.022), _CHROME if f.face.chrome else _PAINT
    ends = x > b.glass_end + 0.30 * above
    seen = x > b.blind
    frame = (side > -0.04) & (screen < -0.05) & (roof < -0.03) & (hatch < -0.10) & (above > -0.015) & ends & seen
    panes = (side > -0.04) & (screen < -0.085) & (roof < -0.06) & (hatch < -0.14) & (above > 0.012) & ends & seen
    if f.face.two_tone:
        yield (above > 0) & (screen < 0.2), _TOP
    yield frame & (x > b.glass_end + 0.27 * above), _CHROME if f.face.chrome and not b.cladding else _BLACK
    yield panes, _GLASS
    for pillar in b.pillars:
        yield panes & _near(x, pillar + 0.04 * above, 0.075), _BLACK
    yield (np.abs(y) > b.half_width - 0.06) & _near(x, b.screen - 0.34, 0.10) & _near(above, 0.02, 0.05), _BLACK


def _front(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    """Give what covers the paint of the front, upper layers last."""
    b, face, (_, y, z) = f.body, f.face, points
    across, down = np.abs(y), b.hood - z
    bumper = b.sill + 0.14
    if b.cladding:
        yield z < b.sill + b.cladding, _PLASTIC
    yield (across < face.intake - 0.5 * np.abs(z - bumper)) & _near(z, bumper, 0.14), _DARK
    yield _near(z, bumper, 0.14) & _near((z - b.sill) % 0.05, 0.025, 0.012) & (across < face.intake - 0.08), _BLACK
    middle = face.grille_below + 0.5 * face.grille_height
    if face.grille != "none":
        half = np.maximum(face.grille_half - face.grille_taper * (down - face.grille_below), 0.02)
        shape = (across / half) ** face.grille_power + (
            np.abs(down - middle) / (0.5 * face.grille_height)
        ) ** face.grille_power
        yield shape < 1.5, _CHROME if face.chrome else _BLACK
        inner = shape < 0.75
        yield inner, _DARK
        if face.grille == "slats":
            yield inner & _near(down % 0.036, 0.018, 0.012), _METAL
        elif face.grille == "bars":
            yield inner & _near(across % 0.07, 0.035, 0.022), _METAL
        elif face.grille == "mesh":
            yield (
                inner & (_near((across + down) % 0.04, 0.02, 0.011) | _near((across - down) % 0.04, 0.02, 0.011)),
                _METAL,
            )
        elif face.grille == "split":
            yield inner & (across < 0.045), _PAINT
            yield inner & _near(across % 0.045, 0.02, 0.012), _METAL
        else:
            yield inner & _near(down, middle, 0.03), _CHROME
    if face.badge == "disc":
        yield np.hypot(y, down - middle) < 0.046, _CHROME
        yield np.hypot(y, down - middle) < 0.034, _BLACK
    elif face.badge == "diamond":
        yield across + np.abs(down - middle) < 0.055, _CHROME
    elif face.badge == "bar":
        yield (across < 0.09) & _near(down, middle, 0.024), _CHROME
    yield from _plate(f, y, z - (bumper + 0.16))
    if face.fog:
        spot = np.hypot(across - 0.64, z - bumper - 0.02)
        yield spot < 0.06, _DARK
        yield spot < 0.04, _LAMP


def _plate(f: Finish, y: Floats, up: Floats) -> Iterator[tuple[Mask, int]]:
    yield (np.abs(y) < 0.265) & (np.abs(up) < 0.062), _BLACK
    inside = (np.abs(y) < 0.255) & (np.abs(up) < 0.053)
    yield inside, _PLATE
    cell = np.clip(((y + 0.21) / 0.06).astype(int), 0, 6)
    digit = np.array(f.plate_text)[cell]  # strokes, not letters: a plate that can be read by nobody
    place = (y + 0.21) % 0.06
    stroke = _near(place, 0.012 + 0.003 * digit, 0.012) | (
        (place > 0.01) & (place < 0.045) & _near(up, 0.028 - 0.007 * digit, 0.012)
    )
    yield inside & stroke & (np.abs(y) < 0.21) & (np.abs(up) < 0.036), _BLACK


def _headlamps(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    b, face, (x, y, z) = f.body, f.face, points
    across, down = np.abs(y), b.hood - z
    first, last = face.lamp
    middle, half = 0.5 * (first + last), 0.5 * (last - first)
    drop = down - face.lamp_below - 0.5 * face.lamp_height + face.lamp_slant * (across - middle)
    shape = (np.abs(across - middle) / half) ** face.lamp_power + (
        np.abs(drop) / (0.5 * face.lamp_height)
    ) ** face.lamp_power
    lamp = (shape < 1) & (x > b.nose - 0.55)
    yield (shape < 1.5) & (x > b.nose - 0.57), _BLACK
    yield lamp, _SHELL
    if face.strip:
        yield lamp & _near(drop, 0.30 * face.lamp_height, 0.026), _LAMP
    for place in face.bulbs:
        size = 0.40 * min(face.lamp_height, 0.15)
        bulb = np.hypot(across - place, drop)
        yield lamp & (bulb < size), _METAL
        yield lamp & (bulb < 0.72 * size), _LAMP
    yield lamp & (across > last - 0.05), _AMBER


def _rear(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    """Give what covers the paint of the back, upper layers last."""
    b, face, (_, y, z) = f.body, f.face, points
    across, below = np.abs(y), b.belt - z
    bumper = b.sill + 0.16
    yield _near(z, bumper + 0.14, 0.014) & (across < 0.72), _DARK
    yield (_near(across, 0.70, 0.014) & (z > bumper + 0.14) & (z < b.belt + 0.02)), _DARK
    if b.cladding:
        yield z < b.sill + b.cladding, _PLASTIC
    yield (z < b.sill + 0.09) | (_near(z, bumper - 0.01, 0.05) & (across < 0.6)), _BLACK
    if face.badge != "none":
        yield np.hypot(y, below - 0.10) < 0.04, _CHROME
    yield from _plate(f, y, z - max(bumper + 0.22, b.belt - 0.36))
    yield _near(across, 0.5, 0.12) & _near(z, b.sill + 0.03, 0.045), _METAL


def _taillamps(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    b, face, (_, y, z) = f.body, f.face, points
    across, below = np.abs(y), b.belt - z
    high = face.tail_below + 0.5 * face.tail_height
    middle = 0.74 - 0.5 * face.tail_size
    if face.tail == "round":
        spot = np.minimum(np.hypot(across - 0.66, below - high), np.hypot(across - 0.46, below - high))
        yield spot < 0.5 * face.tail_height + 0.012, _CHROME
        yield spot < 0.5 * face.tail_height, _RED
        yield spot < 0.16 * face.tail_height, _AMBER
    elif face.tail == "bar":
        yield (across < 0.80) & _near(below, high, face.tail_height) & (across > 0.80 - face.tail_size), _RED
        yield (across < 0.80) & _near(below, high, 0.4 * face.tail_height), _RED
        yield _near(across, middle, 0.1) & _near(below, high + 0.2 * face.tail_height, 0.035), _LAMP
    else:
        outer = 0.95
        lamp = (across > outer - face.tail_size - 0.17) & _near(below, high, face.tail_height)
        if face.tail == "tall":
            lamp = (across > outer - 0.30) & (below > -0.02 - face.tail_size) & (below < 0.24 + face.tail_height)
        yield lamp, _RED
        yield lamp & _near(below, high, 0.055), _AMBER
        yield lamp & _near(below, high + 0.08, 0.05), _LAMP


def _glass(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    """Give the windscreen, the rear window, and what covers the roof and a bed."""
    b, (x, y, z) = f.body, points
    screen, roof, hatch, side = cabin(b, x, y, z)
    bonnet = (x > b.screen - 0.2) & (z > b.hood - 0.03)
    yield bonnet & _near(np.abs(y), 0.52 + 0.24 * b.half_width, 0.014), _DARK
    yield bonnet & _near(x, b.nose - 0.13 - b.bow * y * y, 0.022) & (np.abs(y) < 0.52 + 0.24 * b.half_width), _DARK
    if f.face.two_tone:
        yield (roof > -0.06) & (z > b.belt + 0.1), _TOP
    shield = (screen > -0.05) & (side < -0.06) & (roof < -0.04) & (z > b.belt + 0.005)
    yield shield, _BLACK
    yield shield & (z > b.belt + 0.035) & (side < -0.08) & (roof < -0.06), _GLASS
    window = (hatch > -0.05) & (side < -0.09) & (roof < -0.07) & (z > b.belt + 0.03)
    yield window, _BLACK
    yield window & (z > b.belt + 0.05) & (side < -0.12) & (roof < -0.09), _GLASS
    if b.bed:
        inside = (x < b.hatch - 0.10) & (x > b.tail + 0.12) & (np.abs(y) < b.half_width - 0.13)
        yield inside & (z > b.belt - 0.25), _BLACK
        yield inside & (z > b.belt - 0.25) & _near((x * 1.0) % 0.5, 0.25, 0.03), _PLASTIC


def _wheels(f: Finish, points: Floats) -> Iterator[tuple[Mask, int]]:
    along, up, radius = wheel_place(f.body, points[0], points[2])
    size = 0.70 * f.body.wheel
    rim = (radius < size) & (np.abs(points[1]) > f.body.half_width - 0.06)
    turn = np.arctan2(up, along) + 7.0 * f.steer
    gap = np.abs(np.sin(0.5 * f.face.spokes * turn)) < f.face.spoke_width - 0.25 * (radius - 0.1)
    yield rim, _RIM
    yield rim & gap & (radius > 0.26 * size) & (radius < 0.88 * size), _DARK
    yield rim & ((radius < 0.035) | _near(radius, 0.96 * size, 0.007)), _BLACK


def _materials(f: Finish, points: Floats, normals: Floats, parts: NDArray[np.int8]) -> NDArray[np.intp]:
    result = np.zeros(points.shape[1], np.intp)
    b = f.body
    for part, material in ((WHEEL, _RUBBER), (LINER, _DARK), (MIRROR, _PAINT), (RAIL, _METAL)):
        result[parts == part] = material
    body = parts == BODY
    result[body & (normals[2] < -0.6)] = _BLACK
    mirror = (parts == MIRROR) & (normals[0] < -0.75)
    result[mirror] = _GLASS
    flank = np.abs(normals[1]) > 0.6
    body &= normals[2] > -0.6
    # A corner belongs to the end that it looks to, and lamps reach around it.
    regions = (
        (body & flank, _flank),
        (body & ~flank & (normals[0] > 0.40) & (points[2] < b.hood + 0.06) & (points[0] > b.nose - 0.7), _front),
        (body & ~flank & (normals[0] < -0.40) & (points[0] < b.tail + 0.7), _rear),
        (body & (points[0] > b.nose - 0.6) & (points[2] < b.hood + 0.05), _headlamps),
        (body & (points[0] < b.tail + 0.24) & (np.abs(points[1]) > 0.3) & (normals[2] < 0.8), _taillamps),
        (body & ~flank & (points[2] > min(b.belt - 0.2, b.hood - 0.05)), _glass),
        (parts == WHEEL, _wheels),
    )
    for mask, layers in regions:
        where = np.flatnonzero(mask)
        if not len(where):
            continue
        covered = result[where]
        for layer, material in layers(f, points[:, where]):
            covered[layer] = material
        result[where] = covered
    return result


def shade(
    points: Floats, normals: Floats, parts: NDArray[np.int8], *, finish: Finish, light: Light, eye: Floats
) -> Floats:
    """Return the colours (n, 3), 0..255 in sRGB, that places (3, n) with normals (3, n) send to the eye (3,)."""
    f = finish
    normals = normals * (1 / np.sqrt(np.maximum((normals * normals).sum(0), 1e-6)))
    material = _materials(f, points, normals, parts)
    colour, gloss = np.take(f.palette.T, material, axis=1), _GLOSS[material]
    sight = points - eye[:, None]
    sight *= 1 / np.sqrt((sight * sight).sum(0))
    facing = -(sight * normals).sum(0)
    mirrored = sight + 2 * facing * normals
    fresnel = np.minimum(gloss * (0.05 + 0.95 * np.clip(1 - facing, 0, 1) ** 5), 1)
    low = 0.30 + 1.4 * np.clip(points[2], 0, 0.5)  # the ground keeps light from what is near it
    dome = (0.33 + 0.29 * normals[2]) * low
    sun = np.clip(light.sun @ normals, 0, 1)
    spark = np.clip(light.sun @ mirrored, 0, 1) ** 400 * gloss * light.spark
    fallen = np.multiply.outer(np.array(light.dome, np.float32), dome)
    fallen += np.multiply.outer(np.array(light.sun_colour, np.float32), sun)
    seen = colour * fallen + fresnel * reflected(light, mirrored) + spark
    return film(seen).T


def reflected(light: Light, rays: Floats) -> Floats:
    """Return the light (3, n) that comes from directions (3, n)."""
    side = light.around.shape[1]
    x, y, z = rays
    scale = (0.4999 * side) / (np.abs(x) + np.abs(y) + np.abs(z))
    across, down = (x * scale + 0.5 * side).astype(np.int32), (y * scale + 0.5 * side).astype(np.int32)
    index = down * np.int32(side) + across
    index += np.where(z < 0, np.int32(side * side), np.int32(0))
    taken: Floats = np.take(light.flat, index, axis=1)
    return taken


def around(of: Callable[[Floats], Floats]) -> Floats:
    """Tabulate what a function says of directions (3, n), for the upper and the lower half of the world (2, s, s, 3).

    An octahedron's plan holds each half in a square: to look a direction up takes no arc tangent.
    """
    place = (np.arange(_SIDE, dtype=np.float32) + 0.5) / (0.5 * _SIDE) - 1
    x, y = np.meshgrid(place, place)
    z = np.maximum(1 - np.abs(x) - np.abs(y), 0)
    rays = np.stack([np.stack([x, y, side * z]) for side in (1, -1)], 1).reshape(3, -1)
    rays /= np.linalg.norm(rays, axis=0)
    return of(rays.astype(np.float32)).T.reshape(2, _SIDE, _SIDE, 3).astype(np.float32)


_SIDE = 160
_STEPS = 4096
_BRIGHTEST = 8.0


def _curve() -> Floats:
    seen = np.linspace(0, np.sqrt(_BRIGHTEST), _STEPS, dtype=np.float32) ** 2
    toned = seen * (2.27 * seen + 0.03) / (seen * (2.19 * seen + 0.56) + 0.14)  # the usual fit of the ACES curve
    return (255 * np.clip(toned, 0, 1) ** (1 / 2.2)).astype(np.float32)


_FILM = _curve()


def film(seen: Floats) -> Floats:
    """Return what a camera makes of linear light: a soft shoulder and the curve of sRGB, 0..255."""
    index = np.sqrt(np.maximum(seen, 0))
    index *= np.float32((_STEPS - 1) / np.sqrt(_BRIGHTEST))
    result: Floats = np.take(_FILM, index.astype(np.int32), mode="clip")
    return result
