"""The tree of what can be answered: make › model › generation › year.

In: a JSON file, or classes as `Taxon`. Out: full names and class indices at each level, sums of probabilities up the
tree, merged taxonomies. It knows no photos and reads only local files, which come with a bundle.

    {"format": 1, "levels": ["make", "model", "generation", "year"],
     "classes": [{"make": "Audi", "model": "TTS Coupe", "generation": "2006-2014", "year": 2012, "body": "Coupe"}],
     "aliases": {"VW": "Volkswagen"}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from carspotter.errors import TaxonomyError, suggestion
from carspotter.settings import read_section
from carspotter.storage import replacing
from carspotter.storage_errors import refusal

Level = Literal["make", "model", "generation", "year"]
LEVELS: tuple[Level, ...] = get_args(Level)
FORMAT = 1

_Path = tuple[str | int | None, ...]
_SPAN = re.compile(r"\d{4}\s*[-–]\s*(?:\d{4})?")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxon:
    """A class: a make, and as far as known its model, generation ("2006-2014", "W205"), year and body ("Coupe").

    A part that is None falls back to its parent at its level. Raises TaxonomyError for a value of the wrong type.
    """

    make: str
    model: str | None = None
    generation: str | None = None
    year: int | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        for name in ("make", "model", "generation", "body"):
            value = getattr(self, name)
            if (value is None and name != "make") or (isinstance(value, str) and value and value == value.strip()):
                continue
            raise TaxonomyError(f"taxon: {name} is {value!r}; it must be a text without blanks around it")
        if self.year is not None and (isinstance(self.year, bool) or not isinstance(self.year, int)):
            raise TaxonomyError(f"taxon {self.make} {self.model}: year is {self.year!r}; it must be a whole number")
        if self.model is None and (self.generation is not None or self.year is not None):
            raise TaxonomyError(f"taxon {self.make}: a generation or a year needs a model")

    def name(self, level: Level = "year") -> str:
        """Return the full name down to a level; beside a year a generation that is a span of years is left out."""
        parts: list[str | int | None] = [self.make]
        if level != "make":
            parts.append(self.model)
        if level == "generation" or (level == "year" and (self.year is None or not self.has_span)):
            parts.append(self.generation)
        if level == "year":
            parts.append(self.year)
        return " ".join(str(part) for part in parts if part is not None)

    @property
    def has_span(self) -> bool:
        """Return whether the generation is a span of years, "2006-2014", and no type, "W205"."""
        return self.generation is not None and bool(_SPAN.fullmatch(self.generation))

    def up_to(self, level: Level) -> Taxon:
        """Return the taxon without what lies below a level, and without its body."""
        kept = LEVELS[: LEVELS.index(level) + 1]
        return Taxon(**{name: getattr(self, name) for name in kept})

    def to_dict(self) -> dict[str, Any]:
        """Return the parts that are known as JSON values."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Taxon:
        """Read what `to_dict` wrote; an unknown key or a missing make is a TaxonomyError."""
        return read_section(cls, content, where=f"class {content}", error=TaxonomyError)

    def _path(self, level: Level) -> _Path:
        return tuple(getattr(self, name) for name in LEVELS[: LEVELS.index(level) + 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What stands in `taxonomy.json`."""

    format: int
    classes: tuple[Taxon, ...]
    levels: tuple[str, ...] = LEVELS
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise TaxonomyError(f"format is {self.format!r}; this version reads format {FORMAT}")
        if self.levels != LEVELS:
            raise TaxonomyError(f"levels are {list(self.levels)!r}; allowed: {list(LEVELS)}")


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The classes in the order of a network's outputs, and other spellings of makes as `aliases`.

    Names of a level stand in the order in which the classes first need them. Raises TaxonomyError when it has no class,
    two equal ones, or two taxa of one level that would be called the same.
    """

    classes: tuple[Taxon, ...]
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    _names: dict[Level, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    _index: dict[Level, npt.NDArray[np.intp]] = field(init=False, repr=False, compare=False)
    _parents: dict[Level, npt.NDArray[np.intp]] = field(init=False, repr=False, compare=False)
    _runs: dict[Level, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "aliases", dict(self.aliases))
        if not self.classes:
            raise TaxonomyError("taxonomy has no classes; it needs at least one")
        seen: set[Taxon] = set()
        for taxon in self.classes:
            if taxon in seen:
                raise TaxonomyError(f"taxonomy has the class {taxon.to_dict()} twice")
            seen.add(taxon)
        numbered = {level: _number(self.classes, level) for level in LEVELS}
        object.__setattr__(self, "_names", {level: names for level, (names, _) in numbered.items()})
        object.__setattr__(self, "_index", {level: index for level, (_, index) in numbered.items()})
        object.__setattr__(self, "_parents", {level: self._above(level) for level in LEVELS})
        object.__setattr__(self, "_runs", {level: _runs(index) for level, index in self._index.items()})
        makes = self.names("make")
        for alias, make in self.aliases.items():
            if make not in makes:
                raise TaxonomyError(f"alias {alias!r} stands for unknown make {make!r}; {suggestion(make, makes)}")

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """Read a taxonomy from a JSON file; any fault of it is a TaxonomyError that names the file."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TaxonomyError(f"taxonomy {path} cannot be read: {error}") from error
        try:
            return cls.from_dict(content)
        except TaxonomyError as error:
            raise TaxonomyError(f"taxonomy {path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the taxonomy as JSON, a class a line, by way of a temporary name."""
        path = Path(path)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(self.to_bytes())
        except OSError as error:
            raise TaxonomyError(f"taxonomy {path} cannot be written: {refusal(error)}") from error

    def to_bytes(self) -> bytes:
        """Return the taxonomy's file: JSON, a class a line."""
        lines = ",\n    ".join(json.dumps(taxon.to_dict(), ensure_ascii=False) for taxon in self.classes)
        head = f'{{\n  "format": {FORMAT},\n  "levels": {json.dumps(LEVELS)},\n  "classes": [\n    {lines}\n  ],\n'
        text = head + f'  "aliases": {json.dumps(dict(self.aliases), ensure_ascii=False)}\n}}\n'
        return text.encode()

    def to_dict(self) -> dict[str, Any]:
        """Return the taxonomy as JSON values."""
        return {
            "format": FORMAT,
            "levels": list(LEVELS),
            "classes": [taxon.to_dict() for taxon in self.classes],
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_dict(cls, content: Any) -> Taxonomy:
        """Read what `to_dict` wrote."""
        file = read_section(_File, content, where="content", error=TaxonomyError)
        return cls(classes=file.classes, aliases=file.aliases)

    def __len__(self) -> int:
        return len(self.classes)

    def names(self, level: Level) -> tuple[str, ...]:
        """Return the full names of a level: "Audi", "Audi TTS Coupe", … 2006-2014, … 2012 (without the generation)."""
        return self._names[_known_level(level)]

    def index(self, level: Level) -> npt.NDArray[np.intp]:
        """Return the index in `names(level)` of each class's taxon, as (n_classes,)."""
        return self._index[_known_level(level)]

    def parents(self, level: Level) -> npt.NDArray[np.intp]:
        """Return the index of each name's parent in the level above, as (names,); zeros for makes."""
        return self._parents[_known_level(level)]

    def outline(self) -> dict[str, Any]:
        """Return, as JSON values, what a reader of a network's levels needs: their names, and by `parents` the tree."""
        names = {level: list(self.names(level)) for level in LEVELS}
        return {"names": names, "parents": {level: self.parents(level).tolist() for level in LEVELS[1:]}}

    def sum_to(self, level: Level, probabilities: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """Sum class probabilities (…, n_classes) to (…, len(names(level))): a taxon has the sum of its children."""
        order, starts = self._runs[_known_level(level)]
        values = np.asarray(probabilities)
        if values.ndim < 1 or values.shape[-1] != len(self.classes):
            raise TaxonomyError(f"probabilities of shape {values.shape}; the last side must be {len(self.classes)}")
        # Classes of one taxon stand together in `order`, so that one pass sums each run: no matrix of classes by names.
        sums: npt.NDArray[np.floating[Any]] = np.add.reduceat(values[..., order], starts, axis=-1)
        return sums

    def descend(self, sums: Mapping[Level, npt.NDArray[np.floating[Any]]]) -> dict[Level, npt.NDArray[np.intp]]:
        """Return the way down of each photo, from the likeliest make to its likeliest model, …: {level: (n,)}.

        `sums` are each level's probabilities (n, names), as `sum_to` gives them; the numbers stand in `names(level)`.
        The best of each level by itself could contradict itself: Audi at 0.5 over fourteen models is the best make
        while one Bentley at 0.45 is the best model. The way never leaves the branch chosen above.
        """
        way: dict[Level, npt.NDArray[np.intp]] = {}
        above: Level | None = None
        for level in LEVELS:
            values = np.asarray(sums[level])
            if above is not None:
                # Other branches fall below every probability and cannot be chosen.
                values = np.where(self._parents[level] == way[above][:, None], values, -1.0)
            way[level] = values.argmax(axis=-1)
            above = level
        return way

    def repeats(self, level: Level) -> npt.NDArray[np.bool_]:
        """Return which names of a level (names,) say no more than the level above: classes that end higher up."""
        place = LEVELS.index(_known_level(level))
        names = self.names(level)
        if not place:
            return np.zeros(len(names), bool)
        above = self.names(LEVELS[place - 1])
        return np.array([name == above[parent] for name, parent in zip(names, self._parents[level], strict=True)])

    @property
    def bodies(self) -> tuple[str, ...]:
        """Return the bodies that occur, in the order of the classes."""
        return tuple(dict.fromkeys(taxon.body for taxon in self.classes if taxon.body is not None))

    def extent(self) -> dict[str, Any]:
        """Return how much can be named: numbers of "makes" and "models", first and last of "years" (None without)."""
        models = {(taxon.make, taxon.model) for taxon in self.classes if taxon.model is not None}
        said = (str(taxon.year or taxon.generation or "") for taxon in self.classes)
        years = [int(year) for words in said for year in _YEAR.findall(words)]
        span = [min(years), max(years)] if years else None
        return {"makes": len(self.names("make")), "models": len(models), "years": span}

    def find(self, make: str) -> str:
        """Return how the taxonomy spells a make that is given in any case or as an alias."""
        spellings = {known.casefold(): known for known in self.names("make")}
        spellings |= {alias.casefold(): target for alias, target in self.aliases.items()}
        found = spellings.get(" ".join(make.split()).casefold())
        if found is None:
            raise TaxonomyError(f"unknown make {make!r}; {suggestion(make, [*self.names('make'), *self.aliases])}")
        return found

    def class_index(self, name: str) -> int:
        """Return the class of a full name down to its deepest level ("Audi TTS Coupe 2012")."""
        names = [taxon.name() for taxon in self.classes]
        matches = [index for index, known in enumerate(names) if known == name]
        if not matches:
            raise TaxonomyError(f"unknown class {name!r}; {suggestion(name, names)}")
        if len(matches) > 1:
            bodies = ", ".join(str(self.classes[index].body) for index in matches)
            raise TaxonomyError(f"class {name!r} is ambiguous, its bodies are {bodies}; use the index of the class")
        return matches[0]

    def merge(
        self, *, level: Level | None = None, groups: Mapping[Taxon, Sequence[str | int]] | None = None
    ) -> tuple[Taxonomy, npt.NDArray[np.intp]]:
        """Make one class of several; return the new taxonomy and the new index of each old class, (n_classes,).

        `level` makes one class of all that agree down to it. `groups` maps a new taxon to the names or indices of the
        classes that it takes; the others stay. A body survives where all of a class's parts share it.
        """
        if (level is None) == (groups is None):
            raise TaxonomyError("merge takes a level or groups, one of the two")
        if level is not None:
            _known_level(level)
            targets = [taxon.up_to(level) for taxon in self.classes]
            bodies: dict[Taxon, set[str | None]] = {}
            for target, taxon in zip(targets, self.classes, strict=True):
                bodies.setdefault(target, set()).add(taxon.body)
            targets = [_with_shared_body(target, bodies[target]) for target in targets]
        else:
            targets = self._grouped(groups or {})
        order = {taxon: new for new, taxon in enumerate(dict.fromkeys(targets))}
        makes = {taxon.make for taxon in order}
        aliases = {alias: make for alias, make in self.aliases.items() if make in makes}
        return Taxonomy(tuple(order), aliases), np.array([order[taxon] for taxon in targets], dtype=np.intp)

    def _above(self, level: Level) -> npt.NDArray[np.intp]:
        """Return for each name of a level (names,) the number of its parent's name; the makes' parents are 0."""
        parents = np.zeros(len(self._names[level]), np.intp)
        place = LEVELS.index(level)
        if place:
            parents[self._index[level]] = self._index[LEVELS[place - 1]]
        return parents

    def _grouped(self, groups: Mapping[Taxon, Sequence[str | int]]) -> list[Taxon]:
        targets = list(self.classes)
        taken: dict[int, Taxon] = {}
        for target, members in groups.items():
            for member in members:
                index = self.class_index(member) if isinstance(member, str) else member
                if not 0 <= index < len(self.classes):
                    raise TaxonomyError(f"merge: class {index} is out of range; there are {len(self.classes)}")
                if index in taken:
                    raise TaxonomyError(f"merge: class {targets[index].name()!r} is in two groups or twice in one")
                taken[index] = target
        for index, target in taken.items():
            targets[index] = target
        return targets


def _known_level(level: Level) -> Level:
    if level not in LEVELS:
        raise TaxonomyError(f"unknown level {level!r}; {suggestion(str(level), LEVELS)}")
    return level


def _number(classes: Iterable[Taxon], level: Level) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """Return the names of a level, and for each class the number of its name."""
    numbers: dict[_Path, int] = {}
    paths: dict[str, _Path] = {}
    index = []
    for taxon in classes:
        path = taxon._path(level)
        name = taxon.name(level)
        if paths.setdefault(name, path) != path:
            raise TaxonomyError(f"two taxa of level {level} are called {name!r}: {paths[name]} and {path}; rename one")
        index.append(numbers.setdefault(path, len(numbers)))
    return tuple(paths), np.array(index, dtype=np.intp)


def _runs(index: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the classes (n_classes,) ordered by what they are summed to, and where each sum begins."""
    order = np.argsort(index, kind="stable")
    # A run begins where the number changes; -1 in front begins the first.
    return order, np.flatnonzero(np.diff(index[order], prepend=-1))


def _with_shared_body(taxon: Taxon, bodies: set[str | None]) -> Taxon:
    return replace(taxon, body=next(iter(bodies))) if len(bodies) == 1 else taxon
