"""Networks of the identifier: a backbone of timm with linear heads, from pixels in 0…255 to logits.

Normalisation sits inside the network, so that no runtime can get it wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carspotter.errors import RecipeError, suggestion
from carspotter.taxonomy import Taxonomy
from carspotter.training.layers import layers_of, still_layers
from carspotter.training.norms import are_folded, fuse_norms
from carspotter.training.recipe import ModelSettings, Recipe, TrainSettings
from carspotter.training.start import open_start, take_backbone, take_classes
from carspotter.training.weights import find_weights, load_weights, pretrained

PRETRAINED = "pretrained"
LOOKS, SURFACE = 4, 256
"""Places that the surface is seen at, and the features of all together."""
FURTHER = ("heads.", "surface.")
"""Begins the names of further heads' weights, and of those that only they read."""


class Freezable(nn.Module):
    """A `backbone` of timm whose first stages may stand still while the rest learns."""

    backbone: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.is_head_only = False
        self.at_least_frozen = 0
        """Stages that stand still in every phase, by `model.stages`."""
        self.still: list[nn.Module] = []
        """Layers that stand still in every phase, by `model.layers`."""
        self.n_frozen = 0
        self.has_fixed_norms = False
        """Batch norms of the backbone keep their statistics, by `model.norms`."""
        self._fast_frozen: list[nn.Module] = []

    def freeze(self, stages: int) -> None:
        """Keep the stem and the first `stages` stages as they are; their batch statistics stand still, too."""
        if self.is_head_only:
            return
        for module in self._frozen_stages():
            module.requires_grad_(True)
        # A phase may freeze more than `model.layers` and `model.stages` say, never less.
        self.n_frozen = max(stages, self.at_least_frozen)
        for module in self._frozen_stages():
            module.requires_grad_(False)
        for layer in self.still:
            # Its own weights alone: what it holds within it is a layer of its own.
            for weights in layer.parameters(recurse=False):
                weights.requires_grad_(False)
        self.train(self.training)
        # A plain list: the copies are no part of the state that is saved, averaged or exported.
        self._fast_frozen = [fuse_norms(module) for module in self._frozen_stages()] if self._has_fast_way else []

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen_stages():
            module.eval()
        for layer in self.still:
            layer.training = False
        if self.has_fixed_norms:
            for module in self.backbone.modules():
                # In eval mode a norm uses its stored statistics and updates none.
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        if not any(weights.requires_grad for weights in self.backbone.parameters()):
            self.backbone.eval()  # only the heads learn: batch statistics stand still as well
        return self

    @property
    def _has_fast_way(self) -> bool:
        """Return whether the frozen stages can be passed apart from the others, as those of an EfficientNet can."""
        return all(hasattr(self.backbone, name) for name in ("conv_stem", "blocks", "conv_head", "bn2"))

    def pass_frozen(self, normalized: Tensor) -> Tensor:
        """Pass pixels through the frozen stages, without gradients and with their norms folded in."""
        with torch.no_grad():
            # Copies without norms as layers of their own, which saves a pass over the memory of each.
            for stage in self._fast_frozen:
                normalized = stage(normalized)
        return normalized

    def _frozen_stages(self) -> list[nn.Module]:
        return stages_of(self.backbone)[: self.n_frozen + 1] if self.n_frozen else []


