"""What is released for phones: bundles that answer like those of the package, and examples that run or parse.

Drawn cars only. Accuracy on photographs stands in release/phone.md and RESULTS.md.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carspotter.pixels import decode, network_input
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.sources.showroom import pictures
from carspotter.taxonomy import LEVELS
from waiting import NEVER_S

ROOT = Path(__file__).parent.parent.parent
RELEASE = ROOT / "release"
if not RELEASE.is_dir():
    pytest.skip("the release folder is not here", allow_module_level=True)

PAGE = (RELEASE / "phone.md").read_text(encoding="utf-8")
BUNDLES = sorted(path.parent.name for path in RELEASE.glob("*.litert/bundle.json"))

litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed"
)


def source_of(name: str) -> ModelBundle:
    """Open the shipped bundle that a file for phones was made from."""
    return shipped(ModelBundle.load(RELEASE / name).task)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write two drawn cars, which the finder boxes and the identifier takes for no photographs of cars."""
    paths = [tmp_path_factory.mktemp("photos") / f"{number}.webp" for number in range(2)]
    for path, (photo, _) in zip(paths, pictures(), strict=False):
        path.write_bytes(photo)
    return paths


# ---- bundles


def test_both_networks_are_there_and_the_folder_is_small() -> None:
    assert {"finder.litert", "identifier.litert"} <= set(BUNDLES)
    assert sum(path.stat().st_size for path in RELEASE.rglob("*") if path.is_file()) < 30_000_000


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_is_whole_and_says_what_its_source_says(name: str) -> None:
    bundle = ModelBundle.load(RELEASE / name)
    bundle.verify()
    source = source_of(name)
    assert bundle.file == "model.tflite"
    assert bundle.name == f"{source.name}.litert.{bundle.precision}"
    for part in ("preprocessing", "calibration", "taxonomy"):
        assert getattr(bundle, part) == getattr(source, part), part
    for part in ("use", "licence", "data", "retrain"):
        assert bundle.card[part] == source.card[part], part


@litert
@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_answers_like_its_source(name: str, photos: list[Path]) -> None:
    bundle = ModelBundle.load(RELEASE / name)
    pixels = np.stack([network_input(decode(photo.read_bytes()).pixels, bundle.preprocessing) for photo in photos])
    wanted = source_of(name).open_session("onnxruntime", threads=1).run(pixels)
    found = bundle.open_session(threads=1).run(pixels)
    seen = np.maximum(wanted["scores"], found["scores"]) >= 0.1 if "scores" in wanted else None
    for output, values in wanted.items():
        there = found[output]
        if output in ("scores", "boxes", "viewpoints"):  # what scores less in both is never told: its order is chance
            values, there = values[seen], there[seen]
        np.testing.assert_allclose(there, values, rtol=1e-3, atol=0.02, err_msg=output)


# ---- the example in Python


def recognize(photo: Path) -> dict[str, Any]:
    """Run the example as a reader would."""
    command = [sys.executable, str(RELEASE / "identify.py"), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=NEVER_S)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@litert
def test_the_example_answers_as_carspotter_does(photos: list[Path]) -> None:
    recognizer = Recognizer.open(engine="onnxruntime", threads=1)
    for photo in photos:
        said, prediction = recognize(photo), recognizer.recognize(photo)
        vehicle = prediction.vehicles[0]
        assert said["exterior"] == pytest.approx(prediction.kind.probability, abs=1e-3)
        assert said["box"] == pytest.approx(vehicle.box.to_list(), abs=0.5)
        assert said["viewpoint"] == vehicle.viewpoint.name
        makes = {candidate.name: candidate.probability for candidate in vehicle.levels["make"][:3]}
        assert said["makes"] == pytest.approx(makes, abs=0.02)
        name = None if said["answer"] is None else said["answer"]["name"]
        assert name == (None if vehicle.answer is None else vehicle.answer.name)


