"""Open a network's file as a `Session` that runs batches, by whichever engine is installed.

This file chooses the engine; `onnx.py`, `openvino.py` and `litert.py` run it, each the only door to its library and
imported only when a session is opened. It knows no task: what the arrays mean stands in the bundle (`bundle.py`).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from numpy.typing import NDArray

from carspotter.errors import BundleError, MissingExtraError, suggestion
from carspotter.runtime.form import TensorSpec

Engine = Literal["auto", "openvino", "onnxruntime", "litert"]
Device = Literal["cpu", "cuda"]
Arithmetic = Literal["float32", "bfloat16"]

ENGINES: tuple[str, ...] = get_args(Engine)
DEVICES: tuple[str, ...] = get_args(Device)
ARITHMETICS: tuple[str, ...] = get_args(Arithmetic)
"""What a session calculates a float32 network in."""

_NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "litert": "LiteRT"}
_PACKAGES = {"litert": "ai_edge_litert"}
_OPENED_BY = {".xml": ("openvino",), ".tflite": ("litert",)}


class Session(Protocol):
    """A network opened by one engine, ready to run; may be used from several threads."""

    @property
    def engine(self) -> str:
        """Return "openvino", "onnxruntime" or "litert"."""

    @property
    def input_name(self) -> str:
        """Return the name of the single input."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs, in the network's order."""

    @property
    def input_form(self) -> TensorSpec:
        """Return name, shape and type of the single input."""

    @property
    def output_forms(self) -> tuple[TensorSpec, ...]:
        """Return name, shape and type of each output, in the network's order."""

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one batch and return each output by name; our own networks take uint8 (n, H, W, 3) sRGB.

        Raises ValueError when shape or type of the batch is not what the network takes.
        """


def open_session(
    model_path: Path | str,
    engine: str = "auto",
    *,
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
    max_concurrency: int = 1,
) -> Session:
    """Open a network file (`.onnx`, OpenVINO's `.xml` with its `.bin` beside it, LiteRT's `.tflite`) with an engine.

    `threads` bounds the threads of one run (None: the engine's choice, as a rule one a core); `max_concurrency`
    says how many runs other threads may start at a time, which OpenVINO wants to know beforehand. `device` "cuda" needs
    ONNX Runtime's GPU build. `precision` "float32" makes all engines answer alike; "bfloat16" is OpenVINO's on
    processors with AMX. Raises MissingExtraError when the engine is not installed, BundleError when the file, the
    device or the precision cannot be used, ValueError for an unknown engine, device, precision or thread count.
    """
    for word, allowed in ((engine, ENGINES), (device, DEVICES), (precision, ARITHMETICS)):
        _check_word(word, allowed)
    if threads is not None and threads < 1:
        raise ValueError(f"threads={threads}: must be at least 1, or None for the engine's own choice")
    if max_concurrency < 1:
        raise ValueError(f"max_concurrency={max_concurrency}: must be at least 1")
    path = Path(model_path)
    chosen = choose_engine(engine, suffix=path.suffix.lower(), device=device, precision=precision)
    if not path.is_file():
        raise BundleError(f"no network file at {path}; check the path, or run `carspotter models` to list the bundles")
    if chosen == "openvino":
        from carspotter.runtime.openvino import OpenVinoSession

        return OpenVinoSession(path, threads=threads, precision=precision, max_concurrency=max_concurrency)
    if chosen == "litert":
        from carspotter.runtime.litert import LiteRtSession

        return LiteRtSession(path, threads=threads)
    from carspotter.runtime.onnx import OnnxSession

    return OnnxSession(path, threads=threads, device=device)


def choose_engine(engine: str, *, suffix: str = ".onnx", device: str = "cpu", precision: str = "float32") -> str:
    """Return the engine that will open a file with this suffix on this device: a word of `ENGINES` other than "auto".

    "auto" takes ONNX Runtime for `.onnx`: in float32 it is the faster of both, with and without Intel's matrix unit AMX
    (RESULTS.md). In bfloat16 it takes OpenVINO, which alone calculates so, where AMX makes that fast. LiteRT opens
    `.tflite` and nothing else, as it does on phones; CUDA is ONNX Runtime's alone. Raises MissingExtraError when the
    engine is not installed, BundleError when it cannot open such a file, use the device or calculate so.
    """
    able = _OPENED_BY.get(suffix, ("onnxruntime", "openvino"))
    if engine not in ("auto", *able):
        raise BundleError(f"{_NAMES[engine]} cannot open {suffix} networks; take engine {' or '.join(able)}, or auto")
    if device == "cuda" and (engine not in ("auto", "onnxruntime") or "onnxruntime" not in able):
        name = _NAMES[able[0] if engine == "auto" else engine]
        raise BundleError(f"{name} does not run on device cuda; take device cpu, or a .onnx network and ONNX Runtime")
    if precision == "bfloat16":
        engine = _for_bfloat16(engine, able, device)
    if engine == "auto":
        engine = able[0]
    if not is_installed(_PACKAGES.get(engine, engine)):
        raise _missing(engine)
    return engine


def _for_bfloat16(engine: str, able: tuple[str, ...], device: str) -> str:
    """Return the engine that calculates in bfloat16; raises BundleError where none can, or slowly."""
    if "openvino" not in able or engine not in ("auto", "openvino") or device != "cpu":
        raise BundleError(
            "bfloat16 is OpenVINO's on the processor alone; take engine openvino and device cpu, or float32"
        )
    if not has_amx():
        raise BundleError(
            "bfloat16 needs a processor with Intel's matrix unit (AMX), which this one lacks; take precision float32"
        )
    return "openvino"


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor multiplies matrices in hardware (Intel AMX), as Linux says; False elsewhere."""
    try:
        return "amx_tile" in cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _check_word(word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{word!r} is unknown; {suggestion(word, allowed)}")


def _missing(engine: str) -> MissingExtraError | BundleError:
    if engine == "openvino":
        return MissingExtraError("openvino", "openvino")
    if engine == "litert":
        return MissingExtraError("ai-edge-litert", "litert")
    # ONNX Runtime belongs to the base install, so no extra brings it back.
    return BundleError("onnxruntime is not installed, though the base needs it; run: pip install onnxruntime")
