"""The networks whose features a head may read: the shipped ones, one of timm, one that is trained for it; and HOG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carspotter.pixels import Preprocessing
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.attribute import features
from carspotter.runtime.bundle import READS, ModelBundle, shipped
from carspotter.runtime.manifest import sha256

if TYPE_CHECKING:
    from carspotter.project_training.attribute_photos import AttributeSettings
    from carspotter.runtime.session import Session
    from carspotter.training.recipe import Recipe

AROUND = 0.15
"""Margin around a vehicle in which a finder sees its side: it learnt from whole photos, never from a tight box."""
HOG_SIZE = Preprocessing(width=128, height=128)

_NONE = {"use": "Comparison.", "licence": "as the photographs", "data": "none", "recipe": "HOG"}

Order = npt.NDArray[np.int64] | slice
LABELS = "labels.csv"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """What describes crops (n, h, w, 3) of an input size by vectors (n, d); `bundle` holds the network, if any.

    `version` names what answers. `order` (d,) says where each number of a mirrored photo's vector stands in that of the
    photo as it is; None where the network must be asked again.
    """

    name: str
    version: str
    preprocessing: Preprocessing
    describe: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    card: Mapping[str, Any]
    reads: tuple[str, ...] = READS[0]
    bundle: ModelBundle | None = None
    session: Session | None = None
    order: Order | None = None


def bases_of(settings: AttributeSettings, out: Path, *, of_photo: bool) -> list[Base]:
    """Return what the head may read before anything is trained; validation chooses. Raises RecipeError."""
    if settings.how == "hog":
        return [hog_base()]
    if settings.how == "features":
        return [exported(_frozen(recipe_of(settings, out)), settings, out)]
    if settings.backbone:
        _frozen(recipe_of(settings, out))  # weights that cannot be had are an error before any photo is read
    return shipped_bases(of_photo=of_photo) if settings.how == "head" else []


def shipped_bases(*, of_photo: bool) -> list[Base]:
    """Open the networks that ship."""
    from carspotter.training.identifier.targets import mirrored

    identifier, finder = shipped("identifier"), shipped("finder")
    around = finder.preprocessing if of_photo else replace(finder.preprocessing, pad=AROUND)
    # Both learnt from mirrored photos: the embedding stays, and of the finder's numbers the sides change places.
    sides = len(KINDS) + mirrored(VIEWPOINTS)
    return [
        base_of(identifier, identifier.preprocessing, READS[0], slice(None)),
        base_of(finder, around, READS[1], np.concatenate([np.arange(len(KINDS)), sides])),
    ]


def base_of(bundle: ModelBundle, size: Preprocessing, reads: tuple[str, ...], order: Order | None) -> Base:
    """Open a bundle's network as a base that sees crops of a size."""
    session = bundle.open_session()
    return Base(
        name=bundle.name,
        version=f"{bundle.version} {size}",
        preprocessing=size,
        describe=lambda crops: features(reads, session.run(crops)),
        card=bundle.card,
        reads=reads,
        bundle=bundle,
        session=session,
        order=order,
    )


def hog_base() -> Base:
    """Describe crops by HOG, which no bundle holds: for comparison alone."""
    from carspotter.training.baselines import HogSettings, hog_vectors

    settings = HogSettings()
    describe = partial(hog_vectors, settings=settings)
    version = f"HOG {settings} {HOG_SIZE}"
    return Base(name="HOG", version=version, preprocessing=HOG_SIZE, describe=describe, card=_NONE)


def recipe_of(settings: AttributeSettings, out: Path) -> Recipe:
    """Return the recipe of a network for an attribute; its labels are the run's. Raises RecipeError."""
    from carspotter.training.recipe_file import load_recipe

    recipe = load_recipe(
        "small-cnn" if settings.how == "scratch" else "fine-tune-attribute",
        [f"data.labels={run_of(out) / LABELS}", f"name={settings.task}", f"seed={settings.seed}", *_changes(settings)],
    )
    if settings.epochs:
        recipe = replace(recipe, phases=(replace(recipe.phases[-1], epochs=settings.epochs),))
    if settings.backbone:
        from carspotter.training.plan import at_fixed_size

        recipe = at_fixed_size(recipe)
    return recipe


def run_of(out: Path) -> Path:
    """Return the folder in which a network is trained, and what networks said of photos is kept."""
    return out / "run"


def _changes(settings: AttributeSettings) -> list[str]:
    """Return what a backbone of timm changes in the recipe: its first weights, whose norms are not folded."""
    if not settings.backbone:
        return []
    return [f"model.backbone={settings.backbone}", "model.start=", "model.weights=pretrained", "model.norms=learn"]


def _frozen(recipe: Recipe) -> Any:
    from carspotter.training.identifier.model import Identifier, load_backbone

    return Identifier(load_backbone(recipe.model), 2).eval()


def exported(network: Any, settings: AttributeSettings, out: Path) -> Base:
    """Write a network as ONNX, and open it as it will be served."""
    from carspotter.export.onnx import to_onnx
    from carspotter.runtime.session import open_session
    from carspotter.training.attribute.task import Embedding, input_of

    recipe = recipe_of(settings, out)
    content = to_onnx(Embedding(network), recipe, READS[0])
    # A bundle of its own file and no head yet: only what a base needs.
    path = run_of(out) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    session, size = open_session(path), input_of(recipe)
    return Base(
        name={"scratch": "small CNN", "features": f"frozen {settings.backbone}"}.get(settings.how, "fine-tuned"),
        version=f"{sha256(content)} {size}",
        preprocessing=size,
        describe=lambda crops: features(READS[0], session.run(crops)),
        card={
            "use": "As its first weights may be used.",
            "licence": recipe.card.licence,
            "data": "first weights: " + (recipe.model.start or recipe.model.weights or "none"),
        },
        bundle=replace(shipped("finder"), folder=path.parent, preprocessing=size, file=path.name, precision="float32"),
        session=session,
    )
