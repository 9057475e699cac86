"""Forms of tensors: how they read, and which batches fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.runtime.form import TensorSpec, check_batch


def test_a_form_reads_in_one_line() -> None:
    assert str(TensorSpec(name="image", shape=(None, 96, 128, 3), dtype="uint8")) == "image uint8 (n, 96, 128, 3)"


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), free=st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_batch_fits_where_each_fixed_size_is_equal(sizes: list[int], free: list[bool]) -> None:
    shape = tuple(None if is_free else size for size, is_free in zip(sizes, free, strict=False))
    form = TensorSpec(name="x", shape=shape, dtype="float32")
    check_batch(np.zeros(sizes, dtype=np.float32), form)
    wrong = [np.zeros(sizes, dtype=np.float64), np.zeros([*sizes, 1], dtype=np.float32)]
    if None not in shape:
        wrong.append(np.zeros([size + 1 for size in sizes], dtype=np.float32))
    for batch in wrong:
        with pytest.raises(ValueError, match="but the network takes x float32"):
            check_batch(batch, form)
