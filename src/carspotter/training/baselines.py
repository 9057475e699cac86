"""Baselines: labelled photos in, a classifier with calibrated probabilities out, to compare a trained network with.

HOG or frozen features, with a linear classifier. Part of the photos is set aside to choose its strength and its
temperature; after that it learns from all of them. No network is trained here, and no figure of accuracy is computed.
All vectors are in memory at once, as floats: of 10,000 photos' HOG 174 MB, twice that with mirrored copies, and thrice
again while the classifier is fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from carspotter.errors import MissingExtraError, RecipeError, TrainingError
from carspotter.evaluation.predictions import UNLABELLED, Predictions
from carspotter.runtime.calibration import fit_temperature, softmax
from carspotter.taxonomy import LEVELS
from carspotter.training.features import CHUNK, Doubles, Embed, Floats, Images, Ints, embed_all, embed_with
from carspotter.training.identifier.data import labelled_rows, load_labels, load_photos
from carspotter.training.identifier.model import load_backbone
from carspotter.training.identifier.shards import load_shards
from carspotter.training.identifier.source import LabelledPhotos
from carspotter.training.identifier.targets import Nodes
from carspotter.training.recipe import Recipe

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How classes are learnt from vectors. Raises ValueError for values out of range."""

    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Penalties on the squared weights that are tried: the loss is the mean cross-entropy plus strength / 2 times them,
    the vectors being scaled to a mean square of 1 a number."""
    balance: float = 0.0
    """A photo counts as its class's number of photos to the power of minus this; 1: each class counts alike."""
    mirror: bool = False
    """Learn from a mirrored copy of each photo, too."""
    swapped: tuple[tuple[int, int], ...] = ()
    """Pairs of classes that trade places when a photo is mirrored, such as left and right."""
    holdout: float = 0.15
    """Part of each class that is set aside for choosing."""

    def __post_init__(self) -> None:
        rules = [
            (bool(self.strengths) and min(self.strengths) > 0, f"strengths are {self.strengths}; each is above 0"),
            (0 <= self.balance <= 1, f"balance is {self.balance}; from 0 to 1"),
            (0 < self.holdout < 1, f"holdout is {self.holdout}; it must be between 0 and 1"),
        ]
        for holds, message in rules:
            if not holds:
                raise ValueError(f"baseline: {message}")

    def with_balance(self, balance: float) -> FitSettings:
        """Return the same with another balance."""
        return replace(self, balance=balance)


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


