"""Batch norms and the convolutions before them: folded into these for speed, and unfolded again for training.

A folded norm adds its bias and no more. As weights it is `weight 1, running_mean 0, running_var 1 - eps`: what stands
before it already has its scale, so that its statistics are no photograph's and must not be learnt anew from batches,
unless they are estimated before (`estimate_norms`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

State = dict[str, Tensor]


def norm_pairs(module: nn.Module) -> Iterator[tuple[str, str, nn.BatchNorm2d]]:
    """Yield the full names of each convolution and of the norm right after it, and the norm itself."""
    for prefix, parent in module.named_modules():
        for (name, convolution), (following, norm) in pairwise(parent.named_children()):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                dot = f"{prefix}." if prefix else ""
                yield f"{dot}{name}", f"{dot}{following}", norm


def fuse_norms(module: nn.Module) -> nn.Module:
    """Return a copy in which each convolution has absorbed the batch norm after it; for frozen stages.

    On a CPU a pass over the pixels for the norm costs about as much as a small convolution.
    """
    # In evaluation a norm is a fixed scale and shift, which a convolution can carry in its own weights.
    fused = copy.deepcopy(module).eval()
    for name, following, norm in list(norm_pairs(fused)):
        parent = fused.get_submodule(name.rpartition(".")[0])
        convolution = fuse_conv_bn_eval(fused.get_submodule(name), norm)  # type: ignore[type-var]  # a Conv2d
        setattr(parent, name.rpartition(".")[2], convolution)
        # timm's norms hold the activation behind them, which must stay.
        setattr(parent, following.rpartition(".")[2], getattr(norm, "act", nn.Identity()))
    return fused


def unfold_norms(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of `fuse_norms(module)` by the names of `module`: each bias of a convolution goes to its norm."""
    found = dict(weights)
    for name, following, norm in norm_pairs(module):
        bias = found.pop(f"{name}.bias", None)
        if bias is None or f"{following}.bias" in found:
            continue
        # The convolution keeps the fused weight; its bias, which the module may lack, becomes the norm's shift.
        if getattr(module.get_submodule(name), "bias", None) is not None:
            found[f"{name}.bias"] = torch.zeros_like(bias)
        found[f"{following}.weight"] = torch.ones_like(bias)
        found[f"{following}.bias"] = bias
        found[f"{following}.running_mean"] = torch.zeros_like(bias)
        # weight / sqrt(running_var + eps) is then 1: the norm adds its bias and nothing else.
        found[f"{following}.running_var"] = torch.full_like(bias, 1 - norm.eps)
    return found


def estimate_norms(module: nn.Module, passes: Iterable[Callable[[], object]]) -> None:
    """Give folded norms the statistics of what flows through them in `passes`, with the scale that undoes them.

    What the network says stays the same, and from then on its norms can learn like any other's: a step is as large for
    a tensor of small numbers as for one of large.
    """
    seen: dict[nn.BatchNorm2d, list[Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().float()
        # Sums and squares in double precision: the variance is a small difference of large numbers.
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).double()
        total = seen.setdefault(cast(nn.BatchNorm2d, norm), [torch.zeros_like(sums), torch.zeros(())])
        total[0] += sums
        total[1] += values.numel() / values.shape[1]

    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d) and _is_folded(each)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    with torch.no_grad():
        for run in passes:
            run()
        for hook in hooks:
            hook.remove()
        for norm, (sums, count) in seen.items():
            mean = (sums[0] / count).float()
            variance = (sums[1] / count - (sums[0] / count).square()).clamp_min(0).float()
            cast(Tensor, norm.running_mean).copy_(mean)
            cast(Tensor, norm.running_var).copy_(variance)
            # The weight undoes the new statistics, so that outputs stay as they were.
            norm.weight.copy_((variance + norm.eps).sqrt())
            # A folded norm subtracted nothing; what the new one subtracts comes back by its bias.
            norm.bias.add_(mean)


def blend_folded(module: nn.Module, first: Mapping[str, Tensor], last: Mapping[str, Tensor], share: float) -> State:
    """Return weights of `module` between two of its states, `share` of them the last; what only one has is the last's.

    A network fine-tuned on few photos knows these better and others worse; near its beginning it loses little of the
    one and regains most of the other (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). Norms are
    folded before: a norm's weight and its statistics multiply, so that half of each is no network between the two.
    """
    states = []
    for state in (first, last):
        network = copy.deepcopy(module)
        network.load_state_dict(dict(state), strict=False)  # the first state lacks the heads that are new
        states.append(fuse_norms(network).state_dict())
    # Layers that only the last state has (new heads) have nothing to be blended with.
    known = {name.rpartition(".")[0] for name in first}
    mixed = {
        name: states[0][name].lerp(value, share)
        if name.rpartition(".")[0] in known and value.is_floating_point()
        else value
        for name, value in states[1].items()
    }
    return dict(last) | unfold_norms(module, mixed)


def are_folded(module: nn.Module) -> bool:
    """Return whether the module has batch norms and each of them is folded."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    return bool(norms) and all(_is_folded(norm) for norm in norms)


def _is_folded(norm: nn.BatchNorm2d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    # As `unfold_norms` leaves them, and files of folded weights: mean 0, and a variance whose root with eps is 1.
    return not bool(mean.any()) and bool(((variance - (1 - norm.eps)).abs() < norm.eps / 4).all())
