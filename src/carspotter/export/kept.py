"""Export what a training made beside what its start knew: a network's bytes, and what it answers on held-out photos.

A training that starts from a bundle teaches the backbone its classes with a head of its own. The start's further heads,
and its own names of models, still read that backbone: they are put back behind it as they were. How well they still
agree with the start on held-out photos is measured; what no longer does is left out. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carspotter.export.answers import raw_outputs
from carspotter.export.network import temperatures
from carspotter.export.onnx import best_of, card_of, finish, preprocessing_of, to_onnx
from carspotter.pixels import Preprocessing
from carspotter.runtime.bundle import NETWORK, ModelBundle
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.runtime.seen import to_bytes
from carspotter.taxonomy import Taxonomy
from carspotter.training.identifier.model import Identifier, load_backbone
from carspotter.training.identifier.probe import resized
from carspotter.training.identifier.source import LabelledPhotos
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.start import read_notice, read_seen, start_of_bundle, take_all

AGREES = 0.95
"""Share of held-out photos on which a kept head must say the same as in the start's own network."""
PROFILED = 50
"""Photos of a class by which it is known what the start's names say of it."""
_BATCH = 32
Floats = NDArray[np.float32]
Outputs = Sequence[Floats]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What a network says of photos: embeddings (n, d), classes (n,), its own models' probabilities (n, m) or None."""

    embeddings: Floats
    classes: NDArray[np.int64]
    said: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """A network as the bytes of its file, and all of a bundle that does not depend on who calibrates its head.

    `names` are the classes that the network itself answers, `attributes` its further heads with their words, `head` the
    trained head on embeddings of unit length, without profiles. `agreement` has of each head of the start, and of its
    `model`, the share of held-out photos on which both networks say the same.
    """

    network: bytes
    names: Taxonomy
    attributes: Mapping[str, tuple[str, ...]]
    calibration: Mapping[str, Any]
    preprocessing: Preprocessing
    card: Mapping[str, Any]
    seen: bytes
    head: Head
    learnt: Answers
    held: Answers
    agreement: Mapping[str, float]


def export_kept(run: Path, task: IdentifierTask, base: ModelBundle | None) -> Exported:
    """Export the best network of a run; `base` is the bundle that it started from, None where nothing is to be kept.

    Raises TrainingError where the file differs from the network.
    """
    found, checkpoint = best_of(run, task)
    model = cast(Identifier, found).to(task.device)
    calibration, figures = task.calibrate(model)
    whole, agreement, names, attributes = model, dict[str, float](), task.taxonomy, dict(task.attributes)
    if base is not None:
        whole, names = _put_back(model, base, task), cast(Taxonomy, base.taxonomy)
    held, sample = task.holdout, _sample(task)
    looked = _look(whole, held.images)
    if base is not None:
        agreement = _agreement(base, task, looked)
        attributes = {name: words for name, words in base.attributes.items() if agreement[name] >= AGREES}
        whole.head_names = {key: name for key, name in whole.head_names.items() if name in attributes}
        whole.heads = nn.ModuleDict({key: whole.heads[key] for key in whole.head_names})
        calibration = {**base.calibration, **temperatures(base, attributes)}
    # A network that knows the classes alone has no names by which a stranger could be told.
    softness = float(calibration.get("temperature", 1.0)) if base is not None else 0.0
    of_sample = _look(whole, sample.images, task.recipe.input.height)
    known = held.targets < len(task.taxonomy)
    content, left = _file(whole.cpu(), task, calibration, names=names, attributes=attributes)
    notice = read_notice(run)
    return Exported(
        network=content,
        names=names,
        attributes=attributes,
        calibration={**{key: left[key] for key in attributes if key in left}, NETWORK: left.get("thresholds", {})},
        preprocessing=preprocessing_of(task.recipe),
        card=card_of(task.recipe, task, figures, checkpoint) | ({"notice": notice} if notice else {}),
        seen=to_bytes(read_seen(run)),
        head=_head(model, of_sample),
        learnt=_answers(of_sample, sample.targets, names, softness),
        held=_answers([each[known] for each in looked], held.targets[known], names, softness),
        agreement=agreement,
    )


