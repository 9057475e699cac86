"""Ads: one answer from all photos, and for each photo its role, copies, strangers, views and declarations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.geometry import BoundingBox
from carspotter.recognition.ad import AdAnswer, answer_ad
from carspotter.recognition.ad_views import VIEWS
from carspotter.recognition.attributes import Attributes
from carspotter.recognition.declared import DeclaredWords
from carspotter.recognition.declared_attributes import NEAR, are_near, is_near
from carspotter.recognition.fusion import find_outlier_photos, fuse, fuse_words
from carspotter.recognition.identifier import NO_CAR, Identifier
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import VIEWPOINTS, Kind, PhotoError, Prediction, Vehicle, Viewpoint
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from tiny_bundles import BACKGROUNDS, CARD, IDENTIFIER_INPUT, TAXA, TOY_COLOR, draw_photo

ALPHA_2012, ALPHA_2016, BETA, GAMMA, DELTA, CABRIO = range(len(TAXA))
SIDE = (90, 60, 310, 240)


@pytest.fixture(scope="module")
def identifier(recognizer: Recognizer) -> Identifier:
    """The tiny identifier: thresholds of 0.6, six classes of three makes."""
    return recognizer.identifier


def said(best: int, probability: float = 0.9) -> tuple[float, ...]:
    """Give class probabilities with the rest spread evenly."""
    rest = (1 - probability) / (len(TAXA) - 1)
    return tuple(probability if at == best else rest for at in range(len(TAXA)))


def direction(angle: float) -> tuple[float, ...]:
    """Give a unit vector; two of them are as alike as the cosine of their angles' difference."""
    return (float(np.cos(angle)), float(np.sin(angle)), *[0.0] * 14)


def photo(
    identifier: Identifier,
    probabilities: tuple[float, ...] | None = None,
    *,
    name: str = "a.jpg",
    kind: str = "exterior",
    side: str = "front-left",
    angle: float = 0.0,
    hashes: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] = SIDE,
    size: tuple[int, int] = (400, 300),
    **attributes: tuple[float, ...],
) -> Prediction:
    """Give the prediction of a photo; without probabilities it shows no vehicle. `attributes` are its words'."""
    vehicles: tuple[Vehicle, ...] = ()
    if probabilities is not None:
        judged = identifier.judge(np.array(probabilities), np.array(direction(angle), np.float32))
        vehicles = (
            Vehicle(
                box=BoundingBox(*box),
                score=0.95,
                viewpoint=Viewpoint(name=side, probability=0.9),
                answer=judged.answer,
                levels=judged.levels,
                undecided=judged.undecided,
                probabilities=probabilities,
                embedding=direction(angle),
                attributes=attributes,
            ),
        )
    kind_said = Kind(name=kind, probability=0.97)
    return Prediction(photo=name, width=size[0], height=size[1], kind=kind_said, vehicles=vehicles, hashes=hashes)


def broken(name: str = "b.jpg") -> Prediction:
    """Give the prediction of a photo that cannot be read."""
    return Prediction(photo=name, error=PhotoError(type="truncated", message="b.jpg ends too early"))


def roles(answer: AdAnswer) -> list[str]:
    """Give the photos' roles."""
    return [each.role for each in answer.photos]


def probability(answer: AdAnswer, level: str, name: str) -> float:
    """Give what an ad's candidate has."""
    return next(candidate.probability for candidate in answer.levels[level] if candidate.name == name)


def ways(least: float = 0.0) -> Any:
    """Draw class probabilities."""
    floats = st.floats(least, 1, allow_subnormal=False)
    rows = st.lists(floats, min_size=len(TAXA), max_size=len(TAXA)).filter(lambda row: sum(row) > 0.01)
    return rows.map(lambda row: tuple((np.array(row) / np.sum(row)).tolist()))


# ---- the answer


