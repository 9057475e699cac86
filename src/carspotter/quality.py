"""Grey pixels in, measures of a photo's quality out: brightness, contrast, sharpness, plainness.

They say what was measured and judge nothing: thresholds are those of `photos.checks`, and of an ad's score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carspotter.hashes import shrink

WORKING_SIDE = 256
"""Pixels of the longer side at which scores are measured, so that they do not depend on a photo's resolution."""

_LEVELS = 32  # of grey, for plainness: eight neighbouring values count as one


def scores(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure brightness, contrast, sharpness and plainness of upright pixels, grey (h, w) or sRGB (h, w, 3)."""
    height, width = pixels.shape[:2]
    # Never enlarged: interpolation would add pixels that look blurred. Three pixels a side are the least a Laplacian
    # needs.
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small = shrink(pixels, (max(3, round(width * scale)), max(3, round(height * scale)))).astype(np.float32)
    inner = small[1:-1, 1:-1]
    # The 4-neighbour Laplacian: differences of a pixel and its neighbours, large only where there are edges
    # (Pech-Pacheco et al. 2000).
    laplacian = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:] - 4 * inner
    # A histogram of few levels, since sensor noise alone spreads a plain wall over a dozen grey values.
    counts = np.bincount((small / (256 / _LEVELS)).astype(np.intp).ravel(), minlength=_LEVELS)
    # Three levels together: a plain area with JPEG's noise lies across a border of levels.
    commonest = np.convolve(counts, np.ones(3, dtype=counts.dtype), mode="same").max()
    return {
        "brightness": float(small.mean() / 255),
        # Half black and half white, the most that can be, has a deviation of 127.5.
        "contrast": float(small.std() / 127.5),
        "sharpness": float(laplacian.var()),
        "plainness": float(commonest / small.size),
    }
