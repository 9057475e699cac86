"""Learn: drawn clusters are told apart, what is chosen is right, and the bundle answers like any other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carspotter.errors import BundleError
from carspotter.recognition.gallery import Gallery, LearnSettings, learn
from carspotter.recognition.gallery_bundle import save_gallery
from carspotter.recognition.identifier import Identifier
from carspotter.recognition.probes import fit_probe, fit_prototypes
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.head import Head
from carspotter.runtime.seen import hashes_of, to_bytes
from carspotter.taxonomy import Taxon, Taxonomy
from tiny_bundles import CARD, COLORS, draw_photo, tiny_finder, tiny_identifier

TAXONOMY = Taxonomy(
    (Taxon(make="Rubin", model="One"), Taxon(make="Rubin", model="Two"), Taxon(make="Smaragd", model="Three"))
)


def clusters(n: int = 150, *, noise: float = 0.3, n_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit vectors (n, 24) around a centre a class, positive as a network's features are."""
    centers = np.abs(np.random.default_rng(7).normal(size=(n_classes, 24)))
    random = np.random.default_rng(seed)
    classes = random.integers(n_classes, size=n)
    vectors = np.maximum(centers[classes] + noise * random.normal(size=(n, 24)), 0)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), classes


def held_accuracy(gallery: Gallery) -> float:
    assert gallery.held is not None
    return float((gallery.held.probabilities.argmax(axis=1) == gallery.held.truth).mean())


@pytest.mark.parametrize("method", ["probe", "prototypes", "auto"])
@pytest.mark.parametrize("with_validation", [True, False])
def test_clusters_are_learned(method: Any, with_validation: bool) -> None:
    x, y = clusters()
    validation = clusters(60, seed=1) if with_validation else None
    gallery = learn(x, y, TAXONOMY, settings=LearnSettings(method=method), validation=validation)
    new, truth = clusters(200, seed=2)
    probabilities = gallery.probabilities(new)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.97
    assert held_accuracy(gallery) > 0.95
    assert method in ("auto", gallery.method)
    assert gallery.judged_on == ("60 validation photos" if with_validation else "150 photos, held out in turn")


def test_the_probe_is_at_the_minimum() -> None:
    """At the minimum the slope is zero: mean of (probability - truth) x embedding = -strength x weights."""
    x, y = clusters(noise=0.8)
    head = fit_probe(x, y, 3, strength=0.05)
    logits = head.logits(x).astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    centered = x - x.mean(axis=0)
    scale = 1 / np.sqrt((centered**2).mean())
    slope = p.T @ (centered * scale) / len(y) + 0.05 * head.weights / scale
    assert np.abs(slope).max() < 2e-3
    assert np.abs(p.mean(axis=0)).max() < 2e-3


def test_a_stronger_penalty_gives_smaller_weights() -> None:
    x, y = clusters(noise=0.8)
    sizes = [float(np.square(fit_probe(x, y, 3, strength=s).weights).sum()) for s in (1.0, 0.1, 0.01)]
    assert sizes == sorted(sizes)


def test_labels_that_say_nothing_are_no_sure_answers() -> None:
    random = np.random.default_rng(99)
    x, _ = clusters(300)
    gallery = learn(x, random.integers(3, size=300), TAXONOMY)
    assert held_accuracy(gallery) < 0.5
    assert gallery.probabilities(x).max() < 0.7
    assert gallery.calibration["thresholds"]["model"] >= 0.5


def test_prototypes_learn_a_class_from_one_photo() -> None:
    x, y = clusters(40)
    kept = (y != 2) | (np.arange(40) == np.flatnonzero(y == 2)[0])
    gallery = learn(x[kept], y[kept], TAXONOMY, settings=LearnSettings(method="prototypes"))
    new, truth = clusters(100, seed=3)
    assert (gallery.probabilities(new).argmax(axis=1) == truth).mean() > 0.85


def test_one_photo_a_class_is_enough_for_prototypes() -> None:
    x, y = clusters(200, noise=0.1)
    first = [int(np.flatnonzero(y == each)[0]) for each in range(3)]
    gallery = learn(x[first], y[first], TAXONOMY, settings=LearnSettings(method="prototypes"))
    assert (gallery.probabilities(x).argmax(axis=1) == y).mean() > 0.97
    assert gallery.held is None
    assert gallery.judged_on.startswith("no photo")


def test_a_class_without_photos_is_never_the_best() -> None:
    x, y = clusters(60, n_classes=2)
    for method in ("probe", "prototypes"):
        gallery = learn(x, y, TAXONOMY, settings=LearnSettings(method=method))  # type: ignore[arg-type]
        assert set(gallery.probabilities(x).argmax(axis=1)) == {0, 1}


