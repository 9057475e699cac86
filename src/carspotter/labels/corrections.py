"""What people decided about sellers' words: read from `labels/words.csv`; `labels/unresolved.csv` has open ones.

    make,model,submodel,becomes_make,becomes_model,becomes_generation,becomes_year,ads,message,decided

A person fills the `becomes` columns of the second and saves it as the first, whose rows stand in it too, below the open
ones and with `decided`. An empty `submodel` means any, a row with nothing filled in is passed over, and columns after
these are notes. Decisions of a review are no rows of it; those that older versions copied into it are known by their
note. It opens no catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carspotter.csv_rows import csv_text, header, parse_csv, read_text, set_filled_aside, year_of
from carspotter.errors import LabelError, TaxonomyError, suggestion
from carspotter.labels.words import key, tokens
from carspotter.taxonomy import Taxon

WORDS = ("make", "model", "submodel")
BECOMES = ("becomes_make", "becomes_model", "becomes_generation", "becomes_year")
NOTES = ("ads", "message")
DECIDED = "decided"
"""The column of `unresolved.csv` that is empty in an open row, and else the taxon's name by `words.csv`."""
COPIED = "review: "
"""How the note of a row begins that an older version copied from a review."""

Words = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Corrections:
    """Taxa by the keys of the words that they stand for; `copied` are the keys of rows that no person wrote."""

    taxa: Mapping[tuple[str, str, str], Taxon] = field(default_factory=dict)
    copied: frozenset[tuple[str, str, str]] = frozenset()

    @classmethod
    def read(cls, path: str | Path) -> Corrections:
        """Read a CSV file; one that is not there holds none. Raises LabelError that names file and line."""
        path = Path(path)
        if not path.exists():
            return cls()
        return cls.parse(read_text(path, error=LabelError), where=str(path))

    @classmethod
    def parse(cls, text: str, *, where: str = "words.csv") -> Corrections:
        """Read CSV text, with commas or semicolons. Raises LabelError that names the line."""
        taxa: dict[tuple[str, str, str], Taxon] = {}
        lines: dict[tuple[str, str, str], int] = {}
        copied: set[tuple[str, str, str]] = set()
        for number, row in rows_of(text, where, needed=(*WORDS, *BECOMES[:2]), known=(*WORDS, *BECOMES, *NOTES)):
            taxon = taxon_of(row, f"{where} line {number}")
            if taxon is None:
                continue
            if taxon.model is None:
                raise LabelError(
                    f"{where} line {number}: becomes {taxon.make} ?; becomes_make and becomes_model must be given"
                )
            place = words_key((row["make"], row["model"], row["submodel"]))
            if not any(place):
                raise LabelError(
                    f"{where} line {number}: make, model and submodel are empty; one of them must say what"
                )
            is_copied = row.get("message", "").startswith(COPIED)
            if place in taxa and is_copied != (place in copied):  # of the two, what a person wrote holds
                if is_copied:
                    continue
                del taxa[place], lines[place]
            (copied.add if is_copied else copied.discard)(place)
            if taxa.setdefault(place, taxon) != taxon:
                first = f"line {lines[place]} says {taxa[place].name()!r}"
                raise LabelError(f"{where} line {number}: {taxon.name()!r} for words of which {first}; keep one line")
            lines.setdefault(place, number)
        return cls(taxa, frozenset(copied))

    def find(self, words: Words) -> Taxon | None:
        """Return what a person said of these words: of all three, else of make and model whatever the submodel."""
        if not self.taxa:
            return None
        make, model, submodel = words_key(words)
        return self.taxa.get((make, model, submodel)) or self.taxa.get((make, model, ""))


def words_key(words: Words) -> tuple[str, str, str]:
    """Return words as they are compared: whatever their case, accents, script and punctuation."""
    make, model, submodel = (key(tokens(word)) for word in words)
    return make, model, submodel


