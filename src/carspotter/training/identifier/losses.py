"""Losses of the identifier: logits and targets in, one number a photo out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def node_log_probability(logits: Tensor, members: Tensor) -> Tensor:
    """Return the log of the summed probability (n,) of the classes that each photo may be.

    `logits` (n, c); `members` (n, c) marks these classes: one for a photo labelled down to its class, all of its make
    where only that is known.
    """
    return torch.logsumexp(F.log_softmax(logits, dim=1).masked_fill(~members, -torch.inf), dim=1)


def hierarchical_cross_entropy(
    logits: Tensor, members: Tensor, parents: Tensor, *, smoothing: float, weight: float
) -> Tensor:
    """Return each photo's cross-entropy (n,), with that of the parents, whose probability is the sum of their classes'.

    `members` (n, c) marks the classes that a photo may be, all of one parent; `parents` (c,) is the parent of each
    class; `smoothing` is spread over all classes. A confusion within a make costs less than one between makes.
    """
    log_probabilities = F.log_softmax(logits, dim=1)
    # A photo known down to its make is right with any class of it: their probabilities are summed, not averaged.
    of_node = torch.logsumexp(log_probabilities.masked_fill(~members, -torch.inf), dim=1)
    loss = -(1 - smoothing) * of_node - smoothing * log_probabilities.mean(dim=1)
    if weight == 0:
        return loss
    # All classes of a photo share a parent, so that the first of them names it.
    same = parents[None, :] == parents[members.int().argmax(dim=1)][:, None]  # (n, c)
    return loss - weight * torch.logsumexp(log_probabilities.masked_fill(~same, -torch.inf), dim=1)


def balanced_weights(counts: Tensor) -> Tensor:
    """Return what a photo of each label weighs (m,), by the count of photos of each (m,).

    scikit-learn's `class_weight="balanced"`, photos / (labels that occur * photos of the label): 1 on average.
    """
    return counts.sum() / ((counts > 0).sum() * counts.clamp(min=1)).float()


def kept(logits: Tensor, before: Tensor, parents: Tensor) -> Tensor:
    """Return the cross-entropy (n,) at the level of the parents against what was said before, both logits (n, c).

    A network that knows parents of which there are no photos must not forget them.
    """
    # Probabilities of classes are summed to those of their parents on both sides.
    empty = logits.new_zeros(len(logits), int(parents.max()) + 1)
    now, then = (empty.index_add(1, parents, each.softmax(1)) for each in (logits, before))
    return -(then * now.clamp_min(1e-8).log()).sum(dim=1)


def distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return each photo's cross-entropy (n,) to a teacher's probabilities (n, c), both softened by `temperature`.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; times its square, so that gradients
    keep their size. A row of zeros has no teacher and costs nothing.
    """
    # A temperature on probabilities is a power of them: the same as dividing the logits by it.
    soft = teacher.clamp_min(1e-8).pow(1 / temperature)
    soft = soft / soft.sum(dim=1, keepdim=True) * (teacher.sum(dim=1, keepdim=True) > 0)
    return -(soft * F.log_softmax(logits / temperature, dim=1)).sum(dim=1) * temperature**2
