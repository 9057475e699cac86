"""The finder's network: a backbone of timm, a kind for the whole photo, and a vehicle or none for each cell of a grid.

In: pixels 0…255 (n, 3, h, w). Out: FinderOutput, raw, or by `finder_export_module` the bundle's named outputs. The
normalisation sits inside. It needs a backbone built of `conv_stem`, `bn1`, `blocks`, `conv_head`, `bn2`, as timm's
EfficientNets are.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carspotter.errors import RecipeError
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.model import Freezable, stages_of

STRIDE = 16
"""Pixels of a cell's side: a car of 40 pixels still has one cell of its own, and a grid of 256 x 192 only 192 cells."""
WIDTH = 128
"""Channels of the head: over 0.2 million weights and 1 ms on one core in all."""
# Before training a box reaches four cells to each side, half of a usual car in a usual photo.
_FIRST_REACH = 4.0
# Before training every cell says 0.01, so that the many empty cells do not drown the first steps (focal loss, 3.3).
_FIRST_SCORE = -4.6


class FinderOutput(NamedTuple):
    """Raw outputs for n photos and a cells, row by row: logits, and corners in pixels of the input."""

    kind: Tensor  # (n, 4)
    scores: Tensor  # (n, a)
    boxes: Tensor  # (n, a, 4)
    viewpoints: Tensor  # (n, a, 8)


class Finder(Freezable):
    """Tell a photo's kind and, for each cell of `STRIDE` pixels, the vehicle whose middle lies there."""

    def __init__(self, backbone: nn.Module, *, dropout: float = 0.0) -> None:
        super().__init__()
        for name in ("conv_stem", "bn1", "blocks", "conv_head", "bn2"):
            if not hasattr(backbone, name):
                raise RecipeError(f"model.backbone: it has no {name!r}; a finder needs an EfficientNet of timm")
        self.backbone = backbone
        fine, coarse = _channels(backbone)
        # Named before the convolutions: a norm right after one would look as if it were that one's alone.
        self.fused = nn.BatchNorm2d(WIDTH)
        self.fine = nn.Conv2d(fine, WIDTH, 1, bias=False)
        self.coarse = nn.Conv2d(coarse, WIDTH, 1, bias=False)
        self.where = nn.Sequential(_mix(WIDTH), _mix(WIDTH))
        self.side = nn.Sequential(_mix(WIDTH), _mix(WIDTH))
        self.score = nn.Conv2d(WIDTH, 1, 1)
        self.reach = nn.Conv2d(WIDTH, 4, 1)
        self.viewpoint = nn.Conv2d(WIDTH, len(VIEWPOINTS), 1)
        self.dropout = nn.Dropout(dropout)
        self.kind = nn.Linear(int(cast(nn.Conv2d, backbone.conv_head).out_channels), len(KINDS))
        for layer in (self.score, self.reach, self.viewpoint, self.kind):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.constant_(cast(Tensor, self.score.bias), _FIRST_SCORE)
        nn.init.constant_(cast(Tensor, self.reach.bias), float(torch.tensor(_FIRST_REACH).log()))

    def forward(self, pixels: Tensor) -> FinderOutput:
        fine, coarse = self._features(pixels / 127.5 - 1)
        up = F.interpolate(self.coarse(coarse), size=fine.shape[-2:], mode="nearest")
        fused = F.relu6(self.fused(self.fine(fine) + up))
        where, side = self.where(fused), self.side(fused)
        boxes = _corners(self.reach(where).clamp(-4, 4).exp() * STRIDE)
        pooled = self.backbone.bn2(self.backbone.conv_head(coarse)).mean((2, 3))  # type: ignore[operator]
        return FinderOutput(
            kind=self.kind(self.dropout(pooled)),
            scores=self.score(where).flatten(1),
            boxes=boxes,
            viewpoints=self.viewpoint(side).flatten(2).transpose(1, 2),
        )

    def _features(self, normalized: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at strides 16 and 32."""
        features, fine = normalized, normalized
        stages = stages_of(self.backbone)
        if self.training and self._fast_frozen:
            features = self.pass_frozen(features)
            stages = stages[len(self._fast_frozen) :]
        for stage in stages:
            features = stage(features)
            if normalized.shape[-1] // features.shape[-1] <= STRIDE:
                fine = features
        return fine, features


class _Exported(nn.Module):
    """Take photos as a bundle does and give the bundle's outputs; boxes relative to the input."""

    def __init__(self, model: Finder) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        height, width = image.shape[1:3]
        output = self.model(image.permute(0, 3, 1, 2).float())
        relative = output.boxes / torch.tensor([width, height, width, height], dtype=torch.float32)
        return output.kind.softmax(1), output.scores.sigmoid(), relative.clamp(0, 1), output.viewpoints.softmax(2)


EXPORT_OUTPUTS = ("kind", "scores", "boxes", "viewpoints")


def finder_export_module(model: nn.Module) -> nn.Module:
    """Wrap a trained finder: `image` uint8 (n, h, w, 3) in; EXPORT_OUTPUTS out, in this order."""
    return _Exported(cast(Finder, model)).eval()


def cell_centers(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the middles (a, 2) as x, y in pixels of a grid of `height` x `width` cells, row by row."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2).float() + 0.5) * STRIDE


def _corners(reach: Tensor) -> Tensor:
    """Return corners (n, a, 4) from the distances (n, 4, h, w) of each cell's middle to left, top, right, bottom."""
    centers = cell_centers(reach.shape[2], reach.shape[3], reach.device)
    distances = reach.flatten(2).transpose(1, 2)
    return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)


def _mix(width: int) -> nn.Sequential:
    """Return a depthwise-separable convolution, which sees 5 x 5 cells."""
    return nn.Sequential(
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )


def _channels(backbone: nn.Module) -> tuple[int, int]:
    """Return the channels at stride 16 and at the end."""
    with torch.no_grad():
        features = fine = torch.zeros(1, 3, 64, 64)
        for stage in stages_of(backbone.eval()):
            features = stage(features)
            if 64 // features.shape[-1] <= STRIDE:
                fine = features
    return int(fine.shape[1]), int(features.shape[1])
