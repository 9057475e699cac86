"""The probability of each word of an attribute, from what its bundle's network answered.

The network is an identifier's, whose embedding the head reads, or a finder's, of which it reads kind and viewpoints. It
runs no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.calibration import softmax
from carspotter.runtime.classes import head_temperature

_LEAST = 1e-4
"""Probabilities below this read as this: their logarithms would outshout all else."""

KIND = "kind"
"""The attribute of a photo; all others are of a vehicle."""


def name_of(bundle: ModelBundle) -> str:
    """Return the name of a bundle's one attribute. Raises BundleError for another task."""
    if bundle.task != "attribute":
        raise BundleError(
            f"bundle {bundle.name}: task is {bundle.task!r}, but an attribute is needed, as "
            "`carspotter train PROJECT --task NAME` writes it"
        )
    return next(iter(bundle.attributes))


def features(reads: tuple[str, ...], outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return what a head reads (n, d) of a network: the embedding, or logarithms of kind and best sides."""
    if reads == ("embedding",):
        return np.asarray(outputs["embedding"], np.float32)
    sides = outputs["viewpoints"][:, 0]  # of the best place; zeros where there is no vehicle
    told = np.concatenate([outputs["kind"], sides], axis=1).astype(np.float32)
    return np.asarray(np.log(np.maximum(told, _LEAST)), np.float32)


def word_probabilities(bundle: ModelBundle, read: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return calibrated probabilities (n, k) of the words from what the head reads (n, d)."""
    assert bundle.head is not None
    return softmax(bundle.head.logits(read).astype(np.float64) / head_temperature(bundle))
