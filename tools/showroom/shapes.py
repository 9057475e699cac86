"""Bodies of cars as low-poly meshes: a few measures in, vertices with normals and triangles out.

A body is what some curved sheets enclose (windscreen, roof, hatch, sides, nose, tail); rays from a spine inside find
its surface. Metres: x forwards, y to the car's left, z upwards from the ground. It knows no paint, no light and no
camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BODY, WHEEL, LINER, MIRROR, RAIL = range(5)
"""Parts of a mesh: the paint of a pixel depends on which it belongs to."""

_STATIONS, _RING, _CAP = 46, 52, 11  # quads along, around and over each end: about 8 cm, finer than the eye at 5 m
_SPOKES = 24  # sides of a wheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Measures of a body in metres, angles in degrees from the horizontal; x counts from the middle of the car."""

    nose: float = 2.12
    tail: float = -2.06
    half_width: float = 0.88
    height: float = 1.47
    belt: float = 0.95
    hood: float = 0.74  # height of the bonnet at its front
    deck: float = 0.92  # height of the boot's lid, or of a bed, at its end
    screen: float = 0.98  # where the windscreen's plane cuts the belt
    screen_angle: float = 33.0
    hatch: float = -1.98  # where the rear window's plane cuts the belt
    hatch_angle: float = 53.0
    glass_end: float = -1.62  # the side windows' rear end at the belt
    tumble: float = 0.37  # how far the side windows lean inwards
    arch: float = 0.045  # curve of the roof along
    round: float = 0.12  # radius of the cabin's edges
    corner: float = 0.22  # radius of the nose's and the tail's edges
    bow: float = 0.26  # how far the nose's corners lie behind its middle
    sill: float = 0.19
    axles: tuple[float, float] = (1.28, -1.34)
    wheel: float = 0.325  # radius
    flare: float = 0.03
    pillars: tuple[float, ...] = (-0.32,)  # between the side windows
    doors: tuple[float, ...] = (0.80, -0.30, -1.02)  # seams, from the front
    rails: bool = False
    cladding: float = 0.0  # height of the unpainted plastic above the sill
    bed: bool = False
    blind: float = -9.0  # behind this x the sides have no windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Vertices (n, 3) and normals (n, 3), triangles (t, 3) of indices, and per triangle its part and `open`.

    An `open` triangle may lie over a wheel arch, which is cut out of it pixel by pixel.
    """

    vertices: Floats
    normals: Floats
    triangles: NDArray[np.int32]
    parts: NDArray[np.int8]
    open: NDArray[np.bool_]


def blend(first: Floats, second: Floats, radius: float) -> Floats:
    """Return the greater of both, its edge rounded: what two solids share."""
    near = np.maximum(radius - np.abs(first - second), 0)
    result: Floats = np.maximum(first, second) + near * near * (0.25 / radius)
    return result


def cabin(body: Body, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the distances to the windscreen, the roof, the rear window and the side windows."""
    up, bend = z - body.belt, y * y
    middle = 0.5 * (body.screen + body.hatch) + 0.1
    front, rear = np.deg2rad(body.screen_angle), np.deg2rad(body.hatch_angle)
    screen = np.sin(front) * (x - body.screen) + np.cos(front) * up + 0.10 * bend
    roof = z - body.height + body.arch * (x - middle) ** 2 + 0.07 * bend
    hatch = -np.sin(rear) * (x - body.hatch) + np.cos(rear) * up + 0.08 * bend
    lean = np.maximum(up, 0)
    side = 0.93 * (np.abs(y) - body.half_width + 0.075 + 0.02 * (x - middle) ** 2) + body.tumble * lean
    return screen, roof, hatch, side


