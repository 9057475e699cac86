"""Find generations by their codes and numbers ("W205", "E46", "Mk VII", "5G") and give each one spelling.

The table (`generations.json`) holds for each model its generations in order. Within one, `/` parts types ("W205/S205"
is a saloon and an estate of one generation, which is called by the first), a blank parts spellings of one type. A `*`
marks a spelling that names this model only beside its name, a `!` letters that tell by themselves. The facts are
the makers' own type codes and names of generations, written down from general knowledge; no entry was checked
against a source of its own. This file decides nothing, `resolve` does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from carspotter.labels.words import Tokens, common_words, digits, key, sound, tokens

_LETTER_AND_NUMBER = re.compile(r"[A-Z](\d{3}|[6-9]\d)")  # "E 211" is a W211, "Land Cruiser 80" a J80; "30 d" no G30
_RANGE = re.compile(r"Mk(\d+)-(\d+)")
_NUMBERED = re.compile(r"Mk(\d+)")
_ORDINAL = re.compile(r"([1-9]\d?)(st|nd|rd|th|e|eme|er|a|o|de|ste|te|ta|oe)?")
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10, "xi": 11}
_END_OF_VOLUME = re.compile(r"(?![2-5](?:d|p|dr)$)\d[a-z]+|2d")  # "2.0TDI" fell into "2" and "0tdi"; "5d" is doors
_STRONG = re.compile(r"[a-z]+\d{2,}[a-z]?|\d[a-z]\d|\d{2}[a-z]")
_GENERATION_WORDS = common_words("generation")
_BODY_WORDS = {"kuzov", "kuzove", "body", "karoserie", "baureihe"}
# What follows a number that counts something else: doors, seats, power, driven wheels.
_COUNTED = re.compile(
    r"(tur(?!bo)|vrat|uks|ust|luuk|durv|dury|duru|porte|door|drs?$|p$|dor|deur|puerta|porta|drzwi|dver|usi|ovi|ajto|kapi|"
    r"thyr|sit|seat|plaz|plac|mist|mest|ps|hp|km|cv|ch|ks|hk|pk|kw|kwh|kc|kn|le|ls|bhp|motion|matic|x4|wd|cyl|zyl|owner|"
    r"hand|tkm|eur|speed|gang|vites)"
)


@dataclass(frozen=True, slots=True)
class Code:
    """What a spelling stands for: a type of a model; `alone` says whether it names the model by itself."""

    model: str
    type: str
    family: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A code found in words: its first and last place, its spelling as one word, and what it may be."""

    start: int
    stop: int
    spelling: str
    codes: tuple[Code, ...]

    @property
    def strong(self) -> bool:
        """Return whether it can hardly be anything but a code of its make: "W205", no "8V", which may be valves."""
        return bool(_STRONG.fullmatch(self.spelling)) and any(code.alone for code in self.codes)

    @property
    def telling(self) -> bool:
        """Return whether it is seldom anything else: letters and digits that name a model by themselves."""
        return not self.spelling.isdecimal() and any(code.alone for code in self.codes)


class Generations:
    """Find the generations of one make's models."""

    def __init__(self, models: Mapping[str, Sequence[str]]) -> None:
        """Take the generations of each model, as the table writes them."""
        self.codes: dict[Tokens, list[Code]] = {}
        self._numbers: dict[str, dict[int, Code]] = {}
        for model, generations in models.items():
            for generation in _unfolded(generations):
                self._add(model, generation)
        shapes = [_shape(key(spelling)) for spelling in self.codes]
        self._shapes = {shape for shape in set(shapes) if shapes.count(shape) >= _MANY and len(shape) > 2}

    def _add(self, model: str, generation: str) -> None:
        types = [text.split() for text in generation.split("/")]
        family = _bare(types[0][0])
        for spellings in types:
            for spelling in spellings:
                name, words = _bare(spelling), tokens(_bare(spelling))
                number = _NUMBERED.fullmatch(name)
                alone = (
                    not spelling.endswith("*")
                    and number is None
                    and (spelling.endswith("!") or not name.isalpha())
                    and len(name) > 1
                )
                code = Code(model=model, type=_bare(spellings[0]), family=family, alone=alone)
                self.codes.setdefault(words, []).append(code)
                if len(words) > 1:
                    self.codes.setdefault((key(words),), []).append(code)
                if number:
                    self._numbers.setdefault(model, {})[int(number[1])] = code
                if _LETTER_AND_NUMBER.fullmatch(name):
                    self._numbers.setdefault(model, {}).setdefault(int(name[1:]), code)

    def find(self, words: Tokens) -> list[Found]:
        """Return the codes anywhere in words, "W 205" too; letters alone and short numbers do not count."""
        found, at = [], 0
        while at < len(words):
            for count in (2, 1):
                hit = self._code(words[at : at + count]) if at + count <= len(words) else None
                is_volume = (
                    at > 0 and len(words[at - 1]) == 1 and words[at - 1].isdecimal() and words[at][0].isdecimal()
                )
                if hit is not None and not is_volume and not is_counted(words, at + count - 1):
                    found.append(Found(at, at + count, key(words[at : at + count]), hit))
                    at += count - 1
                    break
            at += 1
        return found

    def _code(self, words: Tokens) -> tuple[Code, ...] | None:
        if len(words) == 2:  # "W 205", "T6.1", "BR 463"; not "5 K"
            joined = (key(words),) if words[0].isalpha() and words[1][0].isdecimal() else ()
            if words[0] in ("br", "bm", "typ", "type", "baureihe", "kuzov") and words[1].isalnum():
                joined = next(
                    (
                        w
                        for w in ((f"w{words[1]}",), (f"x{words[1]}",), (f"c{words[1]}",), (words[1],))
                        if w in self.codes
                    ),
                    joined,
                )
            codes = self.codes.get(words) or self.codes.get(joined)
        else:
            codes = self.codes.get(words) or self._part_number(words[0])
        if not codes or (key(words).isalpha() and not any(code.alone for code in codes)) or len(key(words)) < 2:
            return None
        return tuple(codes)

    def _part_number(self, word: str) -> list[Code] | None:
        """Return the codes of "8P1" or "1Z5", as catalogues of parts write a body of 8P or 1Z."""
        is_one = len(word) > 2 and word[0].isdecimal() and word[1].isalpha()
        return self.codes.get((word[:-1],)) if is_one else None

    def of(self, model: str, words: Tokens, spellings: Mapping[str, str]) -> Code | None:
        """Return the one type of a model that words name, or None where they name none or several.

        `spellings` are a make's models by the key of each spelling: a number or a letter counts behind a model's name.
        """
        named = {code for found in self.find(words) for code in found.codes if code.model == model}
        if not named:
            named = set(self._counted(model, words, spellings))
        families = {code.family for code in named}
        if len(families) != 1:
            return None
        types = {code.type for code in named}
        if len(types) == 1:
            return named.pop()
        family = families.pop()
        return Code(model=model, type=family, family=family, alone=False)

    def spelled(self, model: str, text: str, spellings: Mapping[str, str]) -> Code | None:
        """Return the type that a text as a whole is a spelling of: "VII" is one, "Mk7 facelift" says more."""
        said = tuple(word for word in tokens(text) if word not in _GENERATION_WORDS)
        is_one = len(said) == 1 or any(found.stop - found.start == len(said) for found in self.find(said))
        return self.of(model, (*tokens(model), *said), spellings) if is_one else None

    def _counted(self, model: str, words: Tokens, spellings: Mapping[str, str]) -> Iterator[Code]:
        """Yield the types of numbers, Roman numbers and letters that stand where a generation is written."""
        numbers = self._numbers.get(model, {})
        for at, word in enumerate(words):
            behind = at > 0 and _ends_name(words[:at], model, spellings)
            before, after = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
            is_said = before in _GENERATION_WORDS or after in _GENERATION_WORDS
            number = _number(word)
            if number in numbers and not is_counted(words, at):
                is_long = (len(word) > 1 and word.isalpha()) or word.startswith("mk")
                is_body = len(digits(word)) == 3 and (behind or after in _BODY_WORDS)
                if is_said or (is_long and at > 0) or (behind and (number < _LEAST_BODY)) or is_body:
                    yield numbers[number]
            elif behind and (word,) in self.codes:
                yield from (code for code in self.codes[word,] if code.model == model)

    def is_half(self, word: str) -> bool:
        """Return whether a word is a generation without a model, or has the form of the make's codes: no model."""
        return _shape(word) in self._shapes or (word,) in self.codes or (bool(self.codes) and word in _ROMAN)


