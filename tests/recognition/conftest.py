"""A recogniser on tiny, real bundles, opened once for all tests of recognition."""

from pathlib import Path

import pytest

from carspotter.recognition.recognizer import Recognizer
from tiny_bundles import tiny_finder, tiny_identifier


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a tiny finder and a tiny identifier."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny_finder(folder / "finder")
    tiny_identifier(folder / "identifier")
    return {"finder": folder / "finder", "identifier": folder / "identifier"}


@pytest.fixture(scope="session")
def recognizer(bundles: dict[str, Path]) -> Recognizer:
    """A recogniser on ONNX Runtime, one thread."""
    return Recognizer.open(**bundles, engine="onnxruntime", threads=1)
