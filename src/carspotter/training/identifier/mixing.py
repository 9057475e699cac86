"""Mix each photo of a batch with another one of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carspotter.training.recipe import AugmentSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixed:
    """A batch after mixing: photo i is `share[i]` (n,) itself and else photo `partner[i]` (n,)."""

    pixels: Tensor
    partner: Tensor
    share: Tensor


def mix(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Mixed:
    """Blend (mixup) or paste (cutmix) another photo of the batch into each, by what `settings` allow.

    `pixels` (n, 3, h, w) are changed in place. Zhang et al., "mixup", 2018; Yun et al., "CutMix", 2019. The share is
    drawn once a batch, from Beta(a, a).
    """
    n = len(pixels)
    alone = Mixed(pixels=pixels, partner=torch.arange(n), share=torch.ones(n))
    ways = [way for way in (settings.mixup, settings.cutmix) if way > 0]
    if not ways or torch.rand((), generator=generator) >= settings.mix:
        return alone
    takes_cutmix = settings.cutmix > 0 and (len(ways) == 1 or bool(torch.rand((), generator=generator) < 0.5))
    # Drawn once a batch: a share for each photo learns no better and costs a pass over the batch.
    share = _beta(settings.cutmix if takes_cutmix else settings.mixup, generator)
    partner = torch.randperm(n, generator=generator)
    if not takes_cutmix:
        other = pixels[partner]
        return Mixed(pixels=pixels.lerp_(other, 1 - share), partner=partner, share=torch.full((n,), share))
    top, bottom, left, right = _window(pixels.shape[2], pixels.shape[3], 1 - share, generator)
    pixels[:, :, top:bottom, left:right] = pixels[partner][:, :, top:bottom, left:right]
    # The window may be cut by the picture's edge, so that the share is counted, not assumed.
    kept = 1 - (bottom - top) * (right - left) / (pixels.shape[2] * pixels.shape[3])
    return Mixed(pixels=pixels, partner=partner, share=torch.full((n,), kept))


def _beta(a: float, generator: torch.Generator) -> float:
    """Draw from Beta(a, a) by Jöhnk's method (1964), which needs uniform numbers alone and so follows the generator."""
    while True:
        x, y = torch.rand(2, generator=generator, dtype=torch.float64).pow(1 / a).tolist()
        if 0 < x + y <= 1:
            return float(x / (x + y))


def _window(height: int, width: int, area: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Place a window of so large a part of the picture at random; what lies outside is cut off."""
    side = math.sqrt(area)
    y, x = torch.rand(2, generator=generator).tolist()
    top, left = round(y * height - side * height / 2), round(x * width - side * width / 2)
    bottom, right = top + round(side * height), left + round(side * width)
    return max(0, top), min(height, bottom), max(0, left), min(width, right)
