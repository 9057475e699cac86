"""A hatchback as a solid without a file: rays in, where they hit it and the light it sends back out.

The solid is what some curved sheets enclose, followed by its distance to each point; what covers the paint is told by
place. It is no make's car, and its licence plate is blank. Metres: x forwards, y to the car's left, z upwards from the
ground. Points, directions and linear light are arrays (3, n).
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layer = tuple[NDArray[np.bool_], tuple[float, float, float], float]  # where, colour, gloss

EYE = np.array([[6.3], [5.2], [1.42]], np.float32)  # the camera
SUN = np.array([[0.42], [0.58], [0.70]], np.float32)  # of length one

PAINT, GLASS, BLACK, DARK = (0.36, 0.008, 0.014), (0.010, 0.013, 0.015), (0.014, 0.014, 0.015), (0.003, 0.003, 0.003)
RUBBER, METAL, SHELL, LIGHT = (0.016, 0.016, 0.017), (0.44, 0.45, 0.47), (0.045, 0.048, 0.052), (0.75, 0.77, 0.78)


def _round(first: Floats, second: Floats, radius: float) -> Floats:
    """Return the greater of both, its edge rounded: what two solids share."""
    near = np.maximum(radius - np.abs(first - second), 0)
    result: Floats = np.maximum(first, second) + near * near * (0.25 / radius)
    return result


def _wheel(x: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the place forwards and upwards of the nearer axle and the distance from it."""
    along, up = np.where(x > -0.03, x - 1.28, x + 1.34), z - 0.325
    return along, up, np.sqrt(along * along + up * up)


