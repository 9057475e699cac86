"""Compare what a seller declared with what the photos of the ad show, and name the photos that decide.

Names are compared without case, accents and blanks, and a model may be written longer or shorter than the taxonomy has
it ("A4", "A4 Sedan"). Sellers' free words are resolved elsewhere: what comes in names a make, a model, a year.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carspotter.recognition.identifier import Identification
from carspotter.taxonomy import LEVELS, Level, Taxon, Taxonomy

Verdict = Literal["agrees", "contradicts", "cannot-tell"]
Mask = NDArray[np.bool_]

MOST_LEFT = 0.02
"""Photos contradict a declaration when they answer otherwise and leave it no more than this. On the choosing half of
ads all that contradicted was truly wrong, and 0.74 of the wrong found; at 0.05 it is 0.89 and 0.77."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredWords:
    """What is known of a declaration, any part of it; `said` is what the seller wrote, for the reason in words.

    `colour` and `body` are words of the bundle's attributes. A `Taxon` will do as well; it cannot hold a year without a
    model, or a declaration of which no make is known, and its body is not compared.
    """

    make: str | None = None
    model: str | None = None
    generation: str | None = None
    year: int | None = None
    colour: str | None = None
    body: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Whether photos agree with what is declared, and why in words.

    `name` is what is declared and `probability` what the photos give it; `photos` are the indices of those that decide,
    the strongest first.
    """

    verdict: Verdict
    why: str
    name: str | None = None
    probability: float | None = None
    photos: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {
            "verdict": self.verdict,
            "name": self.name,
            "probability": None if self.probability is None else round(self.probability, 4),
            "photos": list(self.photos),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared(Comparison):
    """Whether photos agree with a declared taxon, down to which level; colour and body have verdicts of their own.

    A verdict without a level means that nothing could be compared; None that no colour, or no body, was declared.
    """

    level: Level | None = None
    colour: Comparison | None = None
    body: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the verdicts as JSON values."""
        more = {"colour": self.colour, "body": self.body}
        content = {"verdict": self.verdict, "level": self.level} | Comparison.to_dict(self)
        return content | {name: None if one is None else one.to_dict() for name, one in more.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the photos say: together, and each by itself: `indices` (n) and `probabilities` (n, n_classes)."""

    together: Identification
    indices: Sequence[int]
    probabilities: NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Places:
    """Where a declaration stands in a taxonomy: the classes that each declared level allows, as deep as it is known."""

    words: DeclaredWords
    masks: dict[Level, Mask]
    unknown: str | None = None


def compare(
    declared: Taxon | DeclaredWords, seen: Evidence | None, taxonomy: Taxonomy, *, nothing: str = ""
) -> Declared:
    """Compare a declaration with what is seen; `seen` is None where no photo says anything, and `nothing` says why.

    The make is compared first, then the model, the generation and the year, as deep as the photos answer. A year alone
    never contradicts: a car of the next year looks the same.
    """
    words = declared if isinstance(declared, DeclaredWords) else _words(declared)
    # Three reasons not to compare, the declaration's own first: its writer can mend it.
    places = _places(words, taxonomy)
    if not places.masks:
        return Declared(verdict="cannot-tell", why=places.unknown or "no make is declared")
    if seen is None:
        return Declared(verdict="cannot-tell", why=nothing or "no photo shows the vehicle")
    if seen.together.answer is None:
        why = f"the photos do not say what it is: {seen.together.undecided}"
        return _verdict("cannot-tell", "make", why, places=places, seen=seen)
    return _walk(places, seen, taxonomy)


def _walk(places: _Places, seen: Evidence, taxonomy: Taxonomy) -> Declared:
    """Go down from the make as long as all that the answer may be was declared, and say what ends it."""
    answer, words = seen.together.answer, places.words
    assert answer is not None
    # The classes (n_classes,) that the photos' answer leaves open: all below the answered taxon.
    answered = taxonomy.index(answer.level) == taxonomy.names(answer.level).index(answer.name)  # type: ignore[arg-type]
    agreed: Level | None = None
    open_at: Level | None = None
    for level, mask in places.masks.items():
        if (mask | ~answered).all():  # all that the answer may be was declared
            agreed = level
            continue
        open_at = level
        # Disjoint sets of classes contradict; overlapping ones only mean that the answer is coarser than the
        # declaration.
        can_differ = not (mask & answered).any() and level != "year"
        # Different is not enough: the photos must also leave the declared classes next to nothing.
        if can_differ and float(seen.together.probabilities[mask].sum()) <= MOST_LEFT:
            why = f"the photos show {answer.name} ({answer.probability:.2f}), {_name(words, level)} is declared"
            return _verdict("contradicts", level, why, places=places, seen=seen)
        break
    if agreed is None:
        why = f"the photos rather show {answer.name} ({answer.probability:.2f}), but not surely enough"
        return _verdict("cannot-tell", "make", why, places=places, seen=seen)
    # An unknown model of a known make agrees as far as it is known, and no further is claimed.
    if places.unknown is not None:
        why = f"{places.unknown}; as far as known it agrees: {_name(words, agreed)}"
        return _verdict("cannot-tell", agreed, why, places=places, seen=seen)
    why = f"the photos show {_name(words, agreed)} as declared"
    why += f"; the {open_at} cannot be told from them" if open_at else ""
    return _verdict("agrees", agreed, why, places=places, seen=seen)


def _verdict(verdict: Verdict, level: Level, why: str, *, places: _Places, seen: Evidence) -> Declared:
    mask = places.masks[level]
    return Declared(
        verdict=verdict,
        level=level,
        why=why,
        name=_name(places.words, level),
        # A sum of float32 shares may end just above 1.
        probability=min(1.0, float(seen.together.probabilities[mask].sum())),
        # Each photo by itself, so that a person is shown the ones that say so most clearly.
        photos=deciding(verdict, seen.probabilities[:, mask].sum(axis=1), seen.indices),
    )


def deciding(verdict: Verdict, declared: NDArray[np.floating], indices: Sequence[int]) -> tuple[int, ...]:
    """Return the photos that support a verdict by themselves, the strongest first; empty for "cannot-tell".

    `declared` (n,) is what each of the photos, of these indices, gives to the declaration.
    """
    if verdict == "cannot-tell":
        return ()
    # For a contradiction what counts is how little a photo leaves the declaration.
    strength = declared if verdict == "agrees" else 1 - declared
    order = sorted(range(len(strength)), key=lambda row: (-strength[row], indices[row]))
    # Each at least even by itself; where only all together speak so, the strongest of them.
    return tuple(indices[row] for row in order if strength[row] > 0.5) or (indices[order[0]],)


# ---- names


def _words(taxon: Taxon) -> DeclaredWords:
    return DeclaredWords(make=taxon.make, model=taxon.model, generation=taxon.generation, year=taxon.year)


def _name(words: DeclaredWords, level: Level) -> str:
    parts = [words.make, words.model] if level != "make" else [words.make]
    if level in ("generation", "year"):
        parts.append(words.generation if level == "generation" and words.generation else str(words.year))
    return " ".join(part for part in parts if part)


def _places(words: DeclaredWords, taxonomy: Taxonomy) -> _Places:
    if not words.make:
        unknown = f"no known make is declared in {words.said!r}" if words.said else "no make is declared"
        return _Places(words=words, masks={}, unknown=unknown)
    mask = _make(words.make, taxonomy)
    if not mask.any():
        return _Places(words=words, masks={}, unknown=f"the bundle does not know the make {words.make!r}")
    masks: dict[Level, Mask] = {"make": mask}
    names_models = any(taxon.model for taxon in _of(taxonomy, mask))
    # A bundle that knows makes alone cannot disagree about a model.
    if not words.model or not names_models:
        return _Places(words=words, masks=masks)
    mask = mask & _model(words.model, taxonomy, mask)
    if not mask.any():
        unknown = f"the bundle knows {words.make}, but no model {words.model!r} of it"
        return _Places(words=words, masks=masks, unknown=unknown)
    # Masks only ever shrink from level to level, so that each is inside of the one above.
    masks["model"] = mask
    if words.generation is not None or words.year is not None:
        masks |= _when(words, taxonomy, mask)
    return _Places(words=words, masks=masks)


def _of(taxonomy: Taxonomy, mask: Mask) -> list[Taxon]:
    return [taxon for taxon, is_in in zip(taxonomy.classes, mask, strict=True) if is_in]


def _make(make: str, taxonomy: Taxonomy) -> Mask:
    spellings = {_key(name): name for name in taxonomy.names("make")}
    spellings |= {_key(alias): name for alias, name in taxonomy.aliases.items() if _key(alias) not in spellings}
    # The taxonomy's own names stand before aliases: an alias of one make may be the name of another.
    found = {spellings[_key(make)]} if _key(make) in spellings else set()
    # "Mercedes" for "Mercedes-Benz": the shorter of two names begins the longer one, and only one make does so.
    near = found or {name for name in taxonomy.names("make") if _begins(make, name) or _begins(name, make)}
    # Two makes that fit equally well are no answer.
    return np.array([taxon.make in near and len(near) == 1 for taxon in taxonomy.classes])


def _model(model: str, taxonomy: Taxonomy, within: Mask) -> Mask:
    """Return the classes of a model: of its very name, else of longer names, else of the longest shorter one."""
    names = {taxon.model for taxon in _of(taxonomy, within) if taxon.model}
    chosen = {name for name in names if _key(name) == _key(model)} or {name for name in names if _begins(model, name)}
    if not chosen:
        # "Golf Variant GTI" for the classes "Golf" and "Golf Variant": the longest says most of what was declared.
        shorter = [name for name in names if _begins(name, model)]
        longest = max((len(_key(name)) for name in shorter), default=0)
        chosen = {name for name in shorter if len(_key(name)) == longest}
    return np.array([taxon.model in chosen for taxon in taxonomy.classes])


def _when(words: DeclaredWords, taxonomy: Taxonomy, within: Mask) -> dict[Level, Mask]:
    """Return the classes of the declared generation and year; a level that no class fits is left out."""
    fits: dict[Level, Mask] = {
        "generation": within & np.array([_in_generation(taxon, words) for taxon in taxonomy.classes]),
        "year": within & np.array([words.year is not None and taxon.year == words.year for taxon in taxonomy.classes]),
    }
    # A year that no class has says nothing against the photos: the taxonomy may not go so far.
    return {level: fits[level] for level in LEVELS if level in fits and fits[level].any()}


def _in_generation(taxon: Taxon, words: DeclaredWords) -> bool:
    years = _years(taxon.generation)
    if taxon.generation is None:
        return False
    if words.generation is not None and _key(words.generation) == _key(taxon.generation):
        return True
    # Both ends count: in the year of a change both generations are sold.
    return words.year is not None and years is not None and years[0] <= words.year <= years[1]


def _years(generation: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"\s*(\d{4})\s*[-–]\s*(\d{4})?\s*", generation or "")
    # "2019-" is still built: its end is after every year.
    return (int(found[1]), int(found[2] or 9999)) if found else None


def _tokens(text: str) -> list[str]:
    # NFKD parts a letter from its accent, which is then dropped: sellers often write Skoda for Škoda.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return re.findall(r"[^\W_]+", "".join(letter for letter in folded if not unicodedata.combining(letter)))


def _key(text: str) -> str:
    return "".join(_tokens(text))


def _begins(short: str, long: str) -> bool:
    """Return whether a name is the first words of another, however they are parted: "E-Class" of "eclass sedan"."""
    tokens = _tokens(long)
    # Whole words only: "A4" begins "A4 Sedan", but "A" begins neither.
    return bool(_key(short)) and _key(short) in {"".join(tokens[:count]) for count in range(1, len(tokens) + 1)}
