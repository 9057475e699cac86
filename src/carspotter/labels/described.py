"""Find the cars that a description names: makes followed by a model, or models of a known make.

Descriptions name other cars too: what the seller would swap for, where tyres came from. What stands behind such a word
is not the car that is sold. It decides nothing, `resolve` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from carspotter.labels.generations import is_counted
from carspotter.labels.known import Known, Make
from carspotter.labels.models import Models
from carspotter.labels.spellings import is_telling
from carspotter.labels.words import GENERIC, Tokens, common_words, tokens

_MAKE_WORDS = 4
_AHEAD = 5  # words of a name behind its make
_BEFORE = 5  # words within which another car is announced
_AFTER = 2
_SHORT = 2

# "swap for", "tyres from", "like a", "instead of", "previous": in some twenty languages, as words of a text.
ANNOUNCES, PARTS, WANTED = (common_words(name) for name in ("another car", "part", "wanted"))
_ENGINES = frozenset({"motor", "engine", "motore", "moteur", "dvigatel"})  # each car has one


def cars_in(
    text: str, known: Known, models: Callable[[Make], Models], *, make: str | None = None
) -> set[tuple[str, str]]:
    """Return (make, model) of each car that a text names as its own, of one make where that is known."""
    words = tokens(text)
    return {
        (named, model)
        for at, stop, named, model in _named(words, known, models, make)
        if (make is None or named == make) and not _is_another(words, at, stop)
    }


def own_words(text: str) -> Tokens:
    """Return the words of a text before the first that tells of another car or of a part."""
    words, foreign = tokens(text), ANNOUNCES | (PARTS - _ENGINES)
    return words[: next((at for at, word in enumerate(words) if word in foreign), len(words))]


def is_of_another(title: str, known: Known) -> bool:
    """Return whether a title offers a part of the car that it names, or seeks one: "4 tyres for a VW Golf"."""
    words = tokens(title)
    at = next((at for at in range(len(words)) if known.starts_with_make(words[at : at + _MAKE_WORDS])), 0)
    return bool((PARTS | WANTED) & {*words[max(0, at - _BEFORE) : at]})


def _named(
    words: Tokens, known: Known, models: Callable[[Make], Models], make: str | None
) -> Iterator[tuple[int, int, str, str]]:
    """Yield where a car is named, its make and its model."""
    at = 0
    while at < len(words):
        start = known.starts_with_make(words[at : at + _MAKE_WORDS])
        model = None if start is None else _model(words[at + start[1] : at + start[1] + _AHEAD], start[0], models)
        if start is not None:
            count = start[1]
            if model is not None:
                yield at, at + count + 1, start[0].name, model
            at += count + (model is not None)
            continue
        if make is not None and (is_telling(words[at]) or is_telling("".join(words[at : at + 2]))):
            model = _model(words[at : at + _AHEAD], known.makes[make], models, is_bare=True)
            if model is not None:
                yield at, at + 1, make, model
        at += 1


def _model(words: Tokens, make: Make, models: Callable[[Make], Models], *, is_bare: bool = False) -> str | None:
    """Return the model that words begin with, unless a letter or a number there says something else."""
    if not words or (words[0].isdecimal() and len(words[0]) < _SHORT and is_counted(words, 0)):
        return None
    after = words[1] if len(words) > 1 else ""
    is_class = any(word in GENERIC for word in words[:2])
    if len(words[0]) == 1 and words[0].isalpha() and not (after[:1].isdecimal() or is_class):
        return None
    finder = models(make)
    hit = finder.begins(words)
    if hit is None or (is_bare and hit.method == "prefix" and not is_telling(words[0])):
        return None
    return hit.model


def _is_another(words: Tokens, at: int, stop: int) -> bool:
    before, after = words[max(0, at - _BEFORE) : at], words[stop : stop + _AFTER]
    return bool((ANNOUNCES | PARTS) & {*before}) or bool((PARTS - _ENGINES) & {*after})
