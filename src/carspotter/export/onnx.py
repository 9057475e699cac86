"""Export a training run as a model bundle with its network as ONNX.

The graph takes uint8 pixels (n, h, w, 3) and normalises them itself; it ends in answers (`answers.py`), for which the
network is calibrated first. Weights are kept as float16 and cast to float32 as the runtime loads them: half the size,
and the arithmetic of every engine stays float32. What comes before the answers is compared with the network's own
before anything is written.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from carspotter.errors import TrainingError
from carspotter.export.answers import finish_finder, finish_identifier, raw_outputs
from carspotter.export.quantize import halve_weights
from carspotter.pixels import Preprocessing
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.seen import to_bytes
from carspotter.runtime.session import open_session
from carspotter.taxonomy import Taxonomy
from carspotter.training.checkpoint import BEST, TAXONOMY, Checkpoint, fill, load_checkpoint
from carspotter.training.norms import fuse_norms
from carspotter.training.recipe import Recipe
from carspotter.training.recipe_file import load_recipe
from carspotter.training.start import read_notice, read_seen
from carspotter.training.task import RECIPE, Task, open_task

logger = logging.getLogger(__name__)
OPSET = 18  # the lowest that torch's exporter writes without converting; OpenVINO and LiteRT read it
TOLERANCE = 0.02
"""Largest difference between the file and the network in any output: float16 keeps 11 bits of each weight."""
CHANGED = (
    "labels or recipe are others than those that the run learnt by, so that photos it learnt from may be among those "
    "that thresholds and figures are of"
)


def export(run: str | Path, out: str | Path, *, task: Task | None = None) -> ModelBundle:
    """Write the best network of a run as a bundle to the folder `out`. Raises TrainingError, RecipeError.

    Who has the run's `task` open gives it, and its photos are not read again.
    """
    run = Path(run)
    if not (run / RECIPE).is_file():
        raise TrainingError(f"{run} is no run: it has no {RECIPE}; name the folder that `carspotter train` printed")
    recipe = load_recipe(run / RECIPE)
    if recipe.task not in ("identifier", "finder"):
        what = "an attribute: `carspotter train … --task` wrote its bundle beside it"
        what = what if recipe.task == "attribute" else f"the baseline {recipe.task!r}: it has no network to export"
        raise TrainingError(f"{run} is {what}")
    task = task or open_task(recipe, run)
    _check_classes(task, run)
    model, checkpoint = best_of(run, task)
    calibration, figures = task.calibrate(model)
    network = to_onnx(task.export_module(model), recipe, raw_outputs(task.taxonomy, task.attributes))
    content, calibration = finish(network, calibration, taxonomy=task.taxonomy, attributes=task.attributes)
    notice = read_notice(run)
    bundle = ModelBundle(
        task="finder" if recipe.task == "finder" else "identifier",
        name=recipe.name,
        preprocessing=preprocessing_of(recipe),
        taxonomy=task.taxonomy,
        attributes=task.attributes,
        calibration=calibration,
        seen=to_bytes(read_seen(run)),
        card=card_of(recipe, task, figures, checkpoint) | ({"notice": notice} if notice else {}),
    )
    return bundle.save(out, content)


def finish(
    network: bytes, calibration: Mapping[str, Any], *, taxonomy: Taxonomy | None, attributes: Iterable[str] = ()
) -> tuple[bytes, dict[str, Any]]:
    """Put what turns a network's raw outputs into answers into the graph; return it, and what is left to calibrate.

    Of an identifier that is the calibration's `temperature` and `temperatures` by attribute, of a finder its `iou`.
    """
    model, left = onnx.load_from_string(network), dict(calibration)
    if taxonomy is None:
        finish_finder(model, iou=float(left.pop("iou", 0.5)))
    else:
        softness = left.pop("temperatures", {})
        each = {name: float(softness.get(name, 1.0)) for name in attributes}
        finish_identifier(model, taxonomy, temperature=float(left.pop("temperature", 1.0)), attributes=each)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString()), left


def best_of(run: Path, task: Task) -> tuple[nn.Module, Checkpoint]:
    """Return the best network of a run and its checkpoint; warn where the task's data are not those of the run.

    Raises TrainingError where the labels have other words than the run learnt.
    """
    model, checkpoint = task.build_model(blank=True), load_checkpoint(run / BEST)
    fill(model, checkpoint.kept, run)
    if checkpoint.fingerprint != task.fingerprint:
        logger.warning("%s: %s; restore them and export again", run, CHANGED)
    return model.eval(), checkpoint


def _check_classes(task: Task, run: Path) -> None:
    """Raise TrainingError where the classes are no longer those that the run learnt: names would silently be wrong."""
    learnt = Taxonomy.load(run / TAXONOMY).classes if (run / TAXONOMY).exists() else None
    if task.taxonomy is not None and learnt is not None and learnt != task.taxonomy.classes:
        raise TrainingError(f"{run}: its classes differ from those of data.taxonomy now; restore that file")


def to_onnx(module: nn.Module, recipe: Recipe, outputs: tuple[str, ...]) -> bytes:
    """Turn a module that takes uint8 pixels (n, h, w, 3) into ONNX with float16 weights, and compare both."""
    size = recipe.input
    example = torch.randint(0, 256, (2, size.height, size.width, 3), dtype=torch.uint8)
    module = fuse_norms(module)
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=list(outputs),
        dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=1024)}},
        opset_version=OPSET,
        verbose=False,
    )
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)  # type: ignore[union-attr]  # None only with dynamo=False
    model = onnx.load_from_string(buffer.getvalue())
    _strip(model)
    halve_weights(model)
    onnx.checker.check_model(model)
    content = bytes(model.SerializeToString())
    _compare(content, module, example)
    return content


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about our source: paths and stack traces weigh as much as a small network."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]


def _compare(content: bytes, module: nn.Module, example: torch.Tensor) -> None:
    """Run the file in ONNX Runtime beside the network. Raises TrainingError where they differ."""
    with torch.inference_mode():
        wanted = [output.numpy() for output in module(example)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        found = open_session(path, "onnxruntime").run(example.numpy())
    for (name, other), own in zip(found.items(), wanted, strict=True):
        difference = float(np.abs(own - other).max() / max(1.0, float(np.abs(own).max())))
        logger.info("%s: largest difference %.2g", name, difference)
        if not difference <= TOLERANCE:
            raise TrainingError(f"export: {name} of the ONNX file differs by {difference:.2g} from the network")


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """Return how a bundle of a recipe's network makes its input."""
    size = recipe.input
    return Preprocessing(width=size.width, height=size.height, fit=size.fit, pad=size.pad)


def card_of(recipe: Recipe, task: Task, figures: Mapping[str, float], checkpoint: Checkpoint) -> dict[str, Any]:
    """Fill the card: words from the recipe, figures on the part held out from learning, by which
    epoch and thresholds were chosen: a little too good."""
    card, learnt, epochs = recipe.card, checkpoint.fingerprint, checkpoint.epoch
    # Of a head without a labelled photo among those held out there is no figure.
    known = {name: value for name, value in figures.items() if math.isfinite(value)}
    chosen = {f"choosing part: {name}": round(float(value), 4) for name, value in known.items()}
    changed = {"note": CHANGED} if learnt != task.fingerprint else {}
    return {
        "use": card.use,
        "licence": card.licence,
        "data": {"source": card.data, "fingerprint": learnt, **changed},
        "recipe": {"claim": recipe.claim, "backbone": recipe.model.backbone, "epochs": epochs, "seed": recipe.seed},
        "figures": chosen,
        "retrain": card.retrain,
    }
