"""Losses against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from carspotter.training.losses import hierarchical_cross_entropy

PARENTS = torch.tensor([0, 0, 1])


def test_without_weight_it_is_cross_entropy() -> None:
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    found = hierarchical_cross_entropy(logits, targets, PARENTS, smoothing=0.1, weight=0)
    assert found == F.cross_entropy(logits, targets, label_smoothing=0.1)


def test_the_parents_part_is_the_sum_of_the_classes() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    found = hierarchical_cross_entropy(logits, torch.tensor([1]), PARENTS, smoothing=0, weight=0.5)
    wanted = -torch.log(torch.tensor(0.3)) - 0.5 * torch.log(torch.tensor(0.8))
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_a_confusion_within_a_make_costs_less() -> None:
    target = torch.tensor([0])
    within, across = torch.tensor([[0.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    losses = [hierarchical_cross_entropy(x, target, PARENTS, smoothing=0, weight=0.2) for x in (within, across)]
    assert losses[0] < losses[1]


def test_gradients_are_finite_for_certain_logits() -> None:
    logits = torch.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    hierarchical_cross_entropy(logits, torch.tensor([2]), PARENTS, smoothing=0.1, weight=0.2).backward()
    assert torch.isfinite(logits.grad).all()
