"""carspotter: which car does this photograph show.

The public names below are loaded on first use, so that `import carspotter` stays light and pulls in no engine. Nor does
it let a library call its maker: the switches below must stand before the library is imported.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carspotter.geometry import BoundingBox
    from carspotter.recognition.interop import to_supervision
    from carspotter.recognition.recognizer import Recognizer
    from carspotter.records import Prediction
    from carspotter.runtime.bundle import ModelBundle
    from carspotter.taxonomy import Taxonomy

__version__ = "0.2.0"

__all__ = ["BoundingBox", "ModelBundle", "Prediction", "Recognizer", "Taxonomy", "__version__", "to_supervision"]

# Processes that are spawned inherit these; set the other value beforehand to let a library call its maker.
for _name, _value in (
    ("ORT_DISABLE_TELEMETRY", "1"),  # ONNX Runtime looks a host up and writes an id into the home folder
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
):
    os.environ.setdefault(_name, _value)
# OpenVINO reports its import where this package is installed, and knows no variable; without it, it does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not to be imported

_HOMES = {
    "BoundingBox": "carspotter.geometry",
    "ModelBundle": "carspotter.runtime.bundle",
    "Prediction": "carspotter.records",
    "Recognizer": "carspotter.recognition.recognizer",
    "Taxonomy": "carspotter.taxonomy",
    "to_supervision": "carspotter.recognition.interop",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carspotter' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