_MANY = 30
_LEAST_BODY = 100


def _unfolded(generations: Sequence[str]) -> Iterator[str]:
    for generation in generations:
        span = _RANGE.fullmatch(generation)
        yield from (f"Mk{n}" for n in range(int(span[1]), int(span[2]) + 1)) if span else [generation]


def _bare(spelling: str) -> str:
    return spelling.rstrip("*!")


def _shape(word: str) -> str:
    return "".join("9" if letter.isdecimal() else "a" for letter in word)


def _number(word: str) -> int:
    """Return the number that "7", "VII", "MkVII" or "7th" says, or -1."""
    word = word.removeprefix("mk") or word
    ordinal = _ORDINAL.fullmatch(word)
    if ordinal:
        return int(ordinal[1])
    return int(word) if word.isdecimal() and len(word) == 3 else _ROMAN.get(word, -1)


def is_counted(words: Tokens, at: int) -> bool:
    """Return whether a number is a volume ("1.6" fell into two words) or counts what follows ("5 doors")."""
    after = words[at + 1] if at + 1 < len(words) else ""
    if not words[at].isdecimal():
        return words[at][-1] == "k" and after in ("km", "kms", "eur", "euro", "miles")
    then = words[at + 2] if at + 2 < len(words) else ""
    is_digit = after.isdecimal() and len(after) == 1
    is_volume = is_digit and not (then.isdecimal() and len(then) == 1) and not _COUNTED.match(then)
    is_volume = is_volume or bool(_END_OF_VOLUME.fullmatch(after))
    return (is_volume and len(words[at]) == 1) or bool(_COUNTED.match(after))


def _ends_name(words: Tokens, model: str, spellings: Mapping[str, str]) -> bool:
    ends = [key(words[-count:]) for count in range(1, min(len(words), 4) + 1)]
    said = sound(key(tokens(model)))
    return any(spellings.get(end) == model or sound(end) == said for end in ends)


@cache
def table() -> Mapping[str, Generations]:
    """Return the generations of each make that is in the table."""
    text = files("carspotter.labels").joinpath("generations.json").read_text(encoding="utf-8")
    return {make: Generations(models) for make, models in json.loads(text).items()}


def of_make(make: str) -> Generations:
    """Return the generations of a make; none for one that is not in the table."""
    return table().get(make) or _NONE


_NONE = Generations({})


def family(make: str, model: str | None, generation: str) -> str:
    """Return the generation that a type is of: that of "S205" is "W205"; what is not known is one by itself."""
    codes = of_make(make).codes.get(tokens(generation), ())
    found = {code.family for code in codes if code.model == model}
    return found.pop() if len(found) == 1 else generation


def makes_of(words: Tokens) -> dict[str, set[str]]:
    """Return the codes in words that can hardly be anything else, "W205" and "W 205", each with its makes."""
    joined = (one + two for one, two in itertools.pairwise(words) if len(one) == 1 and two.isdecimal())
    return {word: _owners()[word] for word in (*words, *joined) if word in _owners() and word not in _FUELS}


@cache
def _owners() -> Mapping[str, set[str]]:
    owners: dict[str, set[str]] = {}
    for make, generations in table().items():
        for words, codes in generations.codes.items():
            if Found(0, 0, key(words), tuple(codes)).strong:
                owners.setdefault(key(words), set()).add(make)
    return owners


_FUELS = {"e10", "e85"}  # what runs in a car is no type of it
