"""What a learned bundle refuses: drawn clusters that it learnt, and others that it did not."""

from pathlib import Path

import numpy as np
import pytest

from carspotter.errors import BundleError
from carspotter.recognition.gallery import LearnSettings, learn
from carspotter.recognition.gallery_bundle import save_gallery
from carspotter.recognition.identifier import UNKNOWN, Identifier
from carspotter.recognition.probes import fit_probe
from carspotter.recognition.unknown import Seen, left_out, profiles
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.head import FLOOR, SHARE, Head
from carspotter.runtime.refusal import KEPT, choose_refusal
from carspotter.taxonomy import Taxon, Taxonomy
from tiny_bundles import COLORS, tiny_identifier

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
    assert gallery.refusal is not None
    assert gallery.refusal.least == pytest.approx(least, abs=1e-4)
    assert (gallery.refusal.known >= least).mean() >= KEPT - 0.01
    assert (gallery.refusal.unknown < least).mean() > 0.85


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

    def fit(seen: Seen, classes: np.ndarray, rows: np.ndarray) -> Head:
        learnt.append(set(seen.embeddings[:, 0].astype(int).tolist()))
        return fit_probe(seen.embeddings, classes, len(rows), strength=1.0)

    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    x[:, 0] = np.arange(20)
    apart = left_out(fit, Seen(embeddings=x), y, parts=parts)
    assert [(len(known), len(unknown)) for known, unknown in apart] == [(3, 5)] * 4
    for fold, rows in enumerate(learnt):
        classes = {int(y[row]) for row in rows}
        assert len(classes) == 3
        assert not any(parts[row] == fold for row in rows)


def test_the_refusal_weighs_both_sides() -> None:
    random = np.random.default_rng(0)
    known, unknown = random.normal(4, 1, 4000), random.normal(0, 1, 4000)
    found = choose_refusal([(known[:2000], unknown[:2000]), (known[2000:], unknown[2000:])])
    assert found is not None
    assert found.least == pytest.approx(2.0, abs=0.1)  # two deviations from either mean
    assert (len(found.known), len(found.unknown)) == (4000, 4000)
    alike = choose_refusal([(known, known)])
    assert alike is not None
    assert (known >= alike.least).mean() == pytest.approx(KEPT, abs=0.01)  # a twentieth of the known goes
    assert choose_refusal([]) is None
    assert choose_refusal([(known, np.zeros(0))]) is None


def test_where_nothing_overlaps_the_bar_is_in_the_middle_of_the_gap() -> None:
    # At the least of a few known photos the next one would fall below it in one of a few cases.
    found = choose_refusal([(np.array([4.0, 5.0]), np.array([0.0])), (np.array([6.0]), np.array([1.0, -3.0]))])
    assert found is not None
    assert found.least == pytest.approx(2.5)


# ---- what the network under the head says


OWN = np.arange(12)  # models of ours that the network knows under names 0 to 11 of 40; it calls strangers 20 to 31


def said(names: np.ndarray, seed: int, *, sure: float = 0.97) -> np.ndarray:
    """Draw what a network says (n, 40) of photos that it takes for these names (n,)."""
    p = np.random.default_rng(seed).dirichlet(np.ones(40), len(names)) * (1 - sure)
    p[np.arange(len(names)), names] += sure
    return p.astype(np.float32)


