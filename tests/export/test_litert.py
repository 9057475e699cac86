"""From a bundle to torch to LiteRT: the same answers at each step, and errors that say what does not fit.

The conversion itself is slow and needs the extra `phone`; what it leaves for phones is tested in tests/release.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from carspotter.errors import BundleError, MissingExtraError
from carspotter.export import litert as litert_module
from carspotter.export.answers import PREFIX
from carspotter.export.convert import Inputs, convert
from carspotter.export.litert import FEWEST_PHOTOS, METADATA, describe, to_litert
from carspotter.export.network import Network
from carspotter.pixels import decode, network_input
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.classes import class_probabilities, evidence_of
from carspotter.runtime.head import Head
from carspotter.runtime.session import open_session
from carspotter.taxonomy import LEVELS, Taxonomy
from tiny_bundles import TAXA, tiny_finder, tiny_identifier

needs_converter = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="litert-torch is not installed"
)


EXAMPLES = Path(litert_module.__file__).parent.parent / "serving" / "web" / "examples"


def pixels_for(network: Network, n: int = 1) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *network.input_shape[1:]), dtype=np.uint8)


# ---- a bundle as torch


@pytest.mark.parametrize("task", ["finder", "identifier"])
@pytest.mark.parametrize("example", ["two-cars", "interior"])
def test_the_shipped_networks_answer_alike_as_torch(task: Any, example: str) -> None:
    bundle = shipped(task)
    network = Network(bundle).eval()
    pixels = network_input(decode((EXAMPLES / f"{example}.jpg").read_bytes()).pixels, bundle.preprocessing)[np.newaxis]
    wanted = bundle.open_session("onnxruntime", threads=1).run(pixels)
    with torch.inference_mode():
        found = dict(zip(network.output_names, network(torch.from_numpy(pixels)), strict=True))
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_network_of_others_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no weights under the names of a network that carspotter trained"):
        Network(tiny_finder(tmp_path))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("by hand", "its card names no backbone under `recipe`; export its run again"),
        ({"backbone": "no_such_net"}, "its card names no backbone"),
        ({"backbone": "resnet18"}, "another network than its card says"),
        ({"backbone": "tf_mobilenetv3_large_100"}, "another network than its card says: .* another backbone"),
    ],
)
def test_a_card_that_names_another_network_is_an_error(recipe: object, message: str) -> None:
    bundle = shipped("finder")
    with pytest.raises(BundleError, match=message):
        Network(replace(bundle, card={**bundle.card, "recipe": recipe}))


def learned(folder: Path, *, with_profiles: bool) -> ModelBundle:
    """Put a head that was learnt on the shipped identifier beside its network, as `carspotter learn` does."""
    base, random = shipped("identifier"), np.random.default_rng(5)
    assert base.taxonomy is not None
    said = np.sqrt(random.dirichlet(np.ones(len(base.taxonomy.names("model"))), len(TAXA)))
    head = Head(
        weights=random.normal(0, 3, (len(TAXA), 1024)).astype(np.float16),
        bias=random.normal(0, 1, len(TAXA)),
        profiles=said.astype(np.float16) if with_profiles else None,
    )
    bundle = replace(
        base,
        name="learned",
        taxonomy=Taxonomy(TAXA),
        network=base.taxonomy,
        head=head,
        card={**base.card, "recipe": {"method": "probe", "network's recipe": base.card["recipe"]}},
        calibration={**base.calibration, "temperature": 1.7, "evidence": -2.0, "network": {"make": 0.5}},
    )
    return bundle.save(folder, base.model_path.read_bytes())


@pytest.mark.parametrize("with_profiles", [True, False])
def test_a_learned_head_is_in_the_network_and_answers_alike(tmp_path: Path, with_profiles: bool) -> None:
    bundle = learned(tmp_path, with_profiles=with_profiles)
    network = Network(bundle).eval()
    pixels = pixels_for(network)
    outputs = bundle.open_session("onnxruntime", threads=1).run(pixels)
    with torch.inference_mode():
        answered = dict(zip(network.output_names, network(torch.from_numpy(pixels)), strict=True))
    found = {name: values.numpy() for name, values in answered.items()}
    np.testing.assert_allclose(found["probabilities"], class_probabilities(bundle, outputs), atol=1e-4)
    np.testing.assert_allclose(evidence_of(network.bundle, found), evidence_of(bundle, outputs), atol=1e-3)
    for level in LEVELS:
        wanted = Taxonomy(TAXA).sum_to(level, found["probabilities"].astype(np.float64))
        np.testing.assert_allclose(found[level], wanted, atol=1e-5, err_msg=level)
    said = describe(network, "float32")
    assert said["names"]["model"] == list(Taxonomy(TAXA).names("model"))
    assert said["calibration"]["evidence"] == -2.0
    assert {"temperature", "network"}.isdisjoint(said["calibration"]), "they are in the graph, or gone with the head"


def test_a_file_that_ends_in_other_answers_is_an_error(tmp_path: Path) -> None:
    bundle = shipped("identifier")
    model = onnx.load(str(bundle.model_path))
    next(node for node in model.graph.node if node.name.startswith(PREFIX)).op_type = "Tanh"
    other = bundle.save(tmp_path, model.SerializeToString())
    with pytest.raises(BundleError, match="its answers hold Tanh, which no answer is made by; export its run again"):
        Network(other)


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
        (np.zeros((3, 256, 320, 3), np.uint8), "3 given"),
        (
            np.zeros((40, 32, 31, 3), np.uint8),
            r"photos are uint8 \(40, 32, 31, 3\); the network takes uint8 \(n, 256, 320, 3\)",
        ),
        (np.zeros((40, 256, 320, 3), np.float32), "photos are float32"),
    ],
)
def test_int8_says_which_photos_it_needs(
    monkeypatch: pytest.MonkeyPatch, photos: np.ndarray | None, message: str
) -> None:
    monkeypatch.setattr(litert_module, "find_spec", lambda package: package)  # the check comes before the converter
    with pytest.raises(BundleError, match=message):
        to_litert(shipped("finder"), precision="int8", photos=photos)


@pytest.fixture(scope="module")
def shipped_identifier() -> ModelBundle:
    return shipped("identifier")


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")  # litert-torch, jax and torch warn about each other
@pytest.mark.parametrize(("precision", "most"), [("float32", 14.6e6), ("float16", 7.4e6), ("int8", 5.4e6)])
def test_a_converted_network_answers_alike(
    shipped_identifier: ModelBundle, tmp_path: Path, precision: str, most: float
) -> None:
    network = Network(shipped_identifier)
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
    # In int8 this network keeps too little for its bar; here it has to run, and to be the same network.
    assert cosines.min() > (0.8 if precision == "int8" else 0.9999)


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_the_file_states_its_preprocessing(shipped_identifier: ModelBundle) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(to_litert(shipped_identifier))
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    (buffer,) = [model.Buffers(entry.Buffer()) for entry in entries if entry.Name().decode() == METADATA]
    words = json.loads(buffer.DataAsNumpy().tobytes())
    assert words["preprocessing"].items() >= shipped_identifier.preprocessing.to_dict().items()
    assert words["input"]["shape"] == [1, 224, 224, 3]
    assert words["calibration"] == shipped_identifier.calibration


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_a_learned_bundle_goes_to_a_phone_whole(tmp_path: Path) -> None:
    bundle = learned(tmp_path / "source", with_profiles=True)
    photos = pixels_for(Network(bundle), 8)
    parity = convert(bundle, tmp_path / "out", to="litert", precision="float32", inputs=Inputs(compared=photos))
    assert parity is not None
    assert parity.figures["agreement"] == 1.0
    written = ModelBundle.load(tmp_path / "out")
    assert (written.head, written.taxonomy) == (None, bundle.taxonomy)
    assert "evidence" in written.open_session().output_names


@pytest.mark.slow
@needs_converter
@pytest.mark.filterwarnings("ignore")
def test_int8_that_keeps_too_few_answers_is_an_error_and_no_crash(
    shipped_identifier: ModelBundle, tmp_path: Path
) -> None:
    photos = pixels_for(Network(shipped_identifier), FEWEST_PHOTOS)
    inputs = Inputs(compared=photos[:8], calibration=photos)
    with pytest.raises(BundleError, match=r"is below its bar on 8 photos: agreement is .*nothing was written"):
        convert(shipped_identifier, tmp_path / "out", to="litert", precision="int8", inputs=inputs)
    assert not (tmp_path / "out").exists()
