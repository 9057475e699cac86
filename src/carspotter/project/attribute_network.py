"""The networks whose features a head may read: the shipped ones, one of timm, one that is trained for it; and HOG."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carspotter.pixels import Preprocessing
from carspotter.runtime.attribute import features
from carspotter.runtime.bundle import READS, ModelBundle, shipped

if TYPE_CHECKING:
    from carspotter.project.attribute_photos import AttributeSettings, Photos
    from carspotter.training.recipe import Recipe

AROUND = 0.15
"""Margin around a vehicle in which a finder sees its side: it learnt from whole photos, never from a tight box."""
HOG_SIZE = Preprocessing(width=128, height=128)
SIZE = 224

_NONE = {"use": "Comparison.", "licence": "as the photographs", "data": "none", "recipe": "HOG"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """What describes crops (n, h, w, 3) of an input size by vectors (n, d); `bundle` holds the network, if any."""

    name: str
    preprocessing: Preprocessing
    describe: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    card: Mapping[str, Any]
    reads: tuple[str, ...] = READS[0]
    bundle: ModelBundle | None = None


def bases_of(photos: Photos, settings: AttributeSettings, out: Path, say: Callable[[str], None]) -> Iterator[Base]:
    """Yield what the head may read by these settings, one after another; validation chooses. Raises RecipeError."""
    if settings.how == "hog":
        yield hog_base()
    elif settings.how == "head":
        yield base_of(shipped("identifier"), READS[0])
        finder = shipped("finder")
        around = finder.preprocessing if photos.of_photo else replace(finder.preprocessing, pad=AROUND)
        yield replace(base_of(finder, READS[1]), preprocessing=around)
    else:
        yield _trained(photos, settings, out, say)


def base_of(bundle: ModelBundle, reads: tuple[str, ...]) -> Base:
    """Open a bundle's network as a base."""
    session = bundle.open_session()
    return Base(
        name=bundle.name,
        preprocessing=bundle.preprocessing,
        describe=lambda crops: features(reads, session.run(crops)),
        card=bundle.card,
        reads=reads,
        bundle=bundle,
    )


def hog_base() -> Base:
    """Describe crops by HOG, which no bundle holds: for comparison alone."""
    from carspotter.training.baselines import HogSettings, hog_vectors

    describe = partial(hog_vectors, settings=HogSettings())
    return Base(name="HOG", preprocessing=HOG_SIZE, describe=describe, card=_NONE)


def _trained(photos: Photos, settings: AttributeSettings, out: Path, say: Callable[[str], None]) -> Base:
    """Train a network, or take a frozen one of timm, and export it so that it answers its embedding."""
    from carspotter.export.onnx import to_onnx
    from carspotter.training.attribute.labels import write_table
    from carspotter.training.attribute.task import Embedding
    from carspotter.training.recipe import load_recipe

    run = out / "run"
    run.mkdir(parents=True, exist_ok=True)
    rows = [replace(row, box=None) for row in photos.rows] if photos.of_photo else photos.rows
    write_table(run / "labels.csv", rows)
    recipe = load_recipe(
        "small-cnn" if settings.how == "scratch" else "fine-tune-attribute",
        [f"data.labels={run / 'labels.csv'}", f"name={settings.task}", f"seed={settings.seed}", *_changes(settings)],
    )
    if settings.epochs:
        first = replace(recipe.phases[-1], epochs=settings.epochs)
        recipe = replace(recipe, phases=(first,))
    network = _frozen(recipe) if settings.how == "features" else _fitted(recipe, run, say)
    content = to_onnx(Embedding(network), recipe, READS[0])
    size = recipe.input
    card = {
        "use": "As its first weights may be used.",
        "licence": recipe.card.licence,
        "data": "first weights: " + (recipe.model.start or recipe.model.weights or "none"),
    }
    # A bundle of its own file and no head yet: only what `base_of` needs.
    path = run / "model.onnx"
    path.write_bytes(content)
    return _of_file(
        path, Preprocessing(width=size.width, height=size.height, fit=size.fit, pad=size.pad), settings, card
    )


def _changes(settings: AttributeSettings) -> list[str]:
    """Return what a backbone of timm changes in the recipe: its first weights, whose norms are not folded."""
    if not settings.backbone:
        return []
    return [f"model.backbone={settings.backbone}", "model.start=", "model.weights=pretrained", "model.norms=learn"]


def _frozen(recipe: Recipe) -> Any:
    from carspotter.training.identifier.model import Identifier, load_backbone

    return Identifier(load_backbone(recipe.model), 2).eval()


def _fitted(recipe: Recipe, run: Path, say: Callable[[str], None]) -> Any:
    """Train, or go on from the newest checkpoint of the same data; return the best network."""
    from carspotter.training.attribute.task import AttributeTask
    from carspotter.training.checkpoint import BEST, load_checkpoint
    from carspotter.training.trainer import Training

    logging.getLogger("carspotter").debug("recipe %s", recipe)
    task = AttributeTask(recipe)
    training = Training(recipe, task, run)
    training.go_on()
    training.describe()
    training.fit()
    say(f"trained {training.epoch} epochs; best {training.task_name} {training.best:.3f}")
    model = task.build_model(blank=True)
    model.load_state_dict(load_checkpoint(run / BEST).kept)
    return model.eval()


def _of_file(path: Path, size: Preprocessing, settings: AttributeSettings, card: Mapping[str, Any]) -> Base:
    from carspotter.runtime.session import open_session

    session = open_session(path)
    bundle = replace(shipped("finder"), folder=path.parent, preprocessing=size)
    name = {"scratch": "small CNN", "features": f"frozen {settings.backbone}"}.get(settings.how, "fine-tuned")
    return Base(
        name=name,
        preprocessing=size,
        describe=lambda crops: features(READS[0], session.run(crops)),
        card=card,
        bundle=bundle,
    )
