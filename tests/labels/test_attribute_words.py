"""Sellers' words for colours and bodies: languages, compounds, paints; what is unclear stays unsaid."""

import pytest

from carspotter.labels.attribute_words import find_word

COLOURS = (
    "beige",
    "black",
    "blue",
    "bordeaux",
    "brown",
    "golden",
    "green",
    "grey",
    "orange",
    "red",
    "silver",
    "violet",
    "white",
    "yellow",
)
BODIES = ("convertible", "coupe", "hatchback", "minivan", "pickup", "sedan", "suv", "van", "wagon")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Red", "red"),
        ("Dunkelblau metallic", "blue"),
        ("brillantsilber", "silver"),
        ("Silbergrau", "grey"),
        ("blanco perla", "white"),
        ("rouge bordeaux nacré", "bordeaux"),
        ("Weinrot", "bordeaux"),
        ("wine red", "bordeaux"),
        ("Rosso Corsa", "red"),
        ("preto", "black"),
        ("zwarte", "black"),
        ("ciemnoniebieski", "blue"),
        ("roșie", "red"),
        ("Gümüş Gri", "silver"),
        ("темно-синий металлик", "blue"),
        ("мокрый асфальт", "grey"),
        ("sarkans", "red"),
        ("Žalia", "green"),
        ("gold", "golden"),
        ("purple", "violet"),
        ("白色", "white"),
    ],
)
def test_a_colour_in_a_sellers_words(said, word):
    assert find_word("colour", said, COLOURS) == word


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("HatchBack", "hatchback"),
        ("Estate", "wagon"),
        ("Kombi", "wagon"),
        ("универсал", "wagon"),
        ("Pick-up", "pickup"),
        ("crew cab", "pickup"),
        ("Berline", "sedan"),
        ("Saloon", "sedan"),
        ("SUV / Geländewagen", "suv"),
        ("4x4", "suv"),
        ("Panel van", "van"),
        ("MPV", "minivan"),
        ("Cabriolet", "convertible"),
        ("coupé", "coupe"),
    ],
)
def test_a_body_in_a_sellers_words(said, word):
    assert find_word("body", said, BODIES) == word


@pytest.mark.parametrize("said", ["", "  ", "metallic", "pink", "black/white", "as on the photos", "1234"])
def test_what_is_unclear_is_none(said):
    assert find_word("colour", said, COLOURS) is None


def test_the_identifiers_own_words_come_first():
    assert find_word("body", "Crossover", BODIES) == "suv"
    more = ("crossover", *BODIES)
    assert find_word("body", "Crossover", more) == "crossover"
    assert find_word("body", "4x4", more) == "suv"
    assert find_word("colour", "gold", ("gold", "red")) == "gold"
    assert find_word("colour", "teal", ("teal", "red")) == "teal"


def test_words_that_the_identifier_lacks_are_none():
    assert find_word("colour", "violet", ("red", "blue")) is None
    assert find_word("doors", "five", ("five",)) == "five"
    assert find_word("doors", "fünf", ("five",)) is None
