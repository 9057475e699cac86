"""Names, shapes and types of a network's input and outputs: what they are, and whether a batch fits them.

In: what an engine says of a network, and arrays. Out: `TensorSpec`, or a ValueError in one line. It opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """What a network says of one input or output: name, sizes (None where free) and numpy's name of its type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join("n" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


def check_batch(batch: NDArray[Any], form: TensorSpec) -> None:
    """Raise ValueError unless the batch has the type and the sizes that the network takes.

    The engines' own words for this name neither what was given nor what is wanted in one line.
    """
    fits = batch.ndim == len(form.shape) and all(
        want is None or size == want for size, want in zip(batch.shape, form.shape, strict=True)
    )
    if not fits or batch.dtype != np.dtype(form.dtype):
        raise ValueError(f"batch is {batch.dtype} {batch.shape}, but the network takes {form}")
