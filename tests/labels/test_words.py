"""Hold the plain tokens of words: any script, case and accent comes to the same letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.labels.words import digits, key, lookalike, sound, tidy, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Škoda", ("skoda",)),
        ("ШКОДА", ("shkoda",)),
        ("Mercedes-Benz E 220 CDI", ("mercedes", "benz", "e", "220", "cdi")),
        ("Citroën C4", ("citroen", "c4")),
        ("ё й ї", ("e", "i", "i")),
        ("Kia Cee'd", ("kia", "ceed")),
        ("Ｇｏｌｆ", ("golf",)),  # full-width letters
        ("宝马 X5", ("宝马", "x5")),
        ("Ladă-1 300", ("lada", "1", "300")),
        (" -/. ", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_tokens(text, expected):
    assert tokens(text) == expected


@given(st.text(max_size=30))
def test_tokens_of_tokens_are_the_same(text):
    assert tokens(" ".join(tokens(text))) == tokens(tokens(text) and " ".join(tokens(text)))
    assert all(word and word == word.strip() for word in tokens(text))


@given(st.text(alphabet="abcdefgh XYZ-0123456789äöüßéçñ", max_size=20))
def test_case_does_not_matter(text):
    assert tokens(text.upper()) == tokens(text.lower())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("С4", "C4"),
        ("Х5", "X5"),
        ("ВMW", "BMW"),
        ("Голf", None),
        ("Х", "X"),
        ("Нива", None),
        ("Golf", None),
        (None, None),
    ],
)
def test_lookalike(text, expected):
    assert lookalike(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kamri", "camry"),
        ("kashkai", "qashqai"),
        ("oktaviya", "octavia"),
        ("padzhero", "pajero"),
        ("turan", "touran"),
        ("cheroki", "cherokee"),
        ("megan", "megane"),
        ("lanser", "lancer"),
    ],
)
def test_what_is_said_alike(one, other):
    assert sound(one) == sound(other)


def test_what_is_not_said_alike():
    assert len({sound(word) for word in ("a4", "a6", "golf", "polo", "308", "3008", "chery", "corsa")}) == 8


def test_small_parts():
    assert key(("l", "200")) == "l200"
    assert digits("xc90 t8") == "908"
    assert tidy(("atto", "3")) == tidy(tokens("ATTO-3")) == "Atto 3"
    assert tidy(("mdx", "sport")) == "MDX Sport"
