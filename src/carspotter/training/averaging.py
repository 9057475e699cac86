"""Average a network's weights over the steps of its training; the average is what is judged and exported."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, *, ema: float, step: int) -> None:
    """Move the averaged weights towards those of `model` after step number `step`; `ema` is the decay a step."""
    # Young averages forget faster, or the first random head would linger: the (1 + t) / (10 + t) of TensorFlow.
    decay = min(ema, (1 + step) / (10 + step))
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    # All tensors in one call: a loop over hundreds of small ones would cost as much as the step.
    means, values = zip(*(pair for pair in pairs if pair[0].dtype.is_floating_point), strict=True)
    get_ema_multi_avg_fn(decay)(means, values, 0)
    for mean, value in pairs:
        if not mean.dtype.is_floating_point:
            # Counters are integers, of which no mean is taken.
            mean.copy_(value)
