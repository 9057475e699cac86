"""Losses of the finder: raw outputs and labels in, numbers out.

In: FinderOutput and FinderTargets for the same pictures. Out: one loss for each output. It knows no training loop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.training.finder.model import FinderOutput

# A box that is smaller than a cell still gets the cells within this many pixels of its middle.
LEAST_REACH = 6.0
# Cells that speak for a vehicle, and how much a cell's score and its overlap speak for it (Feng et al., TOOD, 2021, as
# YOLOv8 has them).
CELLS, SCORE_POWER, OVERLAP_POWER = 9, 0.5, 6.0
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
    # Which cell predicts which vehicle changes while the network learns; it is decided again for each batch.
    owner, quality = assign(output, targets, centers)
    photo, cell = torch.nonzero(owner >= 0, as_tuple=True)
    vehicle = owner[photo, cell]
    weight = _vehicle_weights(photo, vehicle, targets.role.shape[1])
    # Box and viewpoint are asked of a vehicle's own cells alone, the score of all.
    _, box_loss = distance_iou(output.boxes[photo, cell], targets.boxes[photo, vehicle])
    return FinderLosses(
        kind=_kind_loss(output.kind, targets.kind),
        score=_score_loss(output.scores, quality, owner),
        box=(weight * box_loss).sum() / weight.sum().clamp(min=1),
        viewpoint=_viewpoint_loss(output.viewpoints[photo, cell], targets.views[photo, vehicle], weight),
    )


@torch.no_grad()
def assign(output: FinderOutput, targets: FinderTargets, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell (n, a) the vehicle that it predicts, and the score (n, a) that it should have.

    -1 is no vehicle, -2 leaves the cell out. A vehicle is predicted by the CELLS inside of it that fit best already;
    one that fits several predicts the vehicle that it overlaps most. The best cell should score its overlap, others
    less.
    """
    boxes = targets.boxes[:, None]  # (n, 1, m, 4)
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    away = (centers[None, :, None] - middle).abs()  # (n, a, m, 2)
    is_vehicle, is_ignored = (targets.role == 1)[:, None], (targets.role == 2)[:, None]
    # Only cells whose middle lies in the box may speak for it; of a tiny box those near its middle.
    inside = (away <= half.clamp(min=LEAST_REACH)).all(-1) & is_vehicle
    overlap = overlaps(output.boxes[:, :, None], boxes) * inside
    # A cell fits where it is sure and its box is good: both are needed, the box above all.
    fit = output.scores.sigmoid()[..., None].pow(SCORE_POWER) * overlap.pow(OVERLAP_POWER)
    ranked = torch.where(inside, fit, -1.0)
    # The ninth best fit of each vehicle is the bar; cells outside were set to -1 and never pass.
    least = ranked.topk(min(CELLS, ranked.shape[1]), dim=1).values[:, -1:]
    chosen = inside & (ranked >= least)
    # Where boxes of two vehicles overlap, a cell goes to the one that its own box matches better.
    owner = torch.where(chosen, overlap, -1.0).argmax(-1)
    owner = torch.where(chosen.any(-1), owner, -1)
    # Scaled so that the best cell of a vehicle should score its overlap: scores then rank boxes by how good they are.
    best = overlap.amax(1, keepdim=True) / fit.amax(1, keepdim=True).clamp(min=1e-9)
    quality = (fit * best).gather(2, owner.clamp(min=0)[..., None])[..., 0] * (owner >= 0)
    # Background inside an ignored box, or on a photo whose boxes are not all known, is asked nothing.
    ignored = ((away <= half).all(-1) & is_ignored).any(-1) | ~targets.boxes_known[:, None]
    return torch.where(ignored & (owner < 0), -2, owner), quality.clamp(0, 1)


def overlaps(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Return the overlaps (intersection over union) of boxes (..., 4), broadcast against each other."""
    low, high = torch.maximum(boxes[..., :2], wanted[..., :2]), torch.minimum(boxes[..., 2:], wanted[..., 2:])
    # Sides that do not meet are negative, and two of them would make an area.
    shared = (high - low).clamp(min=0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (wanted[..., 2:] - wanted[..., :2]).prod(-1) - shared
    return shared / union.clamp(min=1e-6)


def distance_iou(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return overlap (k,) and DIoU loss (k,) of box pairs (k, 4): 1 - IoU + how far the middles are apart.

    Zheng et al., Distance-IoU Loss, 2020.
    """
    overlap = overlaps(boxes, wanted)
    # The smallest box around both: it measures the distance of the middles free of scale.
    around = torch.maximum(boxes[:, 2:], wanted[:, 2:]) - torch.minimum(boxes[:, :2], wanted[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - wanted[:, :2] - wanted[:, 2:]).square().sum(1) / 4
    return overlap, 1 - overlap + apart / around.square().sum(1).clamp(min=1e-6)


def _vehicle_weights(photo: Tensor, vehicle: Tensor, n_boxes: int) -> Tensor:
    """Return a weight (k,) for each cell, so that each vehicle counts as one, however many cells it has."""
    # One number for each vehicle of the batch, to count its cells.
    key = photo * n_boxes + vehicle
    _, inverse, counts = torch.unique(key, return_inverse=True, return_counts=True)
    return torch.reciprocal(counts[inverse].float())


def _kind_loss(logits: Tensor, kind: Tensor) -> Tensor:
    loss = F.cross_entropy(logits, kind, ignore_index=-1, label_smoothing=KIND_SMOOTHING, reduction="sum")
    return loss / (kind >= 0).sum().clamp(min=1)


def _score_loss(scores: Tensor, quality: Tensor, owner: Tensor) -> Tensor:
    """Ask a vehicle's cells for their box's overlap and the background for 0, the wronger the louder."""
    loss = F.binary_cross_entropy_with_logits(scores, quality, reduction="none")
    # Cells that are right already fade out: tens of thousands of empty ones would drown the few that matter.
    loss = loss * (quality - scores.sigmoid()).abs().pow(FOCUS)
    return torch.sum(loss[owner >= -1]) / (owner >= 0).sum().clamp(min=1)


def _viewpoint_loss(logits: Tensor, allowed: Tensor, weight: Tensor) -> Tensor:
    """Ask for the sum of the probabilities that the label allows."""
    known = allowed.sum(1) > 0
    log_probabilities = F.log_softmax(logits[known], dim=1)
    # A label may allow several sides ("front-side": left or right); any of them is right.
    hit = torch.logsumexp(log_probabilities.masked_fill(allowed[known] == 0, -1e4), dim=1)
    return -(weight[known] * hit).sum() / weight[known].sum().clamp(min=1)
