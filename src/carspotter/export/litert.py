"""Turn a bundle's network into the bytes of a `.tflite` file, for LiteRT on phones.

Input and outputs keep names, types and shapes, but the batch is 1: uint8 pixels in, float32 out, whatever the precision
between. What the network needs to know of photos (the bundle's preprocessing, calibration, classes) is stated inside
the file, as JSON in the metadata entry `carspotter`. It writes no bundle and measures nothing.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carspotter.errors import BundleError, MissingExtraError, suggestion
from carspotter.export.network import Network
from carspotter.pixels import LETTERBOX_GREY
from carspotter.runtime.bundle import PRECISIONS, ModelBundle

METADATA = "carspotter"
"""Name of the metadata entry that holds what the file says of itself."""

FEWEST_PHOTOS = 32
"""Photos below which the ranges of an int8 network are guesses; a few hundred are better."""

_HALVED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_INT8 = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "RESIZE_NEAREST_NEIGHBOR")
"""Operators that calculate in int8, but those of `_exact`. The others are few and cheap:
normalizing pixels, mean, classes, sigmoid, softmax, the corners of boxes. With all in int8 the shipped identifier's
logits were off by 0.32 instead of 0.15 (root mean square), and the finder's boxes overlapped those of float32 by 0.85
(IoU) instead of 0.94."""


def to_litert(bundle: ModelBundle, *, precision: str = "float32", photos: NDArray[np.uint8] | None = None) -> bytes:
    """Convert a bundle's network; `photos` (n, h, w, 3) are network inputs on which int8 is calibrated.

    float16 halves the weights and calculates as float32 does; int8 is static, in weights and between them. Raises
    BundleError where the network, the precision or the photos do not fit, MissingExtraError without the converter.
    """
    if precision not in PRECISIONS:
        raise BundleError(f"precision {precision!r} is unknown; {suggestion(precision, PRECISIONS)}")
    for package in ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "phone")
    network = Network(bundle).eval()
    calibrating = _calibrating(photos, network) if precision == "int8" else None
    with _quiet():
        content = _convert(network)
        if precision == "float16":
            content = _halve(content)
        elif calibrating is not None:
            content = _to_int8(content, calibrating)
    return _describe(content, describe(network, precision))


def describe(network: Network, precision: str) -> dict[str, Any]:
    """Return what the file says of itself, as JSON values: all that an app needs beside it."""
    bundle = network.bundle
    words: dict[str, Any] = {
        "task": bundle.task,
        "name": bundle.name,
        "precision": precision,
        "input": {"name": "image", "type": "uint8", "shape": list(network.input_shape), "colors": "sRGB, red first"},
        "normalization": "inside the network: give it pixels from 0 to 255",
        "preprocessing": {**bundle.preprocessing.to_dict(), "resize": "bilinear, antialiased"},
        "outputs": list(network.output_names),
        "calibration": dict(bundle.calibration),
        "licence": bundle.card.get("licence"),
    }
    if bundle.preprocessing.fit == "letterbox":
        words["preprocessing"]["grey"] = LETTERBOX_GREY
    if bundle.taxonomy is None:
        return words
    return {
        **words,
        **bundle.taxonomy.outline(),
        "attributes": {name: list(said) for name, said in bundle.attributes.items()},
    }


class _Named(nn.Module):
    """Answer by name, which the converter takes for the names of the signature's outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.network.output_names, self.network(image), strict=True))


def _calibrating(photos: NDArray[np.uint8] | None, network: Network) -> NDArray[np.uint8]:
    if photos is None or len(photos) < FEWEST_PHOTOS:
        given = "none" if photos is None else str(len(photos))
        raise BundleError(f"int8 is calibrated on photos: {given} given, at least {FEWEST_PHOTOS} are needed")
    if photos.dtype != np.uint8 or photos.shape[1:] != network.input_shape[1:]:
        wanted = ", ".join(str(size) for size in network.input_shape[1:])
        raise BundleError(f"photos are {photos.dtype} {photos.shape}; the network takes uint8 (n, {wanted})")
    return photos


def _convert(network: Network) -> bytes:
    import litert_torch

    example = {"image": torch.zeros(network.input_shape, dtype=torch.uint8)}
    return bytes(litert_torch.convert(_Named(network).eval(), sample_kwargs=example).model_content())


def _halve(content: bytes) -> bytes:
    """Store weights as float16; a runtime makes float32 of them as it opens the file, or calculates in float16."""
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(content)
    for operator in _HALVED:
        quantizer.add_weight_only_config(
            ".*", TFLOperationName(operator), 16, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    return bytes(quantizer.quantize(enable_progress_report=False).quantized_model)


def _to_int8(content: bytes, photos: NDArray[np.uint8]) -> bytes:
    """Calculate in int8: weights by channel, what lies between by the ranges that the photos reach."""
    from ai_edge_quantizer.calibrator import CalibrationMode
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(content)
    for operator in _INT8:
        quantizer.add_static_config(".*", TFLOperationName(operator), activation_num_bits=8, weight_num_bits=8)
    for operator, name in (("FULLY_CONNECTED", ""), *_exact(content)):
        scope = re.escape(name) or ".*"
        quantizer.add_weight_only_config(
            scope, TFLOperationName(operator), 16, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    inputs = {"serving_default": [{"image": photo[np.newaxis]} for photo in photos]}
    ranges = quantizer.calibrate(inputs, num_threads=1, mode=CalibrationMode.CALIBRATION_PROFILER_BASED)
    return bytes(quantizer.quantize(ranges, enable_progress_report=False).quantized_model)


def _exact(content: bytes) -> list[tuple[str, str]]:
    """Return kind and output of the convolutions that calculate in float32, with weights of 16 bits.

    Those behind the first resize are a finder's neck and heads: a tenth of the work, and their numbers become corners
    of boxes, for which 8 bits are too few. Those of one place look at the mean of a photo: squeeze-and-excitation, and
    a head behind the pooling. They cost next to nothing, and on some of them in int8 XNNPACK cannot be created: LiteRT
    2.3 then says so, or ends the process with "double free or corruption".
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph, found, behind = model.subgraphs[0], [], False
    kinds = {getattr(BuiltinOperator, name): name for name in _INT8}
    for operator in graph.operators:
        kind = kinds.get(model.operatorCodes[operator.opcodeIndex].builtinCode, "")
        behind = behind or kind == "RESIZE_NEAREST_NEIGHBOR"
        made = graph.tensors[operator.outputs[0]]
        if kind.endswith("CONV_2D") and (behind or list(made.shape[1:3]) == [1, 1]):
            found.append((kind, made.name.decode()))
    return found


def _describe(content: bytes, words: dict[str, Any]) -> bytes:
    """Write the metadata entry, and put all weights inside the flatbuffer, where readers before 2024 look for them."""
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    text = json.dumps(words, ensure_ascii=False).encode()
    model.buffers.append(BufferT(data=text))
    model.metadata = [*(model.metadata or []), MetadataT(name=METADATA, buffer=len(model.buffers) - 1)]
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    builder = _aligned_builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _aligned_builder() -> Any:
    import flatbuffers

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]  # it has no types
        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802  # the library's name
            # TFLite's schema wants weights at multiples of 16 bytes, which Python's builder knows nothing of.
            return super().StartVector(size, count, 16 if size == 1 else alignment)

    return Aligned(1 << 20)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' progress bars and their warnings about their own insides to themselves."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield
