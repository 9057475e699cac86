"""Answers of a network, equal but for rounding: what two runs may differ by, and no more.

Engines add in an order that follows from the processor, the threads and the size of a batch, so that a float32 moves by
some 1e-6 of itself between two runs; written to four places, its last place may turn. A wrong answer differs by more
than a hundredth of a probability, or by a pixel.
"""

from typing import Any

import pytest

RELATIVE, ABSOLUTE = 1e-4, 1.1e-4
"""A hundred times what rounding moves a float32 by; one unit of the last place of a probability in JSON."""


def alike(value: Any) -> Any:
    """Return what equals `value`, a tree of JSON values, whose numbers with a point are right within the tolerance."""
    if isinstance(value, dict):
        return {name: alike(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(alike(each) for each in value)
    return pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE) if isinstance(value, float) else value
