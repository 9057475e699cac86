"""Make the classes of a dataset from labelled photos and a person's merges, and say what becomes of each taxon.

A class is a taxon cut at a level: at level "model" all years of a model are one, at level "type" a W205 and an S205 are
two, which are one generation. A person may merge taxa and leave some out by `labels/classes.csv` (columns taxon,
becomes; an empty `becomes` leaves out). Classes of too few photos are dropped with that reason. It opens no catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from carspotter.catalog.tables import OK
from carspotter.csv_rows import read_text
from carspotter.errors import LabelError, suggestion
from carspotter.labels.corrections import rows_of
from carspotter.labels.generations import family
from carspotter.taxonomy import LEVELS, Taxon

IGNORED = "ignored"
MERGED = "merged"
TOO_FEW = "too-few"
TOO_VAGUE = "too-vague"


ClassLevel = Literal["make", "model", "generation", "type", "year"]
"""The levels of a taxon, and the type: one of the types that are a generation, such as its estate."""
CLASS_LEVELS: tuple[ClassLevel, ...] = get_args(ClassLevel)

Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSettings:
    """At which level classes stand, and how many photos and ads each needs."""

    min_photos: int = 20
    """A class with fewer photos is left out."""
    min_ads: int = 3
    """A class with fewer ads is left out; three let it stand in each of three splits."""
    level: ClassLevel = "model"
    """What a class is: a make, a model, a generation (W205), a type (its estate S205 apart), or a year."""
    only: tuple[str, ...] = ()
    """Makes, models or other taxa, such as BMW, outside of which nothing becomes a class; empty: anything may."""

    def __post_init__(self) -> None:
        if self.level not in CLASS_LEVELS:
            raise ValueError(f"level {self.level!r} is unknown; {suggestion(str(self.level), CLASS_LEVELS)}")
        for name, value in (("min_photos", self.min_photos), ("min_ads", self.min_ads)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a taxon becomes: another taxon's name, or None to leave it out; `where` is for messages."""

    taxon: str
    becomes: str | None
    where: str = "merges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The rows of table `classes`, the class of each taxon that has one, and each class as a taxon."""

    rows: tuple[dict[str, Any], ...]
    class_of: Mapping[str, str]
    taxa: Mapping[str, Taxon]


def read_merges(path: str | Path) -> list[Merge]:
    """Read `labels/classes.csv`; a file that is not there holds none. Raises LabelError that names the line."""
    path = Path(path)
    if not path.exists():
        return []
    return parse_merges(read_text(path, error=LabelError), where=str(path))


def parse_merges(text: str, *, where: str = "classes.csv") -> list[Merge]:
    """Read CSV text with the columns taxon and becomes. Raises LabelError that names the line."""
    merges: dict[str, Merge] = {}
    for number, row in rows_of(text, where, needed=("taxon", "becomes"), known=("taxon", "becomes")):
        place = f"{where} line {number}"
        name = " ".join(row["taxon"].split())
        if not name:
            raise LabelError(f"{place}: taxon is empty; name one such as 'Audi A4'")
        if name in merges:
            raise LabelError(
                f"{place}: {name!r} stands in {merges[name].where.removeprefix(f'{where} ')} too; keep one"
            )
        merges[name] = Merge(taxon=name, becomes=" ".join(row["becomes"].split()) or None, where=place)
    return list(merges.values())


def classes(photos: Columns, *, settings: ClassSettings | None = None, merges: Iterable[Merge] = ()) -> Classes:
    """Choose the classes of labelled, usable photos.

    `photos` has columns of equal length: photo_id, ad_id, make, model, and generation and year if known. A merge may
    name a taxon at any level; the deepest that names it decides. A row's status is "ok" (a class of its own),
    "merged", "ignored", "too-few" or "too-vague" (its label does not reach the level). Raises LabelError for merges
    that name an unknown taxon or go in a circle, and for an unknown taxon in `settings.only`.
    """
    settings = settings or ClassSettings()
    found = _taxa(photos)
    names = names_of(found)
    _check_only(settings.only, names)
    ends = _ends(merges, names)
    drafts = [_draft(taxon, ends, names, settings) for taxon in found]
    sizes = _sizes(found, drafts)
    rows, class_of, taxa = [], {}, {}
    for (taxon, counted), draft in zip(found.items(), drafts, strict=True):
        row = _row(taxon, counted, _judged(draft, sizes, settings))
        rows.append(row)
        if draft.target is not None and row["status"] in (OK, MERGED):
            class_of[row["taxon"]] = row["class_name"]
            taxa[row["class_name"]] = draft.target
    return Classes(rows=tuple(rows), class_of=class_of, taxa=dict(sorted(taxa.items())))


