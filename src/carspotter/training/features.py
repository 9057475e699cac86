"""Frozen features: photos in, one vector a photo out, as a network that no longer learns sees it.

The network may be any backbone of timm, or an identifier of a run. Linear classifiers stand in `baselines`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from carspotter.errors import TrainingError
from carspotter.training.identifier.model import Identifier
from carspotter.training.linear import Floats

Images = npt.NDArray[np.uint8]
Embed = Callable[[Images], Floats]
"""Takes photos (n, h, w, 3) and gives one vector a photo, (n, d)."""

CHUNK = 64
"""Photos unpacked at once: 64 of 224 px are 38 MB as floats."""


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
        # Each time: the network may have been trained in between.
        network.eval()
        with torch.inference_mode():
            # A mirrored view has negative strides, which torch does not take. Bytes are moved to the device before they
            # grow to floats.
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
            vectors = cast(Tensor, network.embed(pixels.contiguous(memory_format=torch.channels_last)))
        return cast(Floats, vectors.float().cpu().numpy())

    return embed


def embed_all(embed: Embed, images: Images) -> Floats:
    """Describe photos (n, h, w, 3), `CHUNK` at a time, by vectors (n, d). Raises TrainingError for anything else."""
    parts = [np.asarray(embed(images[start : start + CHUNK]), np.float32) for start in range(0, len(images), CHUNK)]
    sizes = [min(CHUNK, len(images) - start) for start in range(0, len(images), CHUNK)]
    for part, n in zip(parts, sizes, strict=True):
        if part.ndim != 2 or len(part) != n:
            raise TrainingError(f"features: {n} photos became an array of shape {part.shape}; a vector each is needed")
        # Refused here, where it is still known which network is at fault.
        if not np.isfinite(part).all():
            raise TrainingError("features: a vector holds NaN or infinity; the network's weights are damaged")
    if not parts:
        raise TrainingError("features: there is no photo to describe")
    return np.concatenate(parts)
