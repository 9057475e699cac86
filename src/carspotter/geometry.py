"""Boxes: areas, overlaps, and moves between pixels and parts of a photo.

In: boxes as x1, y1, x2, y2 (left, top, right, bottom), floats in pixels unless a name says relative; x grows to the
right and y downwards. Out: boxes, areas, overlaps. It knows no images and no networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SIDES = ("x1", "y1", "x2", "y2")
"""Columns of a box in tables and CSVs: its left top and its right bottom corner."""

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """An upright rectangle; it may be empty, and may reach out of its photo until `clip`.

    Raises ValueError for a number that is not finite or for corners in the wrong order.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        for name in SIDES:
            value = float(getattr(self, name))  # numpy scalars become Python floats, which JSON can write
            if not math.isfinite(value):
                raise ValueError(f"box corner {name}={value}: it must be a finite number")
            object.__setattr__(self, name, value)
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise ValueError(f"box {self.to_list()}: x2 and y2 must not be less than x1 and y1")

    @classmethod
    def of_cells(cls, row: Mapping[str, str | None]) -> BoundingBox | None:
        """Read the columns x1, y1, x2, y2 of a CSV's row; None where it has none or all are empty.

        Raises ValueError for anything but four numbers that are a box.
        """
        cells = [row.get(side) or "" for side in SIDES]
        if not any(cells):
            return None
        try:
            return cls(*(float(cell) for cell in cells))
        except ValueError as error:
            words = "give four numbers x1, y1, x2, y2 in pixels, or leave them empty"
            raise ValueError(f"box {', '.join(cells)}: {error}; {words}") from error

    @classmethod
    def from_list(cls, corners: Sequence[float]) -> BoundingBox:
        """Make a box from [x1, y1, x2, y2]."""
        if len(corners) != 4:
            raise ValueError(f"a box has 4 numbers (x1, y1, x2, y2), not {len(corners)}")
        x1, y1, x2, y2 = corners
        return cls(x1, y1, x2, y2)

    @property
    def width(self) -> float:
        """Return the extent along x."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Return the extent along y."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Return width times height."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """Return the middle as (x, y)."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def clip(self, width: float, height: float) -> BoundingBox:
        """Cut off what lies outside a photo of this size; a box wholly outside becomes empty, at the edge."""
        return BoundingBox(
            # Each corner by itself, so that a box wholly outside collapses onto the edge and keeps its order.
            min(max(self.x1, 0.0), width),
            min(max(self.y1, 0.0), height),
            min(max(self.x2, 0.0), width),
            min(max(self.y2, 0.0), height),
        )

    def pad(self, fraction: float) -> BoundingBox:
        """Widen every side by this fraction of the box's own width and height; negative shrinks, to a point at most."""
        # A fraction below -0.5 would swap the corners.
        dx = max(self.width * fraction, -self.width / 2)
        dy = max(self.height * fraction, -self.height / 2)
        # From the centre outwards, so that rounding cannot put x2 below x1.
        x, y = self.center
        half_width, half_height = max(self.width / 2 + dx, 0.0), max(self.height / 2 + dy, 0.0)
        return BoundingBox(x - half_width, y - half_height, x + half_width, y + half_height)

    def scale(self, sx: float, sy: float) -> BoundingBox:
        """Multiply x by `sx` and y by `sy`, as when the photo is resized; neither may be negative."""
        return BoundingBox(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy)

    def shift(self, dx: float, dy: float) -> BoundingBox:
        """Move the box."""
        return BoundingBox(self.x1 + dx, self.y1 + dy, self.x2 + dx, self.y2 + dy)

    def relative(self, width: float, height: float) -> BoundingBox:
        """Return the box in parts of a photo of this size, 0..1 inside it."""
        return self.scale(1 / width, 1 / height)

    def iou(self, other: BoundingBox) -> float:
        """Return the intersection over the union, 0..1; 0 when both are empty."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        # Both clipped before the product: two negative extents would give a positive area.
        shared = max(width, 0.0) * max(height, 0.0)
        union = self.area + other.area - shared
        # Rounding may carry identical boxes just above 1.
        return min(shared / union, 1.0) if union > 0 else 0.0

    def to_list(self) -> list[float]:
        """Return [x1, y1, x2, y2]."""
        return [self.x1, self.y1, self.x2, self.y2]


def are_boxes(corners: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which of corners (n, 4) are boxes with an area: finite, and in the right order."""
    # Strictly greater, so that an empty box does not count; comparisons with NaN are false.
    finite, ordered = np.isfinite(corners), corners[:, 2:] > corners[:, :2]
    return np.asarray(finite.all(axis=1) & ordered.all(axis=1))


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the intersection over union of each box of `a` (n, 4) with each of `b` (m, 4), as (n, m); 0 when empty."""
    a, b = a.astype(np.float64), b.astype(np.float64)  # areas of what a network may say overflow float32
    # Broadcast to (n, m, 2): of all pairs at once.
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)  # (n, m)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=-1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=-1)
    union = area_a[:, None] + area_b[None, :] - shared
    # `where` leaves the zero of `out` for pairs of empty boxes, without a warning.
    overlap: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def suppress(boxes: FloatArray, scores: FloatArray, threshold: float) -> npt.NDArray[np.intp]:
    """Return the indices of the boxes to keep, best score first: greedy non-maximum suppression.

    A box goes when its overlap (IoU) with a better one that stays is over `threshold`; equal scores keep their order.
    """
    # Stable, so that equal scores are decided alike on every machine.
    order = np.argsort(-scores, kind="stable")
    overlap = iou_matrix(boxes[order], boxes[order]) > threshold
    alive = np.ones(len(order), dtype=bool)
    for position in range(len(order)):
        # A box that was itself suppressed silences nobody: else a chain would lose its far end as well.
        if alive[position]:
            alive[position + 1 :] &= ~overlap[position, position + 1 :]
    return np.asarray(order[alive], dtype=np.intp)
