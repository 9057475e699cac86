"""Losses of the identifier: logits and targets in, one number out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hierarchical_cross_entropy(
    logits: Tensor, targets: Tensor, parents: Tensor, *, smoothing: float, weight: float
) -> Tensor:
    """Add to the classes' cross-entropy that of their parents, whose probability is the sum of their classes'.

    `logits` (n, c), `targets` (n,), `parents` (c,) the parent of each class; `smoothing` is spread over all classes.
    A confusion within a make costs less than one between makes, and both levels come from one set of logits.
    """
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    if weight == 0:
        return loss
    log_probabilities = F.log_softmax(logits, dim=1)
    same = parents[None, :] == parents[targets][:, None]  # (n, c)
    of_parent = torch.logsumexp(log_probabilities.masked_fill(~same, -torch.inf), dim=1)
    return loss - weight * of_parent.mean()
