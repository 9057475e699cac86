"""Conversion: a bundle in each precision for ONNX Runtime or OpenVINO says what it takes, and answers alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carspotter.errors import BundleError
from carspotter.export.answers import PREFIX, finish_identifier
from carspotter.export.convert import TARGETS, Inputs, convert
from carspotter.export.parity import compare
from carspotter.export.quantize import flatten_plainly, plain_weights, to_int8
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.head import Head
from carspotter.taxonomy import Taxonomy
from tiny_bundles import COLORS, TAXA, tiny_finder, tiny_identifier

SIZE = 32


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint each image in a class's colour, with noise."""
    rng = np.random.default_rng(seed)
    colors = np.array(list(COLORS.values()))[np.arange(count) % len(COLORS)]
    noise = rng.normal(0, 12, (count, SIZE, SIZE, 3))
    return np.clip(colors[:, None, None] + noise, 0, 255).astype(np.uint8)


def convolving(folder: Path, *, flattened_oddly: bool = True) -> ModelBundle:
    """Write the tiny identifier with convolutions before its mean, and the flatten as torch writes it."""
    bundle = tiny_identifier(folder)
    model = plain_weights(onnx.load(str(bundle.model_path)))
    eye = np.eye(3, dtype=np.float32)[:, :, None, None]
    head = np.stack([numpy_helper.to_array(t) for t in model.graph.initializer if list(t.dims) == [3, 6]])[0]
    bias = next(numpy_helper.to_array(t) for t in model.graph.initializer if list(t.dims) == [6])
    tensors = {
        "scale": np.full((), 1 / 255, np.float32),
        "eye": eye,
        "zeros": np.zeros(3, np.float32),
        "low": np.zeros((), np.float32),
        "high": np.full((), 6, np.float32),
        "axes": np.array([2, 3]),
        "head": (head * 255).astype(np.float32),
        "bias": bias.astype(np.float32),
        "flat": np.array([-1]),
        "places": np.arange(3).reshape(1, 3),
        "two": np.array([-1, 3]),
        "spread": np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32),
    }
    nodes = [
        ("Cast", ["image"], "floats", {"to": TensorProto.FLOAT}),
        ("Mul", ["floats", "scale"], "scaled", {}),
        ("Transpose", ["scaled"], "first", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["first", "eye", "zeros"], "a", {}),
        ("Clip", ["a", "low", "high"], "b", {}),
        ("Conv", ["b", "eye", "zeros"], "c", {}),
        ("Clip", ["c", "low", "high"], "d", {}),
        ("ReduceMean", ["d", "axes"], "mean", {"keepdims": 1}),
        *(
            [
                ("Reshape", ["mean", "flat"], "all", {}),
                *_index(),
                ("Gather", ["all", "index"], "gathered", {}),
                ("Reshape", ["gathered", "two"], "view", {}),
            ]
            if flattened_oddly
            else [("Reshape", ["mean", "two"], "view", {})]
        ),
        ("Gemm", ["view", "head", "bias"], "logits", {}),
        ("MatMul", ["view", "spread"], "wide", {}),
        ("LpNormalization", ["wide"], "embedding", {"axis": 1, "p": 2}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [name], **settings) for kind, given, name, settings in nodes],
        "g",
        list(model.graph.input),
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
            for name, n in (("logits", 6), ("embedding", 16))
        ],
        [numpy_helper.from_array(value, name) for name, value in (tensors | _sizes()).items()],
    )
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    finish_identifier(written, Taxonomy(classes=TAXA), temperature=1.0, attributes={})
    onnx.checker.check_model(written, full_check=True)
    return replace(bundle, attributes={}).save(folder, written.SerializeToString())


def _sizes() -> dict[str, NDArray[np.int64]]:
    return {
        "none": np.array(0),
        "one": np.array(1),
        "three": np.array(3),
        "last": np.array([1]),
        "row": np.array([[0, 1, 2]]),
    }


def _index() -> list[tuple[str, list[str], str, dict[str, int]]]:
    return [
        ("Shape", ["image"], "n1", {"start": 0, "end": 1}),
        ("Squeeze", ["n1"], "n", {}),
        ("Range", ["none", "n", "one"], "rows", {}),
        ("Mul", ["rows", "three"], "starts", {}),
        ("Unsqueeze", ["starts", "last"], "column", {}),
        ("Add", ["column", "row"], "index", {}),
    ]


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return convolving(tmp_path / "source")


def test_the_odd_flatten_goes_and_nothing_changes(bundle: ModelBundle, tmp_path: Path) -> None:
    model = plain_weights(onnx.load(str(bundle.model_path)))
    flatten_plainly(model)
    ours = [node.op_type for node in model.graph.node if not node.name.startswith(PREFIX)]
    assert not {"Gather", "Range"} & set(ours)
    other = bundle.save(tmp_path / "plain", model.SerializeToString())
    found = [each.open_session("onnxruntime", threads=1).run(images(6))["probabilities"] for each in (bundle, other)]
    assert np.allclose(*found, atol=1e-4)
    before = onnx.load(str(convolving(tmp_path / "usual", flattened_oddly=False).model_path))
    after = plain_weights(before)
    flatten_plainly(after)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]


