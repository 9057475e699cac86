"""Whole ads over HTTP: one answer for many photos, and what each of them is."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from alike import alike
from carspotter.evaluation.ads import fuse_ads
from carspotter.evaluation.evaluating import LabelledPhoto, predict
from carspotter.geometry import BoundingBox
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle
from carspotter.serving import schemas
from carspotter.serving.declared import DeclaredReader
from carspotter.taxonomy import Taxon, Taxonomy
from serving.conftest import Running, jpeg
from serving.test_app import PHOTO, problem

SMALLER = jpeg(("red", (50, 100, 250, 250)), size=(400, 300))
OTHER_SIDE = jpeg(("red", (300, 150, 760, 420)))
EMPTY = jpeg()


def ask(http: httpx.Client, photos: list[bytes], **fields: Any) -> httpx.Response:
    files = [("photos", (f"{index}.jpg", photo, "image/jpeg")) for index, photo in enumerate(photos)]
    return http.post("/v1/ads", files=files, data={name: json.dumps(value) for name, value in fields.items()})


def test_one_answer_for_all_photos(service: Running) -> None:
    answer = ask(service.http, [EMPTY, PHOTO, OTHER_SIDE, SMALLER, b"no photo"])
    assert answer.status_code == 200, answer.text
    content = answer.json()
    schemas.AdShape.model_validate(content)
    assert content["answer"]["name"].startswith("Rubin Alpha")
    assert [photo["role"] for photo in content["photos"]] == ["other", "view", "view", "duplicate", "unreadable"]
    assert content["photos"][3]["duplicate_of"] == 1
    assert content["photos"][4]["prediction"]["error"]["type"] == "unsupported-format"
    assert sum(photo["weight"] for photo in content["photos"]) == pytest.approx(1, abs=1e-3)
    assert content["lead"] in (1, 2)
    assert "front" in content["views"]["seen"]
    assert content["declared"] is None
    assert set(content["milliseconds"]) == {"queue", "total"}
    assert [photo["prediction"]["photo"] for photo in content["photos"]] == [f"{n}.jpg" for n in range(5)]


@pytest.mark.parametrize(
    ("words", "name", "verdict"),
    [
        ({"colour": "Feuerrot metallic"}, "red", "agrees"),
        ({"colour": "синий"}, "blue", "contradicts"),
        ({"colour": "arancione"}, "orange", "cannot-tell"),
        ({"colour": "pink"}, None, "cannot-tell"),
        ({"body": "Limousine"}, "Sedan", "agrees"),
    ],
)
def test_a_declared_look_in_the_sellers_words(words: dict[str, str], name: str, verdict: str, service: Running) -> None:
    content = ask(service.http, [PHOTO, OTHER_SIDE], declared=words).json()
    schemas.AdShape.model_validate(content)
    assert (content["colour"]["name"], content["body"]["name"]) == ("red", "Sedan")
    (attribute,) = words
    other = "body" if attribute == "colour" else "colour"
    found = content["declared"]
    assert (found[attribute]["name"], found[attribute]["verdict"]) == (name, verdict)
    assert found[other] is None
    assert found["verdict"] == "cannot-tell"


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ({"make": "Xyzzy", "model": "Nope"}, "cannot-tell"),
        ({"year": 2012}, "cannot-tell"),
        ({"title": "a fine thing"}, "cannot-tell"),
    ],
)
def test_declared_words_that_cannot_be_compared(words: dict[str, Any], verdict: str, service: Running) -> None:
    found = ask(service.http, [PHOTO, OTHER_SIDE], declared=words).json()["declared"]
    assert found["verdict"] == verdict
    assert found["why"]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("Audi", "declared"),
        ([1], "declared"),
        ({"year": "soon"}, "declared.year"),
        ({"make": "x" * 300}, "declared.make"),
        ({"colour": 7}, "declared.colour"),
        ({"body": "x" * 300}, "declared.body"),
    ],
)
def test_wrong_declarations(declared: Any, words: str, service: Running) -> None:
    assert words in problem(ask(service.http, [PHOTO], declared=declared), 422, "wrong-value")


@pytest.fixture(scope="module")
def shipped() -> Taxonomy:
    return Taxonomy.load(Path(str(files("carspotter") / "models" / "identifier" / "taxonomy.json")))


def test_each_model_of_a_bundle_is_read_as_itself(shipped: Taxonomy) -> None:
    models = sorted({(taxon.make, taxon.model) for taxon in shipped.classes if taxon.model})
    read = DeclaredReader(shipped, {}).read
    found = {pair: read(schemas.DeclaredWords(make=pair[0], model=pair[1])) for pair in models}
    assert [pair for pair, words in found.items() if (words.make, words.model) != pair] == []


def test_a_make_that_only_the_bundle_knows_is_no_other_make() -> None:
    taxonomy = Taxonomy((Taxon(make="Hymer", model="Eriba"),))
    found = DeclaredReader(taxonomy, {}).read(schemas.DeclaredWords(make="Hymer", model="Eriba"))
    assert (found.make, found.model) == ("Hymer", "Eriba")


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("BMW", "Golf", ("BMW", "Golf")),
        ("Xyzzy", "Nope", ("Xyzzy", "Nope")),
        ("BMW", "other", ("BMW", None)),
        ("BMW", "Audi", ("BMW", "Audi")),
        (None, "BMW", ("BMW", None)),
        (" ", "-", (None, None)),
    ],
)
def test_what_cannot_be_read_stays_declared(
    make: str | None, model: str, expected: tuple[str | None, str | None], shipped: Taxonomy
) -> None:
    found = DeclaredReader(shipped, {}).read(schemas.DeclaredWords(make=make, model=model))
    assert (found.make, found.model) == expected


def test_a_model_that_the_bundle_does_not_know_does_not_agree(service: Running) -> None:
    found = ask(service.http, [PHOTO, OTHER_SIDE], declared={"make": "Rubin", "model": "Golf"}).json()["declared"]
    assert (found["verdict"], found["level"]) == ("cannot-tell", "make")
    assert "the bundle knows Rubin, but no model 'Golf' of it" in found["why"]


def test_too_many_photos_and_none(serve: Callable[..., Running]) -> None:
    http = serve(max_photos=2).http
    problem(ask(http, [PHOTO] * 3), 413, "too-many")
    problem(http.post("/v1/ads", data={"declared": "{}"}, files={"other": b"x"}), 422, "no-photo")
    problem(http.post("/v1/ads", content=PHOTO, headers={"content-type": "image/jpeg"}), 415, "unsupported-body")
    problem(http.post("/v1/ads", json={"photos": [{"url": "https://example.com/a.jpg"}]}), 403, "no-urls")
    for wrong in ({}, {"photos": []}, {"photos": ["a"]}, {"photos": [{"url": ""}]}, {"photos": 4}):
        problem(http.post("/v1/ads", json=wrong), 422, "wrong-json")


def test_an_ad_of_forty_photos(service: Running, recognizer: Recognizer) -> None:
    photos = [jpeg(("red", (10 + 9 * n, 100, 330 + 9 * n, 420))) for n in range(40)]
    content = ask(service.http, photos).json()
    assert len(content["photos"]) == 40
    assert content["answer"]["name"].startswith("Rubin Alpha")
    for photo, part in zip(photos[::13], content["photos"][::13], strict=True):
        here = recognizer.recognize(photo).to_dict()
        assert part["prediction"]["vehicles"][0]["box"] == alike(here["vehicles"][0]["box"])


def test_all_unreadable_is_an_answer_too(service: Running) -> None:
    content = ask(service.http, [b"", b"x"]).json()
    assert content["answer"] is None
    assert content["undecided"]
    assert content["lead"] is None


def test_an_ad_counts_as_its_photos_against_the_rate(serve: Callable[..., Running]) -> None:
    http = serve(rate=0.01, burst=3, max_photos=3).http
    assert ask(http, [PHOTO] * 3).status_code == 200
    problem(ask(http, [PHOTO]), 429, "rate")


def test_what_is_served_of_an_ad_is_what_is_reported_of_it(service: Running, bundles: dict[str, Path]) -> None:
    photos = [PHOTO, OTHER_SIDE]
    served = ask(service.http, photos).json()
    labelled = [
        LabelledPhoto(
            name=str(n),
            read=lambda data=data: data,
            taxon=None,
            about={"ad_id": "1"},  # type: ignore[misc]
            box=BoundingBox.from_list(served["photos"][n]["prediction"]["vehicles"][0]["box"]),
        )
        for n, data in enumerate(photos)
    ]
    table, _ = predict(ModelBundle.load(bundles["identifier"]), labelled)
    fused = fuse_ads(table)
    assert fused is not None
    for level in ("make", "model"):
        reported = table.taxonomy.sum_to(level, fused[0])[0]
        best = served["levels"][level][0]
        assert best["name"] == table.taxonomy.names(level)[int(reported.argmax())]
        # A box goes through JSON with a tenth of a pixel.
        assert best["probability"] == pytest.approx(float(reported.max()), abs=0.01)
