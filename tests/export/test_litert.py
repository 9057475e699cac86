"""From a bundle's ONNX to torch to LiteRT: the same answers at each step, and errors that say what does not fit.

The conversion itself is slow and needs the extra `phone`; what it leaves for phones is tested in tests/release.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from carspotter.errors import BundleError, MissingExtraError
from carspotter.export import litert as litert_module
from carspotter.export.litert import FEWEST_PHOTOS, METADATA, to_litert
from carspotter.export.network import Network
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import open_session
from tiny_bundles import IDENTIFIER_INPUT, identifier_model, tiny_finder, tiny_identifier

needs_converter = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="litert-torch is not installed"
)


def pixels_for(network: Network, n: int = 1) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *network.input_shape[1:]), dtype=np.uint8)


# ---- ONNX as torch


@pytest.mark.parametrize("task", ["finder", pytest.param("identifier", marks=pytest.mark.slow)])
def test_the_shipped_networks_answer_alike_as_torch(task: str) -> None:
    path = shipped(task).model_path
    network = Network(path).eval()
    pixels = pixels_for(network)
    wanted = open_session(path, "onnxruntime", threads=1).run(pixels)
    with torch.inference_mode():
        found = dict(zip(network.output_names, network(torch.from_numpy(pixels)), strict=True))
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_follows_from_a_batch_of_one_is_computed_once() -> None:
    operators = {step.operator for step in Network(shipped("identifier").model_path)._steps}
    assert "Conv" in operators
    assert not operators & {"Shape", "Range", "Squeeze", "Unsqueeze"}


def test_pixels_are_normalized_before_channels_come_first() -> None:
    operators = [step.operator for step in Network(shipped("identifier").model_path)._steps]
    assert operators[:5] == ["Cast", "Sub", "Div", "Transpose", "Conv"]


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    bundle = tiny_finder(tmp_path)  # it compares colours
    with pytest.raises(BundleError, match=r"model\.onnx: operator \w+ cannot be converted; "):
        Network(bundle.model_path)


def test_a_file_that_is_no_onnx_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="is no ONNX file"):
        Network(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="only ONNX can be converted; take the bundle it was made from"):
        Network(tmp_path / "model.tflite")


def test_a_free_size_besides_the_batch_is_an_error(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    answer = helper.make_tensor_value_info("logits", TensorProto.UINT8, ["n", "h", "w", 3])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logits"])], "free", [image], [answer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(BundleError, match=r"takes image \(0, 0, 0, 3\); needed is one input, image \(n, h, w, 3\)"):
        Network(tmp_path / "a.onnx")


# ---- LiteRT


def test_without_the_converter_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_module, "find_spec", lambda package: None)
    with pytest.raises(
        MissingExtraError, match=r'litert-torch is not installed; run: pip install "carspotter\[phone\]"'
    ):
        to_litert(tiny_identifier(tmp_path))


def test_an_unknown_precision_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="precision 'int9' is unknown; did you mean 'int8'"):
        to_litert(tiny_identifier(tmp_path), precision="int9")


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        (None, f"int8 is calibrated on photos: none given, at least {FEWEST_PHOTOS} are needed"),
        (np.zeros((3, 32, 32, 3), np.uint8), "3 given"),
        (
            np.zeros((40, 32, 31, 3), np.uint8),
            r"photos are uint8 \(40, 32, 31, 3\); the network takes uint8 \(n, 32, 32, 3\)",
        ),
        (np.zeros((40, 32, 32, 3), np.float32), "photos are float32"),
    ],
)
def test_int8_says_which_photos_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: np.ndarray | None, message: str
) -> None:
    monkeypatch.setattr(litert_module, "find_spec", lambda package: package)  # the check comes before the converter
    with pytest.raises(BundleError, match=message):
        to_litert(tiny_identifier(tmp_path), precision="int8", photos=photos)


@pytest.fixture(scope="module")
def shipped_identifier() -> ModelBundle:
    return shipped("identifier")


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")  # litert-torch, jax and torch warn about each other
@pytest.mark.parametrize(("precision", "most"), [("float32", 14.6e6), ("float16", 7.4e6), ("int8", 4.6e6)])
def test_a_converted_network_answers_alike(
    shipped_identifier: ModelBundle, tmp_path: Path, precision: str, most: float
) -> None:
    network = Network(shipped_identifier.model_path)
    photos = pixels_for(network, FEWEST_PHOTOS)
    content = to_litert(shipped_identifier, precision=precision, photos=photos)
    assert len(content) < most
    (tmp_path / "model.tflite").write_bytes(content)
    session = open_session(tmp_path / "model.tflite", threads=1)
    assert (session.input_form.dtype, set(session.output_names)) == ("uint8", set(shipped_identifier.outputs))
    wanted = shipped_identifier.open_session("onnxruntime", threads=1).run(photos[:4])
    found = session.run(photos[:4])
    assert {values.dtype for values in found.values()} == {np.dtype("float32")}
    cosines = (found["embedding"] * wanted["embedding"]).sum(axis=1)
    assert cosines.min() > (0.95 if precision == "int8" else 0.9999)


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_the_file_states_its_preprocessing(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    bundle = tiny_identifier(tmp_path)
    model = schema.Model.GetRootAs(to_litert(bundle))
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    (buffer,) = [model.Buffers(entry.Buffer()) for entry in entries if entry.Name().decode() == METADATA]
    words = json.loads(buffer.DataAsNumpy().tobytes())
    assert words["preprocessing"].items() >= bundle.preprocessing.to_dict().items()
    assert words["input"]["shape"] == [1, 32, 32, 3]
    assert words["calibration"] == bundle.calibration


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_the_tests_own_tiny_file_is_what_the_converter_writes(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(to_litert(tiny_identifier(tmp_path / "bundle")))
    (tmp_path / "model.onnx").write_bytes(identifier_model(IDENTIFIER_INPUT).SerializeToString())
    kept = open_session(Path(__file__).parent.parent / "runtime" / "tiny_identifier.tflite", threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = open_session(tmp_path / "model.tflite", threads=1).run(pixels)
    for name, values in kept.run(pixels).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-4, err_msg=name)
