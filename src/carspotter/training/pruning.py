"""Make an EfficientNet of timm narrower: a backbone and photos in, the same backbone with fewer channels out.

Each inverted-residual block widens its input, filters every channel by itself, and narrows again; what lies between is
cut here (the outputs of `conv_pw` and `conv_dw`, the inputs of `conv_pwl`). What goes from block to block keeps its
width, so that the embedding, the head and every other part stay as they are. Nothing is learnt: fine-tuning is the
trainer's work.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from carspotter.errors import RecipeError

STEP = 8
"""Channel counts are multiples of this: what AVX2, NEON and mobile accelerators calculate in one go."""
RIDGE = 1e-4
"""How much a weight's own value counts beside the photos, as a part of a channel's mean variance: what the photos do
not decide stays as it was learnt."""
CHUNK = 32
"""Photos that are passed at once."""


def count_kept(channels: int, keep: float) -> int:
    """Return how many of a block's channels are kept: the part `keep`, rounded to 8, at least 8."""
    return min(channels, max(STEP, round(channels * keep / STEP) * STEP))


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the blocks that can be pruned, in the order pixels pass. Raises RecipeError where there is none."""
    stages = getattr(backbone, "blocks", ())
    found = [block for stage in stages for block in stage if _is_prunable(block)]
    if not found:
        raise RecipeError(
            f"model.keep: {type(backbone).__name__} has no inverted-residual block without squeeze-and-excite; use "
            "tf_efficientnet_lite0 or one of its family, or keep = 1"
        )
    return found


def narrow(backbone: nn.Module, keep: float) -> None:
    """Give a backbone the shape that `prune` would, with any weights: for a checkpoint to be loaded into."""
    for block in blocks_of(backbone):
        width = cast(nn.Conv2d, block.conv_pwl).in_channels
        _cut(block, torch.arange(count_kept(width, keep)))


@torch.no_grad()
def prune(backbone: nn.Module, keep: float, pixels: Tensor) -> None:
    """Keep the part `keep` of each block's channels, chosen and refitted by normalised `pixels` (n, 3, h, w).

    From the first block to the last, each is asked to say what the unpruned one would: as a function of its channels
    that is linear, so that the loss of a channel, and the best weights of those that stay, are known exactly (Hassibi
    and Stork, "Optimal Brain Surgeon", 1993; per layer as He, Zhang and Sun, "Channel Pruning", 2017). What an earlier
    block lost is part of what the later ones correct. A few hundred photos are enough. Raises RecipeError.
    """
    prunable = {id(block) for block in blocks_of(backbone)}
    was_training = backbone.training
    backbone.eval()
    stem = nn.Sequential(cast(nn.Module, backbone.conv_stem), cast(nn.Module, backbone.bn1))
    wanted = [stem(chunk) for chunk in pixels.split(CHUNK)]
    have = list(wanted)
    for stage in cast(nn.Sequential, backbone.blocks):
        for block in cast(nn.Sequential, stage):
            inputs, wanted = have, [block(chunk) for chunk in wanted]
            if id(block) in prunable:
                _prune_block(block, keep, inputs, wanted)
            have = [block(chunk) for chunk in inputs]
    backbone.train(was_training)


def _is_prunable(block: nn.Module) -> bool:
    has_parts = all(hasattr(block, name) for name in ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"))
    return has_parts and isinstance(getattr(block, "se", None), nn.Identity)


def _prune_block(block: nn.Module, keep: float, inputs: list[Tensor], wanted: list[Tensor]) -> None:
    """Cut a block and refit its last convolution, so that it makes of `inputs` what is nearest to `wanted`."""
    norm, last = cast(nn.BatchNorm2d, block.bn3), cast(nn.Conv2d, block.conv_pwl)
    scale = (norm.weight / (cast(Tensor, norm.running_var) + norm.eps).sqrt()).double()
    scale = torch.where(scale < 0, -1.0, 1.0) * scale.abs().clamp_min(1e-3 * float(scale.abs().max()))
    products, answers, mean_in, mean_out = _statistics(block, inputs, wanted)
    learnt = last.weight[:, :, 0, 0].double().T * scale
    kept, weights = surviving(products, answers, learnt, count=count_kept(last.in_channels, keep))
    _cut(block, kept)
    # The last norm stays as it is but for its mean, so that the weights before it keep the size they learnt at.
    last.weight.copy_((weights / scale).T[:, :, None, None])
    offset = mean_out - mean_in[kept] @ weights
    cast(Tensor, norm.running_mean).copy_((norm.bias.double() - offset) / scale)


def _statistics(block: nn.Module, inputs: list[Tensor], wanted: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return products of the channels (c, c) and of channels and outputs (c, d), both about the mean, and the means."""
    total, has_skip = 0, bool(getattr(block, "has_skip", False))
    sums: list[Tensor] = []
    for given, out in zip(inputs, wanted, strict=True):
        channels = _rows(_widened(block, given))
        target = _rows(out - given if has_skip else out)
        found = [channels.T @ channels, channels.T @ target, channels.sum(0), target.sum(0)]
        sums = [old + new for old, new in zip(sums, found, strict=True)] if sums else found
        total += len(channels)
    products, answers, first, second = sums
    first, second = first / total, second / total
    return products / total - torch.outer(first, first), answers / total - torch.outer(first, second), first, second


