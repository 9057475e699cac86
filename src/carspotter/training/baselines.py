"""Baselines: labelled photos in, a classifier with calibrated probabilities out, to compare a trained network with.

HOG or frozen features, with a linear classifier. Part of the photos is set aside to choose its strength and its
temperature; after that it learns from all of them. No network is trained here, and no figure of accuracy is computed.
All vectors are in memory at once, as floats: of 10,000 photos' HOG 174 MB, twice that with mirrored copies, and thrice
again while the classifier is fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from carspotter.csv_rows import names_of
from carspotter.errors import MissingExtraError, RecipeError, TrainingError
from carspotter.evaluation.predictions import UNLABELLED, Predictions
from carspotter.runtime.calibration import softmax
from carspotter.taxonomy import LEVELS
from carspotter.training.features import CHUNK, Embed, Images, embed_all, embed_with
from carspotter.training.identifier.data import labelled_rows, load_labels, load_photos
from carspotter.training.identifier.model import load_backbone
from carspotter.training.identifier.shards import load_shards
from carspotter.training.identifier.source import LabelledPhotos
from carspotter.training.identifier.targets import Nodes
from carspotter.training.linear import Classifier, Doubles, FitSettings, Floats, Ints, View, fit_vectors
from carspotter.training.recipe import Recipe

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601


@dataclass(frozen=True, slots=True, kw_only=True)
class HogSettings:
    """How a photo becomes a histogram of oriented gradients (Dalal and Triggs 2005), and what is learnt from it.

    Raises ValueError for a shape without a block.
    """

    width: int = 96
    """Photos are resized to this, in pixels; wheels and lamps are then still some cells wide."""
    height: int = 96
    cell: int = 8
    """Side of a cell in pixels; this, the block and the orientations are as in the paper."""
    block: int = 2
    """Side, in cells, of the square over which contrast is evened out."""
    orientations: int = 9
    """Directions that a cell counts, over 180 degrees."""
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        if min(self.cell, self.orientations) < 2 or self.block < 1:
            said = f"cell {self.cell}, orientations {self.orientations}, block {self.block}"
            raise ValueError(f"HOG: {said}; at least 2, 2 and 1 are needed")
        side = self.cell * self.block
        if min(self.width, self.height) < side:
            raise ValueError(f"HOG: {self.width}x{self.height} px hold no block of {side} px; make them larger")

    @property
    def length(self) -> int:
        """Count the numbers of a photo's vector: 4356 as the settings stand."""
        down, across = (side // self.cell - self.block + 1 for side in (self.height, self.width))
        return down * across * self.block**2 * self.orientations


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """What was learnt; `chosen` is the strength that did best on the part set aside."""

    embed: Embed
    classifier: Classifier
    temperature: float
    chosen: float

    def probabilities(self, images: Images) -> Doubles:
        """Return calibrated probabilities (n, n_classes) for photos (n, h, w, 3) of the size that was learnt from."""
        return softmax(self.classifier.logits(embed_all(self.embed, images)) / self.temperature)


def fit_hog(photos: LabelledPhotos, n_classes: int, *, settings: HogSettings, seed: int = 0) -> Baseline:
    """Learn a linear classifier on HOG; `seed` deals out the part set aside.

    Raises TrainingError, MissingExtraError.
    """
    embed = partial(hog_vectors, settings=settings)
    return _fit(photos, n_classes, embed=embed, settings=settings.fit, seed=seed)


def fit_features(
    photos: LabelledPhotos, n_classes: int, *, backbone: nn.Module | Embed, settings: FitSettings, seed: int = 0
) -> Baseline:
    """Learn on the features of a frozen network, or of a function that gives (n, d) for photos (n, h, w, 3).

    Raises TrainingError, MissingExtraError.
    """
    embed = embed_with(backbone) if isinstance(backbone, nn.Module) else backbone
    return _fit(photos, n_classes, embed=embed, settings=settings, seed=seed)


def hog_vectors(images: Images, settings: HogSettings) -> Floats:
    """Return the HOG of photos (n, h, w, 3) as (n, settings.length), `CHUNK` photos at a time."""
    hog = _import_skimage()
    vectors = np.empty((len(images), settings.length), np.float32)
    cells, blocks = (settings.cell, settings.cell), (settings.block, settings.block)
    for start in range(0, len(images), CHUNK):
        # Brightness alone, 0..1: the colour of the paint says nothing about the model.
        gray = torch.from_numpy(images[start : start + CHUNK] @ _LUMA / 255)[:, None]
        # Antialiased, or fine textures would turn into gradients of false directions.
        small = F.interpolate(gray, (settings.height, settings.width), mode="bilinear", antialias=True)[:, 0]
        for place, picture in enumerate(small.numpy(), start):
            vectors[place] = hog(
                picture,
                orientations=settings.orientations,
                pixels_per_cell=cells,
                cells_per_block=blocks,
                # Normalised, clipped at 0.2 and normalised again, as good as any of the paper's schemes: lamps do
                # not outshine edges.
                block_norm="L2-Hys",
            )
    return vectors


def run_baseline(
    recipe: Recipe,
    *,
    method: Literal["hog", "linear"],
    test: str = "",
    hog: HogSettings | None = None,
    fit: FitSettings | None = None,
) -> Predictions:
    """Learn a baseline from the photos of a recipe; return its answers to photos that it did not learn from.

    Those are the rows of `data.labels` whose split is `test`, or else the recipe's holdout. "linear" describes
    photos by `model`, "hog" by `hog`, whose `fit` is the one that counts then. Photos that are labelled with more than
    one class are not learnt from. Raises RecipeError, DatasetError, TrainingError, MissingExtraError.
    """
    found = load_shards(recipe) if recipe.data.shards else load_labels(recipe, Path("runs") / recipe.name)
    photos = found.photos.some()
    # Targets from the number of classes on are sets of classes, for which a plain classifier has no row.
    taxonomy, learnt = found.nodes.taxonomy, photos.take(photos.targets < len(found.nodes.taxonomy))
    asked, names = _load_test(recipe, found.nodes, test) if test else (found.holdout, _names(found.holdout.paths))
    if method == "hog":
        settings = hog or HogSettings(fit=fit or FitSettings())
        baseline = fit_hog(learnt, len(taxonomy), settings=settings, seed=recipe.seed)
    else:
        baseline = fit_features(
            learnt, len(taxonomy), backbone=load_backbone(recipe.model), settings=fit or FitSettings(), seed=recipe.seed
        )
    return Predictions(
        name=recipe.name,
        taxonomy=taxonomy,
        photos=np.array(names),
        probabilities=baseline.probabilities(asked.images).astype(np.float32),
        # Such photos are still judged at the levels where all their classes agree.
        truth=np.where(asked.targets < len(taxonomy), asked.targets, UNLABELLED),
        levels={level: found.nodes.level(level)[asked.targets] for level in LEVELS},
        about={"path": np.array(asked.paths)},
    )


def _load_test(recipe: Recipe, nodes: Nodes, split: str) -> tuple[LabelledPhotos, list[str]]:
    if recipe.data.shards:
        raise RecipeError(f"baseline: the split {split!r} is read from data.labels; shards have their own holdout")
    labels = Path(recipe.data.labels)
    rows = labelled_rows(replace(recipe.data, split=split), labels)
    # Named as `evaluate` names them: both tables can be compared.
    return load_photos(rows, labels, nodes, recipe.input), _names(names_of(rows))


def _names(photos: Sequence[str]) -> list[str]:
    """Return a name of its own for each row: where photos are rows more than once, with the row's number."""
    counts = Counter(photos)
    return [name if counts[name] == 1 else f"{name}#{place}" for place, name in enumerate(photos)]


def _fit(photos: LabelledPhotos, n_classes: int, *, embed: Embed, settings: FitSettings, seed: int) -> Baseline:
    """Choose setting and temperature on a part set aside, then learn from all photos."""
    _check(photos, n_classes, settings)
    views = _describe(photos, n_classes, embed, settings)
    fitted = fit_vectors(views, n_classes, _set_aside(photos.targets, settings.holdout, seed), settings)
    return Baseline(embed=embed, classifier=fitted.classifier, temperature=fitted.temperature, chosen=fitted.chosen)


def _describe(photos: LabelledPhotos, n_classes: int, embed: Embed, settings: FitSettings) -> list[View]:
    """Return vectors and classes of the photos as they are and, where asked for, of their mirrored copies."""
    views = [(embed_all(embed, photos.images), photos.targets)]
    if settings.mirror:
        # A mirrored left side is a right side: such classes trade places, all others stay.
        trade = np.arange(n_classes)
        for one, other in settings.swapped:
            trade[[one, other]] = other, one
        views.append((embed_all(embed, photos.images[:, :, ::-1]), trade[photos.targets]))
    return views


def _check(photos: LabelledPhotos, n_classes: int, settings: FitSettings) -> None:
    counts = np.bincount(photos.targets, minlength=n_classes) if len(photos) else np.zeros(n_classes, np.int64)
    if len(counts) > n_classes:
        raise TrainingError(f"baseline: class {len(counts) - 1} occurs, but there are {n_classes} classes")
    if (counts > 1).sum() < 2:
        raise TrainingError("baseline: at least two classes with two photos each are needed")
    strange = [pair for pair in settings.swapped if max(pair) >= n_classes or min(pair) < 0]
    if strange:
        raise TrainingError(f"baseline: swapped names classes {strange[0]}; there are {n_classes}, from 0")


def _set_aside(targets: Ints, part: float, seed: int) -> npt.NDArray[np.bool_]:
    """Mark a part of each class; of two photos or more at least one is marked and one is not."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(targets), bool)
    for target in np.unique(targets):
        members = random.permutation(np.flatnonzero(targets == target))
        if len(members) > 1:
            # By class, so that a rare one is neither lost from learning nor from judging.
            held[members[: min(max(1, round(part * len(members))), len(members) - 1)]] = True
    return held


def _import_skimage() -> Callable[..., Floats]:
    try:
        from skimage.feature import hog
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "train") from error
    return cast(Callable[..., Floats], hog)
