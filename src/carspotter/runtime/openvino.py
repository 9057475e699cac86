"""The only door to OpenVINO: an `.onnx` or `.xml` file in, a `Session` on the processor out.

A network is compiled once, for any batch size. This file chooses no engine (`session.py`) and knows no task
(`bundle.py`).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from carspotter.cores import quota
from carspotter.errors import BundleError
from carspotter.runtime.form import TensorSpec, check_batch


class OpenVinoSession:
    """A network opened by OpenVINO; implements `Session`."""

    engine = "openvino"

    def __init__(
        self, path: Path, *, threads: int | None = None, precision: str = "float32", max_concurrency: int = 1
    ) -> None:
        """Compile the file for `max_concurrency` runs at a time; raises BundleError for no network of one input."""
        _check_weights(path)
        try:
            # One compilation with a free batch size: EfficientNet-Lite0 at 224 px on one thread took 28 ms for one
            # image and 457 ms for 16, against 25 and 484 ms compiled for exactly these sizes, and each size compiled
            # costs another 0.15 s and its own copy of the weights.
            core = openvino.Core()
            model = core.read_model(path)
            self._compiled = core.compile_model(model, "CPU", _options(threads, precision, max_concurrency))
        except RuntimeError as error:
            raise BundleError(f"{path} is no network that OpenVINO {openvino.__version__} can open: {error}") from error
        if len(model.inputs) != 1:
            raise BundleError(f"{path} has {len(model.inputs)} inputs; carspotter runs networks with one, the image")
        # Names are read before compiling, which gives outputs the names of inner tensors as well.
        self.input_form = _form(model.inputs[0])
        self.output_forms = tuple(_form(port) for port in model.outputs)
        self.input_name = self.input_form.name
        self.output_names = tuple(form.name for form in self.output_forms)
        self._requests = threading.local()  # a request holds one batch, so each thread has its own

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one batch and return each output by name; raises ValueError when the batch does not fit."""
        check_batch(batch, self.input_form)
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        # Sharing spares a copy of the batch on the way in; what comes out are copies, which the next run leaves alone.
        results = request.infer([np.ascontiguousarray(batch)], share_inputs=True, share_outputs=False)
        return {name: results[index] for index, name in enumerate(self.output_names)}


def _options(threads: int | None, precision: str, max_concurrency: int) -> dict[str, Any]:
    # Left alone, OpenVINO takes bfloat16 on processors that have it, without a word. It is faster there, but then
    # probabilities differ between machines and engines in the third digit, and so may an abstention near its
    # threshold. Equal answers come first; speed is for those who ask for it.
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads * max_concurrency
    elif (granted := quota()) is not None:
        options["INFERENCE_NUM_THREADS"] = granted
    if max_concurrency > 1:
        # Without streams of their own, runs of several threads wait for each other: two threads on two cores identified
        # 79 crops/s with one stream, as many as one thread alone, and 127 with two.
        options["NUM_STREAMS"] = max_concurrency
    return options


def _check_weights(path: Path) -> None:
    if path.suffix.lower() == ".xml" and not path.with_suffix(".bin").is_file():
        raise BundleError(
            f"{path} has no weights beside it: {path.with_suffix('.bin').name} is missing; put both in one folder"
        )


def _form(port: Any) -> TensorSpec:
    shape = tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
    return TensorSpec(name=str(port.any_name), shape=shape, dtype=str(np.dtype(port.element_type.to_dtype())))