def test_photos_that_hesitate_decide_together(identifier: Identifier) -> None:
    unsure = (0.35, 0.2, 0.04, 0.35, 0.03, 0.03)
    other = (0.40, 0.15, 0.04, 0.05, 0.33, 0.03)
    photos = [photo(identifier, unsure), photo(identifier, other, side="back"), photo(identifier, other, side="left")]
    assert [each.vehicles[0].answer is None for each in photos] == [True, True, True]
    answer = answer_ad(photos, identifier)
    assert answer.answer is not None
    assert (answer.answer.level, answer.answer.name) == ("model", "Rubin Alpha")
    assert answer.undecided is None
    assert [each.weight for each in answer.photos] == pytest.approx([1 / 3] * 3)


def test_one_photo_answers_as_it_does_alone(identifier: Identifier) -> None:
    one = photo(identifier, said(GAMMA, 0.7))
    answer = answer_ad([one], identifier)
    assert answer.answer == one.vehicles[0].answer
    assert answer.levels == one.vehicles[0].levels
    assert answer.lead == 0
    assert answer.photos[0].weight == 1.0


def test_years_that_photos_disagree_on_do_not_vote_the_model_away() -> None:
    """A pool over the classes alone would answer Delta: each photo denies the other's year, neither denies Delta."""
    first = np.array([0.97, 1e-8, 1e-8, 1e-8, 0.03 - 1e-8, 1e-8])
    second = np.array([1e-8, 0.97, 1e-8, 1e-8, 0.03 - 1e-8, 1e-8])
    taxonomy = Taxonomy(TAXA)
    flat = np.sqrt(first * second)
    assert flat.argmax() == DELTA
    fused = fuse(np.stack([first, second]), taxonomy)
    assert taxonomy.names("make")[int(taxonomy.sum_to("make", fused).argmax())] == "Rubin"
    assert taxonomy.sum_to("model", fused)[0] > 0.95


def test_classes_that_differ_in_their_body_alone_are_not_counted_twice() -> None:
    twins = [Taxon(make="Rubin", model="Alpha", year=2012, body=body) for body in ("Sedan", "Coupe")]
    taxonomy = Taxonomy((*twins, Taxon(make="Azur", model="Delta", year=2012)))
    fused = fuse(np.array([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4]]), taxonomy)
    assert fused.sum() == pytest.approx(1)
    assert fused[0] == pytest.approx(fused[1])
    assert taxonomy.sum_to("make", fused)[0] == pytest.approx(0.6 ** (2**0.3) / (0.6 ** (2**0.3) + 0.4 ** (2**0.3)))


def test_undecided_speaks_of_all_photos(identifier: Identifier) -> None:
    even = (0.2, 0.1, 0.1, 0.25, 0.2, 0.15)
    answer = answer_ad([photo(identifier, even), photo(identifier, even, side="back")], identifier)
    assert answer.answer is None
    assert answer.undecided is not None
    assert answer.undecided.startswith("not decidable from 2 photos: best guess Rubin (0.")


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ([], "the ad has no photo"),
        (["broken"], "b.jpg ends too early"),
        (["broken", "broken"], "none of the 2 photos can be read"),
        (["interior"], "an interior: no whole vehicle to identify"),
        (["interior", "detail", "broken"], "none of the 3 photos shows a vehicle's outside well enough to identify it"),
    ],
)
def test_nothing_to_answer_from_is_said(identifier: Identifier, kinds: list[str], reason: str) -> None:
    photos = [broken() if kind == "broken" else photo(identifier, kind=kind) for kind in kinds]
    answer = answer_ad(photos, identifier, declared=Taxon(make="Rubin"))
    assert answer.answer is None
    assert answer.undecided == reason
    assert answer.lead is None
    assert roles(answer) == ["unreadable" if kind == "broken" else kind for kind in kinds]
    assert answer.declared is not None
    assert (answer.declared.verdict, answer.declared.why) == ("cannot-tell", reason)
    assert dict(answer.levels) == dict.fromkeys(LEVELS, ())
    json.dumps(answer.to_dict())


def test_forty_photos(identifier: Identifier) -> None:
    photos = [photo(identifier, said(BETA, 0.5 + at / 100), side=VIEWPOINTS[at % 8]) for at in range(40)]
    answer = answer_ad(photos, identifier)
    assert answer.answer is not None
    assert answer.answer.name.startswith("Rubin Beta")
    assert sum(each.weight for each in answer.photos) == pytest.approx(1)


