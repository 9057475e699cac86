"""The only door to LiteRT: a `.tflite` file in, a `Session` on the processor out, as it runs on phones.

Such a file takes one photo at a time, so that a batch is run photo by photo. This file chooses no engine (`session.py`)
and knows no task (`bundle.py`).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from carspotter.cores import cores
from carspotter.errors import BundleError
from carspotter.runtime.form import TensorSpec, check_batch


class LiteRtSession:
    """A network opened by LiteRT; implements `Session`."""

    engine = "litert"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Open the file; raises BundleError when it is no network of one input with a signature that names it."""
        self._content = path.read_bytes()
        self._path = path
        self._threads = threads
        # An interpreter holds the tensors of one run, so each thread has its own; all share the bytes of the file.
        self._runners = threading.local()
        interpreter, runner = self._opened()
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        if len(inputs) != 1:
            raise BundleError(f"{path} has {len(inputs)} inputs; carspotter runs networks with one, the image")
        self.input_form = _form(*next(iter(inputs.items())))
        # A signature lists its outputs by the alphabet, the graph in the network's order.
        order = [int(detail["index"]) for detail in interpreter.get_output_details()]
        names = sorted(outputs, key=lambda name: order.index(int(outputs[name]["index"])))
        self.output_forms = tuple(_form(name, outputs[name]) for name in names)
        self.input_name = self.input_form.name
        self.output_names = tuple(form.name for form in self.output_forms)

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one batch and return each output by name; raises ValueError when the batch does not fit."""
        check_batch(batch, self.input_form)
        _, runner = self._opened()
        photos = (np.ascontiguousarray(photo[np.newaxis]) for photo in batch)
        try:
            results = [runner(**{self.input_name: photo}) for photo in photos]
        except RuntimeError as error:  # what its parts for the processor cannot calculate they say at the first photo
            raise BundleError(f"{self._path} cannot be run by LiteRT: {' '.join(str(error).split())}") from error
        return {
            form.name: np.concatenate([result[form.name] for result in results])
            if results
            else np.zeros((0, *(size or 0 for size in form.shape[1:])), form.dtype)
            for form in self.output_forms
        }

    def _opened(self) -> tuple[Any, Any]:
        """Return this thread's interpreter and the runner of its signature."""
        opened: tuple[Any, Any] | None = getattr(self._runners, "opened", None)
        if opened is None:
            opened = self._runners.opened = self._open()
        return opened

    def _open(self) -> tuple[Any, Any]:
        threads = self._threads or cores()  # LiteRT's own choice is one, the other engines' one a core
        try:
            interpreter = Interpreter(model_content=self._content, num_threads=threads)
            return interpreter, interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise BundleError(f"{self._path} is no network that LiteRT can open: {text}") from error


def _form(name: str, detail: dict[str, Any]) -> TensorSpec:
    # The first size is 1 in the file; a batch of any size is run photo by photo.
    sizes = tuple(int(size) for size in detail["shape"][1:])
    return TensorSpec(name=name, shape=(None, *sizes), dtype=str(np.dtype(detail["dtype"])))
