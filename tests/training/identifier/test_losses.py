"""Losses against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from carspotter.training.identifier import losses

PARENTS = torch.tensor([0, 0, 1])
CLASSES = torch.eye(3, dtype=torch.bool)


def hierarchical(logits: torch.Tensor, members: torch.Tensor, *, smoothing: float, weight: float) -> torch.Tensor:
    return losses.hierarchical_cross_entropy(logits, members, PARENTS, smoothing=smoothing, weight=weight)


def test_without_weight_it_is_cross_entropy() -> None:
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    found = hierarchical(logits, CLASSES[targets], smoothing=0.1, weight=0)
    wanted = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_parents_part_is_the_sum_of_the_classes() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    found = hierarchical(logits, CLASSES[[1]], smoothing=0, weight=0.5)
    wanted = -torch.log(torch.tensor(0.3)) - 0.5 * torch.log(torch.tensor(0.8))
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_a_photo_of_which_only_the_make_is_known_may_be_any_class_of_it() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).requires_grad_()
    make = torch.tensor([[True, True, False]])
    loss = hierarchical(logits, make, smoothing=0, weight=0)
    assert loss.item() == pytest.approx(-torch.log(torch.tensor(0.8)).item(), abs=1e-6)
    loss.sum().backward()
    assert logits.grad is not None
    # Both classes of the make gain in proportion to what they have, so that nothing is taught within the make.
    assert (logits.grad[0, 0] / logits.grad[0, 1]).item() == pytest.approx(0.5 / 0.3, abs=1e-4)


def test_a_confusion_within_a_make_costs_less() -> None:
    within, across = torch.tensor([[0.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    found = [hierarchical(x, CLASSES[[0]], smoothing=0, weight=0.2) for x in (within, across)]
    assert found[0] < found[1]


def test_gradients_are_finite_for_certain_logits() -> None:
    logits = torch.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    hierarchical(logits, CLASSES[[2]], smoothing=0.1, weight=0.2).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_distillation_is_least_for_the_teachers_answer() -> None:
    teacher = torch.tensor([[0.7, 0.2, 0.1]])
    same, other = (losses.distillation(x.log(), teacher, temperature=1) for x in (teacher, teacher.flip(1)))
    entropy = -(teacher * teacher.log()).sum()
    assert same.item() == pytest.approx(entropy.item(), abs=1e-5)
    assert other > same
    assert losses.distillation(teacher.log(), torch.zeros(1, 3), temperature=2).item() == 0
