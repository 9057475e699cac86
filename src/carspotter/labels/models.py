"""Find the model of one make that words name, and the makes that have a model.

It knows the names of one make and tries, in order: the whole words, an engine designation, what the words begin with,
what they hold, what they nearly are. What remains is named as the seller wrote it. It knows no listing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from carspotter.labels.known import Make
from carspotter.labels.spellings import (
    DOUBTFUL,
    SHORTEST_FUZZY,
    is_engine,
    is_telling,
    nearest,
    number_apart,
    seller_name,
)
from carspotter.labels.words import GENERIC, Tokens, key, sound, tokens

# How much each way assumes; they rank and are no probabilities.
SCORES = {"exact": 1.0, "alias": 0.98, "pattern": 0.95, "prefix": 0.9, "sound": 0.85, "inside": 0.8, "seller": 0.5}
_OFTEN_SCORE = 0.7  # an unknown name that many sellers write
FUZZY_WEIGHT = 0.9

# Measured by leaving each known model out and by planting typos, RESULTS.md: one wrong letter of four passes.
SURE, MARGIN = 0.75, 0.1
_PER_DROPPED_WORD = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A model that was found, how, and its score."""

    model: str
    method: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """What is left without a hit: a name as the seller wrote it (None where that is doubtful), and guesses."""

    name: str | None
    guesses: tuple[tuple[str, float], ...] = ()
    score: float = SCORES["seller"]


