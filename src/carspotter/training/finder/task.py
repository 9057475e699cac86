"""The finder as a task for `trainer`: network, batches, loss, and figures on the choosing part.

The recipe's `data.labels` is a manifest (`finder.data`): its part `train` is learnt from, `choose` is for figures and
thresholds, any other is left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from carspotter.cores import cores
from carspotter.errors import RecipeError
from carspotter.geometry import suppress
from carspotter.training.finder.augment import Picture, Variation, place
from carspotter.training.finder.data import CUT_OUTS, LabelledPhoto, load, read_manifest
from carspotter.training.finder.figures import FinderResult, choose_gate, choose_score, figures_of
from carspotter.training.finder.kind import fit_kind
from carspotter.training.finder.losses import FinderTargets, finder_losses
from carspotter.training.finder.model import Finder, FinderOutput, cell_centers, finder_export_module
from carspotter.training.finder.pictures import CROPS, Batch, Drawn, PictureSource
from carspotter.training.identifier.model import choose_layers, load_backbone
from carspotter.training.recipe import Phase, Recipe
from carspotter.training.start import open_start, take_all, take_backbone

# Pictures an epoch for each training photo: over one, since a part of them are scenes.
PICTURES_A_PHOTO = 1.6
# Sides are multiples of this, so that the cells of two grids lie over each other but for one at the edge.
EVEN = 16
WEIGHTS = {"kind": 1.0, "score": 1.0, "box": 2.0, "viewpoint": 1.0}
# Until a bundle has chosen its own threshold, a vehicle is reported from SCORE on. Below LEAST_SCORE nothing is looked
# at.
SCORE, LEAST_SCORE = 0.4, 0.1
SAME_VEHICLE = 0.5
"""Boxes that overlap more are one vehicle; the usual value of Pascal VOC."""


class FinderTask:
    """Learn kinds, boxes and viewpoints from the photos of a manifest."""

    taxonomy = None
    attributes: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, recipe: Recipe) -> None:
        _check(recipe)
        self.recipe = recipe
        self.size = (recipe.input.width, recipe.input.height)
        manifest = Path(recipe.data.labels)
        labels = read_manifest(manifest, parts=("train", "choose"))
        with ThreadPoolExecutor(cores()) as pool:
            photos = list(pool.map(lambda photo: load(photo, manifest.parent, self.size), labels))
        self.pictures = PictureSource([photo for photo in photos if photo.part == "train"], variation_of(recipe))
        # Squashed crops are material for scenes, not photographs by which anything could be judged.
        self.chosen = [photo for photo in photos if photo.part == "choose" and photo.source != CROPS]
        if not self.pictures.photos or not self.chosen:
            raise RecipeError(f"{manifest}: it needs photos in part 'train' and photos in part 'choose'")
        self.fingerprint = _fingerprint(recipe, photos)

    def build_model(self, *, blank: bool = False) -> Finder:
        """Make the network with its first weights, or a `blank` one with any, for a checkpoint to fill."""
        settings = self.recipe.model.without_weights() if blank else self.recipe.model
        model = Finder(load_backbone(settings), dropout=settings.dropout)
        if settings.start:
            start = open_start(self.recipe)
            (take_all if start.task == "finder" else take_backbone)(model, start)
        choose_layers(model, self.recipe)
        return model

    def steps(self, phase: Phase) -> int:
        """Count the batches of an epoch."""
        del phase
        return max(1, round(len(self.pictures.photos) * PICTURES_A_PHOTO) // self.recipe.train.batch)

    def batches(self, phase: Phase, epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield batches of pictures; the same for the same seed, epoch and part, however many processes draw them."""
        drawn = Drawn(
            source=self.pictures,
            size=(phase.width, phase.height),
            # Each process draws its own pictures, so that processes need no common order, only seeds that differ.
            batch=self.recipe.train.batch // part[1],
            steps=self.steps(phase),
            seed=(seed, epoch, part[0]),
        )
        # batch_size=None: each item is a whole batch already.
        yield from DataLoader(drawn, batch_size=None, num_workers=self.recipe.train.workers)

    def move(self, device: torch.device) -> None:
        """Do nothing: pictures are drawn by the CPU, batch by batch."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute the loss of a batch."""
        images = batch["images"]
        output = cast(FinderOutput, model(images.permute(0, 3, 1, 2).float()))
        # Losses in float32: the logarithms of small probabilities have too few digits in bfloat16.
        output = FinderOutput(*(part.float() for part in output))
        targets = FinderTargets(**{name: batch[name] for name in FinderTargets._fields})
        centers = cell_centers(images.shape[1], images.shape[2], images.device)
        losses = finder_losses(output, targets, centers)
        return torch.stack([WEIGHTS[name] * value for name, value in losses._asdict().items()]).sum()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return figures of the choosing part, `mean` first (`figures_of`)."""
        return figures_of([entry.above(SCORE) for entry in tell(model, self.chosen, self.size)])

    def finish(self, model: nn.Module) -> None:
        """Fit the kinds to the features of the trained network (`fit_kind`)."""
        # A vehicle on black is no kind of photo that anyone uploads.
        photos = [photo for photo in self.pictures.photos if photo.source != CUT_OUTS]
        fit_kind(cast(Finder, model), photos, self.size, variation=self.pictures.variation, seed=self.recipe.seed)

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network for export (`finder_export_module`)."""
        return finder_export_module(model)

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Choose `score` and `gate` on the choosing part; return them, with `iou`, and the figures that they give."""
        told = tell(model, self.chosen, self.size)
        # Both from one run over the photos, above LEAST_SCORE, so that no threshold tried is lower than what was kept.
        score, gate = choose_score(told), choose_gate(told)
        figures = figures_of([entry.above(score) for entry in told], gate)
        return {"score": score, "iou": SAME_VEHICLE, "gate": gate}, figures


def tell(
    model: nn.Module, photos: Sequence[LabelledPhoto], size: tuple[int, int], *, batch: int = 16
) -> list[FinderResult]:
    """Run a finder over loaded photos, letterboxed; return what it finds, boxes in pixels of the network's input."""
    model.eval()
    device = next(model.parameters()).device
    # `place` asks for one; without a variation it draws nothing from it.
    rng = np.random.default_rng(0)
    told: list[FinderResult] = []
    for start in range(0, len(photos), batch):
        part = photos[start : start + batch]
        pictures = [place(photo, size, rng) for photo in part]
        images = torch.from_numpy(np.stack([picture.pixels for picture in pictures])).to(device)
        with torch.inference_mode():
            output = cast(FinderOutput, model(images.permute(0, 3, 1, 2).float()))
        for row, (photo, picture) in enumerate(zip(part, pictures, strict=True)):
            # float64 on the CPU: thresholds are compared to two decimals, and rounding must not differ by device.
            told.append(_told(photo, picture, FinderOutput(*(values[row].double().cpu() for values in output))))
    return told


