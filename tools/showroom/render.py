"""A camera and a rasterizer: a mesh in; for each pixel which triangle it sees, and places and normals there, out.

Triangles are painted from far to near into numbers, and what they look like is computed once a pixel, finely only where
neighbours differ. It knows neither paint nor light: a function of places and normals gives the colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.showroom.shapes import BODY, Body, Floats, Mesh, arch_radius, wheel_place

Shade = Callable[[Floats, Floats, NDArray[np.int8]], Floats]
"""Points (3, n), normals (3, n) and parts (n,) to colours (n, 3)."""

_FINE = 2  # samples along each side of a pixel
_AT_ONCE = 16384  # pixels shaded together: their arrays stay in the processor's cache
_EDGE = 24  # difference of neighbours, of 255, from which a pixel is shaded finely


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Stand at `eye` and look at `target`, both in metres; `focal` is in pixels, `roll` in radians.

    `centre` is the pixel that the target falls on.
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float
    centre: tuple[float, float]
    size: tuple[int, int]
    roll: float = 0.0

    def axes(self) -> Floats:
        """Return the directions to the right, downwards and ahead as rows (3, 3)."""
        ahead = np.subtract(self.target, self.eye)
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(ahead, right)
        turn = np.array([[np.cos(self.roll), np.sin(self.roll)], [-np.sin(self.roll), np.cos(self.roll)]])
        rows = np.concatenate([turn @ np.stack([right, down]), ahead[None]])
        return rows.astype(np.float32)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Return where points (n, 3) fall in pixels (n, 2), and how far ahead they lie (n,)."""
        seen = (points - np.array(self.eye, np.float32)) @ self.axes().T
        depth = np.maximum(seen[:, 2], 0.05)
        return seen[:, :2] * (self.focal / depth)[:, None] + np.array(self.centre, np.float32), seen[:, 2]

    def rays(self, x: Floats, y: Floats) -> Floats:
        """Return the directions (3, ...) that pixels look in, one metre ahead."""
        across, down = (x - self.centre[0]) / self.focal, (y - self.centre[1]) / self.focal
        rows = self.axes()
        across, down = np.broadcast_arrays(across, down)
        return np.stack([rows[0, i] * across + rows[1, i] * down + rows[2, i] for i in range(3)]).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A drawn car: colours (h, w, 3), times coverage, and coverage (h, w) 0..1, placed at `left`, `top`."""

    colours: Floats
    coverage: Floats
    left: int
    top: int

    def box(self) -> tuple[int, int, int, int]:
        """Return x1, y1, x2, y2 around the pixels that show the car; (0, 0, 0, 0) where none does."""
        rows, columns = np.flatnonzero(self.coverage.any(1)), np.flatnonzero(self.coverage.any(0))
        if not len(rows):
            return (0, 0, 0, 0)
        left, top = self.left, self.top
        return (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)


_NOTHING = Layer(colours=np.zeros((0, 0, 3), np.float32), coverage=np.zeros((0, 0), np.float32), left=0, top=0)


def render(mesh: Mesh, body: Body, camera: Camera, shade: Shade) -> Layer:
    """Draw a mesh; its wheel arches are cut out of it."""
    pixels, depth = camera.project(mesh.vertices)
    corners, chosen = _facing(pixels, depth, mesh, camera)
    width, height = camera.size
    if len(chosen) == 0:
        return _NOTHING
    low = np.clip(np.floor(corners.reshape(-1, 2).min(0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(corners.reshape(-1, 2).max(0)) + 1, 0, (width, height)).astype(int)
    if (high <= low).any():
        return _NOTHING
    corners = (corners - low).astype(np.float32)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    planes = _planes(corners, mesh, chosen)
    cut = mesh.open[chosen]
    ids = _paint(corners, size, planes=planes, cut=cut, body=body)

    flat = np.ascontiguousarray(planes.transpose(2, 1, 0).reshape(18, -1))
    parts = mesh.parts[chosen]

    def colours(triangles: NDArray[np.int32], x: Floats, y: Floats) -> Floats:
        values = np.take(flat, triangles, axis=1)  # (18, n)
        values[6:12] *= x
        values[12:] *= y
        seen = values[:6]
        seen += values[6:12]
        seen += values[12:]
        return shade(seen[:3], seen[3:], parts[triangles])

    picture, coverage = _antialiased(ids, size, colours)
    return Layer(colours=picture, coverage=coverage, left=int(low[0]), top=int(low[1]))


def _facing(pixels: Floats, depth: Floats, mesh: Mesh, camera: Camera) -> tuple[Floats, NDArray[np.intp]]:
    """Return corners (t, 3, 2) of the triangles that face the camera, farthest first, and which they are."""
    corners, far = pixels[mesh.triangles], depth[mesh.triangles]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turned = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    eye = np.array(camera.eye, np.float32)
    first = mesh.triangles[:, 0]
    facing = ((mesh.normals * (mesh.vertices - eye)) @ np.ones(3, np.float32))[first] < 0
    # On the body a triangle's own winding tells; elsewhere its normal does.
    facing = np.where(mesh.parts == BODY, turned > 0, facing)
    low, high = _least(corners), -_least(-corners)
    inside = (high[:, 0] > 0) & (high[:, 1] > 0) & (low[:, 0] < camera.size[0]) & (low[:, 1] < camera.size[1])
    inside &= _least(far) > 0.15
    chosen = np.flatnonzero(facing & inside & (np.abs(turned) > 1e-3))
    chosen = chosen[np.argsort(-(far[chosen] @ np.ones(3, np.float32)), kind="stable")]
    return corners[chosen], chosen


def _least(corners: Floats) -> Floats:
    """Return the least of the three corners (t, 3, ...); numpy's own reduction is slow over so short an axis."""
    result: Floats = np.minimum(np.minimum(corners[:, 0], corners[:, 1]), corners[:, 2])
    return result


