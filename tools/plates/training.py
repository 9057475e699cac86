"""Train the network on patches, by the losses of CenterNet (Zhou et al. 2019)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.plates.network import PlateFinder
from tools.plates.patches import Patch, Scene, cut_patch

WARM_UP = 40  # steps until the rate is reached
TRUSTED_FROM = 150
"""Steps after which a sure answer where nothing was drawn is taken for a real plate, on photos that may have some."""
SURE, EMPTY = 0.3, 0.02  # heat of such an answer, and below which nothing was drawn
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long and how fast is learnt: steps of `batch` patches, the highest learning rate, the seed of all chance."""

    steps: int = 545
    rate: float = 3e-3
    batch: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Photos, and the share of patches that are cut from them."""

    scenes: Sequence[Scene]
    share: float


def train(network: PlateFinder, pools: Sequence[Pool], recipe: Recipe, *, fonts: Sequence[str] = ()) -> PlateFinder:
    """Train a network in place and return it."""
    random = Random(recipe.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3)
    network.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1, (step + 1) / WARM_UP) * (1 + cos(pi * step / recipe.steps)) / 2
        chosen = random.choices(pools, [pool.share for pool in pools], k=recipe.batch)
        loss = loss_of(network, [cut_patch(random.choice(pool.scenes), random, fonts) for pool in chosen], step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
        optimizer.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            _LOG.info("step %d of %d: loss %.3f", step + 1, recipe.steps, loss.item())
    return network.eval()


def loss_of(network: PlateFinder, patches: Sequence[Patch], step: int) -> Tensor:
    """Return the loss of a batch: focal on the heat, smooth L1 on sizes and offsets beside the plates' middles."""
    pixels = torch.from_numpy(np.stack([patch.pixels for patch in patches])).float()
    wanted = torch.from_numpy(np.stack([patch.heat for patch in patches]))
    near = torch.from_numpy(np.stack([patch.near for patch in patches]))[:, None]
    is_open = torch.tensor([patch.is_open for patch in patches])[:, None, None]
    heat, size, offset = network(pixels)
    heat = heat[:, 0].clamp(1e-5, 1 - 1e-5)
    is_plate = (wanted == 1).float()
    missed = (1 - heat) ** 2 * heat.log() * is_plate
    invented = (1 - wanted) ** 4 * heat**2 * (1 - heat).log() * (1 - is_plate)
    if step > TRUSTED_FROM:
        invented = torch.where((heat > SURE) & (wanted < EMPTY) & is_open, 0.0, invented)
    loss: Tensor = -(missed + invented).sum() / is_plate.sum().clamp(min=1)
    for said, name, weight in ((size, "size", 1.0), (offset, "offset", 0.5)):
        truth = torch.from_numpy(np.stack([getattr(patch, name) for patch in patches]))
        apart = F.smooth_l1_loss(said, truth, reduction="none", beta=0.1) * near
        loss = loss + weight * apart.sum() / near.sum().clamp(min=1)
    return loss