@pytest.mark.slow
@litert
def test_the_example_names_photographs_as_carspotter_does() -> None:
    folder = os.environ.get("CARSPOTTER_SHARED")
    photos = sorted(Path(folder, "data", "used-car-ads", "main").rglob("*.webp"))[:400:20] if folder else []
    if not photos:
        pytest.skip("CARSPOTTER_SHARED names no folder with photographs of listings")
    recognizer = Recognizer.open(engine="onnxruntime", threads=1)
    named = 0
    for photo in photos:
        said, vehicles = recognize(photo)["answer"], recognizer.recognize(photo).vehicles
        answer = vehicles[0].answer if vehicles else None
        assert (said or {}).get("name") == (answer.name if answer else None), photo
        named += answer is not None
    assert named


@litert
def test_the_file_says_itself_what_phone_md_reads_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RELEASE)
    (code,) = snippets("python")
    scope: dict[str, object] = {}
    exec(compile(code, "phone.md", "exec"), scope)
    words, bundle = scope["words"], ModelBundle.load(RELEASE / "identifier.litert")
    assert isinstance(words, dict)
    assert words["calibration"] == bundle.calibration
    assert words["preprocessing"].items() >= bundle.preprocessing.to_dict().items()
    assert words["attributes"] == {name: list(said) for name, said in bundle.attributes.items()}
    for level in LEVELS:
        assert words["names"][level] == list(bundle.taxonomy.names(level))
        above = np.array(words["names"][level if level == "make" else LEVELS[LEVELS.index(level) - 1]])
        parents = np.array(words["parents"].get(level, range(len(above))))
        upper = LEVELS[max(0, LEVELS.index(level) - 1)]
        wanted = {taxon.name(level): taxon.name(upper) for taxon in bundle.taxonomy.classes}
        assert dict(zip(words["names"][level], above[parents].tolist(), strict=True)) == wanted
    assert (words["precision"], words["input"]["shape"]) == (bundle.precision, [1, 224, 224, 3])


# ---- the page


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def faults(language: str, code: str) -> list[str]:
    """Parse code with tree-sitter's grammar and return what is no Kotlin, or no Swift."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip(f"tree_sitter_{language}")
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(code.encode())
    found, nodes = [], [tree.root_node]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {node.text.decode()[:60]!r}")
    return found


@pytest.mark.parametrize("language", ["kotlin", "swift"])
def test_snippets_parse(language: str) -> None:
    (code,) = snippets(language)
    assert faults(language, code) == []
    assert len(code.splitlines()) <= 45
    # The parser must see what a slip of the pen would do.
    assert faults(language, code.replace("}", "", 1)) or faults(language, code + "\n}")
    assert faults(language, code.replace("(", "((", 1))


def test_numbers_of_the_page_are_those_of_the_bundles() -> None:
    finder, identifier = (ModelBundle.load(RELEASE / f"{task}.litert") for task in ("finder", "identifier"))
    for name in ("score", "gate"):
        assert f"`calibration.{name}` ({finder.calibration[name]:g}" in PAGE
    assert f"`preprocessing.pad` ({identifier.preprocessing.pad:g})" in PAGE
    assert f"uint8 (1, {finder.preprocessing.height}, {finder.preprocessing.width}, 3)" in PAGE
    assert f"uint8 (1, {identifier.preprocessing.height}, {identifier.preprocessing.width}, 3)" in PAGE
    assert f"FloatArray({len(identifier.taxonomy.names('make'))})" in PAGE
    sizes = {level: len(identifier.taxonomy.names(level)) for level in LEVELS}
    sizes |= {"probabilities": len(identifier.taxonomy)} | {n: len(words) for n, words in identifier.attributes.items()}
    for name, size in sizes.items():
        assert f"`{name}` (1, {size})" in PAGE


@pytest.mark.parametrize("name", BUNDLES)
def test_sizes_on_the_page_are_those_of_the_files(name: str) -> None:
    size = (RELEASE / name / "model.tflite").stat().st_size / 1e6
    assert re.search(rf"`{re.escape(name)}` .*\| {size:.1f} MB \|", PAGE)


def test_the_folder_is_outside_the_wheel() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["src/carspotter"]
    assert "/release" not in build["targets"]["sdist"]["include"]