def test_groups_are_judged_by_others() -> None:
    """Ten ads, each with its own look and a chance class: known ads would be recognised, new ones cannot be."""
    random = np.random.default_rng(1)
    ads = np.repeat(np.arange(30), 10)
    looks, kinds = random.normal(size=(30, 24)), random.integers(3, size=30)
    x, y = (looks[ads] + 0.05 * random.normal(size=(300, 24))).astype(np.float32), kinds[ads]
    torn = learn(x, y, TAXONOMY)
    whole = learn(x, y, TAXONOMY, groups=[f"ad {ad}" for ad in ads])
    assert held_accuracy(torn) > 0.95
    assert held_accuracy(whole) < 0.7


def test_learning_is_repeatable() -> None:
    # To the byte: a promise of one process, which adds the same numbers in the same order.
    x, y = clusters()
    first, second = learn(x, y, TAXONOMY), learn(x, y, TAXONOMY)
    assert first.head == second.head
    assert first.calibration == second.calibration
    assert first.head.to_bytes() == second.head.to_bytes()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((4, 8)), np.zeros(4, int), "4 photos of 1 classes"),
        (np.ones((4, 8)), np.arange(3), r"embeddings of \(4, 8\) and classes of \(3,\)"),
        (np.ones(4), np.arange(4), "must be"),
        (np.zeros((0, 8)), np.zeros(0, int), "must be"),
        (np.ones((4, 8)), np.arange(4.0), "float64"),
        (np.ones((4, 8)), np.arange(4), "classes from 0 to 3; the taxonomy has 0 to 2"),
        (np.full((2, 8), np.nan), np.arange(2), "not finite"),
    ],
)
def test_wrong_arrays_are_named(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        learn(x, y, TAXONOMY)


def test_wrong_groups_are_named() -> None:
    with pytest.raises(BundleError, match="3 groups for 4 photos"):
        learn(np.eye(4), np.array([0, 0, 1, 1]), TAXONOMY, groups=[1, 2, 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "forest"}, "method is 'forest'; allowed: auto, probe, prototypes"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"name": "../elsewhere"}, "names a folder"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnSettings(**settings)


# ---- the bundle


PAINTS = {"orange": Taxon(make="Zitrus", model="Mandarine"), "green": Taxon(make="Gras", model="Halm")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_identifier(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def gallery(base: ModelBundle) -> Gallery:
    """Learn two classes that the tiny identifier does not know, from crops in shades of two colours."""
    size = base.preprocessing
    identifier = Identifier(base, base.open_session("onnxruntime", threads=1))
    random = np.random.default_rng(0)
    crops = np.empty((40, size.height, size.width, 3), np.uint8)
    for number in range(40):
        color = np.array(COLORS[list(PAINTS)[number % 2]]) + random.integers(-15, 16, 3)
        crops[number] = np.clip(color, 0, 255)
    embeddings = np.stack([found.embedding for found in identifier.identify(crops)])
    return learn(embeddings, np.arange(40) % 2, Taxonomy(tuple(PAINTS.values())))


def saved(gallery: Gallery, base: ModelBundle, folder: Path) -> ModelBundle:
    return save_gallery(gallery, base, folder, name="paints", card={"data": "40 drawn crops", "figures": {"ads": 1.0}})


def test_a_learned_bundle_answers_like_any_other(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    bundle = saved(gallery, base, tmp_path / "learned")
    assert ModelBundle.load(tmp_path / "learned") == bundle
    assert bundle.head == gallery.head
    bundle.verify()
    tiny_finder(tmp_path / "finder")
    recognizer = Recognizer.open(
        finder=tmp_path / "finder", identifier=tmp_path / "learned", engine="onnxruntime", threads=1
    )
    for paint, taxon in PAINTS.items():
        prediction = recognizer.recognize(draw_photo(cars=[(paint, (60, 60, 300, 240))]))
        answer = prediction.vehicles[0].answer
        assert answer is not None
        assert (answer.level, answer.name) == ("model", taxon.name())
        embedding = np.array([prediction.vehicles[0].embedding])
        assert answer.probability == pytest.approx(gallery.probabilities(embedding).max(), abs=1e-6)


def test_what_the_network_has_seen_goes_on(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    listed = to_bytes(hashes_of(np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)))
    saved(gallery, replace(base, seen=listed), tmp_path)
    assert ModelBundle.load(tmp_path).seen == listed != b""


def test_the_licence_of_the_network_goes_on(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    bundle = saved(gallery, base, tmp_path)
    assert CARD["licence"] in bundle.card["licence"]
    assert CARD["use"] in bundle.card["use"]
    assert bundle.card["data"] == {"head": "40 drawn crops", "network": CARD["data"]}
    assert bundle.card["figures"]["ads"] == 1.0
    assert "40 drawn crops" in (tmp_path / "CARD.md").read_text()


def test_what_the_network_tells_besides_names_stays(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    strict = replace(base, calibration={**base.calibration, "subject": 0.7})
    learned = saved(gallery, strict, tmp_path)
    assert learned.attributes == base.attributes == ModelBundle.load(tmp_path).attributes
    assert (learned.calibration["subject"], learned.calibration["temperature"]) == (
        0.7,
        gallery.calibration["temperature"],
    )


def test_learning_on_a_learned_bundle_works(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    first = saved(gallery, base, tmp_path / "first")
    second = saved(gallery, first, tmp_path / "second")
    assert CARD["licence"] in second.card["licence"]
    second.open_session("onnxruntime", threads=1)


def test_a_finder_has_no_embeddings(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="task is 'finder'"):
        saved(gallery, tiny_finder(tmp_path / "finder"), tmp_path / "out")


def damage_bytes(folder: Path) -> None:
    (folder / "head.npz").write_bytes(b"nothing")


def remove(folder: Path) -> None:
    (folder / "head.npz").unlink()


def rename_kind(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    content["head"]["kind"] = "liner"
    (folder / "bundle.json").write_text(json.dumps(content))


def replace_with(**arrays: np.ndarray) -> Any:
    def change(folder: Path) -> None:
        np.savez(folder / "head.npz", **arrays)
        content = json.loads((folder / "bundle.json").read_text())
        content["head"].pop("bytes")
        (folder / "bundle.json").write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_bytes, "has 7 bytes, bundle.json says"),
        (remove, "is missing, though bundle.json names it"),
        (rename_kind, "head: kind: 'liner' is not possible; did you mean 'linear'"),
        (replace_with(weights=np.ones((2, 16))), "is no head"),
        (replace_with(weights=np.ones((3, 16)), bias=np.ones(3)), "head answers 3, its taxonomy has 2 classes"),
        (replace_with(weights=np.ones((2, 16)), bias=np.ones(3)), "must be"),
        (replace_with(weights=np.full((2, 16), np.inf), bias=np.ones(2)), "not finite"),
        (replace_with(weights=np.array([object()] * 2), bias=np.ones(2)), "is no head"),
        (replace_with(weights=np.array(["a", "b"]), bias=np.ones(2)), "is no head"),
    ],
)
def test_a_wrong_head_is_named(gallery: Gallery, base: ModelBundle, tmp_path: Path, change: Any, message: str) -> None:
    saved(gallery, base, tmp_path)
    change(tmp_path)
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(tmp_path)


def test_a_head_for_other_embeddings_is_found_when_opened(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    saved(gallery, base, tmp_path)
    replace_with(weights=np.ones((2, 20)), bias=np.ones(2))(tmp_path)
    with pytest.raises(BundleError, match="wanted 20 last"):
        ModelBundle.load(tmp_path).open_session("onnxruntime", threads=1)


def test_a_changed_head_is_found_by_verify(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    saved(gallery, base, tmp_path)
    replace_with(weights=np.ones((2, 16)), bias=np.ones(2))(tmp_path)
    with pytest.raises(BundleError, match=r"head\.npz: sha256"):
        ModelBundle.load(tmp_path).verify()


def test_prototypes_of_equal_embeddings_are_finite() -> None:
    x = np.ones((4, 8), np.float32)
    head = fit_prototypes(x, np.array([0, 0, 1, 1]), 2)
    assert isinstance(head, Head)
    assert np.isfinite(fit_probe(x, np.array([0, 0, 1, 1]), 2, strength=0.1).weights).all()


def test_the_network_stays_in_its_own_file_and_precision(gallery: Gallery, base: ModelBundle, tmp_path: Path) -> None:
    assert base.folder is not None
    openvino = pytest.importorskip("openvino")
    network = openvino.Core().read_model(base.model_path)
    openvino.save_model(network, tmp_path / "model.xml", compress_to_fp16=False)
    exported = replace(base, file="model.xml", precision="float16").save(
        tmp_path / "base", (tmp_path / "model.xml").read_bytes(), weights=(tmp_path / "model.bin").read_bytes()
    )
    learned = saved(gallery, exported, tmp_path / "learned")
    assert (learned.file, learned.precision) == ("model.xml", "float16")
    learned.open_session("openvino", threads=1)
