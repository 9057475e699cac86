"""The probability of each of a bundle's classes, and how much speaks for any, from what its network answered.

Both are the network's own, or those of a learned bundle's head on the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.calibration import softmax


def class_probabilities(bundle: ModelBundle, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return calibrated probabilities (n, n_classes) of a network's outputs; raises BundleError for an odd temperature.

    A network softens its own logits, so that only a head needs the calibration's `temperature`.
    """
    if bundle.head is None:
        return outputs["probabilities"].astype(np.float64)
    logits = bundle.head.logits(outputs["embedding"]).astype(np.float64)
    return softmax(logits / head_temperature(bundle))


def evidence_of(bundle: ModelBundle, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return how much speaks for any class (n,): the network's own word where it has one, else the head's.

    None where neither says; `calibration.evidence` is the least of an answer.
    """
    if "evidence" in outputs:
        return outputs["evidence"].reshape(-1).astype(np.float64)
    return None if bundle.head is None else bundle.head.evidence(outputs["embedding"], outputs["model"])


def head_temperature(bundle: ModelBundle) -> float:
    """Return what the logits of the bundle's head are divided by; raises BundleError where it cannot be."""
    value = bundle.calibration.get("temperature", 1.0)
    if not isinstance(value, int | float) or not value > 0:
        raise BundleError(f"bundle {bundle.name}: calibration temperature is {value!r}; it must be over 0")
    return float(value)
