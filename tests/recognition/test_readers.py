"""A head of one's own on the identifier's network: it reads the same embedding, and an ad answers with its words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carspotter.recognition.ad import answer_ad
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import READS, ModelBundle
from carspotter.runtime.head import Head
from tiny_bundles import draw_photo

RED = draw_photo((400, 300), [("red", (60, 60, 340, 240))])
WORDS = ("crimson", "navy")


def paint(bundles: dict[str, Path], folder: Path, *, pad: float | None = None) -> Path:
    """Write a bundle that tells red from blue by the tiny identifier's embedding."""
    base = ModelBundle.load(bundles["identifier"])
    size = base.preprocessing if pad is None else replace(base.preprocessing, pad=pad)
    red, blue = (
        base.open_session().run(np.full((1, size.height, size.width, 3), colour, np.uint8))["embedding"][0]
        for colour in ((230, 20, 20), (20, 20, 220))
    )
    bundle = ModelBundle(
        task="attribute",
        name="paint",
        preprocessing=size,
        calibration={"temperature": 0.1, "colour": 0.6},
        card=base.card,
        attributes={"colour": WORDS},
        head=Head(weights=np.stack([red - blue, blue - red]).astype(np.float32), bias=np.zeros(2, np.float32)),
        reads=READS[0],
    )
    bundle.save(folder, base.read_network()[0])
    return folder


def test_the_embedding_of_the_identifier_is_read_where_the_network_is_the_same(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    alike = Recognizer.open(**bundles, attributes=[paint(bundles, tmp_path / "paint")])  # type: ignore[arg-type]
    other = Recognizer.open(**bundles, attributes=[paint(bundles, tmp_path / "wide", pad=0.06)])  # type: ignore[arg-type]
    reader = alike.readers.own["colour"]
    assert reader.reads_from(alike.identifier.bundle)
    assert not other.readers.own["colour"].reads_from(other.identifier.bundle), "another crop is another embedding"
    (vehicle,) = alike.recognize(RED).vehicles
    (looked,) = other.recognize(RED).vehicles
    assert vehicle.colour is not None
    assert looked.colour is not None
    assert (vehicle.colour.name, looked.colour.name) == ("crimson", "crimson")
    assert vehicle.attributes["colour"] == pytest.approx(
        reader.of_embeddings(np.array([vehicle.embedding], np.float32))[0]
    )
    assert vehicle.own == {}


def test_the_colour_of_an_ad_is_that_of_ones_own_bundle(bundles: dict[str, Path], tmp_path: Path) -> None:
    recognizer = Recognizer.open(**bundles, attributes=[paint(bundles, tmp_path / "paint")], with_hashes=True)  # type: ignore[arg-type]
    photos = [recognizer.recognize(RED), recognizer.recognize(RED[:, ::-1].copy())]
    answer = answer_ad(photos, recognizer.identifier, attributes=recognizer.attributes)
    assert answer.colour is not None
    assert answer.colour.name == "crimson"
    assert answer.body is not None, "the identifier still says what no bundle of one's own does"
