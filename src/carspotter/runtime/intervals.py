"""The interval of a share: the one formula for all that promises, judges or doubts by few photos."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""Quantile 0.975 of the normal distribution: an interval at 95 %."""

Floats = npt.NDArray[np.float64]


def wilson(count: npt.ArrayLike, total: npt.ArrayLike, z: float = Z95) -> tuple[Floats, Floats]:
    """Return the score interval of shares (Wilson 1927): it stays inside 0..1 and holds for few photos too.

    `count` and `total`, numbers or arrays of one shape, need not be whole: an effective number of photos is not. (0, 1)
    for 0 of 0.
    """
    counted, n = np.asarray(count, np.float64), np.asarray(total, np.float64)
    is_none, square = n <= 0, z * z
    n = np.where(is_none, 1.0, n)  # divided by below; the answer there is (0, 1)
    share = np.clip(counted / n, 0.0, 1.0)
    # The ends solve |share - p| = z * sqrt(p (1 - p) / n) for p: the middle is drawn towards one half, more so for few.
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n * n))
    # Where all or none are counted the end is exact, but rounding would leave 1e-17 of it.
    low = np.where(is_none | (counted == 0), 0.0, np.maximum(0.0, middle - half))
    high = np.where(is_none | (counted == n), 1.0, np.minimum(1.0, middle + half))
    return low[()], high[()]
