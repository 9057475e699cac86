"""The makes and models that are known: a bundled worldwide list and taxa that a project adds, with an index.

The list (`makes.json`) holds for each make other spellings, models with theirs, and patterns that turn engine
designations into models ("320d" is a 3 Series). It is our own general knowledge and no register: what is not in it is
still resolved as the seller wrote it. This file decides nothing, `resolve` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

from carspotter.labels.words import key, tokens
from carspotter.taxonomy import Taxon, Taxonomy

_LAST_YEAR = 2200
_GENERATION = re.compile(r"(\d{4})\s*[-–]\s*(\d{4}|)")


@dataclass(slots=True, kw_only=True)
class Make:
    """A make's models by every spelling's key, patterns for engine designations, and generations by model."""

    name: str
    spellings: set[str] = field(default_factory=set)
    models: dict[str, str] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    patterns: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    generations: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, model: str, aliases: Iterable[str] = ()) -> None:
        """Add a model; its own name wins over another model's alias."""
        own = key(tokens(model))
        if own not in self.models or own in self.aliases:
            self.models[own] = model
            self.aliases.discard(own)
        for alias in aliases:
            spelling = key(tokens(alias))
            if spelling and spelling not in self.models:
                self.models[spelling] = self.models[own]
                self.aliases.add(spelling)

    def spelled(self, model: str) -> tuple[str, str]:
        """Return the listed model that a name leads to, and what to call it: "Passat Variant" says more than Passat."""
        own = key(tokens(model))
        listed = self.models.get(own, model)
        name = key(tokens(listed))
        says_more = name in own and own not in {name, *(f"{make}{name}" for make in self.spellings)}
        return listed, model if says_more else listed

    def generation(self, model: str, year: int | None) -> str | None:
        """Return the one generation of a model that was built in a year, or None unless there is exactly one."""
        spans = self.generations.get(model, {})
        found = [name for name, (start, end) in spans.items() if year is not None and start <= year <= end]
        return found[0] if len(found) == 1 else None


class Known:
    """The known makes by name, and by every spelling's key."""

    def __init__(self, content: Mapping[str, Mapping[str, Any]]) -> None:
        self.makes: dict[str, Make] = {}
        self.spellings: dict[str, str] = {}
        for name in content:  # a make's own name wins over another's alias
            self._make(name, ())
        for name, entry in content.items():
            make = self._make(name, entry.get("aliases", ()))
            for model in entry.get("models", {}):
                make.add(model)
            for model, aliases in entry.get("models", {}).items():
                make.add(model, aliases)
            patterns = entry.get("patterns", ())
            make.patterns += [(re.compile(rf"(?:{pattern})(?![a-z0-9])"), model) for pattern, model in patterns]

    @classmethod
    def bundled(cls) -> Known:
        """Return the list that ships with carspotter."""
        text = files("carspotter.labels").joinpath("makes.json").read_text(encoding="utf-8")
        return cls(json.loads(text))

    def add(self, taxa: Iterable[Taxon], *, aliases: Mapping[str, str] | None = None) -> None:
        """Add the taxa of a project: makes, models, and generations such as "2006-2014" that tell by the year."""
        for taxon in taxa:
            make = self._make(taxon.make, ())
            if taxon.model is None:
                continue
            make.add(taxon.model)
            model = make.models[key(tokens(taxon.model))]
            span = _GENERATION.fullmatch(taxon.generation or "")
            if taxon.generation and span:
                years = int(span[1]), int(span[2] or _LAST_YEAR)
                make.generations.setdefault(model, {})[taxon.generation] = years
        for alias, name in (aliases or {}).items():
            self._make(self.spellings.get(key(tokens(name)), name), (alias,))

    def add_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Add the classes and the aliases of a taxonomy."""
        self.add(taxonomy.classes, aliases=taxonomy.aliases)

    def make_of(self, words: tuple[str, ...]) -> Make | None:
        """Return the make that words spell, exactly or as an alias, or None."""
        name = self.spellings.get(key(words))
        return None if name is None else self.makes[name]

    def spelled(self, taxon: Taxon) -> Taxon:
        """Return a taxon with make and model as they are known, so that two spellings make no two classes."""
        make = self.make_of(tokens(taxon.make))
        if make is None:
            return taxon
        return replace(taxon, make=make.name, model=make.spelled(taxon.model)[1] if taxon.model else None)

    def starts_with_make(self, words: tuple[str, ...]) -> tuple[Make, int] | None:
        """Return the make that words begin with and how many words that are, the most that fit."""
        for count in range(min(len(words), _MAKE_WORDS), 0, -1):
            if make := self.make_of(words[:count]):
                return make, count
        return None

    def _make(self, name: str, aliases: Iterable[str]) -> Make:
        own = key(tokens(name))
        known = self.spellings.get(own)
        make = self.makes.setdefault(known or name, Make(name=known or name))
        for spelling in (own, *(key(tokens(alias)) for alias in aliases)):
            if spelling and self.spellings.setdefault(spelling, make.name) == make.name:
                make.spellings.add(spelling)
        return make


_MAKE_WORDS = 4  # "Bayerische Motoren Werke", "Горьковский автомобильный завод", and one more
