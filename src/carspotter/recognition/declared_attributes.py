"""Compare the colour or body that a seller declared with what the photos of the ad show.

What comes in is one of the bundle's words: sellers' own are resolved elsewhere. Words that a light or an angle makes of
each other never contradict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carspotter.recognition.declared import MOST_LEFT, Comparison, Verdict, deciding
from carspotter.records import Attribute

Floats = NDArray[np.floating]

# Chosen by hand: what sellers call by either name, and what shade, snow or a low sun make of the other. Photographs of
# one vehicle are most often called by two of these: grey and blue, black and blue, silver and white, red and orange.
NEAR: frozenset[frozenset[str]] = frozenset(
    frozenset(pair.split())
    for pair in (
        "grey silver",
        "grey black",
        "grey blue",
        "grey green",
        "grey beige",
        "silver white",
        "silver beige",
        "silver golden",
        "silver blue",
        "white beige",
        "beige golden",
        "beige brown",
        "golden yellow",
        "golden brown",
        "brown bordeaux",
        "brown black",
        "brown orange",
        "brown grey",
        "bordeaux red",
        "bordeaux violet",
        "bordeaux black",
        "red orange",
        "orange yellow",
        "orange golden",
        "yellow green",
        "violet blue",
        "violet black",
        "blue black",
        "blue green",
        "green black",
        "suv wagon",
        "suv hatchback",
        "suv pickup",
        "suv minivan",
        "suv crossover",
        "crossover hatchback",
        "crossover wagon",
        "hatchback wagon",
        "hatchback sedan",
        "hatchback coupe",
        "hatchback minivan",
        "wagon minivan",
        "sedan coupe",
        "sedan wagon",
        "coupe convertible",
        "minivan van",
        "van pickup",
    )
)
"""Pairs of words that are not distinguished surely enough to call a seller wrong."""


def are_near(one: str, other: str) -> bool:
    """Return whether two words are one, or are not distinguished surely enough to contradict each other."""
    return one.casefold() == other.casefold() or is_near(one, other)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenWords:
    """What photos say of one attribute: `together` (k,), each by itself (n, k), and the word that is sure.

    `words` are the bundle's (k), `indices` (n) the photos' places in their ad.
    """

    words: Sequence[str]
    together: Floats
    indices: Sequence[int]
    probabilities: Floats
    sure: Attribute | None


def compare_attribute(attribute: str, declared: str, seen: SeenWords | None, *, nothing: str = "") -> Comparison:
    """Compare a declared word with what is seen; `seen` is None where no photo shows it, and `nothing` says why.

    Photos contradict when they surely show another word and leave at most `MOST_LEFT` for the declared one and all
    that is near to it.
    """
    if seen is None:
        return Comparison(verdict="cannot-tell", name=declared, why=nothing or f"no photo tells the {attribute}")
    spelled = {word.casefold(): word for word in seen.words}
    name = spelled.get(declared.strip().casefold())
    if name is None:
        return Comparison(verdict="cannot-tell", why=f"the bundle knows no {attribute} {declared!r}")
    place = seen.words.index(name)
    if seen.sure is None:
        best = int(np.argmax(seen.together))
        guess = f"best guess {seen.words[best]} ({seen.together[best]:.2f})"
        return _comparison("cannot-tell", f"the photos do not tell the {attribute} surely: {guess}", place, seen=seen)
    shown = f"the photos show {seen.sure.name} ({seen.sure.probability:.2f})"
    if seen.sure.name == name:
        return _comparison("agrees", f"the photos show {name} as declared", place, seen=seen)
    if is_near(seen.sure.name, name):
        why = f"{shown}, which is too near to {name} to tell"
        return _comparison("cannot-tell", why, place, seen=seen)
    allowed = np.array([word == name or is_near(word, name) for word in seen.words])
    if float(seen.together[allowed].sum()) <= MOST_LEFT:
        return _comparison("contradicts", f"{shown}, {name} is declared", place, seen=seen)
    return _comparison("cannot-tell", f"{shown}, but not surely enough", place, seen=seen)


def is_near(one: str, other: str) -> bool:
    """Return whether two different words are too near to call one of them wrong."""
    return frozenset((one.casefold(), other.casefold())) in NEAR


def _comparison(verdict: Verdict, why: str, place: int, *, seen: SeenWords) -> Comparison:
    return Comparison(
        verdict=verdict,
        why=why,
        name=seen.words[place],
        probability=min(1.0, float(seen.together[place])),
        photos=deciding(verdict, seen.probabilities[:, place], seen.indices),
    )
