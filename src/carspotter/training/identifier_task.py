"""The task of the identifier: a recipe in; network, batches, loss and held-out figures out, for `trainer` to use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from carspotter.runtime.calibration import calibrate
from carspotter.training import data
from carspotter.training.losses import hierarchical_cross_entropy
from carspotter.training.model import Identifier, build_identifier
from carspotter.training.recipe import Phase, Recipe

Batch = tuple[Tensor, Tensor]


class IdentifierTask:
    """Learn the classes of a taxonomy from labelled photos; `holdout` is never learnt from."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.taxonomy, ids = data.load_taxonomy(recipe.path(recipe.data.taxonomy))
        photos = data.load_photos(recipe.data, recipe.path(recipe.data.labels), ids, recipe.input)
        self.fingerprint = data.fingerprint(recipe, photos)
        self.photos, self.holdout = data.split_holdout(photos, recipe.data.holdout)
        self.parents = torch.from_numpy(self.taxonomy.index("make").astype(np.int64))

    def build_model(self) -> Identifier:
        """Make the network with its first weights."""
        return build_identifier(self.recipe.model, self.recipe, len(self.taxonomy))

    def steps(self, phase: Phase) -> int:  # noqa: ARG002  # Task has it: a finder's scenes depend on the phase
        """Count the batches of an epoch."""
        return max(1, len(self.photos) // self.recipe.train.batch)

    def batches(self, phase: Phase, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield augmented batches, the same for the same seed and epoch: a resumed run sees what it would have seen."""
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        change = partial(data.augment, settings=self.recipe.augment, generator=generator)
        images, targets = torch.from_numpy(self.photos.images), torch.from_numpy(self.photos.targets)
        for chosen in data.batches(len(self.photos), self.recipe.train.batch, generator):
            yield change(images[chosen], (phase.height, phase.width)), targets[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute the loss of a batch."""
        pixels, targets = batch
        settings = self.recipe.train
        logits = model(pixels).float()
        parents = self.parents.to(logits.device)
        return hierarchical_cross_entropy(
            logits, targets, parents, smoothing=settings.label_smoothing, weight=settings.hierarchy
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return top-1 (the primary figure), top-5, make and loss on the held-out photos."""
        logits = predict(model, self.holdout.images)
        targets = torch.from_numpy(self.holdout.targets)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = best == targets[:, None]
        make = torch.from_numpy(self.taxonomy.sum_to("make", logits.softmax(1).numpy())).argmax(1)
        return {
            "top1": hits[:, 0].float().mean().item(),
            "top5": hits.any(1).float().mean().item(),
            "make": (make == self.parents[targets]).float().mean().item(),
            "loss": nn.functional.cross_entropy(logits, targets).item(),
        }

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network for export: uint8 pixels (n, h, w, 3) to logits and a unit-length embedding."""
        return ExportedIdentifier(cast(Identifier, model))

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Fit the temperature and choose a threshold a level on the held-out photos."""
        figures = self.evaluate(model)
        logits, targets = predict(model, self.holdout.images).double().numpy(), self.holdout.targets
        calibration, error = calibrate(logits, targets, self.taxonomy)
        return calibration, {**figures, "ECE": error}


class ExportedIdentifier(nn.Module):
    """Take pixels as a photo has them and answer logits (n, c) and the embedding (n, d) at length 1."""

    def __init__(self, model: Identifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.embed(image.permute(0, 3, 1, 2).float())
        return self.model.head(features), nn.functional.normalize(features, dim=1)


def predict(model: nn.Module, images: data.Images, *, batch: int = 32) -> Tensor:
    """Run a network over photos (n, h, w, 3) as they stand; return logits (n, n_classes) on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    outputs = []
    with torch.inference_mode():
        for chosen in torch.from_numpy(images).split(batch):
            pixels = chosen.to(device).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            outputs.append(cast(Tensor, model(pixels)).float().cpu())
    return torch.cat(outputs)