def test_predictions_read_from_json_are_refused(identifier: Identifier) -> None:
    bare = Prediction.from_dict(photo(identifier, said(BETA)).to_dict())
    with pytest.raises(ValueError, match=r"photo 0, 'a.jpg': its vehicle has no class probabilities"):
        answer_ad([bare], identifier)


def test_fuse_needs_a_photo() -> None:
    with pytest.raises(ValueError, match="no photo to fuse"):
        fuse(np.empty((0, len(TAXA))), Taxonomy(TAXA))


@given(rows=st.lists(ways(), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_the_order_of_photos_does_not_matter(identifier: Identifier, rows: list[Any], seed: int) -> None:
    photos = [photo(identifier, row, angle=at, side=VIEWPOINTS[at % 8]) for at, row in enumerate(rows)]
    order = np.random.default_rng(seed).permutation(len(photos)).tolist()
    one, other = answer_ad(photos, identifier), answer_ad([photos[at] for at in order], identifier)
    assert one.probabilities == other.probabilities
    assert (one.answer, one.seen, one.missing) == (other.answer, other.seen, other.missing)
    assert [one.photos[at].role for at in order] == roles(other)


@given(rows=st.lists(ways(), min_size=1, max_size=6), copies=st.lists(st.integers(0, 5), max_size=4))
def test_a_copy_changes_nothing(identifier: Identifier, rows: list[Any], copies: list[int]) -> None:
    far = [int(value) for value in np.random.default_rng(1).integers(0, 2**63, 6)]  # some 32 bits from each other
    photos = [photo(identifier, row, angle=at, hashes=(far[at], far[at])) for at, row in enumerate(rows)]
    more = [replace(photos[at % len(photos)], photo="copy") for at in copies]
    one, other = answer_ad(photos, identifier), answer_ad([*photos, *more], identifier)
    assert one.probabilities == other.probabilities
    assert one.lead == other.lead
    assert roles(other)[len(photos) :] == ["duplicate"] * len(more)
    assert [each.duplicate_of for each in other.photos[len(photos) :]] == [at % len(photos) for at in copies]


@given(rows=st.lists(ways(), min_size=1, max_size=10))
def test_levels_agree_and_weights_are_shares(identifier: Identifier, rows: list[Any]) -> None:
    answer = answer_ad([photo(identifier, row, angle=at) for at, row in enumerate(rows)], identifier)
    assert answer.probabilities is not None
    assert all(0 <= value <= 1 for value in answer.probabilities)
    for level in LEVELS:
        sums = identifier.taxonomy.sum_to(level, np.array(answer.probabilities))
        assert sums.sum() == pytest.approx(1)
        assert probability(answer, level, identifier.taxonomy.names(level)[int(sums.argmax())]) == pytest.approx(
            sums.max()
        )
    assert all(0 <= each.weight <= 1 for each in answer.photos)
    assert sum(each.weight for each in answer.photos) == pytest.approx(1)


@given(rows=st.lists(ways(0.001), min_size=1, max_size=6))
def test_a_photo_that_agrees_makes_the_answer_no_weaker(rows: list[Any]) -> None:
    """A photo agrees that says what the others say together before they are counted: their mean."""
    taxonomy = Taxonomy(TAXA)
    voices = np.array(rows)
    mean = fuse(voices, taxonomy, independence=0.0)
    before = taxonomy.sum_to("make", fuse(voices, taxonomy))
    after = taxonomy.sum_to("make", fuse(np.vstack([voices, mean]), taxonomy))
    best = int(before.argmax())
    assert after[best] >= before[best] - 1e-9


# ---- copies, strangers, views, lead


@pytest.mark.parametrize(
    ("bits", "more", "angle", "is_copy"),
    [
        (3, 30, 1.0, True),  # pHash alone
        (4, 30, 1.0, False),
        (8, 8, 1.0, True),  # both hashes
        (8, 9, 1.0, False),
        (8, 9, 0.1, True),  # the embedding is the witness: cosine 0.995
        (8, 9, 0.3, False),  # 0.955
        (11, 0, 0.0, False),
    ],
)
def test_copies(identifier: Identifier, bits: int, more: int, angle: float, is_copy: bool) -> None:
    first = photo(identifier, said(BETA), hashes=(0, 0))
    second = photo(identifier, said(BETA), hashes=(2**bits - 1, 2**more - 1), angle=angle)
    assert roles(answer_ad([first, second], identifier)) == ["view", "duplicate" if is_copy else "view"]


def test_the_copy_of_most_pixels_counts(identifier: Identifier) -> None:
    small = photo(identifier, said(BETA, 0.7), hashes=(5, 5))
    large = photo(identifier, said(BETA, 0.8), hashes=(5, 5), size=(800, 600))
    answer = answer_ad([small, large], identifier)
    assert roles(answer) == ["duplicate", "view"]
    assert answer.photos[0].duplicate_of == 1
    assert answer.photos[0].why == "the same picture as another photo of the ad"
    assert answer.probabilities == pytest.approx(said(BETA, 0.8))


def with_a_stranger(identifier: Identifier, angle: float) -> list[Prediction]:
    """Give four photos of a Beta and, third, one of a Delta."""
    photos = [photo(identifier, said(BETA, 0.95), angle=at / 10, side=VIEWPOINTS[at]) for at in range(4)]
    photos.insert(2, photo(identifier, said(DELTA, 0.999), angle=angle, side="left"))
    return photos


def test_another_vehicle_is_left_out(identifier: Identifier) -> None:
    answer = answer_ad(with_a_stranger(identifier, 1.6), identifier)
    assert roles(answer) == ["view", "view", "other-vehicle", "view", "view"]
    why = "another vehicle: Azur Delta 2018 (1.00) here, Rubin Beta 2012 (0.99) on the other photos"
    assert answer.photos[2].why == why
    assert answer.photos[2].weight == 0
    assert "left" in answer.missing
    assert answer.lead != 2


def test_a_photo_that_looks_like_the_others_is_no_stranger(identifier: Identifier) -> None:
    assert "other-vehicle" not in roles(answer_ad(with_a_stranger(identifier, 0.5), identifier))


def test_of_two_photos_none_is_the_odd_one(identifier: Identifier) -> None:
    photos = [photo(identifier, said(BETA, 0.999)), photo(identifier, said(DELTA, 0.999), angle=1.6)]
    assert roles(answer_ad(photos, identifier)) == ["view", "view"]


def test_more_than_half_of_the_photos_stay() -> None:
    """Six photos, two and two and two of one car: whichever is taken away, four stay."""
    rows = np.array([said(best, 0.9999) for best in (BETA, BETA, DELTA, DELTA, GAMMA, GAMMA)])
    alike = np.eye(6, 16)
    assert len(find_outlier_photos(rows, alike, Taxonomy(TAXA), agreement=1.0)) == 2


def test_views_and_lead(identifier: Identifier) -> None:
    photos = [
        photo(identifier, kind="interior"),
        photo(identifier, said(BETA), side="back"),
        photo(identifier, said(BETA), side="front-right", box=(0, 0, 400, 300)),  # cut off
        photo(identifier, said(BETA), side="front-right"),
        photo(identifier, said(BETA), kind="detail", side="front"),
        broken(),
    ]
    answer = answer_ad(photos, identifier)
    assert answer.seen == ("front-right", "back", "interior")
    assert set(answer.seen) | set(answer.missing) == set(VIEWS)
    assert not set(answer.seen) & set(answer.missing)
    assert answer.lead == 3
    assert roles(answer) == ["interior", "view", "view", "view", "detail", "unreadable"]


def test_an_interior_that_a_photo_may_show_is_neither_seen_nor_missing(identifier: Identifier) -> None:
    outside = photo(identifier, said(BETA), side="back")
    assert "interior" in answer_ad([outside], identifier).missing
    near = answer_ad([outside, photo(identifier, kind="detail")], identifier)
    assert "interior" not in {*near.seen, *near.missing}
    foreign = answer_ad([outside, photo(identifier, kind="other")], identifier)
    assert "interior" in foreign.missing


def test_an_unsure_viewpoint_is_not_seen(identifier: Identifier) -> None:
    one = photo(identifier, said(BETA))
    unsure = replace(one.vehicles[0], viewpoint=Viewpoint(name="front", probability=0.49))
    answer = answer_ad([replace(one, vehicles=(unsure,))], identifier)
    assert answer.seen == ()
    assert answer.lead == 0


# ---- declared against seen


def seen_as(identifier: Identifier, best: int, probability: float, declared: Taxon | DeclaredWords) -> Any:
    """Give the verdict on a declaration where one photo is this sure of one class."""
    return answer_ad([photo(identifier, said(best, probability))], identifier, declared=declared).declared


@pytest.mark.parametrize(
    ("best", "sure", "declared", "verdict", "level", "why"),
    [
        (BETA, 0.99, Taxon(make="Rubin"), "agrees", "make", "the photos show Rubin as declared"),
        (BETA, 0.99, Taxon(make="RÜBIN", model="béta"), "agrees", "model", "the photos show RÜBIN béta as declared"),
        (
            BETA,
            0.99,
            Taxon(make="Rubin", model="Beta", year=2013),
            "agrees",
            "generation",
            "the photos show Rubin Beta 2013 as declared",
        ),
        (
            BETA,
            0.99,
            Taxon(make="Rubin", model="Beta", year=2012),
            "agrees",
            "year",
            "the photos show Rubin Beta 2012 as declared",
        ),
        (
            BETA,
            0.99,
            Taxon(make="Rubin", model="Alpha"),
            "contradicts",
            "model",
            "the photos show Rubin Beta 2012 (0.99), Rubin Alpha is declared",
        ),
        (
            ALPHA_2012,
            0.99,
            Taxon(make="Rubin", model="Alpha", year=2017),
            "contradicts",
            "generation",
            "the photos show Rubin Alpha 2012 (0.99), Rubin Alpha 2017 is declared",
        ),
        (
            BETA,
            0.99,
            Taxon(make="Azur"),
            "contradicts",
            "make",
            "the photos show Rubin Beta 2012 (0.99), Azur is declared",
        ),
        (
            BETA,
            0.99,
            Taxon(make="Azur", model="Epsilon"),
            "contradicts",
            "make",
            "the photos show Rubin Beta 2012 (0.99), Azur is declared",
        ),
        (
            BETA,
            0.7,
            Taxon(make="Azur"),
            "cannot-tell",
            "make",
            "the photos rather show Rubin Beta 2012 (0.70), but not surely enough",
        ),
        (
            BETA,
            0.99,
            Taxon(make="Rubin", model="Epsilon"),
            "cannot-tell",
            "make",
            "the bundle knows Rubin, but no model 'Epsilon' of it; as far as known it agrees: Rubin",
        ),
        (BETA, 0.99, Taxon(make="Opal"), "cannot-tell", None, "the bundle does not know the make 'Opal'"),
        (BETA, 0.99, DeclaredWords(said="nice car"), "cannot-tell", None, "no known make is declared in 'nice car'"),
        (BETA, 0.99, DeclaredWords(), "cannot-tell", None, "no make is declared"),
        (
            BETA,
            0.2,
            Taxon(make="Rubin"),
            "cannot-tell",
            "make",
            "the photos do not say what it is: not decidable from this photo: best guess Rubin (0.52) is below 0.60",
        ),
    ],
)
def test_declared(
    identifier: Identifier, best: int, sure: float, declared: Any, verdict: str, level: str | None, why: str
) -> None:
    found = seen_as(identifier, best, sure, declared)
    assert (found.verdict, found.level, found.why) == (verdict, level, why)
    assert found.photos == ((0,) if verdict != "cannot-tell" else ())
    content = found.to_dict()
    assert list(content) == ["verdict", "level", "name", "probability", "photos", "why", "colour", "body"]
    assert (content["colour"], content["body"]) == (None, None)


def test_a_model_that_cannot_be_told_agrees_as_far_as_the_make(identifier: Identifier) -> None:
    probabilities = (0.3, 0.1, 0.55, 0.02, 0.02, 0.01)
    photos = [photo(identifier, probabilities)]
    found = answer_ad(photos, identifier, declared=Taxon(make="Rubin", model="Alpha")).declared
    assert found is not None
    assert (found.verdict, found.level) == ("agrees", "make")
    assert found.why == "the photos show Rubin as declared; the model cannot be told from them"
    assert found.probability == pytest.approx(0.95)


def test_a_year_alone_never_contradicts(recognizer: Recognizer) -> None:
    years = tuple(Taxon(make="Rubin", model="Alpha", year=year) for year in (2012, 2013))
    identifier = over(Taxonomy(years), recognizer)
    photos = [photo(identifier, (0.99, 0.01))]
    found = answer_ad(photos, identifier, declared=Taxon(make="Rubin", model="Alpha", year=2013)).declared
    assert found is not None
    assert (found.verdict, found.level) == ("agrees", "model")
    assert found.why.endswith("; the year cannot be told from them")


def test_photos_that_decide_come_strongest_first(identifier: Identifier) -> None:
    photos = [
        photo(identifier, said(BETA, sure), side=side) for sure, side in ((0.6, "left"), (0.2, "back"), (0.95, "front"))
    ]
    found = answer_ad([broken(), *photos], identifier, declared=Taxon(make="Rubin", model="Beta")).declared
    assert found is not None
    assert (found.verdict, found.photos) == ("agrees", (3, 1))


def over(taxonomy: Taxonomy, recognizer: Recognizer) -> Identifier:
    """Give an identifier of other classes; no network runs in these tests."""
    bundle = ModelBundle(
        task="identifier",
        name="names",
        preprocessing=IDENTIFIER_INPUT,
        card=CARD,
        taxonomy=taxonomy,
        calibration={"threshold": 0.6},
    )
    return Identifier(bundle, recognizer.identifier._session)


NAMES = Taxonomy(
    (
        Taxon(make="Audi", model="A4 Sedan"),
        Taxon(make="Audi", model="A4 Allroad"),
        Taxon(make="Audi", model="A6"),
        Taxon(make="Volkswagen", model="Golf"),
        Taxon(make="Volkswagen", model="Golf Plus"),
        Taxon(make="Mercedes-Benz", model="E-Class Sedan"),
        Taxon(make="Land Rover", model="Defender"),
        Taxon(make="Citroën"),
    ),
    {"VW": "Volkswagen"},
)


@pytest.mark.parametrize(
    ("seen", "declared", "verdict", "level"),
    [
        (0, ("audi", "A4"), "agrees", "model"),  # shorter
        (1, ("audi", "a 4"), "agrees", "model"),
        (2, ("Audi", "A4"), "contradicts", "model"),
        (2, ("Audi", "A6 Avant Quattro"), "agrees", "model"),  # longer
        (4, ("vw", "GOLF"), "contradicts", "model"),  # the very name is known, so that no longer one is meant
        (4, ("VW", "golf-plus"), "agrees", "model"),
        (5, ("mercedes", "E Class"), "agrees", "model"),
        (6, ("Rover", "Defender"), "cannot-tell", None),  # not the first words
        (7, ("citroen", "C4"), "agrees", "make"),  # the bundle names no model of it
        (0, ("Audi", "A"), "cannot-tell", "make"),  # part of a word is no word
    ],
)
def test_names(recognizer: Recognizer, seen: int, declared: tuple[str, str], verdict: str, level: str | None) -> None:
    identifier = over(NAMES, recognizer)
    row = tuple(0.98 if at == seen else 0.02 / 7 for at in range(8))
    words = DeclaredWords(make=declared[0], model=declared[1])
    found = answer_ad([photo(identifier, row)], identifier, declared=words).declared
    assert found is not None
    assert (found.verdict, found.level) == (verdict, level)


@given(rows=st.lists(ways(), max_size=4), make=st.text(max_size=6), model=st.none() | st.text(max_size=6))
def test_any_words_get_a_verdict(identifier: Identifier, rows: list[Any], make: str, model: str | None) -> None:
    words = DeclaredWords(make=make, model=model, generation="2010–", year=2012, said=make)
    found = answer_ad([photo(identifier, row) for row in rows], identifier, declared=words).declared
    assert found is not None
    assert found.why
    json.dumps(found.to_dict())


# ---- colour and body

RED, ORANGE, BLUE = (0.96, 0.02, 0.01, 0.01), (0.01, 0.97, 0.01, 0.01), (0.001, 0.001, 0.001, 0.997)
UNSURE = (0.4, 0.3, 0.0, 0.3)


def test_an_ad_has_one_colour_and_one_body(identifier: Identifier) -> None:
    sedan = (0.9, 0.05, 0.03, 0.01, 0.01)
    photos = [
        photo(identifier, said(BETA), side=side, colour=colour, body=sedan)
        for side, colour in (("front", RED), ("left", UNSURE), ("back", UNSURE))
    ]
    assert Attributes(identifier.bundle).say("colour", photos[1].vehicles[0].attributes) is None
    answer = answer_ad([photo(identifier, kind="interior"), *photos], identifier)
    assert answer.colour is not None
    assert answer.colour.name == "red"
    assert answer.body is not None
    assert answer.body.name == "Sedan"
    assert 0.9 < answer.body.probability < 0.999, "three photos of one car are less than three witnesses"
    content = answer.to_dict()
    assert content["colour"] == {"name": "red", "probability": round(answer.colour.probability, 4)}


def test_copies_and_strangers_have_no_say_in_the_colour(identifier: Identifier) -> None:
    same = (7, 7)
    photos = [
        photo(identifier, said(BETA, 0.99), side="front", colour=RED, hashes=same),
        photo(identifier, said(BETA, 0.99), side="front", colour=RED, hashes=same),
        photo(identifier, said(BETA, 0.99), side="left", angle=0.1, colour=RED, hashes=((1 << 20) - 1, 7)),
        photo(identifier, said(DELTA, 0.99999), side="back", angle=2.0, colour=BLUE, hashes=((1 << 60) - (1 << 30), 7)),
    ]
    answer = answer_ad(photos, identifier)
    assert roles(answer)[1:] == ["duplicate", "view", "other-vehicle"]
    assert answer.colour is not None
    assert answer.colour.probability > 0.96


def test_a_pool_of_words_is_that_of_one_level() -> None:
    rows = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]])
    flat = Taxonomy(tuple(Taxon(make=make) for make in ("Rubin", "Smaragd", "Azur")))
    assert fuse_words(rows) == pytest.approx(fuse(rows, flat))
    assert fuse_words(rows[:1]) == pytest.approx(rows[0])
    with pytest.raises(ValueError, match="no photo"):
        fuse_words(np.empty((0, 3)))


