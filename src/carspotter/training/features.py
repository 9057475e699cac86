"""Frozen features: photos in, one vector a photo out, as a network that no longer learns sees it; and their neighbours.

The network may be any backbone of timm, or an identifier of a run. Linear classifiers stand in `baselines`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from carspotter.errors import TrainingError
from carspotter.training.identifier.model import Identifier

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Embed = Callable[[Images], Floats]
"""Takes photos (n, h, w, 3) and gives one vector a photo, (n, d)."""

CHUNK = 64
"""Photos unpacked at once: 64 of 224 px are 38 MB as floats."""
# A similarity of 1 votes e^(1/0.07) times as much as one of 0: Wu et al. 2018 (Instance Discrimination), section 3.4.
_SHARPNESS = 1 / 0.07
# Votes that every class has at first, as a part of all: a class without a neighbour stays possible, so that the
# logarithm is finite and the temperature has something to fit.
_FLOOR = 0.01


def embed_with(backbone: nn.Module) -> Embed:
    """Return what describes photos by a network's pooled features, at the size that the photos have.

    `backbone` is an `Identifier`, whose head is left aside, or a network of timm made with `num_classes=0`. Its weights
    and batch statistics stand still. Raises TrainingError for a network that does not say `num_features`.
    """
    if not isinstance(backbone, Identifier) and not hasattr(backbone, "num_features"):
        raise TrainingError(
            f"features: {type(backbone).__name__} has no num_features; pass a network of timm, or a function that "
            "gives a vector a photo"
        )
    # An identifier normalises the pixels as its backbone wants them; its one-class head is never asked.
    network = backbone if isinstance(backbone, Identifier) else Identifier(backbone, 1)
    device = next(network.parameters()).device
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(images: Images) -> Floats:
        network.eval()
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
            vectors = cast(Tensor, network.embed(pixels.contiguous(memory_format=torch.channels_last)))
        return cast(Floats, vectors.float().cpu().numpy())

    return embed


def embed_all(embed: Embed, images: Images) -> Floats:
    """Describe photos (n, h, w, 3), `CHUNK` at a time, by vectors (n, d). Raises TrainingError where they are none."""
    parts = [np.asarray(embed(images[start : start + CHUNK]), np.float32) for start in range(0, len(images), CHUNK)]
    sizes = [min(CHUNK, len(images) - start) for start in range(0, len(images), CHUNK)]
    for part, n in zip(parts, sizes, strict=True):
        if part.ndim != 2 or len(part) != n:
            raise TrainingError(f"features: {n} photos became an array of shape {part.shape}; a vector each is needed")
        if not np.isfinite(part).all():
            raise TrainingError("features: a vector holds NaN or infinity; the network's weights are damaged")
    if not parts:
        raise TrainingError("features: there is no photo to describe")
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbors:
    """Classify by the k most similar photos that were learnt, each voting e^(cosine / 0.07) times its weight.

    `bank` (n, d) has length 1 along d; `targets` and `weights` (n,) are its classes and how much each photo counts.
    """

    bank: Floats
    targets: Ints
    weights: Floats
    n_classes: int
    k: int

    def logits(self, vectors: Floats) -> Doubles:
        """Return the logarithm of each class's share of the votes, (m, n_classes), for vectors (m, d)."""
        parts = [self._votes(vectors[start : start + 256]) for start in range(0, len(vectors), 256)]
        shares = np.concatenate(parts) if parts else np.empty((0, self.n_classes))
        known = np.bincount(self.targets, minlength=self.n_classes) > 0
        logits: Doubles = np.log((1 - _FLOOR) * shares + _FLOOR / known.sum())
        logits[:, ~known] = -np.inf
        return logits

    def _votes(self, vectors: Floats) -> Doubles:
        similar = unit(vectors) @ self.bank.T
        k = min(self.k, len(self.bank))
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        chosen = np.take_along_axis(similar, nearest, axis=1).astype(np.float64)
        power = np.exp((chosen - chosen.max(axis=1, keepdims=True)) * _SHARPNESS) * self.weights[nearest]
        votes = np.zeros((len(vectors), self.n_classes))
        np.add.at(votes, (np.arange(len(vectors))[:, None], self.targets[nearest]), power)
        return np.asarray(votes / votes.sum(axis=1, keepdims=True), np.float64)


def unit(vectors: Floats) -> Floats:
    """Scale vectors (n, d) to length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
