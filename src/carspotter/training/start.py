"""Load the first weights of a training, as `model.start` names them. No network is asked.

It names a run, a shipped bundle (`identifier`, `finder`) or a bundle's folder. A bundle's weights are read out of its
model.onnx, in which batch norms are folded and numbers have 11 bits (`export.onnx`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from carspotter.errors import BundleError, RecipeError, TaxonomyError
from carspotter.runtime.bundle import FILES, TASK_OUTPUTS, ModelBundle, Task, shipped
from carspotter.runtime.seen import SEEN_FILE, Hashes, from_bytes
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from carspotter.training.checkpoint import BEST, TAXONOMY, load_checkpoint
from carspotter.training.norms import unfold_norms
from carspotter.training.recipe import Recipe

logger = logging.getLogger(__name__)
BACKBONE = "backbone."
NOTICE = "NOTICE"
"""The file of a run with what the card of its network must repeat."""
_HEAD = ("head.weight", "head.bias")
_LAST = ("conv_head.", "norm_head.", "bn2.")
"""What a backbone has for classifying alone; a finder has no use for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The weights of a run or a bundle, named as in our networks, and the classes of an identifier's head."""

    place: str
    task: Task
    weights: Mapping[str, Tensor]
    is_folded: bool
    classes: Taxonomy | None
    """None for a finder, and for a bundle whose head is not the network's."""


def open_start(recipe: Recipe) -> Start:
    """Read what `model.start` names: a shipped bundle by name, else a folder. Raises TrainingError, RecipeError."""
    place = _place(recipe)
    if isinstance(place, ModelBundle):
        try:
            return start_of_bundle(place)
        except BundleError as error:
            raise RecipeError(f"model.start: {error}") from error
    # The weights that would be exported: averaged, and blended where the run blends.
    weights = load_checkpoint(place / BEST).kept
    classes = Taxonomy.load(place / TAXONOMY) if (place / TAXONOMY).is_file() else None
    task: Task = "finder" if classes is None else "identifier"
    return Start(place=str(place), task=task, weights=weights, is_folded=False, classes=classes)


def _place(recipe: Recipe) -> ModelBundle | Path:
    """Return the bundle that `model.start` names, or the folder of a run. Raises RecipeError for a broken bundle."""
    name = recipe.model.start
    try:
        if name in TASK_OUTPUTS:
            return shipped(cast(Task, name))
        folder = Path(name)
        return ModelBundle.load(folder) if (folder / "bundle.json").is_file() else folder
    except BundleError as error:
        raise RecipeError(f"model.start: {error}") from error


def notice_of(recipe: Recipe) -> str:
    """Return what the card of a network must repeat: the recipe's own notice, else that of where it starts from.

    Raises RecipeError for a file that cannot be read, or a start that is not there.
    """
    if recipe.card.notice:
        try:
            return Path(recipe.card.notice).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"card.notice: {error}") from error
    if not recipe.model.start:
        return ""
    place = _place(recipe)
    return str(place.card.get("notice", "")) if isinstance(place, ModelBundle) else read_notice(place)


def read_notice(run: Path) -> str:
    """Return the notice that a run keeps, empty where it has none."""
    return (run / NOTICE).read_text(encoding="utf-8") if (run / NOTICE).is_file() else ""


def seen_by_start(recipe: Recipe) -> Hashes:
    """Return the hashes (n, 2) of what `model.start` has learnt from, none where nothing is known of it."""
    place = _place(recipe) if recipe.model.start else None
    if isinstance(place, ModelBundle):
        return from_bytes(place.seen)
    return read_seen(place) if place else from_bytes(b"")


def read_seen(run: Path) -> Hashes:
    """Return the hashes (n, 2) that a run keeps of what it learnt from. Raises BundleError for a cut file."""
    path = run / SEEN_FILE
    return from_bytes(path.read_bytes() if path.is_file() else b"", str(path))


def take_backbone(model: nn.Module, start: Start) -> None:
    """Fill the `backbone` of a network of any task. Raises RecipeError where `start` has another one.

    A finder's export lacks what its backbone has for classifying alone: that keeps its first weights, with a warning.
    """
    lacking = _fill(model, start, BACKBONE)
    if lacking:
        logger.warning("model.start: %s has no %s; it starts from nothing", start.place, ", ".join(lacking))


def take_all(model: nn.Module, start: Start) -> None:
    """Fill a whole network of the same task and shape. Raises RecipeError."""
    lacking = _fill(model, start, "")
    if lacking:
        raise RecipeError(f"model.start: {start.place} lacks {len(lacking)} weights of this network, as {lacking[0]}")


