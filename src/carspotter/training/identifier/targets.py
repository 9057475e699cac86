"""Find out, for each row of a labels CSV, which classes its photo may be of.

A photo need not be labelled down to a class: one of which only the make is known may be any class of that make, and
is taught as such, so that sources of different depth learn together. It reads no photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.csv_rows import year_of
from carspotter.errors import RecipeError
from carspotter.taxonomy import LEVELS, Level, Taxonomy

Bools = npt.NDArray[np.bool_]


class Nodes:
    """Number the labels that photos may have: first the c classes, then sets of classes, such as all of one make."""

    def __init__(self, taxonomy: Taxonomy, ids: Mapping[str, int]) -> None:
        self.taxonomy, self.ids = taxonomy, dict(ids)
        # A class is the set of itself, so that losses and figures need one rule for both kinds of label.
        self._sets: list[Bools] = list(np.eye(len(taxonomy), dtype=bool))
        self._numbers: dict[tuple[str, ...], int] = {}

    @property
    def members(self) -> Bools:
        """Return which classes each node stands for, (m, c); the first c are the classes themselves."""
        return np.stack(self._sets)

    def of(self, row: Mapping[str, str]) -> int:
        """Return the node of a row: its `class_id`, or all classes that agree with its make, model, generation, year.

        Raises RecipeError where the taxonomy has no such class, and for a year that is none.
        """
        name = row.get("class_id") or ""
        if name:
            if name not in self.ids:
                raise RecipeError(f"class_id {name!r} is not in the taxonomy")
            return self.ids[name]
        # Kept by its words: thousands of rows that say "Audi A4" share one set.
        year = year_of(row.get("year") or "", error=RecipeError, where="a row of the labels", may_span=True)
        parts = (*(row.get(level) or "" for level in LEVELS[:-1]), str(year or ""))
        if parts not in self._numbers:
            self._numbers[parts] = self._add(parts)
        return self._numbers[parts]

    def level(self, level: Level) -> npt.NDArray[np.int64]:
        """Return of each node (m,) its taxon in `taxonomy.names(level)`, -1 where its classes differ."""
        index = self.taxonomy.index(level)
        shared = [index[classes] for classes in self._sets]
        # Where all classes of a set share a taxon, it is known although the class is not.
        return np.array([found[0] if (found == found[0]).all() else -1 for found in shared], np.int64)

    def _add(self, parts: tuple[str, ...]) -> int:
        if not any(parts):  # a photo that shows no car of a class: it teaches the further heads alone
            self._sets.append(np.ones(len(self.taxonomy), bool))
            return len(self._sets) - 1
        if not parts[0]:
            raise RecipeError("a row has neither class_id nor make")
        known = [[str(getattr(taxon, level) or "") for level in LEVELS] for taxon in self.taxonomy.classes]
        fits = np.array([_fits(parts, each) for each in known])
        if not fits.any():
            raise RecipeError(f"no class is a {' '.join(part for part in parts if part)!r}; add it to the taxonomy")
        # The only model of a make is a class: its photos are judged like any labelled with it.
        if fits.sum() == 1:
            return int(fits.argmax())
        self._sets.append(fits)
        return len(self._sets) - 1


def _fits(wanted: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether a class may be what a label says; one that ends at its model contradicts no deeper label."""
    return all(
        # level > 1: below the model a class that names no generation or year holds all of them.
        want in ("", have) or (level > 1 and not have)
        for level, (want, have) in enumerate(zip(wanted, known, strict=True))
    )


def words(rows: list[dict[str, Any]], column: str) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the words of a column in order of the alphabet, and each row's number (n,), -1 where it is empty."""
    found = tuple(sorted({row.get(column) or "" for row in rows} - {""}))
    numbers = {word: number for number, word in enumerate(found)}
    return found, np.array([numbers.get(row.get(column) or "", -1) for row in rows], np.int64)


def mirrored(names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return for each word the number of what it becomes in a mirrored photo: left and right change places.

    Raises RecipeError where one side is among the words and the other is not.
    """
    places = {"left": "right", "right": "left"}
    # Part by part: "front-left" becomes "front-right", and "leftover" stays.
    swapped = ["-".join(places.get(part, part) for part in name.split("-")) for name in names]
    lone = [name for name, other in zip(names, swapped, strict=True) if other not in names]
    if lone:
        raise RecipeError(f"{lone[0]!r} occurs, its mirror image does not; set augment.flip=0 or label both sides")
    return np.array([names.index(name) for name in swapped], np.int64)


def mirror_of(words: tuple[str, ...]) -> npt.NDArray[np.int64] | None:
    """Return for each label the number of its mirror image; None where that of one is no label."""
    try:
        return mirrored(words)
    except RecipeError:
        return None