def _planes(corners: Floats, mesh: Mesh, chosen: NDArray[np.intp]) -> Floats:
    """Return place and normal (t, 6, 3) as value, slope across and slope down at the pixel 0, 0."""
    faces = mesh.triangles[chosen]
    values = np.concatenate([mesh.vertices[faces], mesh.normals[faces]], 2)  # (t, 3, 6)
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    first, second = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
    across = (first * two[:, 1:] - second * one[:, 1:]) / area[:, None]
    down = (second * one[:, :1] - first * two[:, :1]) / area[:, None]
    start = values[:, 0] - across * corners[:, 0, :1] - down * corners[:, 0, 1:]
    return np.stack([start, across, down], 2).astype(np.float32)


def _spans(corners: Floats, size: tuple[int, int]) -> tuple[NDArray[np.intp], ...]:
    """Return for each row of each triangle: triangle, row, first and last-but-one fine pixel."""
    fine = corners * _FINE
    height, width = size[1] * _FINE, size[0] * _FINE
    top = np.clip(np.ceil(_least(fine[..., 1]) - 0.5), 0, height).astype(np.intp)
    bottom = np.clip(np.ceil(-_least(-fine[..., 1]) - 0.5), 0, height).astype(np.intp)
    count = np.maximum(bottom - top, 0)
    which = np.repeat(np.arange(len(fine)), count)
    row = np.arange(len(which)) - np.repeat(np.cumsum(count) - count - top, count)
    level = (row + 0.5).astype(np.float32)
    left, right = np.full(len(row), 1e6, np.float32), np.full(len(row), -1e6, np.float32)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        x0, y0 = fine[:, start, 0], fine[:, start, 1]
        run, rise = fine[:, end, 0] - x0, fine[:, end, 1] - y0
        slope = run / np.where(np.abs(rise) < 1e-9, 1e-9, rise)
        low, high = np.minimum(y0, y0 + rise)[which], np.maximum(y0, y0 + rise)[which]
        cross = (x0 - y0 * slope)[which] + level * slope[which]
        inside = (level >= low) & (level < high)
        left = np.where(inside, np.minimum(left, cross), left)
        right = np.where(inside, np.maximum(right, cross), right)
    first = np.clip(np.ceil(left - 0.5), 0, width).astype(np.intp)
    last = np.clip(np.ceil(right - 0.5), 0, width).astype(np.intp)
    return which, row, first, np.maximum(last, first)


