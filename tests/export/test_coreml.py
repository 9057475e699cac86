"""Core ML packages: their form, and what they calculate, read back from the file, since Core ML runs on a Mac alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carspotter.errors import BundleError, MissingExtraError
from carspotter.export import coreml as coreml_module
from carspotter.export.coreml import METADATA, to_coreml
from carspotter.pixels import decode, network_input
from carspotter.runtime.bundle import shipped
from carspotter.sources.showroom import pictures
from carspotter.taxonomy import Taxonomy
from mil_program import run_package
from tiny_bundles import tiny_finder, tiny_identifier


def test_without_coremltools_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml_module, "find_spec", lambda package: None)
    with pytest.raises(
        MissingExtraError, match=r'coremltools is not installed; run: pip install "carspotter\[phone\]"'
    ):
        to_coreml(tiny_identifier(tmp_path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml_module, "find_spec", lambda package: package)  # the check comes before the converter
    with pytest.raises(BundleError, match="precision 'fp16' is unknown"):
        to_coreml(tiny_identifier(tmp_path / "a"), precision="fp16", out=tmp_path / "out")
    with pytest.raises(BundleError, match="holds no weights under the names of a network that carspotter trained"):
        to_coreml(tiny_finder(tmp_path / "b"), out=tmp_path / "out")


def package(task: str, precision: str, out: Path) -> Any:
    coremltools = pytest.importorskip("coremltools")
    path = to_coreml(shipped(task), precision=precision, out=out)
    return coremltools.models.MLModel(str(path), skip_model_load=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # coremltools and torch warn about each other's versions
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_package_takes_a_picture_and_answers_by_name(
    tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = package("finder", precision, tmp_path)
    description = model.get_spec().description
    (image,) = description.input
    size = shipped("finder").preprocessing
    sides = (image.type.imageType.width, image.type.imageType.height)
    assert (image.name, *sides) == ("image", size.width, size.height)
    shapes = {output.name: tuple(output.type.multiArrayType.shape) for output in description.output}
    assert shapes == {"kind": (1, 4), "scores": (1, 50), "boxes": (1, 50, 4), "viewpoints": (1, 50, 8)}
    float32 = 65568  # ArrayFeatureType.FLOAT32
    assert {output.type.multiArrayType.dataType for output in description.output} == {float32}
    words = json.loads(model.user_defined_metadata[METADATA])
    assert (words["precision"], words["preprocessing"]["fit"]) == (precision, "letterbox")
    assert "converted, but not run" in caplog.text
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    stored = shipped("finder").model_path.stat().st_size  # in float16
    assert total < {"float32": 2.1, "float16": 1.1, "int8": 0.7}[precision] * stored


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_identifier_brings_its_taxonomy(tmp_path: Path) -> None:
    model = package("identifier", "float16", tmp_path)
    assert Taxonomy.load(tmp_path / "taxonomy.json") == shipped("identifier").taxonomy
    assert [output.name for output in model.get_spec().description.output] == list(shipped("identifier").outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "precision", "most"),
    [
        ("finder", "float32", 1e-4),
        ("identifier", "float32", 1e-4),
        ("finder", "float16", 0.01),
        ("finder", "int8", 0.15),
    ],
)
def test_what_the_package_calculates_is_what_the_network_does(
    task: Any, precision: str, most: float, tmp_path: Path
) -> None:
    """Run the operations that stand in the file, one by one, in torch in place of a Mac."""
    pytest.importorskip("coremltools")
    bundle = shipped(task)
    size = bundle.preprocessing
    photo, _ = next(pictures())
    pixels = network_input(decode(photo).pixels, size)[np.newaxis]
    wanted = bundle.open_session("onnxruntime", threads=1).run(pixels)
    found = run_package(to_coreml(bundle, precision=precision, out=tmp_path), pixels)
    if task == "finder":  # of the many that are no vehicles it does not matter which stands where
        vehicles = int((wanted["scores"] >= bundle.share("score", 0.4)).sum())
        assert vehicles
        for outputs in (wanted, found):
            outputs |= {name: outputs[name][:, :vehicles] for name in ("scores", "boxes", "viewpoints")}
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=most, err_msg=name)