def test_an_ad_without_attributes_says_none(identifier: Identifier) -> None:
    answer = answer_ad([photo(identifier, said(BETA))], identifier, declared=DeclaredWords(colour="red"))
    assert (answer.colour, answer.body) == (None, None)
    assert answer.declared is not None
    assert answer.declared.colour is not None
    assert (answer.declared.colour.verdict, answer.declared.colour.why) == ("cannot-tell", "no photo tells the colour")
    assert answer.declared.body is None


@pytest.mark.parametrize(
    ("seen", "declared", "verdict", "why"),
    [
        (RED, "red", "agrees", "the photos show red as declared"),
        (RED, " RED ", "agrees", "the photos show red as declared"),
        (BLUE, "red", "contradicts", "the photos show blue (1.00), red is declared"),
        (ORANGE, "red", "cannot-tell", "the photos show orange (0.97), which is too near to red to tell"),
        ((0.01, 0.04, 0.0, 0.95), "red", "cannot-tell", "the photos show blue (0.95), but not surely enough"),
        (UNSURE, "red", "cannot-tell", "the photos do not tell the colour surely: best guess red (0.40)"),
        (RED, "pink", "cannot-tell", "the bundle knows no colour 'pink'"),
    ],
)
def test_a_declared_colour(identifier: Identifier, seen: Any, declared: str, verdict: str, why: str) -> None:
    photos = [photo(identifier, said(BETA), colour=seen)]
    found = answer_ad(photos, identifier, declared=DeclaredWords(make="Rubin", colour=declared)).declared
    assert found is not None
    assert found.verdict == "agrees", "the make has a verdict of its own"
    assert found.colour is not None
    assert (found.colour.verdict, found.colour.why) == (verdict, why)
    assert found.colour.photos == ((0,) if verdict != "cannot-tell" else ())
    assert found.to_dict()["colour"]["verdict"] == verdict