def rows_of(text: str, where: str, *, needed: Iterable[str], known: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV text that are not empty, blanks removed, each with its line number.

    Raises LabelError for a column that is missing or nearly one of the `known`, and for a row with too many values.
    """
    rows = parse_csv(text, tuple(needed), error=LabelError, where=where, may_be_short=True)
    for name in header(text):
        if name.startswith("becomes") and name not in known:
            raise LabelError(f"{where} line 1: unknown column {name!r}; {suggestion(name, known)}")
    return [(number, {name: _cell(value) for name, value in row.items()}) for number, row in rows]


def unresolved(listings: Iterable[Mapping[str, Any]], labels: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each unresolved wording, the most frequent in ads first, with `becomes` empty.

    An ad without any words but a title has it as its model, as `Resolver` does.
    """
    messages = {row["ad_id"]: row.get("message") for row in labels if row["status"] == "unresolved"}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for listing in listings:
        if listing["ad_id"] not in messages:
            continue
        words = words_of(listing)
        row = found.setdefault(
            words_key(words),
            {**{name: word or "" for name, word in zip(WORDS, words, strict=True)}, **dict.fromkeys(BECOMES, "")}
            | {"ads": 0, "message": messages[listing["ad_id"]] or ""},
        )
        row["ads"] += 1
    return sorted((row for place, row in found.items() if any(place)), key=lambda row: (-row["ads"], str(row)))


def unresolved_csv(open_: Sequence[Mapping[str, Any]], words: Path) -> str:
    """Return the text of an `unresolved.csv`: the open rows, and below them those of `words.csv`.

    So it may be saved as `words.csv` again and again, and loses no decision, nor a column of somebody's own. Raises
    LabelError that names file and line.
    """
    decided = [{**row, DECIDED: taxon.name()} for row, taxon in _filled(words)]
    columns = dict.fromkeys((*WORDS, *BECOMES, *NOTES, *(name for row in decided for name in row), DECIDED))
    return to_csv([*open_, *decided], columns)


def _filled(path: Path) -> list[tuple[dict[str, str], Taxon]]:
    """Return the rows in which a taxon is filled in."""
    if not path.exists():
        return []
    text = read_text(path, error=LabelError)
    rows = rows_of(text, str(path), needed=(*WORDS, *BECOMES[:2]), known=(*WORDS, *BECOMES))
    found = [(row, taxon_of(row, f"{path} line {number}")) for number, row in rows]
    return [(row, taxon) for row, taxon in found if taxon is not None]


def keep_filled(path: Path, words: Path) -> list[str]:
    """Set an `unresolved.csv` aside in which somebody decided what `words.csv` does not hold; return warnings.

    It was saved in its place and not as `words.csv`, and another is about to be written there. Raises StorageError.
    """
    held = Corrections.read(words).taxa
    try:
        is_new = any(
            held.get(words_key((row["make"], row["model"], row["submodel"]))) != taxon
            for row, taxon in _filled(path)
            if row.get(DECIDED) != taxon.name()
        )
    except LabelError:  # somebody worked in it, whatever is wrong
        is_new = True
    return [set_filled_aside(path, belongs=words.name)] if is_new else []


def words_of(listing: Mapping[str, Any]) -> Words:
    """Return make, model and submodel of a listing, the title as its model where it has none of them."""
    words = listing.get("make"), listing.get("model"), listing.get("submodel")
    return words if any(words) else (None, listing.get("title"), None)


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = (*WORDS, *BECOMES, *NOTES, DECIDED)) -> str:
    """Return rows as the text of a CSV file in which no spreadsheet takes a seller's words for a formula.

    A cell that begins with = + - @ gets an apostrophe in front, which `rows_of` takes away. Write it as "utf-8-sig":
    by the mark spreadsheets know its letters.
    """
    return csv_text(({name: _plain_cell(value) for name, value in row.items()} for row in rows), tuple(columns))


_FORMULA = re.compile(r"'*\s*[=+\-@]")


def _plain_cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _cell(value: str) -> str:
    """Return a cell as it was before `to_csv`."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value) else value


def taxon_of(row: Mapping[str, str], where: str) -> Taxon | None:
    """Return what the `becomes` columns of a row name, None where they are empty; raises LabelError that says where."""
    make, model, generation, year = (row.get(name, "") for name in BECOMES)
    if not (make or model or generation or year):
        return None
    if not make:
        raise LabelError(f"{where}: becomes ? {model or '?'}; becomes_make and becomes_model must be given")
    known_year = year_of(year, error=LabelError, where=where, column="becomes_year")
    try:
        return Taxon(make=make, model=model or None, generation=generation or None, year=known_year)
    except TaxonomyError as error:
        raise LabelError(f"{where}: {error}") from error