def wheel_place(body: Body, x: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the place forwards and upwards of the nearer axle and the distance from it."""
    front, rear = body.axles
    along, up = np.where(x > 0.5 * (front + rear), x - front, x - rear), z - body.wheel
    return along, up, np.sqrt(along * along + up * up)


def arch_radius(body: Body) -> float:
    """Return the radius of the wheel arches."""
    return body.wheel + 0.055


def _lower(body: Body, x: Floats, y: Floats, z: Floats) -> Floats:
    across, rise = np.abs(y), z - (0.42 * body.belt + 0.22)
    radius = wheel_place(body, x, z)[2]
    flare = body.flare * np.maximum(1 - ((radius - body.wheel - 0.045) / 0.15) ** 2, 0) ** 2
    crease = 0.30 * np.maximum(rise - 0.16, 0) + 0.16 * np.clip(0.02 - rise, 0, 0.22) + 0.10 * rise * rise
    reach = 0.5 * (body.nose - body.tail)
    share = (x - 0.5 * (body.nose + body.tail)) / reach
    taper = 0.085 * share * share * np.abs(share)
    cowl, end = body.screen - 0.42, body.hatch + 0.55
    fall = (body.belt + 0.035 - body.hood) / max(body.nose - cowl, 0.3) ** 2
    drop = (body.belt + 0.035 - body.deck) / max(end - body.tail, 0.4) ** 2
    ridge = body.belt + 0.035 - fall * np.maximum(x - cowl, 0) ** 2 - drop * np.maximum(end - x, 0) ** 2
    top = z - ridge + 0.09 * y * y
    nose = x - body.nose + body.bow * y * y + 0.55 * np.maximum(rise, 0) ** 2 + 0.12 * rise * rise
    tail = body.tail - x + 0.16 * y * y + 0.25 * rise * rise + 0.5 * np.maximum(rise - 0.1, 0) ** 2
    hull = blend(across - body.half_width - flare + taper + crease, top, 0.10)
    hull = blend(hull, np.maximum(nose, tail), body.corner)
    ramp = 0.12 * np.maximum(np.abs(x) - 0.8 * reach, 0)
    return np.maximum(hull, body.sill + ramp - z)


def distance(body: Body, x: Floats, y: Floats, z: Floats) -> Floats:
    """Return about how far the body is from each point; below zero inside."""
    screen, roof, hatch, side = cabin(body, x, y, z)
    house = blend(blend(blend(screen, roof, body.round), hatch, body.round), side, 0.8 * body.round + 0.01)
    # The house ends where the hull ends below it, or the rear window's plane would stick out as a spoiler.
    end = body.tail - x + 0.16 * y * y + 0.07 + 0.03 * np.minimum(z - body.belt, 0)
    house = np.maximum(blend(house, end, 0.06), 0.6 - z)
    result: Floats = -blend(-house, -_lower(body, x, y, z), 0.05)
    return result


def _surface(body: Body, start: Floats, rays: Floats) -> Floats:
    """Return where rays (n, 3) from inside leave the body."""
    near, far = np.zeros(len(rays), np.float32), np.full(len(rays), 3.6, np.float32)
    for _ in range(20):
        way = 0.5 * (near + far)
        inside = distance(body, *(start + way[:, None] * rays).T) < 0
        near, far = np.where(inside, way, near), np.where(inside, far, way)
    result: Floats = start + near[:, None] * rays
    return result


def _spine(body: Body) -> float:
    """Return the height of the line that rays start from: all of the surface must be seen from it."""
    return max(0.6, 0.46 * body.height)


def _stations(body: Body) -> Floats:
    """Return places along the spine, closer together where the roof's line is steep."""
    along = np.linspace(body.tail + 0.5, body.nose - 0.5, 300, dtype=np.float32)
    start = np.stack([along, np.zeros_like(along), np.full_like(along, _spine(body))], 1)
    top = _surface(body, start, np.tile(np.array([[0, 0, 1]], np.float32), (300, 1)))
    steps = np.hypot(np.diff(top[:, 0]), 0.8 * np.diff(top[:, 2]))
    length = np.concatenate([[0], np.cumsum(steps)])
    return np.interp(np.linspace(0, length[-1], _STATIONS), length, along).astype(np.float32)


def _shell(body: Body) -> tuple[Floats, NDArray[np.int32]]:
    along = _stations(body)
    tilt = np.linspace(0, np.pi / 2, _CAP + 1)[1:]
    places = np.concatenate([np.full(_CAP, along[0]), along, np.full(_CAP, along[-1])])
    tilts = np.concatenate([-tilt[::-1], np.zeros(_STATIONS), tilt])
    around = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
    ring = np.stack([np.zeros(_RING), np.cos(around), np.sin(around)], 1)
    rays = np.cos(tilts)[:, None, None] * ring + np.sin(tilts)[:, None, None] * np.array([1.0, 0, 0])
    start = np.zeros((len(places), _RING, 3))
    start[..., 0], start[..., 2] = places[:, None], _spine(body)
    points = _surface(body, start.reshape(-1, 3).astype(np.float32), rays.reshape(-1, 3).astype(np.float32))
    index = np.arange(len(points)).reshape(len(places), _RING)
    right = np.roll(index, -1, 1)
    a, b, c, d = (part.ravel() for part in (index[:-1], index[1:], right[1:], right[:-1]))
    return points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def _gradient(body: Body, points: Floats) -> Floats:
    steps = 0.006 * np.eye(3, dtype=np.float32)
    slopes = [distance(body, *(points + step).T) - distance(body, *(points - step).T) for step in steps]
    normals = np.stack(slopes, 1)
    result: Floats = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    return result


def _fan(rim: Floats, centre: Floats, normal: Floats) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Return a flat disc: its rim's vertices (n, 3), its centre, all with one normal."""
    n = len(rim)
    vertices = np.concatenate([rim, centre[None]])
    index = np.arange(n)
    triangles = np.stack([index, np.roll(index, -1), np.full(n, n)], 1)
    return vertices, np.tile(normal, (n + 1, 1)), triangles


def _band(first: Floats, second: Floats, normals: Floats) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Return a closed band between two rings (n, 3) of vertices."""
    n = len(first)
    index, after = np.arange(n), np.roll(np.arange(n), -1)
    triangles = np.concatenate([np.stack([index, index + n, after + n], 1), np.stack([index, after + n, after], 1)])
    return np.concatenate([first, second]), np.concatenate([normals, normals]), triangles


def _wheel(body: Body, axle: float, side: float) -> list[tuple[Floats, Floats, NDArray[np.int32], int]]:
    turn = np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)
    circle = np.stack([np.cos(turn), np.zeros(_SPOKES), np.sin(turn)], 1)
    hub = np.array([axle, 0, body.wheel])
    face, inner = body.half_width - 0.035, body.half_width - 0.25

    def ring(radius: float, y: float) -> Floats:
        result: Floats = (hub + radius * circle + [0, side * y, 0]).astype(np.float32)
        return result

    outwards = np.array([0, side, 0], np.float32)
    hole = arch_radius(body) + 0.01
    return [
        (*_band(ring(body.wheel, face - 0.02), ring(body.wheel, inner), circle), WHEEL),
        (*_band(ring(body.wheel, face - 0.02), ring(body.wheel - 0.03, face), 0.7 * circle + 0.7 * outwards), WHEEL),
        (*_fan(ring(body.wheel - 0.03, face), hub + np.array([0, side * face, 0]), outwards), WHEEL),
        (*_band(ring(hole, body.half_width - 0.02), ring(hole, inner - 0.1), -circle), LINER),
        (*_fan(ring(hole, inner - 0.1), hub + np.array([0, side * (inner - 0.1), 0]), outwards), LINER),
    ]


def _ball(
    centre: tuple[float, float, float], size: tuple[float, float, float]
) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Return a box with rounded edges as rings of vertices."""
    rise, turn = np.linspace(-np.pi / 2, np.pi / 2, 7), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    grid = np.stack(
        np.broadcast_arrays(
            np.cos(rise)[:, None] * np.cos(turn), np.cos(rise)[:, None] * np.sin(turn), np.sin(rise)[:, None]
        ),
        -1,
    )
    points = (np.sign(grid) * np.abs(grid) ** 0.6).reshape(-1, 3)
    index = np.arange(len(points)).reshape(7, 12)
    after = np.roll(index, -1, 1)
    a, b, c, d = (part.ravel() for part in (index[:-1], index[1:], after[1:], after[:-1]))
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    return points * size + centre, grid.reshape(-1, 3), triangles


def _extras(body: Body) -> list[tuple[Floats, Floats, NDArray[np.int32], int]]:
    pieces = [piece for axle in body.axles for side in (1.0, -1.0) for piece in _wheel(body, axle, side)]
    for side in (1.0, -1.0):
        place = (body.screen - 0.34, side * (body.half_width + 0.075), body.belt + 0.075)
        pieces.append((*_ball(place, (0.075, 0.115, 0.08)), MIRROR))
        if body.rails:
            middle = 0.5 * (body.screen + body.hatch) - 0.1
            roof = body.height - 0.07 * (body.half_width - 0.3) ** 2 - 0.02
            half = 0.36 * (body.screen - body.hatch)
            pieces.append((*_ball((middle, side * (body.half_width - 0.30), roof), (half, 0.02, 0.05)), RAIL))
    return pieces


@lru_cache(maxsize=64)
def build(body: Body) -> Mesh:
    """Build the mesh of a body with its wheels, mirrors and rails; kept for the next photo of the same model."""
    points, triangles = _shell(body)
    pieces = [(points, _gradient(body, points), triangles, BODY), *_extras(body)]
    first = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
    faces = np.concatenate([piece[2] + shift for piece, shift in zip(pieces, first, strict=False)])
    parts = np.concatenate([np.full(len(piece[2]), piece[3]) for piece in pieces])
    vertices = np.concatenate([piece[0] for piece in pieces]).astype(np.float32)
    normals = np.concatenate([piece[1] for piece in pieces]).astype(np.float32)
    radius = wheel_place(body, vertices[:, 0], vertices[:, 2])[2]
    near = (radius < arch_radius(body) + 0.16)[faces].any(1) & (parts == BODY)
    return Mesh(
        vertices=vertices, normals=normals, triangles=faces.astype(np.int32), parts=parts.astype(np.int8), open=near
    )