def take_classes(head: nn.Linear, start: Start, taxonomy: Taxonomy) -> int:
    """Fill the rows of a head whose classes `start` knows, or knows the nearest of above; return how many.

    The row of a make without a model is where a new model of that make starts; classes that start from one row have
    its probability together.
    """
    if start.classes is None:
        return 0
    known = _rows(start.classes)
    # Rows of our head and of the start's; classes unknown to it keep their fresh rows.
    pairs = [
        (row, new) for new, taxon in enumerate(taxonomy.classes) if (row := _row(taxon, known, start.classes)) >= 0
    ]
    if pairs:
        old, own = (list(side) for side in zip(*pairs, strict=True))
        weight, bias = (start.weights[name][old] for name in _HEAD)
        # Classes that share a row share its probability: together they say what it said.
        shared = torch.bincount(torch.tensor(old))[old].log()
        with torch.no_grad():
            head.weight[own], head.bias[own] = weight, bias - shared
    logger.info("model.start: %d of %d classes start from those of %s", len(pairs), len(taxonomy), start.place)
    return len(pairs)


def _fill(model: nn.Module, start: Start, prefix: str) -> list[str]:
    """Load the weights that begin with `prefix`; return the names of those that `start` lacks."""
    # An exported graph has its batch norms folded into the convolutions; this network has them apart.
    given = unfold_norms(model, dict(start.weights)) if start.is_folded else start.weights
    given = {name: values for name, values in given.items() if name.startswith(prefix)}
    # `num_batches_tracked` only counts, and timm's own weight files often lack it.
    wanted = {name for name in model.state_dict() if name.startswith(prefix) and "num_batches" not in name}
    try:
        model.load_state_dict(given, strict=False)
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise RecipeError(
            f"model.start: {start.place} has another backbone or shape than this network: {fault}"
        ) from error
    lacking = sorted(wanted - set(given))
    unwanted = [name for name in set(given) - wanted if "num_batches" not in name]
    last = tuple(BACKBONE + name for name in _LAST)
    # Names that do not match mean another architecture: half a backbone would learn, but badly and in silence.
    odd = [name for name in [*lacking, *unwanted] if name.startswith(BACKBONE) and not name.startswith(last)]
    if odd:
        raise RecipeError(f"model.start: {start.place} has another backbone than model.backbone says: {min(odd)}")
    return lacking


def start_of_bundle(bundle: ModelBundle) -> Start:
    """Read the weights out of a bundle's ONNX file. Raises BundleError for one that holds no such weights."""
    if bundle.file != FILES[0] or bundle.precision == "int8":
        raise BundleError(f"bundle {bundle.name} holds {bundle.file} in {bundle.precision}; name the float32 one")
    weights = read_weights(bundle.model_path)
    # A learned head's classes are not those of the network's own last layer.
    is_own = bundle.head is None and bundle.taxonomy is not None and all(name in weights for name in _HEAD)
    classes = bundle.taxonomy if is_own and len(weights[_HEAD[0]]) == len(bundle.taxonomy or ()) else None
    return Start(place=str(bundle.folder), task=bundle.task, weights=weights, is_folded=True, classes=classes)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in an exported ONNX file as float32, named as in the network; constants are left out.

    Raises BundleError where the file holds none under names of ours.
    """
    import onnx
    from onnx import numpy_helper

    weights = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        # The exported module holds the network as `model`: model.backbone.conv_stem.weight.half
        match = re.fullmatch(r"(?:model\.)+(.+?)(?:\.half)?", tensor.name)
        if match:
            weights[match[1]] = torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
    if not any(name.startswith(BACKBONE) for name in weights):
        raise BundleError(f"{path} holds no weights under the names of a network that carspotter trained")
    return weights


def _rows(classes: Taxonomy) -> dict[Taxon, int]:
    """Return the row of each taxon without its body; of two bodies the first."""
    rows: dict[Taxon, int] = {}
    for row, taxon in enumerate(classes.classes):
        rows[taxon] = row
        # Bodies are parts of a class but no level, so that a class without one finds the first that has one.
        rows.setdefault(taxon.up_to(LEVELS[-1]), row)
    return rows


def _row(taxon: Taxon, rows: Mapping[Taxon, int], classes: Taxonomy) -> int:
    """Return the row of a class, or of the deepest one above it; -1 where there is none."""
    if taxon in rows:
        return rows[taxon]
    try:
        taxon = Taxon.from_dict(taxon.to_dict() | {"make": classes.find(taxon.make)})
    except TaxonomyError:
        return -1
    # From the year up to the make: the nearest relative that has a row.
    return next((rows[above] for level in reversed(LEVELS) if (above := taxon.up_to(level)) in rows), -1)
