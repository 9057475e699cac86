"""Fit the heads of an identifier to the features of still photos, before its backbone learns.

A head that starts from nothing would first spoil the features it reads; one that is fitted to them before changes them
gently (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", 2022).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carspotter.training.identifier.model import Identifier

logger = logging.getLogger(__name__)
BATCH = 1024
"""Photos of a step: features are small, and more a step cost nothing."""
HeadLoss = Callable[[Tensor, Tensor, Mapping[str, Tensor], Tensor], Tensor]
"""Takes features (m, d), logits (m, c), those of further heads, and the photos' numbers (m,); gives one number."""


def fit_heads(
    model: Identifier,
    images: Tensor,
    loss: HeadLoss,
    *,
    epochs: int,
    side: int,
    rate: float,
    decay: float,
    seed: int = 0,
) -> None:
    """Fit all heads of `model` to its features of `images` (n, h, w, 3), each and its mirror image, at `side` px.

    `rate` is the first size of a step of Adam; it falls as a half cosine to nothing. `decay` weighs how far
    the classes' weights move from where they start: knowledge of classes without photos lies there.
    """
    # The backbone stands still, so that each photo passes it once and not once an epoch.
    features = still_features(model, images, side)
    heads = nn.ModuleList([model.head, *model.heads.values()]).requires_grad_(True)
    first = [weights.detach().clone() for weights in model.head.parameters()]
    optimizer = torch.optim.Adam(heads.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    batch = min(BATCH, len(features))
    steps, step = epochs * (len(features) // batch), 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(features), generator=generator)[: len(features) // batch * batch].split(batch):
            view = torch.randint(features.shape[1], (batch,), generator=generator)
            read = features[chosen.to(features.device), view.to(features.device)]
            logits, answers = model.answer(read)
            # Classes that no photo here shows keep their weights: nothing else would hold them.
            moved = sum(
                ((weights - start) ** 2).sum() for weights, start in zip(model.head.parameters(), first, strict=True)
            )
            value = loss(read, logits, answers, chosen) + decay * moved
            for group in optimizer.param_groups:
                # Half a cosine: large steps first, and none at the end, where they would only jitter.
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            step += 1
    logger.info("heads fitted at %d px: %d photos, last loss %.3f", side, len(features), value.item())


def still_features(model: Identifier, images: Tensor, side: int, batch: int = 64) -> Tensor:
    """Return what the heads read (n, 2, e) of photos (n, h, w, 3) as they stand and mirrored, at `side` px."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    with torch.no_grad():
        for chosen in images.split(batch):
            pixels = resized(chosen.to(device).permute(0, 3, 1, 2).float(), side)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            parts.append(torch.stack([model.details(pixels), model.details(pixels.flip(3))], dim=1))
    return torch.cat(parts)


def resized(pixels: Tensor, side: int) -> Tensor:
    """Return pixels (n, 3, h, w) in 0…255 at `side` x `side` px."""
    if pixels.shape[2:] == (side, side):
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