def _widened(block: nn.Module, given: Tensor) -> Tensor:
    """Return a block's channels (n, c, h, w) as its last convolution reads them."""
    for name in ("conv_pw", "bn1", "conv_dw", "bn2", "aa"):
        given = getattr(block, name, nn.Identity())(given)
    return given


def _rows(features: Tensor) -> Tensor:
    return features.movedim(1, -1).flatten(0, -2).double()


def surviving(products: Tensor, answers: Tensor, learnt: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Return which `count` channels answer best, in order (k,), and their weights (k, d).

    `products` (c, c) are the channels' covariances, `answers` (c, d) those with what is wanted, `learnt` (c, d) the
    weights until now. One channel after the other goes, each time the one without which the squared error of the
    others, refitted, grows least.
    """
    ridge = RIDGE * products.diagonal().mean().clamp_min(1e-12)
    inverse = torch.linalg.inv(products + ridge * torch.eye(len(products), dtype=products.dtype))
    weights = inverse @ (answers + ridge * learnt)
    alive = torch.ones(len(products), dtype=torch.bool)
    for _ in range(len(products) - count):
        diagonal = inverse.diagonal()
        cost = (weights.square().sum(1) / diagonal.clamp_min(1e-300)).masked_fill(~alive, torch.inf)
        worst = int(cost.argmin())
        # The inverse without a row and column, and the weights refitted, by one rank-one step each.
        column = inverse[:, worst] / diagonal[worst]
        weights = weights - torch.outer(column, weights[worst])
        inverse = inverse - torch.outer(column, inverse[worst])
        alive[worst] = False
    kept = alive.nonzero().flatten()
    return kept, weights[kept]


def _cut(block: nn.Module, kept: Tensor) -> None:
    """Keep the channels `kept` (k,) between a block's first and last convolution."""
    first, middle, last = (cast(nn.Conv2d, getattr(block, name)) for name in ("conv_pw", "conv_dw", "conv_pwl"))
    for convolution in (first, middle):
        convolution.weight = nn.Parameter(convolution.weight.detach()[kept].clone())
        convolution.out_channels = len(kept)
    middle.in_channels = middle.groups = len(kept)
    last.weight = nn.Parameter(last.weight.detach()[:, kept].clone())
    last.in_channels = len(kept)
    for norm in (cast(nn.BatchNorm2d, block.bn1), cast(nn.BatchNorm2d, block.bn2)):
        norm.weight, norm.bias = (nn.Parameter(values.detach()[kept].clone()) for values in (norm.weight, norm.bias))
        norm.running_mean = cast(Tensor, norm.running_mean)[kept].clone()
        norm.running_var = cast(Tensor, norm.running_var)[kept].clone()
        norm.num_features = len(kept)
