"""Find the make that words name, and the makes that have a model.

What it finds of a model only serves to tell makes apart; `models` says which one it is.
"""

from __future__ import annotations

from carspotter.labels.known import Known, Make
from carspotter.labels.models import FUZZY_WEIGHT, MARGIN, SCORES, SURE
from carspotter.labels.spellings import is_telling, likeness, nearest
from carspotter.labels.words import Tokens, key, sound

_HALF_SURE = 0.6  # for a make of three letters one of which is wrong; the model must fit too


class MakeWords:
    """Find makes in words, and the makes that have a model."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._owners: dict[str, dict[str, str]] = {}
        self._sounds: dict[str, set[str]] = {}
        for spelling, name in known.spellings.items():
            self._sounds.setdefault(sound(spelling), set()).add(name)
        for make in known.makes.values():
            for spelling, model in make.models.items():
                self._owners.setdefault(spelling, {})[make.name] = model

    def find(self, make: Tokens, model: Tokens) -> tuple[Make, Tokens, float] | None:
        """Return the make that is named, the words that are left for the model, and how sure that is, 0..1."""
        if make:
            if (whole := self._known.make_of(make)) is not None:
                longer = self._known.make_of((*make, *model[:1]))  # "BMW" and "Alpina B3"
                return (whole, model, 1.0) if longer in (None, whole) else (longer, model[1:], 1.0)
            if (start := self._known.starts_with_make(make)) is not None:
                is_mistyped = likeness(key(make), start[0].spellings) >= SURE  # "Mercedes-Bnz": the rest is no model
                return start[0], model if is_mistyped else (*make[start[1] :], *model), 1.0
            if (near := self._fuzzy(make, model)) is not None:
                return near
        if model and (start := self._known.starts_with_make(model)) is not None:
            return start[0], model[start[1] :], 1.0
        if make:
            return self._by_both(make, model)
        for at in range(1, len(model)):
            if len(model[at]) > 1 and (start := self._known.starts_with_make(model[at:])) is not None:
                return start[0], (*model[at + start[1] :], *model[:at]), SCORES["inside"]
        return None

    def _fuzzy(self, make: Tokens, model: Tokens) -> tuple[Make, Tokens, float] | None:
        alike = self._sounds.get(sound(key(make)), set())
        if len(alike) == 1:
            return self._known.makes[next(iter(alike))], model, SCORES["sound"]
        ranked = self._ranked(make)
        second = ranked[1][1] if len(ranked) > 1 else 0.0
        if ranked and ranked[0][1] >= SURE and ranked[0][1] - second >= MARGIN:
            return self._known.makes[ranked[0][0]], model, ranked[0][1] * FUZZY_WEIGHT
        return None

    def _by_both(self, make: Tokens, model: Tokens) -> tuple[Make, Tokens, float] | None:
        """Return the only make that has the model and is somewhat like the word for the make: "Adi", "A4"."""
        for count in range(len(model), 0, -1):
            owners = self._owners.get(key(model[:count]), {})
            scores = {owner: likeness(key(make), self._known.makes[owner].spellings) for owner in owners}
            likely = [owner for owner, score in scores.items() if score >= _HALF_SURE]
            if len(likely) == 1:
                return self._known.makes[likely[0]], model, scores[likely[0]] * FUZZY_WEIGHT
        return None

    def near(self, words: Tokens) -> list[str]:
        """Return the makes that words are near to, with scores, for people."""
        return [f"{name} ({score:.2f})" for name, score in self._ranked(words)] + [
            f"{make} {model}" for make, model in self.models(words)
        ]

    def _ranked(self, words: Tokens) -> list[tuple[str, float]]:
        best: dict[str, float] = {}
        for spelling, score in nearest(key(words), [*self._known.spellings]):
            name = self._known.spellings[spelling]
            best[name] = max(best.get(name, 0.0), score)
        return sorted(best.items(), key=lambda item: (-item[1], item[0]))

    def models(self, words: Tokens) -> list[tuple[str, str]]:
        """Return makes and models whose names, specific enough, begin the words."""
        for count in range(len(words), 0, -1):
            spelling = key(words[:count])
            if is_telling(spelling) and spelling in self._owners:
                return sorted(self._owners[spelling].items())
        return []

    def by_model(self, words: Tokens) -> Make | None:
        """Return the only make that has the model that words begin with, or None."""
        owners = {make for make, _ in self.models(words)}
        return self._known.makes[owners.pop()] if len(owners) == 1 else None