def _paint(
    corners: Floats, size: tuple[int, int], *, planes: Floats, cut: NDArray[np.bool_], body: Body
) -> NDArray[np.int32]:
    """Return which triangle each fine pixel (2h, 2w) shows, -1 for none."""
    which, row, first, last = _spans(corners, size)
    width = size[0] * _FINE
    count = last - first
    start = (row * width + first - (np.cumsum(count) - count)).astype(np.int32)
    flat = np.arange(int(count.sum()), dtype=np.int32) + np.repeat(start, count)
    shown = np.repeat(which.astype(np.int32), count)
    suspect = np.flatnonzero(cut[shown])
    if len(suspect):
        keep = np.ones(len(flat), bool)
        keep[suspect] = ~_in_arch(body, planes, shown[suspect], flat=flat[suspect], width=width)
        flat, shown = flat[keep], shown[keep]
    ids = np.full(width * size[1] * _FINE, -1, np.int32)
    ids[flat] = shown  # where triangles share a pixel the last, the nearest, stays
    return ids.reshape(size[1] * _FINE, width)


def _in_arch(
    body: Body, planes: Floats, shown: NDArray[np.int32], *, flat: NDArray[np.intp], width: int
) -> NDArray[np.bool_]:
    x = ((flat % width + 0.5) / _FINE).astype(np.float32)
    y = ((flat // width + 0.5) / _FINE).astype(np.float32)
    place = planes[shown, :3]
    point = place[:, :, 0] + place[:, :, 1] * x[:, None] + place[:, :, 2] * y[:, None]
    radius = wheel_place(body, point[:, 0], point[:, 2])[2]
    result: NDArray[np.bool_] = (radius < arch_radius(body)) & (np.abs(point[:, 1]) > body.half_width - 0.36)
    return result


def _antialiased(
    ids: NDArray[np.int32], size: tuple[int, int], colours: Callable[[NDArray[np.int32], Floats, Floats], Floats]
) -> tuple[Floats, Floats]:
    """Return colours times coverage (h, w, 3) and coverage (h, w): one sample a pixel, four where it matters."""
    width, height = size
    samples = [ids[i::_FINE, j::_FINE].ravel() for i in range(_FINE) for j in range(_FINE)]
    picture = np.zeros((height * width, 3), np.float32)
    whole = np.flatnonzero(samples[0] >= 0)
    picture[whole] = _sampled(whole, samples[0], 0, width=width, colours=colours)
    coverage = np.mean([sample >= 0 for sample in samples], axis=0, dtype=np.float32)
    edges = np.flatnonzero(_edges(picture.reshape(height, width, 3)).ravel() | ((coverage > 0) & (coverage < 1)))
    mixed = picture[edges]
    for number, sample in enumerate(samples[1:], 1):
        shown = sample[edges] >= 0
        mixed[shown] += _sampled(edges[shown], sample, number, width=width, colours=colours)
    picture[edges] = mixed / len(samples)
    return picture.reshape(height, width, 3), coverage.reshape(height, width).astype(np.float32)


def _sampled(
    where: NDArray[np.intp],
    sample: NDArray[np.int32],
    number: int,
    *,
    width: int,
    colours: Callable[[NDArray[np.int32], Floats, Floats], Floats],
) -> Floats:
    """Return the colours (n, 3) that one of the samples of each of these pixels has."""
    column, row = np.float32((number % _FINE + 0.5) / _FINE), np.float32((number // _FINE + 0.5) / _FINE)
    result = np.empty((len(where), 3), np.float32)
    for start in range(0, len(where), _AT_ONCE):
        part = where[start : start + _AT_ONCE].astype(np.int32)
        down, across = np.divmod(part, np.int32(width))
        result[start : start + _AT_ONCE] = colours(
            sample[part], across.astype(np.float32) + column, down.astype(np.float32) + row
        )
    return result


def _edges(picture: Floats) -> NDArray[np.bool_]:
    """Return which pixels (h, w) differ from a neighbour."""
    light = picture @ np.full(3, 1 / 3, np.float32)
    result = np.zeros(light.shape, bool)
    for axis in (0, 1):
        differs = np.abs(np.diff(light, axis=axis)) > _EDGE
        before = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        after = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        result[before] |= differs
        result[after] |= differs
    return result
