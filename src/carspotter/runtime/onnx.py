"""The only door to ONNX Runtime: an `.onnx` file in, a `Session` on the processor or on CUDA out.

It falls back to nothing silently: a device that cannot be used is an error that lists what this build offers.
It chooses no engine (`session.py`) and knows no task (`bundle.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from carspotter.cores import quota
from carspotter.errors import BundleError
from carspotter.runtime.form import TensorSpec, check_batch

_ERRORS_ONLY = 3
"""ONNX Runtime's severity: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal. Its warnings are for its developers."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# They share no parent below Exception.
_OPEN_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

# ONNX Runtime's names of types in words of C where they differ from numpy's.
_DTYPES = {"float": "float32", "double": "float64", "bool": "bool"}


class OnnxSession:
    """A network opened by ONNX Runtime; implements `Session`."""

    engine = "onnxruntime"

    def __init__(self, path: Path, *, threads: int | None = None, device: str = "cpu") -> None:
        """Open the file; raises BundleError when it is no network of one input or the device is not available."""
        onnxruntime.disable_telemetry_events()  # for a program that imported it before carspotter could switch it off
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        provider = _provider(device)
        try:
            self._session = onnxruntime.InferenceSession(str(path), _options(threads), providers=[provider])
        except _OPEN_ERRORS as error:
            raise BundleError(
                f"{path} is no network that ONNX Runtime {onnxruntime.__version__} can open: {error}"
            ) from error
        # A provider whose libraries are missing is dropped with a log line; an answer ten times slower is no answer.
        if provider not in self._session.get_providers():
            raise BundleError(_no_provider(device, "its libraries (CUDA, cuDNN) could not be loaded"))
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BundleError(f"{path} has {len(inputs)} inputs; carspotter runs networks with one, the image")
        self.input_form = _form(inputs[0])
        self.output_forms = tuple(_form(value) for value in self._session.get_outputs())
        self.input_name = self.input_form.name
        self.output_names = tuple(form.name for form in self.output_forms)

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one batch and return each output by name; raises ValueError when the batch does not fit."""
        check_batch(batch, self.input_form)
        values = self._session.run(None, {self.input_name: batch})
        return dict(zip(self.output_names, values, strict=True))


def _options(threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or quota() or 0  # 0: one thread a core
    options.inter_op_num_threads = 1  # our networks are chains: two operators never wait for a core at once
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # All optimisations: they fold the Cast of weights stored in float16, so that running costs the same as float32
    # (best of 60 runs of EfficientNet-Lite0, one image, one thread: 17.2 and 16.9 ms).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Idle threads sleep: left to spin they take the cores from the decoder and from the other network. On two busy
    # cores EfficientNet-Lite0 at 224 px took 48 ms an image with spinning and 20 to 27 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest batch's memory for the next: EfficientNet-Lite0 at 224 px on one thread, batch 16,
    # ran 71 images/s with it and 52 without.
    options.enable_cpu_mem_arena = True
    return options


def _provider(device: str) -> str:
    provider = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise BundleError(_no_provider(device, "this build of onnxruntime does not have it"))
    return provider


def _no_provider(device: str, reason: str) -> str:
    offered = ", ".join(onnxruntime.get_available_providers())
    return (
        f"device {device}: {_PROVIDERS[device]} cannot be used, {reason}; available here: {offered}. "
        "Install the GPU build in its place (pip uninstall onnxruntime; pip install onnxruntime-gpu) or take device cpu"
    )


def _form(value: Any) -> TensorSpec:
    words = str(value.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return TensorSpec(name=str(value.name), shape=shape, dtype=_DTYPES.get(words, words))
