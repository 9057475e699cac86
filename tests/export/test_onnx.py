"""Export: a trained run becomes a bundle that ONNX Runtime and OpenVINO answer alike."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from carspotter.errors import TrainingError
from carspotter.export.network import Network
from carspotter.export.onnx import best_of, card_of, export
from carspotter.export.quantize import SMALL, halve_weights
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.calibration import softmax
from carspotter.taxonomy import LEVELS
from carspotter.training.checkpoint import BEST, load_checkpoint
from carspotter.training.identifier.task import IdentifierTask, predict
from carspotter.training.norms import fuse_norms
from carspotter.training.recipe_file import load_recipe
from carspotter.training.task import RECIPE


@pytest.fixture(scope="module")
def bundle(tiny_exported: Path) -> ModelBundle:
    return ModelBundle.load(tiny_exported)


def test_the_bundle_says_what_it_is(bundle: ModelBundle) -> None:
    assert (bundle.task, bundle.name, bundle.preprocessing.width) == ("identifier", "tiny", 64)
    assert set(bundle.taxonomy.names("make")) == {"Flat", "Round"}
    assert set(bundle.calibration["thresholds"]) == {"make", "model", "generation", "year"}
    assert set(bundle.calibration) == {"thresholds", "color"}, "temperatures are in the graph"
    assert bundle.attributes == {"color": ("Blue", "Red")}
    assert bundle.card["licence"] == "free for tests"
    assert "choosing part: top1" in bundle.card["figures"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_answer_as_the_network_does(bundle: ModelBundle, tiny_run: Path, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    recipe = load_recipe(tiny_run / "recipe.json")
    task = IdentifierTask(recipe)
    model = task.build_model()
    model.load_state_dict(load_checkpoint(tiny_run / BEST).averaged)
    logits, extras = predict(model, task.holdout.images)
    calibration = task.calibrate(model)[0]
    wanted = softmax(logits.double().numpy() / calibration["temperature"])
    found = bundle.open_session(engine, threads=1).run(task.holdout.images)
    assert np.allclose(found["probabilities"], wanted, atol=0.02)
    for level in LEVELS:
        assert np.allclose(found[level], task.taxonomy.sum_to(level, wanted), atol=0.02)
    for name, values in extras.items():
        softened = softmax(values.double().numpy() / calibration["temperatures"][name])
        assert np.allclose(found[name], softened, atol=0.02)
    assert np.allclose(np.linalg.norm(found["embedding"], axis=1), 1, atol=1e-3)


def test_for_phones_it_is_rebuilt_as_the_network_that_answers_alike(bundle: ModelBundle) -> None:
    network = Network(bundle).eval()
    pixels = np.random.default_rng(0).integers(0, 256, network.input_shape, dtype=np.uint8)
    wanted = bundle.open_session("onnxruntime", threads=1).run(pixels)
    with torch.inference_mode():
        found = network(torch.from_numpy(pixels))
    for name, values in zip(network.output_names, found, strict=True):
        np.testing.assert_allclose(values.numpy(), wanted[name], atol=1e-4, err_msg=name)


def test_weights_are_halved(bundle: ModelBundle) -> None:
    model = onnx.load(str(bundle.model_path))
    large = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) >= SMALL]
    assert large
    assert all(tensor.data_type != onnx.TensorProto.FLOAT for tensor in large)
    text = model.SerializeToString()
    assert b"carspotter/" not in text, "the file must not tell where it was exported"


def test_values_beyond_float16_stay(tmp_path: Path) -> None:
    big = onnx.numpy_helper.from_array(np.full(100, 1e6, np.float32), "big")
    graph = onnx.helper.make_graph([], "g", [], [], initializer=[big])
    model = onnx.helper.make_model(graph)
    halve_weights(model)
    assert model.graph.initializer[0].data_type == onnx.TensorProto.FLOAT


def test_fused_norms_change_nothing(drawn_data: Path) -> None:
    model = IdentifierTask(load_recipe(drawn_data / "recipe.toml")).build_model()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    model.eval()
    pixels = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        before = model(pixels)[0]
        fused = fuse_norms(model)
        after = fused(pixels)[0]
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    assert torch.allclose(before, after, atol=1e-4)


def test_labels_that_changed_since_the_run_are_told(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(tiny_run / RECIPE)
    task, table = IdentifierTask(recipe), Path(recipe.data.labels)
    checkpoint = best_of(tiny_run, task)[1]
    assert "note" not in card_of(recipe, task, {}, checkpoint)["data"]
    assert not caplog.records
    rows = table.read_text().strip().replace("\n", f"\n{table.parent}/").splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(rows[:-1]))
    moved = replace(recipe, data=replace(recipe.data, labels=str(tmp_path / "labels.csv")))
    other = IdentifierTask(moved)
    assert best_of(tiny_run, other)[1].fingerprint != other.fingerprint
    assert "labels or recipe are others than those that the run learnt by" in caplog.text
    data = card_of(recipe, other, {}, checkpoint)["data"]
    assert data["fingerprint"] == task.fingerprint
    assert "photos it learnt from" in data["note"]
    (tmp_path / "labels.csv").write_text("\n".join([*rows[:-1], rows[-1].rsplit(",", 1)[0] + ",Green"]))
    with pytest.raises(TrainingError, match="the labels have other words than the run learnt"):
        best_of(tiny_run, IdentifierTask(moved))


def test_a_figure_of_no_photo_is_left_out_of_the_card(tiny_run: Path) -> None:
    recipe, checkpoint = load_recipe(tiny_run / RECIPE), load_checkpoint(tiny_run / BEST)
    figures = {"top1": 0.5, "head.color": math.nan}
    card = card_of(recipe, IdentifierTask(recipe), figures, checkpoint)
    assert card["figures"] == {"choosing part: top1": 0.5}


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no run"):
        export(tmp_path, tmp_path / "bundle")
