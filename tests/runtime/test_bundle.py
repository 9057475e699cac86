"""Bundles: there and back, every way a folder can be wrong, and the network checked against what the folder says."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import BundleError, StorageError
from carspotter.pixels import Preprocessing
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.bundle import FORMAT, ModelBundle, list_bundles, shipped
from carspotter.runtime.head import Head
from carspotter.taxonomy import LEVELS, Taxonomy
from full_disk import no_room_for
from tiny_bundles import (
    ATTRIBUTES,
    CARD,
    FINDER_INPUT,
    IDENTIFIER_INPUT,
    TAXA,
    finder_model,
    tiny_finder,
    tiny_identifier,
)


@pytest.mark.parametrize("make", [tiny_finder, tiny_identifier])
def test_there_and_back(tmp_path: Path, make: Callable[[Path], ModelBundle]) -> None:
    saved = make(tmp_path / "bundle")
    assert ModelBundle.load(tmp_path / "bundle") == saved
    saved.verify()
    files = {path.name for path in (tmp_path / "bundle").iterdir()}
    taxonomy = {"taxonomy.json"} if saved.task == "identifier" else set()
    assert files == {"model.onnx", "bundle.json", "card.json", "CARD.md"} | taxonomy


def test_saving_over_a_bundle_replaces_it(tmp_path: Path) -> None:
    tiny_finder(tmp_path)
    bundle = ModelBundle.load(tmp_path)
    bundle.save(tmp_path, b"another network")
    assert ModelBundle.load(tmp_path).model_path.read_bytes() == b"another network"


def test_a_folder_that_cannot_be_is_a_storage_error(tmp_path: Path) -> None:
    bundle = tiny_finder(tmp_path / "bundle")
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot be written"):
            bundle.save(folder, b"network")


def test_a_bundle_stays_as_it_was_where_the_new_one_has_no_room(tmp_path: Path) -> None:
    bundle = tiny_finder(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_room_for(1_000_000), pytest.raises(StorageError, match="cannot be written"):
        bundle.save(tmp_path, b"a larger network" * 100_000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert ModelBundle.load(tmp_path).version == bundle.version


def test_an_unsaved_bundle_has_no_path() -> None:
    bundle = ModelBundle(task="finder", name="new", preprocessing=FINDER_INPUT, card=CARD)
    with pytest.raises(BundleError, match="not saved yet"):
        _ = bundle.model_path


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FORMAT + 1}, "newer than this carspotter reads"),
        ({"format": FORMAT + 1, "task": "painter", "new_key": 1}, "upgrade carspotter"),
        ({"format": "1"}, "format is '1'"),
        ({"format": True}, "format is True"),
        ({"format": FORMAT - 1}, "format is 3, this carspotter reads 4; export the bundle again"),
        ({"attributes": ["colour"]}, r"attributes: expected a table, got \['colour'\]"),
        ({"format": None}, "format is None"),
        ({"task": "fnder"}, "did you mean 'finder'"),
        ({"task": "identifier"}, "outputs lack embedding, generation, make, model, probabilities, year"),
        ({"task": None}, "bundle.json: task must be given"),
        ({"task": ["finder"]}, r"task: \['finder'\] is not possible; .*finder"),
        ({"name": None}, "name must be given"),
        ({"name": 7}, "name: expected a text, got 7"),
        ({"name": " "}, "needs a name"),
        ({"preprocesing": {}}, "did you mean 'preprocessing'"),
        ({"preprocessing": {"width": 128, "hieght": 96}}, "did you mean 'height'"),
        (
            {"preprocessing": {"width": "wide", "height": 96}},
            "preprocessing: width: expected a whole number, got 'wide'",
        ),
        ({"preprocessing": [128, 96]}, r"preprocessing: expected keys and values, got \[128, 96\]"),
        ({"calibration": {"score": "high"}}, "calibration.score is 'high'"),
        ({"calibration": {"thresholds": {"make": None}}}, "thresholds.make is None"),
        ({"calibration": {"score": float("nan")}}, "finite number"),
        ({"outputs": ["kind", "scores", "boxes"]}, "outputs lack viewpoints"),
        ({"outputs": [1, 2]}, r"outputs\[0\]: expected a text, got 1"),
        ({"model": {"bytes": 5}}, "it is cut or another file"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    tiny_finder(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json", "card.json", "taxonomy.json"])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    tiny_identifier(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        ModelBundle.load(tmp_path)


def test_the_card_for_people_may_be_missing(tmp_path: Path) -> None:
    tiny_finder(tmp_path)
    (tmp_path / "CARD.md").unlink()
    assert ModelBundle.load(tmp_path).card == CARD


@pytest.mark.parametrize("name", ["bundle.json", "card.json", "taxonomy.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_part_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    tiny_identifier(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        ModelBundle.load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(["format", "task", "name", "preprocessing", "calibration", "outputs", "model"]), value=JSON)
def test_any_value_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-value"
    tiny_finder(folder)
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    # Any other exception fails the test.
    with suppress(BundleError):
        assert ModelBundle.load(folder).task == "finder"


def test_a_changed_network_is_found_by_verify(tmp_path: Path) -> None:
    bundle = tiny_finder(tmp_path)
    data = bytearray(bundle.model_path.read_bytes())
    data[-1] ^= 1
    bundle.model_path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="sha256"):
        ModelBundle.load(tmp_path).verify()


def test_task_and_taxonomy_belong_together() -> None:
    taxonomy = Taxonomy(classes=TAXA)
    with pytest.raises(BundleError, match="an identifier needs a taxonomy"):
        ModelBundle(task="identifier", name="x", preprocessing=IDENTIFIER_INPUT, card=CARD)
    with pytest.raises(BundleError, match="a finder has no taxonomy"):
        ModelBundle(task="finder", name="x", preprocessing=FINDER_INPUT, card=CARD, taxonomy=taxonomy)


def test_an_opened_network_is_checked(tmp_path: Path) -> None:
    good = tiny_finder(tmp_path / "good")
    assert good.open_session("onnxruntime", threads=1).output_names == ("kind", "scores", "boxes", "viewpoints")


def test_a_network_of_another_size_is_an_error(tmp_path: Path) -> None:
    other = ModelBundle(
        task="finder", name="other", preprocessing=Preprocessing(width=64, height=96, fit="letterbox"), card=CARD
    ).save(tmp_path, finder_model(FINDER_INPUT).SerializeToString())
    with pytest.raises(
        BundleError, match=r"takes image uint8 \(n, 96, 128, 3\), but bundle.json says .* \(n, 96, 64, 3\)"
    ):
        other.open_session("onnxruntime")


def test_a_network_for_another_task_is_an_error(tmp_path: Path) -> None:
    finder = finder_model(FINDER_INPUT).SerializeToString()
    wrong = ModelBundle(
        task="identifier", name="wrong", preprocessing=FINDER_INPUT, card=CARD, taxonomy=Taxonomy(classes=TAXA)
    ).save(tmp_path, finder)
    with pytest.raises(BundleError, match="'probabilities' is missing"):
        wrong.open_session("onnxruntime")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"make": ["red", "blue"]}, "'make' cannot be one"),
        ({"": ["red", "blue"]}, "'' cannot be one"),
        ({"colour": "red"}, "colour is 'red'; it must be a list"),
        ({"colour": ["red"]}, "two words or more"),
        ({"colour": ["red", "red"]}, "each another"),
        ({"colour": ["red", 7]}, "each another"),
        ({"subject": ["other", "toy"]}, "one of its words must be 'car'"),
    ],
)
def test_an_odd_attribute_is_named(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    tiny_identifier(tmp_path)
    content = json.loads((tmp_path / "bundle.json").read_text())
    edit(tmp_path, attributes=attributes, outputs=[*content["outputs"], *attributes])
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(tmp_path)


def test_a_kind_of_fewer_words_reads_a_finder_that_has_all(tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path / "finder")
    own = replace(
        finder,
        task="attribute",
        name="kind.head",
        calibration={"gate": 0.5},
        attributes={"kind": ("exterior", "interior")},
        reads=("kind", "viewpoints"),
        head=Head(weights=np.eye(2, len(KINDS) + len(VIEWPOINTS), dtype=np.float32), bias=np.zeros(2, np.float32)),
    )
    network, _ = finder.read_network()
    bundle = own.save(tmp_path / "kind", network)
    forms = {form.name: form.shape[-1] for form in bundle.open_session("onnxruntime", threads=1).output_forms}
    assert (forms["kind"], len(bundle.attributes["kind"])) == (len(KINDS), 2)


def test_attributes_are_an_identifiers_and_in_its_network(tmp_path: Path) -> None:
    identifier = tiny_identifier(tmp_path)
    assert identifier.outputs == ("probabilities", "embedding", *LEVELS, *ATTRIBUTES)
    edit(tmp_path, attributes={"colour": ["red", "blue"]})
    with pytest.raises(BundleError, match=r"colour float32 \(n, 4\), wanted 2 last"):
        ModelBundle.load(tmp_path).open_session("onnxruntime", threads=1)
    edit(tmp_path, attributes={"size": ["small", "large"]})
    with pytest.raises(BundleError, match="outputs lack size"):
        ModelBundle.load(tmp_path)
    with pytest.raises(BundleError, match="of an identifier"):
        replace(tiny_finder(tmp_path / "finder"), attributes={"colour": ("red", "blue")})


def test_classes_of_taxonomy_and_network_must_be_as_many(tmp_path: Path) -> None:
    whole = tiny_identifier(tmp_path / "whole")
    fewer = ModelBundle(
        task="identifier", name="fewer", preprocessing=IDENTIFIER_INPUT, card=CARD, taxonomy=Taxonomy(classes=TAXA[:4])
    ).save(tmp_path / "fewer", whole.model_path.read_bytes())
    with pytest.raises(BundleError, match="wanted 4 last"):
        fewer.open_session("onnxruntime")


def test_list_bundles_passes_over_other_folders(tmp_path: Path) -> None:
    tiny_identifier(tmp_path / "a")
    tiny_finder(tmp_path / "b")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert [bundle.name for bundle in list_bundles(tmp_path)] == ["tiny-finder", "tiny-identifier"]
    with pytest.raises(BundleError, match="no folder"):
        list_bundles(tmp_path / "absent")


def test_shipped_bundles_are_found_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    assert list_bundles() == []
    with pytest.raises(BundleError, match="has no finder"):
        shipped("finder")
    tiny_finder(tmp_path / "models" / "finder")
    assert shipped("finder").name == "tiny-finder"
    assert [bundle.task for bundle in list_bundles()] == ["finder"]


def test_what_ships_can_be_read() -> None:
    for bundle in list_bundles():
        bundle.verify()
        bundle.open_session("onnxruntime", threads=1)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it is no folder"):
        ModelBundle.load(tmp_path / "absent")


def test_another_file_and_another_precision_are_told(tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path / "finder")
    saved = finder.save(tmp_path / "lite", b"flat", file="model.tflite")
    assert ModelBundle.load(tmp_path / "lite") == saved
    assert (saved.model_path.name, saved.precision) == ("model.tflite", "float32")
    saved.verify()
    int8 = replace(finder, precision="int8").save(tmp_path / "int8", b"network")
    assert ModelBundle.load(tmp_path / "int8").precision == "int8"
    assert int8.read_network() == (b"network", None)


def test_an_xml_has_its_weights(tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path)
    saved = finder.save(tmp_path, b"<net/>", file="model.xml", weights=b"weights")
    assert {path.name for path in tmp_path.glob("model.*")} == {"model.xml", "model.bin"}, "the ONNX file is gone"
    assert ModelBundle.load(tmp_path).read_network() == (b"<net/>", b"weights")
    (tmp_path / "model.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(BundleError, match=r"model\.bin: sha256"):
        saved.verify()
    (tmp_path / "model.bin").write_bytes(b"cut")
    with pytest.raises(BundleError, match=r"model\.bin has 3 bytes, bundle.json says 7"):
        ModelBundle.load(tmp_path)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(BundleError, match=r"model\.bin is missing"):
        ModelBundle.load(tmp_path)


def test_weights_are_for_an_xml_alone(tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path)
    with pytest.raises(BundleError, match=r"model\.xml needs its weights"):
        finder.save(tmp_path / "new", b"<net/>", file="model.xml")
    with pytest.raises(BundleError, match=r"model\.onnx holds its own weights"):
        finder.save(tmp_path / "new", b"network", weights=b"weights")
    with pytest.raises(BundleError, match=r"model file 'model\.pt' is unknown"):
        finder.save(tmp_path / "new", b"network", file="model.pt")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"file": "model.tflite"}, r"model\.tflite is missing"),
        ({"file": "../model.onnx"}, "is unknown"),
        ({"file": 7}, "model: file: expected a text, got 7"),
        ({"precision": "int4"}, "model: precision: 'int4' is not possible"),
        ({"precision": None}, "model: precision: None is not possible; allowed: float32, float16, int8"),
        ({"weights": 5}, "model: weights: expected keys and values, got 5"),
    ],
)
def test_an_odd_model_is_named(tmp_path: Path, stated: dict[str, Any], message: str) -> None:
    tiny_finder(tmp_path)
    edit(tmp_path, model=stated)
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(tmp_path)


def test_an_install_without_networks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(BundleError, match="this install has no finder at"):
        shipped("finder")
    tiny_finder(tmp_path / "models" / "finder")
    assert shipped("finder").name == "tiny-finder"
