"""A recogniser on tiny, real bundles, opened once for all tests of recognition."""

from pathlib import Path

import pytest

from carspotter.recognition.recognizer import Recognizer


@pytest.fixture(scope="session")
def recognizer(bundles: dict[str, Path]) -> Recognizer:
    """A recogniser on ONNX Runtime, one thread."""
    return Recognizer.open(**bundles, engine="onnxruntime", threads=1)