def variation_of(recipe: Recipe) -> Variation:
    """Translate a recipe's changes into a finder's: `gray` is the chance of each damage."""
    settings = recipe.augment
    return Variation(
        zoom_out=settings.zoom_out,
        # A crop of a quarter of the area doubles each side: zoomed in by 1.
        zoom_in=1 / sqrt(settings.min_area) - 1,
        stretch=settings.aspect,
        turn=settings.rotate,
        light=settings.color,
        damage=settings.gray,
    )


def _told(photo: LabelledPhoto, picture: Picture, output: FinderOutput) -> FinderResult:
    """Turn one photo's raw outputs into what is reported of it."""
    # The raw network has no suppression inside; the exported one does the same in its graph.
    scores, boxes = output.scores.sigmoid().numpy(), output.boxes.numpy()
    # Suppression compares all pairs; below this score there are thousands and none is a vehicle.
    candidates = np.flatnonzero(scores >= LEAST_SCORE)
    kept = candidates[suppress(boxes[candidates], scores[candidates], SAME_VEHICLE)]
    return FinderResult(
        source=photo.source,
        path=photo.path,
        kind=output.kind.softmax(0).numpy(),
        boxes=boxes[kept],
        scores=scores[kept],
        viewpoints=output.viewpoints.softmax(1).numpy()[kept],
        true_kind=photo.kind,
        # In pixels of the same letterboxed picture as the found ones, so that nothing is scaled back.
        true_boxes=picture.boxes.astype(np.float64),
        true_views=picture.views,
        ignored=picture.ignore,
        boxes_known=picture.boxes_known,
        size=(picture.pixels.shape[1], picture.pixels.shape[0]),
    )


def _check(recipe: Recipe) -> None:
    if recipe.input.fit != "letterbox":
        raise RecipeError(f"recipe {recipe.name}: input.fit is {recipe.input.fit!r}; a finder needs 'letterbox'")
    sizes = [(recipe.input.width, recipe.input.height), *((phase.width, phase.height) for phase in recipe.phases)]
    for side in (side for size in sizes for side in size):
        if side % EVEN:
            raise RecipeError(f"recipe {recipe.name}: a side of {side} px; a finder needs multiples of {EVEN}")


def _fingerprint(recipe: Recipe, photos: Sequence[LabelledPhoto]) -> str:
    """Return a name for recipe and labels; folders and words do not count, so that a moved run goes on."""
    settings = recipe.learnt_with()
    settings["data"].pop("labels")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for photo in photos:
        vehicles = (photo.boxes.tolist(), photo.views.tolist(), photo.ignore.tolist())
        digest.update(repr((photo.path, photo.part, photo.source, photo.kind, *vehicles)).encode())
    return digest.hexdigest()
