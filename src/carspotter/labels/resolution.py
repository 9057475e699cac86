"""What the words of one listing mean, and what the codes among them say for or against a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from carspotter.catalog.tables import OK
from carspotter.labels.corrections import Words
from carspotter.labels.generations import Found, makes_of, of_make
from carspotter.labels.known import Make
from carspotter.labels.models import Match
from carspotter.labels.spellings import is_body
from carspotter.labels.words import digits, key
from carspotter.taxonomy import Taxon

UNRESOLVED = "unresolved"


# Scores rank how much was assumed; they are no probabilities.
FROM_CODE = 0.9
DOUBTED = 0.6
ADVICE = "write what it is into labels/words.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Which taxon words name: score 0..1, how it was found, and status "ok" or "unresolved" with a message.

    `method` is "person", "exact", "alias", "pattern", "prefix", "sound", "inside", "fuzzy", "code" (of a type),
    "seller" (unknown model, as written), "title" or "description" (where the car was named) or "none". An unresolved
    one may still know its make.
    """

    make: str | None = None
    model: str | None = None
    generation: str | None = None
    year: int | None = None
    score: float = 0.0
    method: str = "none"
    said_by: str = "seller"
    status: str = OK
    message: str | None = None

    @property
    def name(self) -> str | None:
        """Return the full name down to the year, or None where make or model are missing."""
        if self.make is None or self.model is None:
            return None
        return Taxon(make=self.make, model=self.model, generation=self.generation, year=self.year).name()


def unhyphened(found: Resolution, words: Words) -> Resolution:
    """Return a "Corsa E" as the generation that it is: the electric one is a "Corsa-e"."""
    base = (found.model or "").removesuffix("-e")
    codes = of_make(found.make or "").codes.get(("e",), ())
    code = next((code for code in codes if code.model == base != found.model), None)
    if code is None or any("-e" in (word or "").casefold() for word in words):
        return found
    return replace(found, model=base, generation=code.type, score=min(found.score, FROM_CODE), method="prefix")


def without(
    codes: Iterable[Found], words: tuple[str, ...], more: tuple[str, ...], make: Make
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return words without codes that name no model, so that "C292" is not read by its letter."""
    spellings = {found.spelling for found in codes if found.telling and found.spelling not in make.models}
    return _left(words, spellings), _left(more, spellings)


def is_foreign(words: tuple[str, ...], make: Make) -> bool:
    """Return whether words hold a code of another make, long enough to be no engine of this one: a "Golf W205"."""
    return any(
        make.name not in owners and len(digits(code)) > _ENGINE_DIGITS and code not in make.models
        for code, owners in makes_of(words).items()
    )


_ENGINE_DIGITS = 2  # R32 is a Skyline, and an engine of a Golf


def _left(words: tuple[str, ...], spellings: Collection[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words:
        if kept and key([kept[-1], word]) in spellings and kept[-1].isalpha():
            kept.pop()
        elif word not in spellings:
            kept.append(word)
    return tuple(kept)


def checked(make: Make, hit: Match, words: tuple[str, ...], codes: Iterable[Found], *, sureness: float) -> Resolution:
    """Return a model with its type, or say that a code is of another one."""
    table = of_make(make.name)
    codes = [found for found in codes if found.telling and found.spelling not in make.models]
    owners = [{code.model for code in found.codes} for found in codes]
    alone = {code.model for found in codes for code in found.codes if code.alone}
    model, score, method = hit.model, hit.score, hit.method
    if len(alone) == 1 and not any(model in models for models in owners):
        other = next(iter(alone))
        if other.startswith(f"{model} ") or is_body(model):  # a C292 is a GLE Coupe, an 8V Cabriolet an A3
            model, score, method = other, min(score, FROM_CODE), "code"
    if method == "seller" and len(alone) == 1:
        model, score, method = alone.pop(), FROM_CODE, "code"
    against = [found for found, models in zip(codes, owners, strict=True) if model not in models]
    strong = next((found for found in against if found.strong), None)
    if strong is not None:
        others = ", ".join(sorted({code.model for code in strong.codes}))
        return Resolution(
            make=make.name,
            status=UNRESOLVED,
            message=f"{make.name} {model} beside {strong.spelling.upper()}, which is of {others}; {ADVICE}",
        )
    code = None if against else table.of(model, words, make.models)
    score = min(score, DOUBTED) if against else score
    return Resolution(
        make=make.name,
        model=model,
        generation=code.type if code else None,
        score=round(score * sureness, 4),
        method=method,
    )
