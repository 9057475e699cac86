"""Networks of the identifier: a backbone of timm with one linear head; uint8-ranged pixels in, logits out.

Normalisation sits inside the network, so that no runtime can get it wrong.
"""

from __future__ import annotations

import copy
import os
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from carspotter.errors import RecipeError, suggestion
from carspotter.training.recipe import ModelSettings, Recipe, TrainSettings


class Freezable(nn.Module):
    """Hold a `backbone` of timm whose first stages may stand still while the rest learns."""

    backbone: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.n_frozen = 0
        self._fast_frozen: list[nn.Module] = []

    def freeze(self, stages: int) -> None:
        """Keep the stem and the first `stages` stages as they are; their batch statistics stand still, too."""
        for module in self._frozen_stages():
            module.requires_grad_(True)
        self.n_frozen = stages
        for module in self._frozen_stages():
            module.requires_grad_(False)
        self.train(self.training)
        # A plain list: the copies are no part of the state that is saved, averaged or exported.
        self._fast_frozen = [fuse_norms(module) for module in self._frozen_stages()]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen_stages():
            module.eval()
        return self

    def pass_frozen(self, normalized: Tensor) -> Tensor:
        """Pass pixels through the frozen stages, without gradients and with their norms folded in."""
        with torch.no_grad():
            for stage in self._fast_frozen:
                normalized = stage(normalized)
        return normalized

    def _frozen_stages(self) -> list[nn.Module]:
        return stages_of(self.backbone)[: self.n_frozen + 1] if self.n_frozen else []


class Identifier(Freezable):
    """Classify crops: floats (n, 3, h, w) in 0…255 to logits (n, n_classes); `embed` gives what the head reads."""

    def __init__(self, backbone: nn.Module, n_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(cast(int, backbone.num_features)), n_classes)
        self.register_buffer("mean", _statistic(backbone, "mean"), persistent=False)
        self.register_buffer("std", _statistic(backbone, "std"), persistent=False)

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the pooled features (n, d), not normalised."""
        normalized = (pixels - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        if not (self.training and self._fast_frozen):
            return cast(Tensor, self.backbone(normalized))
        backbone = cast(Any, self.backbone)
        features = self.pass_frozen(normalized)
        features = backbone.bn2(backbone.conv_head(backbone.blocks[self.n_frozen :](features)))
        return cast(Tensor, backbone.forward_head(features, pre_logits=True))

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.dropout(self.embed(pixels))))


def build_identifier(settings: ModelSettings, recipe: Recipe, n_classes: int) -> Identifier:
    """Make the network of a recipe, with its first weights. Raises RecipeError."""
    backbone = load_backbone(settings, recipe)
    model = Identifier(backbone, n_classes, dropout=settings.dropout)
    nn.init.normal_(model.head.weight, std=0.01)
    nn.init.zeros_(model.head.bias)
    return model


def load_backbone(settings: ModelSettings, recipe: Recipe) -> nn.Module:
    """Make a backbone of timm without its classifier and load `settings.weights` into it. Raises RecipeError."""
    if settings.backbone not in timm.list_models():
        raise RecipeError(
            f"model.backbone: {settings.backbone!r} is unknown; {suggestion(settings.backbone, timm.list_models())}"
        )
    backbone = timm.create_model(settings.backbone, num_classes=0)
    if settings.weights:
        from safetensors.torch import load_file

        path = find_weights(settings.weights, recipe)
        missing = backbone.load_state_dict(load_file(path), strict=False).missing_keys
        lacking = [key for key in missing if not key.endswith("num_batches_tracked")]
        if lacking:
            raise RecipeError(
                f"model.weights: {path} lacks {len(lacking)} weights of {settings.backbone}, as {lacking[0]}"
            )
    return backbone


def find_weights(name: str, recipe: Recipe) -> Path:
    """Look for a weights file beside the recipe, then in $CARSPOTTER_WEIGHTS. Raises RecipeError."""
    places = [recipe.path(name), Path(os.environ.get("CARSPOTTER_WEIGHTS", ".")) / name]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise RecipeError(f"model.weights: no file {looked}; put it there, set CARSPOTTER_WEIGHTS or leave weights empty")


def stages_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the stem and the stages, in the order in which pixels pass. Raises RecipeError where it has none."""
    if not all(hasattr(backbone, name) for name in ("conv_stem", "bn1", "blocks")):
        raise RecipeError(f"phases.frozen: {type(backbone).__name__} has no stages to freeze; use 0")
    stem = nn.Sequential(cast(nn.Module, backbone.conv_stem), cast(nn.Module, backbone.bn1))
    return [stem, *cast(nn.Sequential, backbone.blocks)]


def parameter_groups(model: nn.Module, settings: TrainSettings) -> list[dict[str, object]]:
    """Group parameters: no decay for norms and biases, a higher learning rate for all but the `backbone`."""
    groups: list[dict[str, object]] = []
    for is_new in (False, True):
        for has_decay in (False, True):
            chosen = [
                weights
                for name, weights in model.named_parameters()
                if name.startswith("backbone.") != is_new and (weights.ndim > 1) == has_decay
            ]
            scale, decay = settings.head_lr if is_new else 1.0, settings.weight_decay if has_decay else 0.0
            groups.append({"params": chosen, "lr_scale": scale, "weight_decay": decay})
    return groups


def fuse_norms(module: nn.Module) -> nn.Module:
    """Return a copy in which each convolution has taken in the batch norm after it; for stages that stand still.

    On a CPU a pass over the pixels for the norm costs about as much as a small convolution.
    """
    fused = copy.deepcopy(module).eval()
    for parent in fused.modules():
        names = [name for name, _ in parent.named_children()]
        for name, following in pairwise(names):
            convolution, norm = getattr(parent, name), getattr(parent, following)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, following, getattr(norm, "act", nn.Identity()))
    return fused


def _statistic(backbone: nn.Module, name: str) -> Tensor:
    config = cast(dict[str, tuple[float, ...]], getattr(backbone, "pretrained_cfg", {}) or {})
    values = config.get(name) or (0.5, 0.5, 0.5)
    return torch.tensor(values).view(1, 3, 1, 1) * 255