@dataclass(slots=True, kw_only=True)
class _Counted:
    """Count a taxon's photos and ads."""

    photos: int = 0
    ads: set[Any] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What a taxon would become if its class had photos enough; no target: it stops here."""

    target: Taxon | None
    status: str
    message: str | None = None

    @property
    def name(self) -> str | None:
        return None if self.target is None else self.target.name()


def _taxa(photos: Columns) -> dict[Taxon, _Counted]:
    """Return each taxon with what it has, by name; of one name, the generation of most photos is taken."""
    size = len(photos["photo_id"])
    parts = [_plain(photos[name]) if name in photos else [None] * size for name in LEVELS]
    counts: Counter[tuple[Any, ...]] = Counter()
    ads: dict[tuple[Any, ...], set[Any]] = {}
    for *path, ad_id in zip(*parts, _plain(photos["ad_id"]), strict=True):
        place = tuple(path)
        counts[place] += 1
        ads.setdefault(place, set()).add(ad_id)
    chosen: dict[str, Taxon] = {}
    found: dict[Taxon, _Counted] = {}
    for (make, model, generation, year), n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))):
        taxon = Taxon(make=make, model=model, generation=generation, year=None if year is None else int(year))
        counted = found.setdefault(chosen.setdefault(taxon.name(), taxon), _Counted())
        counted.photos += n
        counted.ads |= ads[make, model, generation, year]
    return dict(sorted(found.items(), key=lambda item: item[0].name()))


def _plain(column: Sequence[Any] | npt.NDArray[Any]) -> Sequence[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column  # a masked value becomes None


def _levels(taxon: Taxon) -> list[Taxon]:
    """Return a taxon cut at each level that it reaches, the deepest first."""
    return list(dict.fromkeys([taxon.up_to("year"), *(cut(taxon, level) for level in reversed(CLASS_LEVELS))]))


def cut(taxon: Taxon, level: ClassLevel) -> Taxon:
    """Return a taxon without what lies below a level of classes: types of a generation are one."""
    if level == "type" or taxon.generation is None or taxon.has_span:
        return taxon.up_to("generation" if level == "type" else level)
    if level == "year" and taxon.year is not None:
        return replace(taxon.up_to("year"), generation=None)
    if level in ("generation", "year"):
        general = family(taxon.make, taxon.model, taxon.generation)
        return replace(taxon.up_to("generation"), generation=general)
    return taxon.up_to(level)


def names_of(found: Iterable[Taxon]) -> dict[str, Taxon]:
    """Return every name that photos have at any level, each as the taxon that it names."""
    return {cut.name(): cut for taxon in found for cut in reversed(_levels(taxon))}


def _check_only(only: Iterable[str], names: Mapping[str, Taxon]) -> None:
    for name in only if names else ():  # before the first photo is labelled no name is wrong
        if name not in names:
            raise LabelError(f"[classes] only: no photo is labelled {name!r}; {suggestion(name, names)}")


def _ends(merges: Iterable[Merge], names: Mapping[str, Taxon]) -> dict[str, str | None]:
    """Return what each merged name becomes in the end, None where it is left out."""
    steps = {merge.taxon: merge for merge in merges}
    for merge in steps.values():
        for name in (merge.taxon, merge.becomes):
            if name is not None and name not in names:
                raise LabelError(f"{merge.where}: no photo is labelled {name!r}; {suggestion(name, names)}")
    ends: dict[str, str | None] = {}
    for name in steps:
        path = [name]
        end: str | None = name
        while end is not None and end in steps:
            end = steps[end].becomes
            if end in path:
                raise LabelError(f"{steps[name].where}: {' → '.join([*path, str(end)])} goes in a circle; take one out")
            path.append(str(end))
        ends[name] = end
    return ends


def _draft(taxon: Taxon, ends: Mapping[str, str | None], names: Mapping[str, Taxon], settings: ClassSettings) -> _Draft:
    decided = next((cut.name() for cut in _levels(taxon) if cut.name() in ends), None)
    end = None if decided is None else ends[decided]
    if decided is not None and end is None:
        return _Draft(target=None, status=IGNORED, message=f"{decided} is left out")
    meant, level = taxon if end is None else names[end], settings.level
    if settings.only and not {part.name() for part in _levels(meant)} & set(settings.only):
        return _Draft(target=None, status=IGNORED, message=f"none of only = {list(settings.only)}")
    target = cut(meant, level)
    if end is None and getattr(taxon, "generation" if level == "type" else level) is None:
        return _Draft(target=None, status=TOO_VAGUE, message=f"its label has no {level}")
    status = OK if target.name() == taxon.name() else MERGED
    return _Draft(target=target, status=status)


def _sizes(found: Mapping[Taxon, _Counted], drafts: Sequence[_Draft]) -> dict[str, _Counted]:
    sizes: dict[str, _Counted] = {}
    for counted, draft in zip(found.values(), drafts, strict=True):
        if draft.name is not None:
            size = sizes.setdefault(draft.name, _Counted())
            size.photos += counted.photos
            size.ads |= counted.ads
    return sizes


def _judged(draft: _Draft, sizes: Mapping[str, _Counted], settings: ClassSettings) -> _Draft:
    if draft.name is None:
        return draft
    size = sizes[draft.name]
    few = [
        f"{count} {what}, fewer than min_{what} = {least}"
        for what, count, least in (
            ("photos", size.photos, settings.min_photos),
            ("ads", len(size.ads), settings.min_ads),
        )
        if count < least
    ]
    if not few:
        return draft
    return _Draft(target=draft.target, status=TOO_FEW, message=f"{draft.name} has {' and '.join(few)}")


def _row(taxon: Taxon, counted: _Counted, draft: _Draft) -> dict[str, Any]:
    row = {
        "taxon": taxon.name(),
        "class_name": draft.name,
        "make": taxon.make,
        "model": taxon.model,
        "generation": taxon.generation,
        "year": taxon.year,
        "photos": counted.photos,
        "ads": len(counted.ads),
        "status": draft.status,
        "message": draft.message,
    }
    return {name: value for name, value in row.items() if value is not None}