@pytest.mark.parametrize(
    ("to", "precision"),
    [
        ("onnx", "int8"),
        ("openvino", "int8"),
        ("onnx", "float16"),
        pytest.param("onnx", "float32", marks=pytest.mark.slow),
        pytest.param("openvino", "float32", marks=pytest.mark.slow),
        pytest.param("openvino", "float16", marks=pytest.mark.slow),
    ],
)
def test_each_answers_alike(bundle: ModelBundle, tmp_path: Path, to: str, precision: str) -> None:
    if to == "openvino":
        pytest.importorskip("openvino")
    out = tmp_path / "out"
    targets = np.arange(12) % len(COLORS)
    inputs = Inputs(compared=images(12, 1), calibration=images(24), targets=targets)
    parity = convert(bundle, out, to=to, precision=precision, inputs=inputs)
    again = ModelBundle.load(out)
    assert parity is not None
    assert (again.precision, parity.figures["agreement"], parity.figures["points_lost"]) == (precision, 1.0, 0.0)
    assert json.loads((out / "parity.json").read_text())["missed"] == []
    assert "| agreement | 1 |" in (out / "PARITY.md").read_text()
    suffixes = {"onnx": {".onnx"}, "openvino": {".xml", ".bin"}}[to]
    assert {path.suffix for path in out.glob("model.*")} == suffixes
    assert b"classes_fingerprint" in again.model_path.read_bytes()
    if precision == "int8" and to == "onnx":
        kinds = [node.op_type for node in onnx.load(str(again.model_path)).graph.node]
        assert kinds.count("QuantizeLinear") >= 3


def test_below_its_bar_nothing_is_written(bundle: ModelBundle, tmp_path: Path) -> None:
    # Calibrated on darkness alone, every bright photo looks the same to it.
    inputs = Inputs(compared=images(12, 1), calibration=np.zeros((16, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(BundleError, match=r"agreement is 0\.\d+, the bar of int8 is at least 0\.95"):
        convert(bundle, tmp_path / "out", to="onnx", precision="int8", inputs=inputs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "precision", "message"),
    [
        ("onx", "float32", "did you mean 'onnx'"),
        ("onnx", "int4", "'int4' is unknown"),
        ("onnx", "int8", "give --photos"),
    ],
)
def test_what_cannot_be_converted_is_said(
    bundle: ModelBundle, tmp_path: Path, to: str, precision: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        convert(bundle, tmp_path / "out", to=to, precision=precision, inputs=Inputs(compared=images(4)))


def test_an_export_is_not_exported_again(bundle: ModelBundle, tmp_path: Path) -> None:
    half = replace(bundle, precision="float16").save(tmp_path / "half", bundle.model_path.read_bytes())
    with pytest.raises(BundleError, match="is an export itself"):
        convert(half, tmp_path / "out", to="onnx", precision="int8", inputs=Inputs(compared=images(4)))


@pytest.mark.parametrize("to", TARGETS)
def test_the_head_of_an_attribute_goes_beside_a_network(bundle: ModelBundle, tmp_path: Path, to: str) -> None:
    head = Head(weights=np.zeros((2, 16), np.float32), bias=np.zeros(2, np.float32))
    changes: dict[str, Any] = {"task": "attribute", "taxonomy": None, "attributes": {"clean": ("yes", "no")}}
    own = replace(bundle, **changes, head=head, reads=("embedding",))
    with pytest.raises(BundleError, match=r"says an attribute .* an identifier or a finder can be exported"):
        convert(own, tmp_path / "out", to=to, precision="float32", inputs=Inputs(compared=images(4)))


def test_int8_wants_images_and_convolutions(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="calibrated on 3 images; it needs 16"):
        to_int8(bundle.model_path.read_bytes(), images(3))
    without = tiny_identifier(tmp_path / "without")
    with pytest.raises(BundleError, match="networks with convolutions"):
        to_int8(without.model_path.read_bytes(), images(16))


def test_parity_counts_what_differs(bundle: ModelBundle, tmp_path: Path) -> None:
    model = plain_weights(onnx.load(str(bundle.model_path)))
    for tensor in model.graph.initializer:
        if tensor.name == "head":  # the first two classes change places
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, [1, 0, 2, 3, 4, 5]], "head"))
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[[1, 0, 2, 3, 4, 5]], "bias"))
    other = bundle.save(tmp_path / "other", model.SerializeToString())
    parity = compare(bundle, other, images(12), targets=np.arange(12) % 6, engine="onnxruntime")
    assert parity.figures["agreement"] == pytest.approx(4 / 6)
    assert parity.figures["points_lost"] == pytest.approx(100 * 2 / 6, abs=1e-3)
    assert len(parity.misses()) == 2


def test_a_finder_beside_itself(tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path / "finder")
    photo = np.full((3, 96, 128, 3), 140, np.uint8)
    photo[1:, 20:60, 30:90] = (230, 20, 20)
    parity = compare(finder, finder, photo, engine="onnxruntime")
    assert [parity.figures[name] for name in ("agreement", "found", "viewpoint")] == [1.0] * 3
    assert parity.figures["mean_iou"] == pytest.approx(1, abs=1e-5)  # two runs, each with its own rounding
    with pytest.raises(BundleError, match="different tasks"):
        compare(finder, tiny_identifier(tmp_path / "identifier"), photo)
    with pytest.raises(BundleError, match="needs photos"):
        compare(finder, finder, photo[:0])
