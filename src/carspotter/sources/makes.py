"""Names of cars as folders and data sets write them: make, model and year out of one text.

In: "mercedes-benz-v_2016", "AM General Hummer SUV 2000". Out: `CarName`. It knows the makes of several words, and no
others: sellers' words are resolved to taxa elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from carspotter.sources.listing import parse_year

# Makes whose name is of several words or has a hyphen, as their makers write it.
LONG_MAKES = (
    "Alfa Romeo",
    "AM General",
    "Aston Martin",
    "Austin-Healey",
    "DS Automobiles",
    "De Tomaso",
    "Great Wall",
    "Iran Khodro",
    "KG Mobility",
    "Land Rover",
    "Li Auto",
    "Lynk & Co",
    "Mercedes-AMG",
    "Mercedes-Benz",
    "Mercedes-Maybach",
    "Renault Samsung",
    "Rolls-Royce",
    "W Motors",
)
_BODIES = (
    "Sedan",
    "Coupe",
    "Convertible",
    "Hatchback",
    "SUV",
    "Wagon",
    "Minivan",
    "Van",
    "Crew Cab",
    "Extended Cab",
    "Regular Cab",
    "Quad Cab",
    "Club Cab",
    "Roadster",
    "Pickup",
    "Liftback",
    "Limousine",
    "Estate",
    "Saloon",
)
_SEPARATOR = r"[-_\s]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarName:
    """The parts of a car's name, as far as the text says them; the year as it is written."""

    make: str | None = None
    model: str | None = None
    year: str | None = None
    body: str | None = None


def read_name(text: str) -> CarName:
    """Take a name apart: a year at the end, the longest known make or the first word, and the model between them.

    Four digits after "_" are the year, whatever they are; after a blank or "-" only if a car can be of that year, and
    "peugeot-2008" is a model.
    """
    rest, year = text.strip(), None
    match = _YEAR.fullmatch(rest)
    if match and (match[2] == "_" or parse_year(match[3]) is not None):
        rest, year = match[1].strip("-_ "), match[3]
    if not any(character.isalpha() for character in rest):
        return CarName()
    make, model = split_make(rest)
    if not model and match and year and "-" in match[2]:
        model, year = year, None
    body = next((body for body in _BODIES if f" {model}".casefold().endswith(f" {body}".casefold())), None)
    return CarName(make=make, model=model or None, year=year, body=body)


_YEAR = re.compile(r"(.*?)([-_ ])[-_ ]*(\d{4})")


def split_make(text: str) -> tuple[str, str]:
    """Return make and model of a name without a year: the longest known make, else the first word.

    A known make is spelt as its makers do; everything else stays as it is written.
    """
    match = _LONG.match(text)
    if match:
        return _SPELLINGS[_folded(match[1])], text[match.end() :].strip()
    # "Foo-Bar X1" begins with a make of two parts; in "land-cruiser" a hyphen is all there is.
    make, _, model = text.partition(" ") if " " in text else re.sub(_SEPARATOR, " ", text, count=1).partition(" ")
    return make, model.strip()


def _folded(make: str) -> str:
    return re.sub(r"[^a-z]", "", make.casefold())


_SPELLINGS = {_folded(make): make for make in LONG_MAKES}
_LONG = re.compile(
    "("
    + "|".join(
        _SEPARATOR.join(re.escape(word) for word in re.split(r"[-\s]+", make))
        for make in sorted(LONG_MAKES, key=len, reverse=True)
    )
    + rf")(?:{_SEPARATOR}|$)",
    re.IGNORECASE,
)