def test_evidence_adds_how_alike_the_network_speaks() -> None:
    head = Head(
        weights=np.array([[1.0, 0.0], [0.0, 2.0]], np.float32),
        bias=np.zeros(2, np.float32),
        profiles=profiles(np.array([[0.64, 0.36, 0], [0.36, 0.64, 0], [0, 0, 1]], np.float32), np.array([0, 0, 1]), 2),
    )
    x = np.zeros((3, 2), np.float32)
    told = np.array([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    assert head.evidence(x, told) == pytest.approx(np.log(np.array([1, 1, np.sqrt(0.5)]) + FLOOR), abs=1e-6)
    logits = np.log(np.mean(np.exp([3.0, 0.0])))
    one = head.evidence(np.array([[3.0, 0.0]], np.float32), told[:1])
    assert one == pytest.approx(SHARE * logits + np.log(1 + FLOOR), abs=1e-6)
    with pytest.raises(ValueError, match="what its network says"):
        head.evidence(x)


@pytest.mark.parametrize("classes", [1, 2, 5, 12])
@pytest.mark.parametrize("photos", [1, 3, 8])
def test_strangers_that_the_network_knows_are_refused(classes: int, photos: int) -> None:
    """By embeddings strangers look like one of ours; to a head of one photo each, like centres of their own."""
    y = np.repeat(np.arange(classes), photos)
    taxonomy = Taxonomy(TAXONOMY.classes[:classes])
    gallery = learn(clusters(y, 0), y, taxonomy, said=said(y, 1))
    random = np.random.default_rng(0)
    truth = random.integers(classes, size=200)
    own = gallery.head.evidence(clusters(truth, 4), said(truth, 2))
    strangers = gallery.head.evidence(
        clusters(truth + 12 * (photos == 1), 5), said(random.integers(20, 32, size=200), 3)
    )
    least = gallery.calibration["evidence"]
    assert (own >= least).mean() > 0.9
    assert (strangers < least).mean() > 0.9


def test_one_class_needs_what_the_network_says() -> None:
    with pytest.raises(BundleError, match="at least two classes need photos to learn, or `said`"):
        learn(np.ones((3, 8)), np.zeros(3, int), TAXONOMY)


@pytest.mark.parametrize("wrong", [np.ones((3, 40)), np.ones(24), np.full((24, 40), np.nan)])
def test_what_the_network_says_must_fit(wrong: np.ndarray) -> None:
    y = np.repeat(np.arange(12), 2)
    with pytest.raises(BundleError, match=r"`said` of .*; it must be \(n, m\) and finite"):
        learn(clusters(y, 0), y, TAXONOMY, said=wrong)
    with pytest.raises(BundleError, match="validation has 2 arrays"):
        learn(clusters(y, 0), y, TAXONOMY, said=said(y, 0), validation=(clusters(y, 1), y))


def test_the_bundle_names_a_stranger_as_its_network_does(tmp_path: Path) -> None:
    base = tiny_identifier(tmp_path / "base")
    session = base.open_session("onnxruntime")
    colours = {
        paint: np.full((1, base.preprocessing.height, base.preprocessing.width, 3), rgb, np.uint8)
        for paint, rgb in COLORS.items()
    }
    seen = {paint: session.run(crop) for paint, crop in colours.items()}
    paints = list(COLORS)
    own, stranger = paints[0], paints[2]
    taxonomy = Taxonomy((Taxon(make="Ours", model="One"),))
    gallery = learn(seen[own]["embedding"], np.zeros(1, int), taxonomy, said=seen[own]["model"])
    save_gallery(gallery, base, tmp_path / "learned", name="mine", card={"data": "a crop"})
    learned = ModelBundle.load(tmp_path / "learned")
    assert learned.network == base.taxonomy
    identifier = Identifier(learned, learned.open_session("onnxruntime"))
    assert identifier.identify(colours[own])[0].undecided is None
    refused = identifier.identify(colours[stranger])[0]
    called = Identifier(base, session).identify(colours[stranger])[0].answer
    assert called is not None
    assert refused.answer is None
    assert refused.undecided == f"{UNKNOWN}; the network below them calls it {called.name}"


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
    assert refused.undecided is not None
    assert refused.undecided.startswith(UNKNOWN)
    assert len(refused.levels["model"]) == 5  # the candidates stay, to be looked at
    assert Identifier(strict, session, threshold=0.0).identify(crops[:1])[0].answer is not None
