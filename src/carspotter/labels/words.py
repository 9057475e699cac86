"""Turn words as people write them into plain tokens for comparison.

"Škoda", "SKODA" and "Шкода" become the same letters a-z and 0-9. It knows no make and no model, and keeps no case, no
accents and no punctuation: what is shown to people comes from elsewhere.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from importlib.resources import files

Tokens = tuple[str, ...]
"""The plain words of a text."""

# How Russian and Ukrainian letters are usually written in Latin ones; the aliases go through the same table, so that
# it need not agree with any one standard.
_CYRILLIC = {
    "а": "a",
    "б": "b",
    "в": "v",
    "г": "g",
    "ґ": "g",
    "д": "d",
    "е": "e",
    "ё": "e",
    "є": "e",
    "ж": "zh",
    "з": "z",
    "и": "i",
    "і": "i",
    "ї": "i",
    "й": "i",
    "к": "k",
    "л": "l",
    "м": "m",
    "н": "n",
    "о": "o",
    "п": "p",
    "р": "r",
    "с": "s",
    "т": "t",
    "у": "u",
    "ў": "u",
    "ф": "f",
    "х": "h",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "sch",
    "ъ": "",
    "ы": "y",
    "ь": "",
    "э": "e",
    "ю": "yu",
    "я": "ya",
}
_GREEK = dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", (*"avgdezi", "th", *"iklmnxoprsstyf", "ch", "ps", "o"), strict=True))
_LETTERS = {"ß": "ss", "æ": "ae", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "œ": "oe", "þ": "th"}
_TO_LATIN = str.maketrans({**_CYRILLIC, **_LETTERS, "'": "", "’": "", "`": "", "ʼ": ""})
_FROM_GREEK = str.maketrans(_GREEK)
# Capital letters that look the same in both scripts: a "С4" or "Х5" is often typed in Cyrillic.
_LOOKALIKES = str.maketrans("АВЕКМНОРСТУХІавекмнорстухі", "ABEKMHOPCTYXIabekmhopctyxi")
_TOKEN = re.compile(r"[^\W_]+")
_PLUS = re.compile(r"(?<=\w)\+(?!\w)")  # a "Ka+" is no Ka
_CYRILLIC_WORD = re.compile(r"[^\W\d_]*[\u0400-\u04ff]\w*")


def tokens(text: str | None) -> tuple[str, ...]:
    """Return the words of a text in lower case, without accents, in Latin letters; "" and None give none."""
    if not text:
        return ()
    text = _PLUS.sub(" plus", text)
    if text.isascii():  # what follows would change nothing, and most words are
        return tuple(_TOKEN.findall(text.lower().replace("'", "").replace("`", "")))
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Cyrillic й and ї fall apart into letter and accent too, so they are written in Latin before accents go.
    parted = unicodedata.normalize("NFKD", folded.translate(_TO_LATIN))
    plain = "".join(letter for letter in parted if not unicodedata.combining(letter))
    plain = plain.translate(_FROM_GREEK)  # an accent on a Greek letter has gone by now
    return tuple("".join(letter if _is_said(letter) else " " for letter in plain).split())


def _is_said(letter: str) -> bool:
    """Return whether a letter tells words apart: those of any script, the vowel signs of Indic ones, pictures too."""
    if letter.isalnum():
        return True
    kind = unicodedata.category(letter)
    is_sign = kind in ("Mn", "Mc") and not "\ufe00" <= letter <= "\ufe0f"  # these choose between two looks of a picture
    return is_sign or (kind == "So" and letter >= "\U0001f000")  # but not ® and °


def lookalike(text: str | None) -> str | None:
    """Return a text with Cyrillic letters read as the Latin ones that they look like, or None when it has none.

    Only words that mix scripts or digits are read so ("С4", "ВMW"), or the result would be another word.
    """
    if not text or text.isascii():
        return None
    changed = _CYRILLIC_WORD.sub(lambda word: _look(word[0]), text)
    return changed if changed != text else None


def _look(word: str) -> str:
    read = word.translate(_LOOKALIKES)
    is_mixed = any(letter.isdigit() or (letter.isascii() and letter.isalpha()) for letter in word)
    is_short = len(word) == 1 or (len(word) == 2 and word.isupper())  # "С", and "СХ" of a CX-5
    return read if read.isascii() and (is_mixed or is_short) else word


def key(words: tuple[str, ...] | list[str]) -> str:
    """Return words as one, by which "L 200", "L-200" and "L200" are the same."""
    return "".join(words)


# What different scripts and languages write differently and say alike; longer groups first.
_SOUNDS = (
    ("dzh", "j"),
    ("sch", "sh"),
    ("tsch", "ch"),
    ("ck", "k"),
    ("ph", "f"),
    ("qu", "k"),
    ("ou", "u"),
    ("ee", "i"),
    ("ks", "x"),
    ("w", "v"),
    ("y", "i"),
    ("z", "s"),
    ("q", "k"),
)
_SOFT_C = re.compile(r"c(?=[ei])")
_HARD_C = re.compile(r"c(?!h)")
_TWICE = re.compile(r"([a-z])\1+")


def sound(spelling: str) -> str:
    """Return a key by how it is said: "kamri" and "camry", "kashkai" and "qashqai" become the same. Digits stay."""
    for group, letter in _SOUNDS:
        spelling = spelling.replace(group, letter)
    spelling = _TWICE.sub(r"\1", _HARD_C.sub("k", _SOFT_C.sub("s", spelling)))
    return spelling.removesuffix("e")


def digits(word: str) -> str:
    """Return the digits of a word: "a4b5" gives "45". Models that differ in a digit are never mistyped twins."""
    return "".join(letter for letter in word if letter.isdigit())


def tidy(words: tuple[str, ...]) -> str:
    """Return words as a name in one spelling, whatever the seller's: "atto 3", "Atto-3" and "ATTO 3" give "Atto 3".

    Short words and words with digits are written in capitals, as makers do.
    """
    return " ".join(word.upper() if len(word) <= _SHORT or digits(word) else word.capitalize() for word in words)


_SHORT = 3  # MDX, RAV, TT


@cache
def common_words(name: str) -> frozenset[str]:
    """Return the tokens of what a thing is called in some thirty languages: "class", "series", "generation", "part"."""
    text = files("carspotter.labels").joinpath("common_words.json").read_text(encoding="utf-8")
    return frozenset(token for word in json.loads(text)[name] for token in tokens(word))


GENERIC = {word: name for name in ("class", "series", "model") for word in common_words(name)}
"""Words that say of which kind a name is, and name nothing."""
