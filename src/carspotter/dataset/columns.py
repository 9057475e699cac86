"""Turn columns of a catalogue into numpy arrays of texts and of numbers.

A column is a list or an array, nulls being None, masked, or empty texts. It knows no table and no photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Column = Sequence[Any] | npt.NDArray[Any]
Columns = Mapping[str, Column]
Texts = npt.NDArray[np.object_]
"""Of Python's own texts: those of a catalogue are shared, where numpy's take four bytes a letter of the longest."""
Numbers = npt.NDArray[np.intp]
Truths = npt.NDArray[np.bool_]

NONE = -1
"""The number that stands for null."""


def filled(column: Column) -> tuple[Texts, Truths]:
    """Return a column as texts, "" where it is null, and where it is null, (n,) each."""
    values = column.tolist() if isinstance(column, np.ndarray) else column  # tolist: a masked value becomes None
    words = np.empty(len(column), object)
    # Numbers become texts as well, so that an ad_id read as an integer equals the same one read as text.
    words[:] = [value if type(value) is str else "" if value is None else str(value) for value in values]
    return words, np.asarray(words == "", bool)


def texts(column: Column) -> Texts:
    """Return a column as texts, "" where it is null."""
    return filled(column)[0]


def numbered(column: Column, order: Numbers) -> tuple[Texts, Numbers]:
    """Return the different words of a column, sorted, and for each row in the given order its number, or NONE."""
    words, null = filled(column)
    # In the caller's order, by which a split does not depend on the order of rows.
    words, null = words[order], null[order]
    # Nulls stay out, or "" would become a word that all unknown rows share.
    names, inverse = distinct(words[~null])
    numbers = np.full(len(words), NONE, np.intp)
    numbers[~null] = inverse
    return names, numbers


def distinct(words: Texts) -> tuple[Texts, Numbers]:
    """Return the different words, sorted, and the number of each; sorting those alone is faster than np.unique."""
    names = np.empty(len(known := sorted(set(words))), object)
    names[:] = known
    number = {word: place for place, word in enumerate(known)}
    return names, np.fromiter(map(number.__getitem__, words), np.intp, len(words))
