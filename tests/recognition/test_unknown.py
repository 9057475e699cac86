"""What a learned bundle refuses: drawn clusters that it learnt, and others that it did not."""

from pathlib import Path

import numpy as np
import pytest

from carspotter.recognition.gallery import LearnSettings, learn, save_gallery
from carspotter.recognition.identifier import UNKNOWN, Identifier
from carspotter.recognition.probes import fit_probe
from carspotter.recognition.unknown import KEPT, choose_refusal, left_out
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.head import Head
from carspotter.taxonomy import Taxon, Taxonomy
from tiny_bundles import tiny_identifier

CENTERS = np.abs(np.random.default_rng(7).normal(size=(24, 32)))
TAXONOMY = Taxonomy(tuple(Taxon(make="Rubin", model=f"M{number}") for number in range(12)))


def clusters(classes: np.ndarray, seed: int, noise: float = 0.15) -> np.ndarray:
    """Draw unit vectors (n, 32) around the centres of classes (n,), of which there are 24."""
    vectors = CENTERS[classes] + noise * np.random.default_rng(seed).normal(size=(len(classes), 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_evidence_is_the_logarithm_of_the_mean_power() -> None:
    head = Head(weights=np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), bias=np.array([0.5, -0.5], np.float32))
    x = np.array([[1.0, 0.0], [0.0, 1.0], [500.0, 0.0]], np.float32)
    wanted = np.array([np.log(np.exp(1.5) + np.exp(-0.5)), np.log(np.exp(0.5) + np.exp(1.5)), 500.5]) - np.log(2)
    assert head.evidence(x) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("method", ["probe", "prototypes"])
@pytest.mark.parametrize("with_validation", [True, False])
def test_what_was_not_learnt_is_refused(method: str, with_validation: bool) -> None:
    y = np.repeat(np.arange(12), 8)
    validation = (clusters(y, 1), y) if with_validation else None
    gallery = learn(clusters(y, 0), y, TAXONOMY, settings=LearnSettings(method=method), validation=validation)  # type: ignore[arg-type]
    least = gallery.calibration["evidence"]
    known, unknown = gallery.head.evidence(clusters(y, 2)), gallery.head.evidence(clusters(y + 12, 3))
    assert (known >= least).mean() > 0.85
    assert (unknown < least).mean() > 0.85
    assert gallery.figures["learnt classes kept"] >= KEPT
    assert gallery.figures["classes left out refused"] > 0.85


def test_from_one_photo_a_class_most_of_the_unknown_is_refused() -> None:
    y = np.arange(12)
    gallery = learn(clusters(y, 0), y, TAXONOMY)
    many = np.repeat(y, 20)
    least = gallery.calibration["evidence"]
    assert (gallery.head.evidence(clusters(many, 2)) >= least).mean() > 0.7
    assert (gallery.head.evidence(clusters(many + 12, 3)) < least).mean() > 0.6


def test_of_two_classes_none_can_be_left_out() -> None:
    y = np.repeat([0, 1], 10)
    assert "evidence" not in learn(clusters(y, 0), y, TAXONOMY).calibration


def test_photos_are_asked_of_heads_that_learnt_neither_them_nor_the_class() -> None:
    y = np.repeat(np.arange(4), 5)
    parts = np.tile(np.arange(5), 4)
    learnt: list[set[int]] = []

    def fit(x: np.ndarray, classes: np.ndarray, n_classes: int) -> Head:
        learnt.append(set(x[:, 0].astype(int).tolist()))
        return fit_probe(x, classes, n_classes, strength=1.0)

    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    x[:, 0] = np.arange(20)
    apart = left_out(fit, x, y, parts=parts)
    assert [(len(known), len(unknown)) for known, unknown in apart] == [(3, 5)] * 4
    for fold, rows in enumerate(learnt):
        classes = {int(y[row]) for row in rows}
        assert len(classes) == 3
        assert not any(parts[row] == fold for row in rows)


def test_the_refusal_weighs_both_sides() -> None:
    random = np.random.default_rng(0)
    known, unknown = random.normal(4, 1, 4000), random.normal(0, 1, 4000)
    found = choose_refusal([(known, unknown), (known + 1, unknown + 1)])
    assert found is not None
    assert found.kept == pytest.approx(found.refused, abs=0.01)
    assert found.kept == pytest.approx(0.977, abs=0.005)  # two deviations from either mean
    assert found.least == pytest.approx(2.5, abs=0.1)
    alike = choose_refusal([(known, known)])
    assert alike is not None
    assert (alike.kept, alike.refused) == pytest.approx((KEPT, 1 - KEPT), abs=0.01)  # nine tenths of the known stay
    assert choose_refusal([]) is None
    assert choose_refusal([(known, np.zeros(0))]) is None


def test_the_bundle_says_that_it_knows_no_such_class(tmp_path: Path) -> None:
    base = tiny_identifier(tmp_path / "base")
    session = base.open_session("onnxruntime")
    random = np.random.default_rng(0)
    crops = random.integers(0, 255, (30, base.preprocessing.height, base.preprocessing.width, 3), dtype=np.uint8)
    embeddings = session.run(crops)["embedding"]
    gallery = learn(embeddings, np.arange(30) % 12, TAXONOMY)
    saved = save_gallery(gallery, base, tmp_path / "learned", name="mine", card={"data": "noise"})
    strict = ModelBundle.load(tmp_path / "learned")
    object.__setattr__(strict, "calibration", {**saved.calibration, "evidence": 1e6})
    refused = Identifier(strict, session).identify(crops[:1])[0]
    assert refused.answer is None
    assert refused.undecided == UNKNOWN
    assert len(refused.levels["model"]) == 5  # the candidates stay, to be looked at
    assert Identifier(strict, session, threshold=0.0).identify(crops[:1])[0].answer is not None
