"""Turn an ONNX network into OpenVINO's `.xml` and `.bin`. Int8 comes in as ONNX, quantized by `quantize.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from carspotter.errors import MissingExtraError


def to_openvino(network: bytes, *, precision: str, about: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the `.xml` and the `.bin` of an ONNX network; `about` goes into its `rt_info`, under `carspotter`.

    float16 stores float32 weights as float16; what they are calculated in is the device's affair. Raises
    MissingExtraError without OpenVINO.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtraError("openvino", "openvino") from error

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "model.xml"
        source.write_bytes(network)
        model = openvino.Core().read_model(source)
        for key, value in about.items():
            model.set_rt_info(value, ["carspotter", key])
        openvino.save_model(model, target, compress_to_fp16=precision == "float16")
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()