class Identifier(Freezable):
    """Classify crops: floats (n, 3, h, w) in 0…255 to logits (n, n_classes); `embed` gives what the heads read.

    `heads` are linear layers for further labels of a photo; `forward` returns the logits and those of each of them.
    """

    def __init__(
        self, backbone: nn.Module, n_classes: int, *, dropout: float = 0.0, heads: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        # MobileNets widen their features once more after pooling; `num_features` is the width before that.
        width = int(cast(int, getattr(backbone, "head_hidden_size", None) or backbone.num_features))
        self.head = nn.Linear(width, n_classes)
        # A column may be called like a method of torch, or have a dot in it: modules get names that cannot.
        self.head_names = {f"head_{name.replace('.', '_')}": name for name in heads or {}}
        self.width = width
        channels = stage_channels(backbone) if heads else []
        self.surface = Surface(channels[-1]) if heads else None
        # Two means of each stage: over the crop and over its middle.
        wide = width + 2 * sum(channels) + (SURFACE if heads else 0)
        self.heads = nn.ModuleDict({key: nn.Linear(wide, (heads or {})[name]) for key, name in self.head_names.items()})
        # Not in the state: they belong to the backbone's name, and a checkpoint could only contradict it.
        self.register_buffer("mean", _statistic(backbone, "mean"), persistent=False)
        self.register_buffer("std", _statistic(backbone, "std"), persistent=False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return pixels as the backbone takes them."""
        return (pixels - cast(Tensor, self.mean)) / cast(Tensor, self.std)

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the pooled features (n, d), not normalised."""
        normalized = self.normalize(pixels)
        if not torch.is_grad_enabled() or not any(weights.requires_grad for weights in self.backbone.parameters()):
            with torch.no_grad():
                return cast(Tensor, self.backbone(normalized))
        if not (self.training and self._fast_frozen):
            return cast(Tensor, self.backbone(normalized))
        backbone = cast(Any, self.backbone)
        features = self.pass_frozen(normalized)
        # The rest of an EfficientNet's own `forward_features`, from the first stage that learns.
        features = backbone.bn2(backbone.conv_head(backbone.blocks[self.n_frozen :](features)))
        return cast(Tensor, backbone.forward_head(features, pre_logits=True))

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.answer(self.dropout(self.details(pixels)))

    def details(self, pixels: Tensor) -> Tensor:
        """Return what the heads read (n, e): the pooled features and, with further heads, the means of each stage.

        A colour is seen in the first stages and forgotten in the last, since it names no make. Each stage gives its
        mean over the crop and over the middle half of it, where the vehicle is; `Surface` adds what it sees itself.
        """
        if self.surface is None:
            return self.embed(pixels)
        backbone = cast(Any, self.backbone)
        # A frozen backbone keeps no activations: most of the memory of a step.
        learns = torch.is_grad_enabled() and any(weights.requires_grad for weights in backbone.parameters())
        with torch.set_grad_enabled(learns):
            final, stages = backbone.forward_intermediates(self.normalize(pixels))
            features = backbone.forward_head(final, pre_logits=True)
        surface = self.surface(self.normalize(pixels), stages[-1])
        return torch.cat([features, *(_means(stage) for stage in stages), surface], dim=1)

    def answer(self, details: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits of the classes (n, n_classes) and those of the further heads, by name."""
        answers = {self.head_names[key]: head(details) for key, head in self.heads.items()}
        return self.head(details[:, : self.width]), answers


class Surface(nn.Module):
    """See colours with layers of its own, where the backbone's last stage looks: 3 M multiply-adds at 224 px.

    In: normalised pixels (n, 3, h, w) and a stage (n, c, h / 32, w / 32). Out: features (n, SURFACE).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layer(3, 24, 2), _layer(24, 48, 2), _layer(48, SURFACE // LOOKS, 1))
        self.look = nn.Conv2d(channels, LOOKS, 1)

    def forward(self, normalized: Tensor, stage: Tensor) -> Tensor:
        # A quarter of each side is enough for colours.
        height, width = stage.shape[2:]
        seen = F.adaptive_avg_pool2d(self.layers(F.avg_pool2d(normalized, 4)), (height, width)).flatten(2)
        # detach: colours must not teach the backbone to forget makes. Softmax over places: each look is a weighted
        # mean.
        looks: Tensor = self.look(stage.detach()).flatten(2).softmax(dim=2)  # (n, LOOKS, cells)
        return (looks @ seen.transpose(1, 2)).flatten(1)  # of each look, what is seen there: (n, LOOKS, d)


def _layer(channels: int, width: int, stride: int) -> nn.Sequential:
    """Return a convolution of 3 x 3 with its norm."""
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.Hardswish())


def _means(stage: Tensor) -> Tensor:
    """Return the means (n, 2c) of a stage (n, c, h, w), over all of it and over the middle half of each side."""
    top, left = stage.shape[2] // 4, stage.shape[3] // 4
    # A quarter off each side. At one cell nothing is cut, since 1 // 4 is 0.
    middle = stage[:, :, top : stage.shape[2] - top, left : stage.shape[3] - left]
    return torch.cat([stage.mean((2, 3)), middle.mean((2, 3))], dim=1)


def stage_channels(backbone: nn.Module) -> list[int]:
    """Return the channels of each stage of a backbone of timm. Raises RecipeError where it does not name them."""
    known = getattr(backbone, "feature_info", None)
    if known is None or not hasattr(backbone, "forward_intermediates"):
        raise RecipeError(f"model.heads: {type(backbone).__name__} does not show its stages; leave model.heads empty")
    return list(known.channels()) if hasattr(known, "channels") else [int(each["num_chs"]) for each in known]


def build_identifier(
    recipe: Recipe, taxonomy: Taxonomy, heads: Mapping[str, int], *, blank: bool = False
) -> Identifier:
    """Make the network of a recipe, with its first weights and further `heads` (words of each). Raises RecipeError.

    A `blank` one has random weights and reads no file: a checkpoint will fill it.
    """
    settings = recipe.model.without_weights() if blank else recipe.model
    backbone = load_backbone(settings)
    model = Identifier(backbone, len(taxonomy), dropout=settings.dropout, heads=heads)
    for head in (model.head, *cast(list[nn.Linear], list(model.heads.values()))):
        # Nearly nothing, so that all classes begin as likely and the first steps do not shake the backbone.
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    if settings.start:
        start = open_start(recipe)
        take_backbone(model, start)
        take_classes(model.head, start, taxonomy)
    choose_layers(model, recipe)
    return model


def choose_layers(model: Freezable, recipe: Recipe) -> None:
    """Choose what learns by `model.layers` and `model.stages` of a recipe; the heads always do.

    Norms of the backbone keep their statistics where `model.norms` says so. Raises RecipeError for a backbone
    without stages, or with fewer, or with fewer layers, for folded norms whose statistics would be learnt, and for
    phases that the backbone cannot learn by.
    """
    settings = recipe.model
    check_phases(recipe, model.backbone)
    if settings.norms == "learn" and settings.layers != "head" and are_folded(model.backbone):
        raise RecipeError('model.norms: those of the first weights are folded; set model.norms = "fixed" or "estimate"')
    layers, model.has_fixed_norms = settings.layers, settings.norms == "fixed"
    if layers == "head":
        # Said by its own flag, since there may be no stages: any backbone can stand still as a whole.
        model.backbone.requires_grad_(False)
        model.is_head_only = True
    elif layers != "all":
        count, known = int(layers.removeprefix("last-")), len(layers_of(model.backbone))
        if count > known:
            raise RecipeError(
                f"model.layers is {layers!r}; {settings.backbone} has {known} layers: choose fewer, or all"
            )
        model.still = still_layers(model.backbone, count)
        model.freeze(0)
    if settings.stages:
        # `stages_of` begins with the stem, which freezes along with any stage and is not counted.
        known = len(stages_of(model.backbone)) - 1
        if settings.stages > known:
            raise RecipeError(f"model.stages is {settings.stages}; {settings.backbone} has {known} stages")
        model.at_least_frozen = known - settings.stages


def check_phases(recipe: Recipe, backbone: nn.Module) -> None:
    """Refuse what a backbone cannot do in a later phase, before the first. Raises RecipeError."""
    if recipe.model.layers != "head" and any(phase.frozen for phase in recipe.phases):
        stages_of(backbone)
    name, size = recipe.model.backbone, fixed_size(recipe.model.backbone)
    given = [(recipe.input.width, recipe.input.height), *((phase.width, phase.height) for phase in recipe.phases)]
    odd = next((sides for sides in given if sides != size), None)
    if size is not None and odd is not None:
        raise RecipeError(
            f"input and phases: {name} takes {size[0]}x{size[1]} px alone, and not {odd[0]}x{odd[1]}; give all of them "
            f"that size; of a project: --backbone {name} without --size"
        )


def fixed_size(name: str) -> tuple[int, int] | None:
    """Return the one size (width, height) that a network of timm takes; None where it takes others, too."""
    known = timm.models.get_pretrained_cfg(name)
    return (known.input_size[2], known.input_size[1]) if known is not None and known.fixed_input_size else None


def load_backbone(settings: ModelSettings) -> nn.Module:
    """Make a backbone of timm without its classifier and load `settings.weights` into it. Raises RecipeError.

    Where `settings.start` names another network, that one's weights follow, and these are not looked for.
    """
    if settings.backbone not in timm.list_models():
        raise RecipeError(
            f"model.backbone: {settings.backbone!r} is unknown; {suggestion(settings.backbone, timm.list_models())}"
        )
    if settings.start:
        return timm.create_model(settings.backbone, num_classes=0)
    if settings.weights == PRETRAINED:
        return pretrained(settings.backbone)
    backbone = timm.create_model(settings.backbone, num_classes=0)
    if settings.weights:
        load_weights(backbone, find_weights(settings.weights), settings.backbone)
    return backbone


def stages_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the stem and the stages, in the order in which pixels pass. Raises RecipeError where none are known."""
    if found := known_stages(backbone):
        return found
    raise RecipeError(f"phases.frozen: {type(backbone).__name__} has no stages to freeze; use 0")


def known_stages(backbone: nn.Module) -> list[nn.Module]:
    """Return the stem and the stages of EfficientNets and MobileNets (blocks), ResNets (layers), and ConvNeXts and
    ResNetV2s (stages) of timm; nothing of others.
    """
    for stem, stages in (("conv_stem bn1", "blocks"), ("conv1 bn1", "layer1 layer2 layer3 layer4"), ("stem", "stages")):
        if all(hasattr(backbone, name) for name in (*stem.split(), *stages.split())):
            first = nn.Sequential(*(cast(nn.Module, getattr(backbone, name)) for name in stem.split()))
            found = [getattr(backbone, name) for name in stages.split()]
            return [first, *(found if len(found) > 1 else cast(nn.Sequential, found[0]))]
    return []


def parameter_groups(model: nn.Module, settings: TrainSettings) -> list[dict[str, object]]:
    """Group parameters: no decay for norms and biases, a higher learning rate for all but the `backbone`."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weights in model.named_parameters():
        scale = 1.0 if name.startswith("backbone.") else settings.head_lr
        # Norms and biases have one dimension: pulling them to 0 would only shift what the next layer undoes.
        decay = settings.weight_decay if weights.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(weights)
    return [{"params": params, "lr_scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()]


def _statistic(backbone: nn.Module, name: str) -> Tensor:
    config = cast(dict[str, tuple[float, ...]], getattr(backbone, "pretrained_cfg", {}) or {})
    values = config.get(name) or (0.5, 0.5, 0.5)
    # timm states them for pixels in 0..1; ours are 0..255.
    return torch.tensor(values).view(1, 3, 1, 1) * 255