class Models:
    """Find models of one make; `learn` adds names that sellers often write."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._often: dict[str, str] = {}
        self._sounds: dict[str, set[str]] = {}
        # Only its letter names a class: the sound of the words "class" and "series" says nothing.
        self._telling = {
            spelling: model for spelling, model in make.models.items() if not {"class", "series"} & {*tokens(model)}
        }
        for spelling, model in self._telling.items():
            self._sounds.setdefault(sound(spelling), set()).add(model)

    def learn(self, words: Tokens) -> None:
        """Take up a name that many sellers write."""
        name = seller_name(words, self._make.spellings)
        if name is not None:
            self._often.setdefault(key(tokens(name)), name)

    def find(self, words: Tokens, more: Tokens) -> Match | NearMiss:
        """Return the model in words, `more` being those of the submodel; a make's own name in front is passed over."""
        words, more = self._plain_classes(words), self._plain_classes(more)
        hit = self._longer(words, self._plain(words, more)) or self._without_make(words, more) or self._alike(words)
        if hit is None:
            parted = tuple(part for word in words for part in number_apart(word))
            hit = (self._plain(parted, more) or self._without_make(parted, more)) if parted != words else None
        if hit is not None:
            return hit
        inside, nearly = self._inside(words), self._fuzzy(words)
        if isinstance(nearly, Match) and (inside is None or inside.model in nearly.model):
            return nearly  # "Focs C-Max" is a Focus C-Max, though it holds C-Max
        return inside or nearly

    def begins(self, words: Tokens) -> Match | None:
        """Return the model that words begin with as it is known, an engine designation too."""
        return self._plain(self._plain_classes(words), ())

    def _plain_classes(self, words: Tokens) -> Tokens:
        """Return words with "Klasse E", "E-klasa" and "класс Е" as "e class"; where no name has the word, it goes."""
        if not any(GENERIC.get(word) or _glued(word) for word in words):
            return words
        parted = [part for word in words for part in (self._unglued(word))]
        plain = [GENERIC.get(word, word) for word in parted]
        kept: list[str] = []
        at = 0
        while at < len(plain):
            word, after = plain[at], plain[at + 1] if at + 1 < len(plain) else ""
            if word in _KINDS and len(kept) > 1 and kept[-2].isdecimal() and len(kept[-1]) < _LONGEST_GLUED:
                kept.pop()  # "3-as sorozat", "5-я серия"
            if word not in _KINDS or self._is_name(kept[-1:], word) or self._is_name([word], after):
                kept.append(word)
            elif self._is_name([after], word):
                kept += [after, word]
                at += 1
            at += 1
        return tuple(kept) or tuple(plain)

    def _is_name(self, before: Sequence[str], after: str) -> bool:
        return bool(before and after) and key([*before, after]) in self._make.models

    def _unglued(self, word: str) -> Tokens:
        """Return "cklasse" as two words, where there is a C-Class."""
        parts = _glued(word)
        if parts and word not in self._make.models and self._is_name(parts[:1], GENERIC[parts[1]]):
            return parts
        return (word,)

    def _plain(self, words: Tokens, more: Tokens) -> Match | None:
        every = (*words, *more)
        name, count = None, 0
        for count in range(len(every), 0, -1):
            name = self._name(key(every[:count]))
            if name is not None and not self._cuts_litres(every, count):
                break
        pattern = self._pattern(words, taken=len(" ".join(every[:count])) if name else 0)
        if pattern is not None:
            return self._across(every, pattern)
        if name is None:
            return None
        return self._across(every, self._hit(name, key(every[:count]), is_whole=count >= len(words)))

    def _cuts_litres(self, words: Tokens, count: int) -> bool:
        """Return whether a name of so many words has the first digit of an engine: a "Qashqai 2.0" is no Qashqai+2."""
        last, fraction, after = (*words[count - 1 : count + 2], "", "")[:3]
        is_engine = last.isdecimal() and _FRACTION.fullmatch(fraction) and not _FRACTION.fullmatch(after)
        return bool(is_engine and len(last) == 1 and self._name(key(words[: count - 1])))

    def _across(self, words: Tokens, hit: Match) -> Match:
        """Return the longer name that an engine tears apart, "V60 D4 Cross Country", instead of its beginning."""
        name = tokens(hit.model)
        for start in range(1, len(words)):
            for stop in range(min(len(words), start + _LONGEST_END), start, -1):
                end = key(words[start:stop])
                longer = self._make.models.get(key(name) + end, hit.model)
                # One letter is a trim or litres, "Grand Cherokee 3.6 L", and a number an engine.
                if longer != hit.model and len(end) > 1 and not end.isdecimal():
                    return Match(model=longer, method="inside", score=SCORES["inside"])
            if words[start] not in name and not is_engine(words[start]):
                break
        return hit

    def _longer(self, words: Tokens, hit: Match | None) -> Match | None:
        """Return the longer name that words nearly are, "Golf Sportvan", instead of the one that they begin with."""
        if hit is None or hit.method != "prefix":
            return hit
        first = next(count for count in range(len(words) - 1, 0, -1) if self._name(key(words[:count])))
        if self._name(key(words[:first])) != hit.model:
            return hit
        for count in range(first, len(words)):
            start, rest = key(words[:count]), key(words[count:])
            ends = {name.removeprefix(start): name for name in self._telling if name.startswith(start)}
            for end, score in nearest(rest, [end for end in ends if end]):
                if score >= SURE:
                    model = self._make.models[ends[end]]
                    return Match(model=model, method="fuzzy", score=round(score * FUZZY_WEIGHT, 4))
        return hit

    def _name(self, spelling: str) -> str | None:
        return self._make.models.get(spelling) or self._often.get(spelling)

    def _hit(self, name: str, spelling: str, *, is_whole: bool) -> Match:
        if spelling not in self._make.models:
            return Match(model=name, method="seller", score=_OFTEN_SCORE)
        method = "prefix" if not is_whole else "alias" if spelling in self._make.aliases else "exact"
        return Match(model=name, method=method, score=SCORES[method])

    def _pattern(self, words: Tokens, *, taken: int) -> Match | None:
        """Return the model of an engine designation that explains more of the words than a name of length `taken`."""
        text = " ".join(words)
        for pattern, template in self._make.patterns:
            match = pattern.match(text)
            if match and match.end() > taken:
                spelling = key(tokens(match.expand(template)))
                if spelling in self._make.models:
                    return Match(model=self._make.models[spelling], method="pattern", score=SCORES["pattern"])
        return None

    def _without_make(self, words: Tokens, more: Tokens) -> Match | None:
        for count in range(1, len(words)):
            if key(words[:count]) in self._make.spellings:
                hit = self._plain(words[count:], more)
                if hit is not None:
                    return hit
        return None

    def _alike(self, words: Tokens) -> Match | None:
        """Return the one model whose name sounds like what the words begin with."""
        for count in range(len(words), 0, -1):
            said = sound(key(words[:count]))
            names = self._sounds.get(said, set()) if len(said) >= SHORTEST_FUZZY else set()
            if len(names) == 1:
                return Match(model=next(iter(names)), method="sound", score=SCORES["sound"])
        return None

    def _inside(self, words: Tokens) -> Match | None:
        """Return the longest known name inside the words, not at their start."""
        spans = [(start, stop) for start in range(1, len(words)) for stop in range(start + 1, len(words) + 1)]
        for start, stop in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
            spelling = key(words[start:stop])
            name = self._name(spelling) if is_telling(spelling) else None
            if name is not None:
                return Match(model=name, method="inside", score=SCORES["inside"])
        for start in range(1, len(words)):
            pattern = self._pattern(words[start:], taken=1) if is_telling(words[start]) else None
            if pattern is not None:
                return Match(model=pattern.model, method="inside", score=SCORES["inside"])
        return None

    def _fuzzy(self, words: Tokens) -> Match | NearMiss:
        ranked = self._ranked(words)
        best = ranked[0] if ranked else ("", 0.0)
        # "Grand Cherokee L" is no rival of "Grand Cherokee": a seller who means the longer name writes it.
        second = max((score for name, score in ranked[1:] if not name.startswith(best[0])), default=0.0)
        if best[1] >= SURE and best[1] - second >= MARGIN:
            return Match(model=best[0], method="fuzzy", score=round(best[1] * FUZZY_WEIGHT, 4))
        name = seller_name(words, self._make.spellings) if best[1] < DOUBTFUL else None
        return NearMiss(name=name, guesses=tuple(ranked[:3]))

    def _ranked(self, words: Tokens) -> list[tuple[str, float]]:
        """Return models whose spelling is near to the words or to their beginning, best first."""
        spellings = [*self._telling, *self._often]
        best: dict[str, float] = {}
        for dropped, count in enumerate(range(len(words), 0, -1)):
            for spelling, score in nearest(key(words[:count]), spellings):
                name = self._name(spelling) or ""
                best[name] = max(best.get(name, 0.0), score - _PER_DROPPED_WORD * dropped)
        return sorted(best.items(), key=lambda item: (-item[1], item[0]))


_KINDS = frozenset(GENERIC.values())
_FRACTION = re.compile(r"\d[a-z]?")  # of 2.0 or 1.5T
_LONGEST_END = 3  # words: "S-Cross" is two


def _glued(word: str) -> Tokens:
    """Return a short name and the word for a class that are written as one, "cklasse" or "clasec", or nothing."""
    ends = () if word in GENERIC else range(1, min(len(word), _LONGEST_GLUED + 1))
    parts = [(word[:at], word[at:]) for at in ends] + [(word[-at:], word[:-at]) for at in ends]
    return next((part for part in parts if part[1] in GENERIC), ())


_LONGEST_GLUED = 3  # "glcklasse"
