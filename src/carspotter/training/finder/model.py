"""The finder's network: a backbone of timm, a kind for the whole photo, and a vehicle or none for each cell of grids.

In: pixels 0…255 (n, 3, h, w). Out: FinderOutput, raw, or by `finder_export_module` the bundle's named outputs. The
normalisation sits inside. It needs a backbone built of `conv_stem`, `bn1`, `blocks`, as timm's MobileNets and
EfficientNets are.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carspotter.errors import RecipeError
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.identifier.model import Freezable, stages_of

STRIDES = (8, 16, 32)
"""Pixels of a cell's side on each grid: a car of 12 pixels has a cell of its own, one that fills the photo many."""
WIDTH = 96
"""Channels of the head: 0.2 million weights, and 1.5 ms on one core in all."""
# Convolutions of a grid's head, one for a box and for a viewpoint each: the finest grid has most of the cells, and what
# stands there is small and near.
DEPTHS = (1, 2, 2)
# Before training a box reaches two cells to each side.
_FIRST_REACH = 2.0
# Before training every cell says 0.01, so that the many empty cells do not drown the first steps (focal loss, 3.3).
_FIRST_SCORE = -4.6


class FinderOutput(NamedTuple):
    """Raw outputs for n photos and a cells, grid by grid and row by row: logits, and corners in pixels of the input."""

    kind: Tensor  # (n, 4)
    scores: Tensor  # (n, a)
    boxes: Tensor  # (n, a, 4)
    viewpoints: Tensor  # (n, a, 8)


class Finder(Freezable):
    """Predict a photo's kind and, for each cell of each grid, the vehicle whose middle lies near."""

    def __init__(self, backbone: nn.Module, *, dropout: float = 0.0) -> None:
        super().__init__()
        for name in ("conv_stem", "bn1", "blocks"):
            if not hasattr(backbone, name):
                raise RecipeError(f"model.backbone: it has no {name!r}; a finder needs a MobileNet of timm")
        # What only a classifier would read costs time and learns nothing here.
        for name in ("conv_head", "norm_head", "bn2"):  # only a classifier would read them
            if hasattr(backbone, name):
                setattr(backbone, name, nn.Identity())
        self.backbone = backbone
        self._ends, channels = _ends(self.backbone)
        # Named before the convolutions: a norm right after one would look as if it were that one's alone.
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in STRIDES[:-1])
        self.sides = nn.ModuleList(nn.Conv2d(count, WIDTH, 1, bias=False) for count in channels[:-1])
        coarsest = nn.Conv2d(channels[-1], WIDTH, 1, bias=False)
        self.context = nn.Sequential(coarsest, nn.BatchNorm2d(WIDTH), nn.ReLU6(), *_mix(WIDTH))
        self.grids = nn.ModuleList(_Grid(stride, depth) for stride, depth in zip(STRIDES, DEPTHS, strict=True))
        self.dropout = nn.Dropout(dropout)
        self.kind = nn.Linear(channels[-1] + 2 * WIDTH, len(KINDS))
        nn.init.normal_(self.kind.weight, std=0.01)
        nn.init.zeros_(self.kind.bias)

    def forward(self, pixels: Tensor) -> FinderOutput:
        # 0…255 becomes -1…1 inside of the network, so that no caller can get it wrong.
        features = self._features(pixels / 127.5 - 1)
        fused = self._fuse(features)
        parts = [grid(level) for grid, level in zip(self.grids, fused, strict=True)]
        scores, boxes, viewpoints = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        kind = self.kind(self.dropout(_of_photo(features[-1], fused[-1])))
        return FinderOutput(kind, scores, boxes, viewpoints)

    def pooled(self, pixels: Tensor) -> Tensor:
        """Return what the layer `kind` reads (n, d)."""
        last = self._features(pixels / 127.5 - 1)[-1]
        return _of_photo(last, self.context(last))

    def _fuse(self, features: list[Tensor]) -> list[Tensor]:
        """Give each grid's features, finest first, what the coarser ones know."""
        # From the coarsest, which sees the whole photo, down to the finest, which sees where edges are.
        fused = [self.context(features[-1])]
        for side, norm, own in reversed(list(zip(self.sides, self.norms, features[:-1], strict=True))):
            mixed = side(own)
            # Nearest neighbours: it is exact in every engine, and a convolution follows.
            mixed = mixed + F.interpolate(fused[0], size=mixed.shape[-2:], mode="nearest")
            fused.insert(0, F.relu6(norm(mixed)))
        return fused

    def _features(self, normalized: Tensor) -> list[Tensor]:
        """Return the features of each stride, the last before it is left."""
        features, found = normalized, []
        for stage in stages_of(self.backbone):
            features = stage(features)
            found.append(features)
        return [found[end] for end in self._ends]