def _file(
    whole: Identifier,
    task: IdentifierTask,
    calibration: Mapping[str, Any],
    *,
    names: Taxonomy,
    attributes: Mapping[str, Sequence[str]],
) -> tuple[bytes, dict[str, Any]]:
    """Return the network's file, and what of the calibration stands outside of it."""
    network = to_onnx(task.export_module(whole), task.recipe, raw_outputs(names, attributes))
    return finish(network, calibration, taxonomy=names, attributes=attributes)


def _start_of(base: ModelBundle, task: IdentifierTask) -> Identifier:
    """Return the network of a bundle, with all of its heads."""
    heads = {name: len(words) for name, words in base.attributes.items()}
    backbone = load_backbone(task.recipe.model.without_weights())
    start = Identifier(backbone, len(cast(Taxonomy, base.taxonomy)), heads=heads)
    take_all(start, start_of_bundle(base))
    return start.eval().to(task.device)


def _put_back(model: Identifier, base: ModelBundle, task: IdentifierTask) -> Identifier:
    """Return the start's network on the trained backbone."""
    whole = _start_of(base, task)
    whole.backbone.load_state_dict(model.backbone.state_dict())
    return whole


def _agreement(base: ModelBundle, task: IdentifierTask, looked: Outputs) -> dict[str, float]:
    """Return on what share of the held-out photos each head says what it said in the start's own network.

    Photos of which the start was too unsure to say a word do not count: there is nothing to keep.
    """
    # The start at its own size, whatever the new one sees.
    before = _look(_start_of(base, task), task.holdout.images, base.preprocessing.height)
    taxonomy = cast(Taxonomy, base.taxonomy)
    named = [taxonomy.sum_to("model", softmax(outputs[0].astype(np.float64))).argmax(1) for outputs in (before, looked)]
    same = {"model": float((named[0] == named[1]).mean())}
    softness = temperatures(base, base.attributes)["temperatures"]
    for name, one, other in zip(base.attributes, before[2:], looked[2:], strict=True):
        is_said = softmax(one.astype(np.float64) / softness[name]).max(1) >= base.share(name, 0.0)
        same[name] = float((one.argmax(1) == other.argmax(1))[is_said].mean()) if is_said.any() else 0.0
    return same


def _sample(task: IdentifierTask) -> LabelledPhotos:
    """Return some photos of each class of those that were learnt from, which are labelled down to their class."""
    photos = task.photos.some()
    chosen = np.zeros(len(photos.targets), bool)
    for each in range(len(task.taxonomy)):
        chosen[np.flatnonzero(photos.targets == each)[:PROFILED]] = True
    return photos.take(chosen)


def _head(model: Identifier, outputs: Outputs) -> Head:
    """Return the trained head for embeddings of unit length, by the mean length of the features that it reads."""
    length = float(np.linalg.norm(outputs[1], axis=1).mean())
    weights, bias = (values.detach().cpu().numpy() for values in (model.head.weight, model.head.bias))
    return Head(weights=(length * weights).astype(np.float32), bias=bias)


def _answers(outputs: Outputs, targets: NDArray[np.int64], names: Taxonomy, softness: float) -> Answers:
    """Return what was said of photos, with the names of models by their temperature, none at 0."""
    logits, features = outputs[:2]
    said = names.sum_to("model", softmax(logits.astype(np.float64) / softness)).astype(np.float32) if softness else None
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return Answers(embeddings=features / lengths, classes=targets.astype(np.int64), said=said)


def _look(model: Identifier, images: NDArray[np.uint8], side: int = 0) -> Outputs:
    """Return logits (n, c), features (n, d) and each further head's logits of photos (n, h, w, 3), at `side` px."""
    device, parts = next(model.parameters()).device, []
    with torch.inference_mode():
        for chosen in torch.from_numpy(images).split(_BATCH):
            pixels = chosen.to(device).permute(0, 3, 1, 2).float()
            details = model.details(resized(pixels, side) if side else pixels)
            logits, extras = model.answer(details)
            outputs = (logits, details[:, : model.width], *extras.values())
            parts.append([output.float().cpu().numpy() for output in outputs])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