class Classifier(Protocol):
    """What answers for vectors."""

    def logits(self, vectors: Floats) -> Doubles:
        """Return (n, n_classes) for vectors (n, d); minus infinity for a class that was never seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """Answer `vectors @ weights.T + bias`, with weights (n_classes, d)."""

    weights: Floats
    bias: Floats

    def logits(self, vectors: Floats) -> Doubles:
        """Return (n, n_classes) for vectors (n, d)."""
        return np.asarray(vectors @ self.weights.T + self.bias, np.float64)


View = tuple[Floats, Ints]
"""Vectors (n, d) and their classes (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A classifier with its temperature and strength; `held` (m, n_classes) are logits of the rows that chose them.

    Those are of a classifier that had not learnt from them.
    """

    classifier: Linear
    temperature: float
    chosen: float
    held: Doubles


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
    asked = _load_test(recipe, found.nodes, test) if test else found.holdout
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
        photos=np.array(asked.paths),
        probabilities=baseline.probabilities(asked.images).astype(np.float32),
        # Such photos are still judged at the levels where all their classes agree.
        truth=np.where(asked.targets < len(taxonomy), asked.targets, UNLABELLED),
        levels={level: found.nodes.level(level)[asked.targets] for level in LEVELS},
        about={"path": np.array(asked.paths)},
    )


def _load_test(recipe: Recipe, nodes: Nodes, split: str) -> LabelledPhotos:
    if recipe.data.shards:
        raise RecipeError(f"baseline: the split {split!r} is read from data.labels; shards have their own holdout")
    labels = Path(recipe.data.labels)
    return load_photos(labelled_rows(replace(recipe.data, split=split), labels), labels, nodes, recipe.input)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Vectors:
    """Vectors (n, d), their classes (n,) and how much each counts (n,), 1 on average."""

    x: Floats
    targets: Ints
    weights: Doubles


def _fit(photos: LabelledPhotos, n_classes: int, *, embed: Embed, settings: FitSettings, seed: int) -> Baseline:
    """Choose setting and temperature on a part set aside, then learn from all photos."""
    _check(photos, n_classes, settings)
    views = _describe(photos, n_classes, embed, settings)
    fitted = fit_vectors(views, n_classes, _set_aside(photos.targets, settings.holdout, seed), settings)
    return Baseline(embed=embed, classifier=fitted.classifier, temperature=fitted.temperature, chosen=fitted.chosen)


def fit_vectors(views: list[View], n_classes: int, held: npt.NDArray[np.bool_], settings: FitSettings) -> Fitted:
    """Choose strength and temperature on the rows of the mask `held` (n,), then learn from all.

    Views are vectors (n, d) with classes (n,): first the photos as they are, then their mirrored copies. Raises
    MissingExtraError.
    """
    # Judged on photos as they are: mirrored copies are a help for learning, no photos of their own.
    judge = _gather(views[:1], held, settings.balance)
    outcomes = []
    tried = _gather(views, ~held, settings.balance)
    for value, classifier in _fit_linear(tried, n_classes, settings.strengths):
        logits = classifier.logits(judge.x)
        # Each strength at its own best temperature, so that an overconfident head is not refused for what is curable.
        temperature = fit_temperature(logits, judge.targets)
        # By log-loss, not accuracy: of few photos many strengths have the same accuracy.
        chance = softmax(logits / temperature)[np.arange(len(judge.targets)), judge.targets]
        outcomes.append((float(-(judge.weights * np.log(chance + 1e-12)).mean()), temperature, value, logits))
    # The temperature was fitted to a head of fewer photos; the final one is a little better, so that it errs towards
    # doubt.
    _, temperature, chosen, logits = min(outcomes, key=lambda outcome: outcome[:3])
    ((_, classifier),) = _fit_linear(_gather(views, np.ones(len(held), bool), settings.balance), n_classes, [chosen])
    return Fitted(classifier=classifier, temperature=temperature, chosen=chosen, held=logits)


def _describe(photos: LabelledPhotos, n_classes: int, embed: Embed, settings: FitSettings) -> list[tuple[Floats, Ints]]:
    """Return vectors and classes of the photos as they are and, where asked for, of their mirrored copies."""
    views = [(embed_all(embed, photos.images), photos.targets)]
    if settings.mirror:
        # A mirrored left side is a right side: such classes trade places, all others stay.
        trade = np.arange(n_classes)
        for one, other in settings.swapped:
            trade[[one, other]] = other, one
        views.append((embed_all(embed, photos.images[:, :, ::-1]), trade[photos.targets]))
    return views


def _gather(views: list[tuple[Floats, Ints]], chosen: npt.NDArray[np.bool_], balance: float) -> _Vectors:
    targets = np.concatenate([classes[chosen] for _, classes in views])
    # Divided by their mean below, so that the strength of the penalty means the same for every balance.
    weights = np.bincount(targets)[targets].astype(np.float64) ** -balance
    vectors = np.concatenate([each[chosen] for each, _ in views])
    return _Vectors(x=vectors, targets=targets, weights=weights / weights.mean())


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


def _fit_linear(known: _Vectors, n_classes: int, strengths: Sequence[float]) -> list[tuple[float, Linear]]:
    """Fit multinomial logistic regression for each strength, from the strongest, each starting at the one before."""
    logistic, unfinished = _import_sklearn()
    # Centred and scaled by one number for all: strengths then mean the same for HOG and for features of any size.
    mean = known.x.mean(axis=0)
    scale = np.float32(1 / max(float(np.sqrt(np.square(known.x - mean).mean())), 1e-6))
    # One scale, not one a column, which would blow up columns that are nearly constant.
    x = (known.x - mean) * scale
    n_seen = len(np.unique(known.targets))
    model = logistic(solver="lbfgs", warm_start=True, max_iter=200)
    fitted = []
    for strength in sorted(strengths, reverse=True):
        # sklearn sums the losses and weighs the sum by C; of two classes it penalises the difference of their rows,
        # whose square is twice the sum of theirs.
        model.set_params(C=(2 if n_seen == 2 else 1) / (strength * len(x)))
        with warnings.catch_warnings():
            # The held-out part judges what is there after 200 steps; weak penalties need not end sooner.
            warnings.simplefilter("ignore", unfinished)
            model.fit(x, known.targets, sample_weight=known.weights)
        fitted.append((strength, _unscaled(model, n_classes, mean, scale)))
    return fitted


def _unscaled(model: Any, n_classes: int, mean: Floats, scale: np.float32) -> Linear:
    """Take the head of a fitted regression back to vectors as they are, a row for every class."""
    rows, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # then sklearn keeps one row: of the second class against the first
        # Halves of opposite sign have the same difference, which is all that a softmax sees.
        rows, intercepts = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-intercepts / 2, intercepts / 2])
    weights = np.zeros((n_classes, len(mean)), np.float32)
    # A class that was never seen gets the probability 0.
    bias = np.full(n_classes, -np.inf, np.float32)
    # x' = (x - mean) * scale put into w x' + b: the scale goes into the weights, the mean into the bias.
    weights[model.classes_] = rows * scale
    bias[model.classes_] = intercepts - weights[model.classes_] @ mean
    return Linear(weights=weights, bias=bias)


def _import_skimage() -> Callable[..., Floats]:
    try:
        from skimage.feature import hog
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "train") from error
    return cast(Callable[..., Floats], hog)


def _import_sklearn() -> tuple[Any, type[Warning]]:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    return LogisticRegression, ConvergenceWarning
