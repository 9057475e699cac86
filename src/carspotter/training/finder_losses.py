"""Losses of the finder: raw outputs and labels in, numbers out.

In: FinderOutput and FinderTargets for the same pictures. Out: one loss for each thing told. It knows no training loop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.training.finder_model import FinderOutput

# The middle part of a box, in each direction, whose cells speak for the vehicle (FCOS's centre sampling).
CENTER = 0.4
# A box that is smaller than a cell's stride still gets the cells within this many pixels of its middle.
LEAST_REACH = 10.0
# Exponent of the quality focal loss (Li et al., Generalized Focal Loss, 2020).
FOCUS = 2.0
KIND_SMOOTHING = 0.05


class FinderTargets(NamedTuple):
    """Labels of n pictures with at most m boxes.

    kind (n,), -1 unknown; boxes (n, m, 4) in pixels; views (n, m, 8), 1 for the viewpoints that a label allows, all 0
    when unknown; role (n, m): 0 no box, 1 vehicle, 2 ignored; boxes_known (n,).
    """

    kind: Tensor
    boxes: Tensor
    views: Tensor
    role: Tensor
    boxes_known: Tensor


class FinderLosses(NamedTuple):
    """Mean losses of a batch, each a scalar."""

    kind: Tensor
    score: Tensor
    box: Tensor
    viewpoint: Tensor


def finder_losses(output: FinderOutput, targets: FinderTargets, centers: Tensor) -> FinderLosses:
    """Compute the losses; `centers` (a, 2) are the middles of the cells in pixels."""
    owner = assign(targets, centers)  # (n, a): index of the vehicle, -1 background, -2 not asked
    photo, cell = torch.nonzero(owner >= 0, as_tuple=True)
    vehicle = owner[photo, cell]
    weight = _vehicle_weights(photo, vehicle, targets.role.shape[1])
    wanted = targets.boxes[photo, vehicle]
    overlap, box_loss = distance_iou(output.boxes[photo, cell], wanted)
    quality = torch.zeros_like(output.scores)
    quality[photo, cell] = overlap.detach().clamp(0, 1).to(quality.dtype)
    return FinderLosses(
        kind=_kind_loss(output.kind, targets.kind),
        score=_score_loss(output.scores, quality, owner),
        box=(weight * box_loss).sum() / weight.sum().clamp(min=1),
        viewpoint=_viewpoint_loss(output.viewpoints[photo, cell], targets.views[photo, vehicle], weight),
    )


def assign(targets: FinderTargets, centers: Tensor) -> Tensor:
    """Return for each cell (n, a) which vehicle it speaks for, -1 for none, -2 where nothing may be asked.

    A cell in the middle of several vehicles speaks for the smallest: the larger ones have other cells.
    """
    boxes = targets.boxes[:, None]  # (n, 1, m, 4)
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    away = (centers[None, :, None] - middle).abs()  # (n, a, m, 2)
    is_vehicle, is_ignored = (targets.role == 1)[:, None], (targets.role == 2)[:, None]
    central = (away <= (half * CENTER).clamp(min=LEAST_REACH)).all(-1) & is_vehicle
    area = (half[..., 0] * half[..., 1]).expand(central.shape).masked_fill(~central, torch.inf)
    owner = area.argmin(-1) if central.shape[-1] else centers.new_zeros(central.shape[:2], dtype=torch.long)
    owner = torch.where(central.any(-1), owner, -1)
    ignored = ((away <= half).all(-1) & is_ignored).any(-1) | ~targets.boxes_known[:, None]
    return torch.where(ignored & (owner < 0), -2, owner)


def distance_iou(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return overlap (k,) and DIoU loss (k,) of box pairs (k, 4): 1 - IoU + how far the middles are apart.

    Zheng et al., Distance-IoU Loss, 2020.
    """
    low, high = torch.maximum(boxes[:, :2], wanted[:, :2]), torch.minimum(boxes[:, 2:], wanted[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (wanted[:, 2:] - wanted[:, :2]).prod(1) - shared
    overlap = shared / union.clamp(min=1e-6)
    around = torch.maximum(boxes[:, 2:], wanted[:, 2:]) - torch.minimum(boxes[:, :2], wanted[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - wanted[:, :2] - wanted[:, 2:]).square().sum(1) / 4
    return overlap, 1 - overlap + apart / around.square().sum(1).clamp(min=1e-6)


def _vehicle_weights(photo: Tensor, vehicle: Tensor, n_boxes: int) -> Tensor:
    """Return a weight (k,) for each cell, so that each vehicle counts as one, however many cells it has."""
    key = photo * n_boxes + vehicle
    _, inverse, counts = torch.unique(key, return_inverse=True, return_counts=True)
    return torch.reciprocal(counts[inverse].float())


def _kind_loss(logits: Tensor, kind: Tensor) -> Tensor:
    loss = F.cross_entropy(logits, kind, ignore_index=-1, label_smoothing=KIND_SMOOTHING, reduction="sum")
    return loss / (kind >= 0).sum().clamp(min=1)


def _score_loss(scores: Tensor, quality: Tensor, owner: Tensor) -> Tensor:
    """Ask a vehicle's cells for their box's overlap and the background for 0, the wronger the louder."""
    loss = F.binary_cross_entropy_with_logits(scores, quality, reduction="none")
    loss = loss * (quality - scores.sigmoid()).abs().pow(FOCUS)
    return torch.sum(loss[owner >= -1]) / (owner >= 0).sum().clamp(min=1)


def _viewpoint_loss(logits: Tensor, allowed: Tensor, weight: Tensor) -> Tensor:
    """Ask for the sum of the probabilities that the label allows."""
    known = allowed.sum(1) > 0
    log_probabilities = F.log_softmax(logits[known], dim=1)
    hit = torch.logsumexp(log_probabilities.masked_fill(allowed[known] == 0, -1e4), dim=1)
    return -(weight[known] * hit).sum() / weight[known].sum().clamp(min=1)
