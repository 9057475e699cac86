"""An attribute as a task for `trainer`: a network that learns one label a photo, from a CSV that `labels` wrote.

Crops that are given stay where they are, such as in a file: a batch takes its own. What the network sees goes through
the same head as still features do (`head`), so that its own last layer is thrown away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from carspotter.crops import crop_of
from carspotter.errors import ImageError, RecipeError, StorageError
from carspotter.pixels import Preprocessing
from carspotter.storage import read
from carspotter.taxonomy import Taxonomy
from carspotter.training.attribute.head import macro_f1
from carspotter.training.attribute.labels import Labelled, read_table
from carspotter.training.identifier.data import augment
from carspotter.training.identifier.model import Identifier, choose_layers, load_backbone
from carspotter.training.identifier.targets import mirror_of
from carspotter.training.identifier.task import predict
from carspotter.training.recipe import Phase, Recipe
from carspotter.training.start import open_start, take_backbone

SMALL = "small-cnn"
"""The name of the one backbone that is not timm's."""

Batch = dict[str, Tensor]
Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Crops (m, h, w, 3), the places in them of a part's photos (n,), and their labels (n,)."""


class AttributeTask:
    """Learn labels; what the split `validation` says is never learnt from, and `test` is not opened."""

    taxonomy: Taxonomy | None = None
    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(
        self, recipe: Recipe, crops: npt.NDArray[np.uint8] | None = None, learnt: npt.NDArray[np.uint8] | None = None
    ) -> None:
        """Read the labels. Where they are cut already, `crops` and `learnt` (n, h, w, 3) are the crops of each row.

        `crops` are as the network will see them, `learnt`, which are augmented, of the size that `learnt_size` says.
        """
        self.recipe = recipe
        rows = read_table(Path(recipe.data.labels), "label")
        self.words = tuple(sorted({row.label for row in rows}))
        self.images, self.places, self.targets = self._load(rows, "train", learnt_size(recipe), learnt)
        held, places, self.truth = self._load(rows, "validation", input_of(recipe), crops)
        self.held = held[places]
        self.fingerprint = _fingerprint(
            (recipe.model, recipe.input, recipe.augment, recipe.train, recipe.phases, recipe.seed, self.words),
            (self.images, self.places, self.targets),
            (self.held, np.arange(len(self.held)), self.truth),
        )
        swap = mirror_of(self.words)
        # A side without its other one: the mirror image of its photos has no label.
        self.augment = recipe.augment if swap is not None else replace(recipe.augment, flip=0.0)
        self.swap = np.arange(len(self.words)) if swap is None else swap
        counts = np.bincount(self.targets, minlength=len(self.words)).clip(1)
        # By the root of how rare a label is: of few photos of one, each would else be seen dozens of times.
        self.weights = torch.from_numpy(counts[self.targets] ** -float(recipe.train.balance))

    def _load(self, table: list[Labelled], part: str, size: Preprocessing, crops: npt.NDArray[np.uint8] | None) -> Part:
        """Return the photos of a part."""
        places = np.array([place for place, row in enumerate(table) if row.split == part], np.int64)
        rows = [table[place] for place in places]
        if not rows:
            raise RecipeError(f"{self.recipe.data.labels}: no row to learn from, or none to choose by; see its split")
        targets = np.array([self.words.index(row.label) for row in rows], np.int64)
        if crops is not None:
            return crops, places, targets
        images = np.empty((len(rows), size.height, size.width, 3), np.uint8)
        for place, row in enumerate(rows):
            try:
                images[place] = crop_of(read(row.path), size, row.box)
            except (ImageError, StorageError) as error:
                raise RecipeError(f"{row.path}: {error}; take its row out") from error
        return images, np.arange(len(rows)), targets

    def move(self, device: torch.device) -> None:
        """Leave the photos where they are: each batch goes to the device by itself."""

    def build_model(self, *, blank: bool = False) -> Identifier:
        """Make the network with its first weights."""
        settings = self.recipe.model.without_weights() if blank else self.recipe.model
        small = settings.backbone == SMALL
        backbone = SmallCnn() if small else load_backbone(settings)
        model = Identifier(backbone, len(self.words), dropout=settings.dropout)
        nn.init.normal_(model.head.weight, std=0.01)
        nn.init.zeros_(model.head.bias)
        if settings.start:
            take_backbone(model, open_start(self.recipe))
        choose_layers(model, self.recipe)
        return model

    def steps(self, phase: Phase) -> int:  # noqa: ARG002  # Task has it
        """Count the batches of an epoch."""
        return max(1, len(self.targets) // self.recipe.train.batch)

    def batches(self, phase: Phase, epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield augmented batches, the same for the same seed and epoch; rare labels come more often."""
        order = torch.Generator().manual_seed(seed * 100_003 + epoch)
        change = torch.Generator().manual_seed((seed * 100_003 + epoch) * 1009 + part[0])
        settings, targets = self.augment, torch.from_numpy(self.targets)
        swap = torch.from_numpy(self.swap)
        for _ in range(self.steps(phase)):
            drawn = torch.multinomial(self.weights, self.recipe.train.batch, replacement=True, generator=order)
            chosen = drawn[part[0] :: part[1]]
            crops = torch.from_numpy(self.images[self.places[chosen.numpy()]])
            pixels, flipped = augment(crops, (phase.height, phase.width), settings, change)
            # A mirrored left side is a right side.
            yield {"pixels": pixels, "target": torch.where(flipped, swap[targets[chosen]], targets[chosen])}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute a batch's cross-entropy."""
        logits, _ = model(batch["pixels"])
        smoothing = self.recipe.train.label_smoothing
        return nn.functional.cross_entropy(logits.float(), batch["target"], label_smoothing=smoothing)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return macro-F1, accuracy and loss on the validation photos."""
        logits, _ = predict(cast(Identifier, model), self.held)
        truth = torch.from_numpy(self.truth)
        answer = logits.argmax(1).numpy()
        return {
            "macro-F1": macro_f1(self.truth, answer, len(self.words)),
            "accuracy": float((answer == self.truth).mean()),
            "held-out loss": nn.functional.cross_entropy(logits, truth).item(),
        }

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network: uint8 pixels (n, h, w, 3) to the embedding (n, d) at length 1."""
        return Embedding(cast(Identifier, model))

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Leave calibrating to the head behind the embedding; return the figures."""
        return {}, self.evaluate(model)


def _fingerprint(settings: tuple[object, ...], *parts: Part) -> str:
    """Tell apart settings, words, and the photos to learn from and to choose by: the best epoch depends on both."""
    digest = hashlib.sha256(repr(settings).encode())
    for images, places, targets in parts:
        # A thousand crops at a time, since they may lie in a file.
        for start in range(0, len(places), 1000):
            digest.update(images[places[start : start + 1000]].tobytes())
        digest.update(targets.tobytes())
    return digest.hexdigest()


def input_of(recipe: Recipe) -> Preprocessing:
    """Return the input of a recipe's network."""
    size = recipe.input
    return Preprocessing(width=size.width, height=size.height, fit=size.fit, pad=size.pad)


def learnt_size(recipe: Recipe) -> Preprocessing:
    """Return the size of crops to learn from: a quarter larger than a phase, so that random crops stay sharp."""
    size = input_of(recipe)
    width, height = (max(getattr(phase, side) for phase in recipe.phases) * 5 // 4 for side in ("width", "height"))
    return replace(size, width=max(size.width, width), height=max(size.height, height))


class Embedding(nn.Module):
    """Take pixels as a photo has them; answer the embedding at length 1."""

    def __init__(self, model: Identifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.normalize(self.model.embed(image.permute(0, 3, 1, 2).float()), dim=1),)


class SmallCnn(nn.Module):
    """Turn pixels (n, 3, h, w) into 192 features by ten convolutions; 1 million weights, enough for few photos."""

    num_features = 192

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (24, 48, 96, 128, 192):  # each halves the map: 64 px end as 2
            layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.layers(pixels)
        return result