class _Grid(nn.Module):
    """Predict score, corners and viewpoint for each cell of one stride."""

    def __init__(self, stride: int, depth: int) -> None:
        super().__init__()
        self.stride = stride
        self.where = nn.Sequential(*(_mix(WIDTH) for _ in range(depth)))
        self.side = nn.Sequential(*(_mix(WIDTH) for _ in range(depth)))
        self.score = nn.Conv2d(WIDTH, 1, 1)
        self.reach = nn.Conv2d(WIDTH, 4, 1)
        self.viewpoint = nn.Conv2d(WIDTH, len(VIEWPOINTS), 1)
        for layer in (self.score, self.reach, self.viewpoint):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.constant_(cast(Tensor, self.score.bias), _FIRST_SCORE)
        nn.init.constant_(cast(Tensor, self.reach.bias), float(torch.tensor(_FIRST_REACH).log()))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        where = self.where(features)
        # exp keeps distances positive; the clamp keeps a wild first step from overflowing.
        distances = (self.reach(where).clamp(-4, 4).exp() * self.stride).flatten(2).transpose(1, 2)
        centers = _centers(features.shape[2], features.shape[3], self.stride, features.device)
        # Distances of the four sides from the cell's middle, so that every cell may draw any box around itself.
        boxes = torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)
        return self.score(where).flatten(1), boxes, self.viewpoint(self.side(features)).flatten(2).transpose(1, 2)


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


def finder_export_module(model: nn.Module) -> nn.Module:
    """Wrap a trained finder: `image` uint8 (n, h, w, 3) in; kind, scores, boxes and viewpoints out."""
    return _Exported(cast(Finder, model)).eval()


def cell_centers(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the middles (a, 2), as x, y, of all cells of a picture of `height` x `width` pixels, as FinderOutput has.

    A side that is no multiple of a stride has a cell for the rest, as the backbone has.
    """
    return torch.cat([_centers(-(-height // stride), -(-width // stride), stride, device) for stride in STRIDES])


def _centers(height: int, width: int, stride: int, device: torch.device | None) -> Tensor:
    """Return the middles (h * w, 2), in pixels, of a grid of `height` x `width` cells, row by row."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2).float() + 0.5) * stride


def _of_photo(last: Tensor, coarsest: Tensor) -> Tensor:
    """Return what a photo's kind is told by (n, d): the backbone's last stage, and the coarsest grid's features."""
    # Kinds do not teach the grid (detach): they would take its few channels from the boxes of small vehicles.
    coarsest = coarsest.detach()
    # The mean says what the photo is of, the largest value that something is there at all.
    return torch.cat([last.mean((2, 3)), coarsest.mean((2, 3)), coarsest.amax((2, 3))], dim=1)


def _mix(width: int) -> nn.Sequential:
    """Return a depthwise-separable convolution, which sees 5 x 5 cells."""
    return nn.Sequential(
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )


def _ends(backbone: nn.Module) -> tuple[list[int], list[int]]:
    """Return for each of STRIDES the last stage that has it, and its channels.

    Raises RecipeError where a stride is passed over.
    """
    ends: dict[int, int] = {}
    channels: list[int] = []
    with torch.no_grad():
        features = torch.zeros(1, 3, 64, 64)
        for number, stage in enumerate(stages_of(backbone.eval())):
            features = stage(features)
            # A later stage of the same stride replaces an earlier one: the last knows most.
            ends[64 // features.shape[-1]] = number
            channels.append(int(features.shape[1]))
    if not set(STRIDES) <= set(ends):
        raise RecipeError(f"model.backbone: its strides are {sorted(ends)}; a finder needs {STRIDES}")
    return [ends[stride] for stride in STRIDES], [channels[ends[stride]] for stride in STRIDES]