def test_a_declared_body_and_photos_that_decide(identifier: Identifier) -> None:
    coupe, unsure = (0.001, 0.001, 0.001, 0.995, 0.002), (0.3, 0.1, 0.1, 0.4, 0.1)
    photos = [
        photo(identifier, said(BETA), side=side, body=body)
        for side, body in (("front", unsure), ("left", coupe), ("back", coupe))
    ]
    found = answer_ad(photos, identifier, declared=DeclaredWords(body="suv")).declared
    assert found is not None
    assert (found.verdict, found.why) == ("cannot-tell", "no make is declared")
    assert found.body is not None
    assert (found.body.verdict, found.body.name) == ("contradicts", "SUV")
    assert found.body.photos == (1, 2, 0)


def test_near_words_are_near_both_ways() -> None:
    assert is_near("grey", "silver")
    assert is_near("Silver", "GREY")
    assert are_near("Silver", "GREY")
    assert are_near("Red", "red")
    assert not are_near("Red", "blue")
    assert is_near("Coupe", "convertible")
    assert not is_near("red", "blue")
    assert not is_near("sedan", "pickup")
    assert all(len(pair) == 2 for pair in NEAR)


def test_what_is_no_car_has_no_say_in_an_ad(recognizer: Recognizer) -> None:
    drawn = [draw_photo(cars=[(color, (60, 60, 340, 240))]) for color in ("green", TOY_COLOR)]
    predictions = [recognizer.recognize(each) for each in drawn]
    answer = answer_ad(predictions, recognizer.identifier)
    assert answer.answer is not None
    assert answer.answer.name.startswith("Smaragd")
    assert [each.weight for each in answer.photos] == [1.0, 0.0]
    assert (answer.photos[1].role, answer.photos[1].why) == ("other", NO_CAR)
    assert (answer.lead, answer.seen) == (0, ("right",)), "the toy, which is seen from the front, is no view"
    alone = answer_ad(predictions[1:], recognizer.identifier)
    assert (alone.answer, alone.undecided, alone.colour) == (None, NO_CAR, None)
    assert alone.score is not None
    assert (alone.score.total, alone.seen) == (0, ()), "views that are missing are no points of a score"
    assert answer.score is not None
    assert [part.why for part in answer.score.parts if part.name == "this car"] == ["photo 2 does not show this car"]


