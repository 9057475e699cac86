"""Compare spellings, and say what a word can be: a name, the rest of one, an engine, a body, nothing.

It knows no make and no model; whoever asks brings the names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from carspotter.errors import MissingExtraError
from carspotter.labels.attribute_words import known_spellings
from carspotter.labels.generations import Generations
from carspotter.labels.words import GENERIC, Tokens, common_words, digits, key, tidy, tokens


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOUBTFUL = 0.7  # below it two spellings have nothing to do with each other; measured with `models.SURE`
SHORTEST_FUZZY = 4  # letters; an XC70 is no C70, and a QX50 no Q50
_LONGEST_NAME = 3  # words of a name as a seller wrote it

# Words in front of a name or behind it that name a body or trim of many models, also where a model is called so.
_NOT_INSIDE = _words(
    "cabrio cabriolet city classic convertible coupe cross electric estate expert family gt hatch liberty limited "
    "move one partner rapid roadster safari sedan senator spider sport sprinter spyder titan van vision wagon"
)
_ENGINE_WORDS = _words(
    "16v 4matic 4motion 4wd 4x4 aut auto automatic automatik avtomat awd bluehdi bluetec cabrio cabriolet cdi combi "
    "coupe crdi d4d dci diesel dizel dsg ecoboost estate ev fsi gas gdi hatchback hdi hev hybrid jtd kombi limousine "
    "manual mpi multijet phev puretech quattro sedan station stationwagon suv tce tdci tdi tfsi touring tsi turbo "
    "universal van variant wagon xdrive"
)
# Words that name no model, alone or together: "other", "bitte wählen", a colour, an engine, the word for a car.
_NOTHING = common_words("no model") | frozenset(GENERIC) | known_spellings("colour") | _ENGINE_WORDS
_PARTS = common_words("part")
_NAME_AND_NUMBER = re.compile(r"([^\W\d_]{3,})(\d+)")


def nearest(spelling: str, known: Sequence[str]) -> list[tuple[str, float]]:
    """Return known spellings with the same digits, and their likeness 0..1 by edits and swaps of neighbours."""
    try:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA
    except ImportError as error:
        raise MissingExtraError("rapidfuzz", "data") from error
    letters = _letters(spelling)
    if len(letters) < SHORTEST_FUZZY:
        return []
    found: Iterable[tuple[str, float, int]] = process.extract(
        spelling, known, scorer=OSA.normalized_similarity, score_cutoff=DOUBTFUL, limit=10
    )
    same = [word for word, _, _ in found if digits(word) == digits(spelling) and len(_letters(word)) >= SHORTEST_FUZZY]
    scored = [(word, float(OSA.normalized_similarity(letters, _letters(word)))) for word in same]
    return sorted(scored, key=lambda item: (-item[1], item[0]))


def likeness(spelling: str, known: Iterable[str]) -> float:
    """Return how like a spelling is to the most like of known ones, 0..1."""
    try:
        from rapidfuzz.distance import OSA
    except ImportError as error:
        raise MissingExtraError("rapidfuzz", "data") from error
    return max((float(OSA.normalized_similarity(spelling, word)) for word in known), default=0.0)


def _letters(spelling: str) -> str:
    return "".join(letter for letter in spelling if not letter.isdecimal())


def seller_name(words: Tokens, own: Collection[str]) -> str | None:
    """Return a model as the seller wrote it, without engine, gearbox and body, or None where it says nothing.

    `own` are the spellings of its make, which stand in front or instead of it.
    """
    for count in range(len(words), 0, -1):
        if key(words[:count]) in own:
            return seller_name(words[count:], own)
    kept: list[str] = []
    for at, word in enumerate(words[:_LONGEST_NAME]):
        after = words[at + 1] if at + 1 < len(words) else ""
        # "Atto 3" is a name; the numbers of "Atto 1.6" and "Atto 105 hp" are not of it.
        is_engine = word.isdecimal() and (len(word) > 1 or after.isdecimal())
        if kept and (word in _ENGINE_WORDS or is_engine):
            break
        kept.append(word)
    spelling = key(kept)
    # "n/a" falls into two words; a part stands in front of its size: "Felgen 17 Zoll".
    said = kept if any(len(word) > 1 for word in kept) else [spelling]
    if len(spelling) < 2 or kept[0] in _PARTS or all(word in _NOTHING for word in said):
        return None
    if spelling.isdecimal() and not _is_model_number(spelling):
        return None
    return tidy(tuple(kept))


def _is_model_number(number: str) -> bool:
    """Return whether a number may be an unknown model: no engine ("16"), year, telephone, price or mileage."""
    is_year = len(number) == 4 and 1980 <= int(number) <= 2049
    is_telephone = len(number) > 3 and number.startswith("0")
    is_price = len(number) > 4 and number.endswith("000")
    return 3 <= len(number) <= 5 and not (is_year or is_telephone or is_price)


def is_telling(spelling: str) -> bool:
    """Return whether a name is one wherever it stands: four letters, or letters with digits, and no body or trim."""
    has_digit, has_letter = bool(digits(spelling)), not spelling.isdecimal()
    return (
        spelling not in _NOT_INSIDE
        and has_letter
        and (len(spelling) >= SHORTEST_FUZZY or (has_digit and len(spelling) > 1))
    )


def is_engine(word: str) -> bool:
    """Return whether a word may be of an engine, a gearbox, a drive or a body, or count a generation."""
    return len(word) <= _LONGEST_TRIM or bool(digits(word)) or word in _ENGINE_WORDS


_LONGEST_TRIM = 3  # letters: SE, AWD, III


def is_body(model: str) -> bool:
    """Return whether a model is called like a body or trim of many others: "Cabriolet", "Coupe"."""
    return key(tokens(model)) in _NOT_INSIDE


def parted(words: Tokens, models: Collection[str], table: Generations) -> Tokens:
    """Return words as generations are read in them: "golf7" is two, "klasse c" is "c class"; names stay whole."""
    parts: list[str] = []
    for word in words:
        parts += (word,) if word in models or (word,) in table.codes else number_apart(word)
    return tuple(parts)


def number_apart(word: str) -> Tokens:
    """Return "golf7" as two words, and any other word as it is."""
    match = _NAME_AND_NUMBER.fullmatch(word)
    return (match[1], match[2]) if match else (word,)
