"""Strangers: figures counted by hand on a few scores."""

import numpy as np
import pytest

from carspotter.evaluation.strangers import stranger_figures


def test_shares_are_those_counted_by_hand() -> None:
    own = np.arange(1.0, 21.0)  # the bar that keeps 95 % of twenty lies just below 2
    found = stranger_figures(own, [0.0, 1.5, 3.0, 21.0], least=3.0)
    assert (found.kept.count, found.kept.total) == (18, 20)
    assert (found.refused.count, found.refused.total) == (2, 4)
    assert (found.at_95.count, found.at_95.total) == (2, 4)
    # Of 80 pairs the own photo is higher in 20, 19 and 17; one tie counts half; above 21 there is none.
    assert found.auroc.value == pytest.approx((20 + 19 + 17.5 + 0) / 80)


def test_an_empty_side_is_counted_as_nothing() -> None:
    assert stranger_figures([], [1.0], least=0.0).kept.total == 0
    found = stranger_figures([1.0], [], least=0.0)
    assert found.at_95.total == found.refused.total == 0
    assert np.isnan(found.auroc.value)