# ---- the whole path


def test_drawn_photos(bundles: dict[str, Path]) -> None:
    recognizer = Recognizer.open(**bundles, engine="onnxruntime", threads=1, with_hashes=True)
    drawn = [
        draw_photo(cars=[("green", (60, 60, 340, 240))]),
        draw_photo(background=BACKGROUNDS["interior"]),
        draw_photo(cars=[("green", (20, 120, 200, 290))]),
        draw_photo(cars=[("green", (60, 60, 340, 240))]),
        b"no photo",
    ]
    answer = answer_ad([recognizer.recognize(each) for each in drawn], recognizer.identifier, declared=TAXA[GAMMA])
    assert roles(answer) == ["view", "interior", "view", "duplicate", "unreadable"]
    content = json.loads(json.dumps(answer.to_dict()))
    parts = ["answer", "undecided", "colour", "body", "levels", "lead", "views", "declared", "score", "photos"]
    assert list(content) == parts
    assert (content["colour"]["name"], content["body"]["name"]) == ("green", "Hatchback")
    assert content["answer"]["name"].startswith("Smaragd Gamma")
    assert content["views"]["seen"] == ["right", "interior"]
    assert content["declared"]["verdict"] == "agrees"
    assert content["photos"][1]["prediction"]["undecided"] == "an interior: no whole vehicle to identify"
    assert content["photos"][3]["duplicate_of"] == 0
