"""Silhouettes of vehicles that were cut out on black: pixels in, a mask and its box out.

It knows no labels and pastes nothing (`finder.scenes`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from carspotter.pixels import Pixels

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# 0…255: black that a lossy file has made noisy stays below, by eye on 60 cut-outs.
BLACK = 10
# A row or column with a smaller part of its pixels in the mask is noise, not the vehicle's edge.
LEAST_RUN = 0.02


def cut_out_mask(pixels: Pixels) -> Mask:
    """Return where the vehicle is (h, w) on a black background.

    A dark vehicle has holes: a pixel between two of the vehicle in its row and in its column belongs to it as well.
    """
    bright = pixels.max(axis=2) > BLACK
    # A single noisy row would stretch the box to it.
    bright[bright.mean(axis=1) < LEAST_RUN] = False
    bright[:, bright.mean(axis=0) < LEAST_RUN] = False
    within_row = _between(bright, axis=1)
    within_column = _between(bright, axis=0)
    return np.asarray(bright | (within_row & within_column))


def mask_box(mask: Mask) -> FloatArray | None:
    """Return the corners (4,) around a mask in pixels, None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def _between(mask: Mask, *, axis: int) -> Mask:
    """Mark each pixel that has one of the mask at or before it and one at or after it along an axis."""
    before = np.logical_or.accumulate(mask, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
    return np.asarray(before & after)