def _cabin(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the distances to the windscreen, the roof, the hatch and the side windows."""
    screen = 0.54 * (x - 0.98) + 0.842 * (z - 0.95) + 0.10 * y * y
    roof = z - 1.47 + 0.045 * (x + 0.25) ** 2 + 0.07 * y * y
    hatch = -0.80 * (x + 1.98) + 0.60 * (z - 0.98) + 0.08 * y * y
    side = 0.93 * (np.abs(y) - 0.80 + 0.022 * (x + 0.1) ** 2) + 0.37 * np.maximum(z - 0.93, 0)
    return screen, roof, hatch, side


def _lower(x: Floats, y: Floats, z: Floats, radius: Floats) -> Floats:
    """Return the distance to the body below the windows, its wheel arches cut out."""
    across, rise = np.abs(y), z - 0.62
    flare = 0.03 * np.maximum(1 - ((radius - 0.37) / 0.15) ** 2, 0) ** 2
    crease = 0.30 * np.maximum(rise - 0.16, 0) + 0.16 * np.clip(0.02 - rise, 0, 0.22) + 0.10 * rise * rise
    taper = (x + 0.1) ** 2 * (0.007 + 0.00525 * np.abs(x))
    top = z - 0.985 + 0.105 * np.maximum(x - 0.55, 0) ** 2 + 0.09 * y * y + 0.03 * np.maximum(-1.2 - x, 0)
    nose = x - 2.12 + 0.26 * y * y + 0.55 * np.maximum(rise, 0) ** 2 + 0.12 * rise * rise
    tail = -x - 2.06 + 0.16 * y * y + 0.25 * rise * rise + 0.9 * np.maximum(rise, 0) ** 2
    body = _round(_round(across - 0.875 - flare + taper + crease, top, 0.10), np.maximum(nose, tail), 0.22)
    body = np.maximum(body, 0.19 + 0.12 * np.maximum(np.abs(x) - 1.7, 0) - z)
    result: Floats = np.maximum(body, np.minimum(0.375 - radius, across - 0.5))
    return result


def _distance(x: Floats, y: Floats, z: Floats) -> Floats:
    """Return about how far the car is from each point; below zero inside."""
    across, radius = np.abs(y), _wheel(x, z)[2]
    screen, roof, hatch, side = _cabin(x, y, z)
    cabin = np.maximum(_round(_round(_round(screen, roof, 0.12), hatch, 0.12), side, 0.10), 0.7 - z)
    body = -_round(-cabin, -_lower(x, y, z, radius), 0.05)
    tyre = _round(radius - 0.325, across - 0.855 + 0.035 * np.clip((0.225 - radius) / 0.02, 0, 1), 0.05)
    shell = ((x - 0.66) / 0.085) ** 4 + ((across - 0.96) / 0.115) ** 4 + ((z - 1.02) / 0.075) ** 4
    mirror = 0.075 * (np.sqrt(np.sqrt(shell)) - 1)
    result: Floats = np.minimum(np.minimum(body, tyre), mirror)
    return result


def trace(rays: Floats) -> Floats:
    """Follow rays; return how far each goes until it hits the car, 0 for never, and the normal there (4, n)."""
    ends = [(np.array(corner, np.float32)[:, None] - EYE) / rays for corner in ((-2.15, -1.08, 0), (2.2, 1.08, 1.5))]
    way, leave = np.minimum(*ends).max(0), np.maximum(*ends).min(0)
    live, hits, result = np.flatnonzero(way < leave), [], np.zeros((4, way.size), np.float32)
    for _ in range(40):
        gap = _distance(*(EYE + way[live] * rays[:, live]))
        way[live] += 0.95 * gap
        hits.append(live[gap < 0.002])
        live = live[(gap >= 0.002) & (way[live] < leave[live])]
    found = np.concatenate(hits)
    points = EYE + way[found] * rays[:, found]
    steps = 0.004 * np.eye(3, dtype=np.float32)[..., None]
    slopes = np.stack([_distance(*(points + step)) - _distance(*(points - step)) for step in steps])
    result[0, found], result[1:, found] = way[found], slopes / np.linalg.norm(slopes, axis=0)
    return result


def _near(place: Floats, line: float | Floats, width: float = 0.011) -> NDArray[np.bool_]:
    """Tell which places lie on a line of this width in metres."""
    result: NDArray[np.bool_] = np.abs(place - line) < width / 2
    return result


def _flank(points: Floats, normals: Floats) -> Iterator[Layer]:
    """Give what covers the paint of the sides and the cabin, upper layers last."""
    x, y, z = points
    flank, radius = np.abs(normals[1]) > 0.6, _wheel(x, z)[2]
    screen, roof, hatch, side = _cabin(x, y, z)
    belt = z - 0.955 + 0.02 * np.minimum(x, 0)
    rear = np.where(z < 0.75, -1.02, -0.625 - 0.527 * z)
    doors = _near(x, 0.80 - 0.04 * np.abs(z - 0.6)) | _near(x, -0.30) | _near(x, rear)
    handles = _near(x, -0.17, 0.20) | _near(x, -0.88, 0.17)
    panes = flank & (side > -0.03) & (screen < -0.085) & (roof < -0.06) & (hatch < -0.2) & (belt > 0)
    shield = (screen > -0.04) & (side < -0.07) & (roof < -0.05) & (screen > side)
    yield doors & flank & (z > 0.29) & (z < 0.99) & (radius > 0.40), DARK, 0.2
    yield flank & _near(z, 0.795, 0.045) & handles, DARK, 0.2
    yield flank & _near(z, 0.803, 0.024) & handles, METAL, 0.6
    yield (z < 0.265) | (normals[2] < -0.6), BLACK, 0.15
    yield flank & _near(belt, -0.01, 0.02) & (x < 0.8) & (x > -1.5), BLACK, 0.3
    yield shield & (z > 0.955), BLACK, 0.2
    yield panes | (shield & (z > 0.99) & (side < -0.085) & (roof < -0.065)), GLASS, 1.5
    yield panes & _near(x, -0.32, 0.075), BLACK, 0.3
    yield (np.abs(y) > 0.83) & _near(z, 0.965, 0.04) & (belt > -0.02), BLACK, 0.3


def _face(points: Floats, normals: Floats) -> Iterator[Layer]:
    """Give what covers the paint of the bonnet and the front, upper layers last."""
    x, y, z = points
    across, front = np.abs(y), normals[0] > 0.45
    seams = _near(across, 0.70) & (x > 0.98) & (x < 1.93) | _near(x, 1.95 - 0.26 * y * y, 0.016) & (across < 0.70)
    grille = front & (across < 0.42) & _near(z, 0.655, 0.10)
    base = 0.645 + 0.20 * np.maximum(1.92 - x, 0)
    lamp = (x > 1.56) & (across > 0.43) & (z < 0.785 - 0.06 * np.maximum(x - 1.7, 0)) & (z > base)
    fog = np.hypot(across - 0.64, z - 0.36)
    yield ~(np.abs(normals[1]) > 0.6) & (z > 0.72) & seams, DARK, 0.2
    yield grille | front & (across < 0.50 - 0.5 * np.abs(z - 0.33)) & _near(z, 0.335, 0.15), DARK, 0.2
    yield grille & (_near((z - 0.62) % 0.034, 0.017, 0.009) | (np.hypot(y, z - 0.655) < 0.042)), METAL, 0.7
    yield front & _near(z, 0.335, 0.15) & _near((z - 0.26) % 0.05, 0.025, 0.012) & (across < 0.42), BLACK, 0.5
    yield front & (across < 0.265) & _near(z, 0.495, 0.12), BLACK, 0.2
    yield front & (across < 0.255) & _near(z, 0.495, 0.105), LIGHT, 0.2
    yield front & (fog < 0.06), DARK, 0.2
    yield front & (fog < 0.038), LIGHT, 1.0
    yield lamp, SHELL, 1.5
    for place, size in ((0.565, 0.046), (0.685, 0.042)):
        bulb = np.hypot(across - place, z - 0.705 - 0.1 * (across - 0.565))
        yield lamp & (bulb < size), METAL, 1.5
        yield lamp & (bulb < 0.75 * size), LIGHT, 1.5


def _wheels(points: Floats) -> Iterator[Layer]:
    """Give the wheels and the dark of their arches, upper layers last."""
    x, y, z = points
    along, up, radius = _wheel(x, z)
    across = np.abs(y)
    wheel = (radius < 0.331) & (across > 0.45) & (across < 0.87)
    rim = wheel & (radius < 0.222) & (across > 0.79)
    gap = np.abs(np.sin(2.5 * np.arctan2(up, along))) < 0.80 - 0.25 * (radius - 0.1)
    yield (radius < 0.376) & (across > 0.4) & ~wheel & (across < 0.905), DARK, 0.0
    yield wheel, RUBBER, 0.1
    yield rim, METAL, 0.6
    yield rim & gap & (radius > 0.06) & (radius < 0.198), DARK, 0.0
    yield rim & ((radius < 0.03) | _near(radius, 0.214, 0.006)), BLACK, 0.3


def light(*channels: float) -> Floats:
    """Return red, green and blue as a column (3, 1)."""
    return np.array(channels, np.float32)[:, None]


def _mirrored(rays: Floats) -> Floats:
    """Return the light that the car mirrors from each direction: sky over trees over asphalt."""
    rise, turn = rays[2], np.arctan2(rays[1], rays[0])
    share = np.clip(rise, 0, 1) ** 0.6
    sky = light(0.85, 0.92, 1.0) * (1 - share) + light(0.16, 0.33, 0.72) * share
    trees = light(0.035, 0.045, 0.028) * (1 + 0.3 * np.sin(23 * turn))
    over = np.clip((rise - 0.2 - 0.05 * np.sin(5 * turn) - 0.024 * np.sin(17 * turn)) / 0.05 + 0.5, 0, 1)
    under = np.clip(0.5 - rise / 0.03, 0, 1)
    result: Floats = (sky * over + trees * (1 - over)) * (1 - under) + (0.17 + 0.10 * np.clip(rise, -1, 0)) * under
    return result


def shade(points: Floats, normals: Floats) -> Floats:
    """Return the light that the car sends from these points to the camera."""
    sight = (points - EYE) / np.linalg.norm(points - EYE, axis=0)
    colour, gloss = np.repeat(light(*PAINT), points.shape[1], 1), np.ones(points.shape[1], np.float32)
    for where, paint, shine in chain(_flank(points, normals), _face(points, normals), _wheels(points)):
        colour[:, where], gloss[where] = light(*paint), shine
    facing = -(sight * normals).sum(0)
    mirrored = sight + 2 * facing * normals
    fresnel = np.minimum(gloss * (0.05 + 0.95 * np.clip(1 - facing, 0, 1) ** 5), 1)
    dome = (0.32 + 0.30 * normals[2]) * (0.3 + 1.4 * np.clip(points[2], 0, 0.5))
    sun, spark = (np.clip((rays * SUN).sum(0), 0, 1) for rays in (normals, mirrored))
    fallen = dome * light(0.9, 1.0, 1.15) + sun * light(1.25, 1.17, 1.05)
    result: Floats = colour * fallen + fresnel * _mirrored(mirrored) + 5 * gloss * spark**500
    return result
