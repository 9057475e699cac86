"""Colour and body: a word where it is sure enough, else nothing, and only of attributes that people are told."""

from typing import Any

import pytest

from carspotter.errors import BundleError
from carspotter.recognition.attributes import Attributes
from carspotter.records import Attribute
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import Taxonomy
from tiny_bundles import ATTRIBUTES, CARD, IDENTIFIER_INPUT, TAXA


def bundle(**parts: Any) -> ModelBundle:
    """Give an identifier's bundle; no network runs in these tests."""
    usual = {"calibration": {}, "attributes": ATTRIBUTES, "preprocessing": IDENTIFIER_INPUT, "card": CARD}
    return ModelBundle(task="identifier", name="words", taxonomy=Taxonomy(TAXA), **(usual | parts))


def test_the_likeliest_word_is_said_where_it_is_sure() -> None:
    attributes = Attributes(bundle())
    assert attributes.say("colour", {"colour": (0.1, 0.2, 0.1, 0.6)}) == Attribute(name="blue", probability=0.6)
    assert attributes.say("colour", {"colour": (0.1, 0.3, 0.15, 0.45)}) is None, "less than all others together"


def test_thresholds_are_the_bundles() -> None:
    attributes = Attributes(bundle(calibration={"colour": 0.8}))
    assert attributes.say("colour", {"colour": (0.0, 0.3, 0.0, 0.7)}) is None
    assert attributes.say("body", {"body": (0.0, 0.3, 0.0, 0.7, 0.0)}) is not None
    with pytest.raises(BundleError, match="colour"):
        Attributes(bundle(calibration={"colour": 1.5}))


def test_what_is_not_there_is_not_said() -> None:
    attributes = Attributes(bundle())
    assert attributes.say("colour", {}) is None
    assert attributes.say("subject", {"subject": (0.9, 0.1)}) is None, "of its own use"
    assert Attributes(bundle(attributes={})).say("colour", {"colour": (1.0,)}) is None
    assert set(attributes.words) == {"colour", "body"}
