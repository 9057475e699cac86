"""Turn a bundle into a Core ML package (`.mlpackage`) for iPhones and Macs.

Its input `image` is a picture, red first, as Core ML and Vision hand it over; normalization is inside, the outputs
keep their names. Core ML runs on Apple's systems alone: elsewhere the package is converted and its form checked, but
**what it answers cannot be tried**, so that no bundle of ours holds one. It measures nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carspotter.errors import BundleError, MissingExtraError, StorageError, suggestion
from carspotter.export.litert import describe
from carspotter.export.network import Network
from carspotter.runtime.bundle import PRECISIONS, ModelBundle
from carspotter.storage_errors import refusal

logger = logging.getLogger(__name__)

METADATA = "carspotter"
"""Key of the package's metadata under which it states, as JSON, what a `.tflite` file states too."""


def to_coreml(bundle: ModelBundle, *, precision: str = "float16", out: Path | str) -> Path:
    """Write `model.mlpackage` into the folder `out`, with `taxonomy.json` beside it for an identifier; return its path.

    float32 and float16 are what it calculates in; int8 are its weights, by channel, between which it calculates in
    float16: ranges cannot be calibrated off Apple's systems. It warns that the package was not run. Raises BundleError
    for a network or a precision that cannot be converted, MissingExtraError without coremltools, StorageError where
    the folder cannot be written.
    """
    if precision not in PRECISIONS:
        raise BundleError(f"precision {precision!r} is unknown; {suggestion(precision, PRECISIONS)}")
    if find_spec("coremltools") is None:
        raise MissingExtraError("coremltools", "phone")
    network = Network(bundle).eval()
    model = _convert(network, precision)
    model.short_description = f"carspotter {bundle.task} {bundle.name}, {precision}"
    model.license = str(bundle.card.get("licence", ""))
    model.user_defined_metadata[METADATA] = json.dumps(_words(network, precision), ensure_ascii=False)
    path = Path(out) / "model.mlpackage"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            shutil.rmtree(path)
        model.save(str(path))
    except OSError as error:
        raise StorageError(f"Core ML package {path} cannot be written: {refusal(error)}") from error
    if bundle.taxonomy is not None:
        bundle.taxonomy.save(path.with_name("taxonomy.json"))
    logger.warning("%s was converted, but not run: Core ML runs on Apple's systems alone; try it on a Mac first", path)
    return path


class _Picture(nn.Module):
    """Take a picture as Core ML hands it over: float32 (1, 3, h, w), red first, 0 to 255."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for value in self.network(image.permute(0, 2, 3, 1)):
            # Core ML calls a tensor by one name: classes that are a level of their own get both names.
            is_told = any(value is other for other in outputs)
            outputs.append(torch.cat([value[:, :1], value[:, 1:]], dim=1) if is_told else value)
        return tuple(outputs)


def _convert(network: Network, precision: str) -> Any:
    import coremltools

    _, height, width, channels = network.input_shape
    example = torch.zeros(1, channels, height, width)
    number = coremltools.precision.FLOAT32 if precision == "float32" else coremltools.precision.FLOAT16
    with warnings.catch_warnings():  # of coremltools and of torch about each other's versions
        warnings.simplefilter("ignore")
        # Exported first: in its graph sizes are plain numbers, of which a trace alone would make operations.
        plain = torch.export.export(_Picture(network).eval(), (example,)).module()
        model = coremltools.convert(
            torch.jit.trace(plain, example),
            inputs=[coremltools.ImageType(name="image", shape=example.shape)],
            outputs=[coremltools.TensorType(name=name, dtype=np.float32) for name in network.output_names],
            convert_to="mlprogram",
            compute_precision=number,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        return _weights_to_int8(model) if precision == "int8" else model


def _weights_to_int8(model: Any) -> Any:
    from coremltools.optimize import coreml

    by_channel = coreml.OpLinearQuantizerConfig(mode="linear_symmetric")
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=by_channel))


def _words(network: Network, precision: str) -> dict[str, Any]:
    words = describe(network, precision)
    _, height, width, _ = network.input_shape
    return {**words, "input": {"name": "image", "type": "picture", "width": width, "height": height, "colors": "RGB"}}
