"""Wilson's interval against a published table; `tests/evaluation` holds it against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

from carspotter.runtime.intervals import wilson


@pytest.mark.parametrize(
    ("count", "n", "interval"),
    # Newcombe 1998, table I.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_intervals_are_those_of_the_table(count: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(count, n) == pytest.approx(interval, abs=1e-4)


def test_none_of_none_is_anything_and_arrays_are_taken_one_by_one() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(np.array([0, 5, 9]), np.array([0, 10, 9]))
    assert [(a, b) for a, b in zip(low, high, strict=True)] == [wilson(0, 0), wilson(5, 10), wilson(9, 9)]
    assert (low[0], high[0], high[2]) == (0.0, 1.0, 1.0)
