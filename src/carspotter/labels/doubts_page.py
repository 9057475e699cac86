"""Doubtful labels and outliers in, a page and a CSV file to review them out; what a person decided is read back.

The page is one HTML file with its pictures in it; `labels/doubts.csv` has the same rows. A person fills the column
`decision` of either (the page has buttons and saves the file) and saves it as `labels/reviewed.csv`. It finds no
doubts (`noise`, `outliers`), reads no photo, and applies no decision: the next build does.

    photo_id,ad_id,given,decision,becomes_make,becomes_model,becomes_generation,becomes_year,said_by,…

A row without `photo_id` is about its whole ad. Decisions: `keep` (the label is right), `relabel` (it becomes what the
`becomes` columns say, which hold the suggestion already), `drop` (no photo of a class). An empty one is passed over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from carspotter import storage
from carspotter.errors import LabelError, MissingExtraError, TaxonomyError, suggestion
from carspotter.labels.corrections import BECOMES, rows_of
from carspotter.taxonomy import Taxon

Action = Literal["keep", "relabel", "drop"]
ACTIONS: tuple[Action, ...] = get_args(Action)
NEEDED = ("photo_id", "ad_id", "decision", *BECOMES[:2])
COLUMNS = (
    "photo_id", "ad_id", "given", "decision", *BECOMES, "said_by", "why", "given_probability", "suggested_probability",
    "score", "shown",
)  # fmt: skip

LABEL = "label"
"""Why a row is there, unless it is an outlier's reason."""
CARDS = 300
"""Doubts on a page: about 3 MB of pictures, and more than anybody reviews at one go. The CSV file has them all."""
PER_CLASS = 12
"""Outliers of a class on a page: one row on a usual screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Hold one thing to decide: a photo, or a whole ad where `is_ad`, whose label or looks are to be doubted.

    `given` is the class's name, `suggested` what it may be instead. `score` is a doubt's quality (low is doubtful) or
    an outlier's score (high is unlike its class); `why` is "label", "alone" or "small cluster".
    """

    photo_id: str
    given: str
    score: float
    ad_id: str | None = None
    is_ad: bool = False
    suggested: Taxon | None = None
    given_probability: float | None = None
    suggested_probability: float | None = None
    why: str = LABEL

    def cells(self) -> dict[str, str]:
        """Return the row of the CSV file, its decision still empty."""
        part = self.suggested.to_dict() if self.suggested is not None else {}
        becomes = {name: str(part.get(name.removeprefix("becomes_"), "")) for name in BECOMES}
        return {
            "photo_id": "" if self.is_ad else self.photo_id, "ad_id": self.ad_id or "", "given": self.given,
            "decision": "", **becomes, "said_by": "", "why": self.why,
            "given_probability": _number(self.given_probability),
            "suggested_probability": _number(self.suggested_probability), "score": _number(self.score),
            "shown": self.photo_id,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Say what a person decided of a photo, or of a whole ad (then `photo_id` is None), and who said so."""

    action: Action
    photo_id: str | None = None
    ad_id: str | None = None
    becomes: Taxon | None = None
    said_by: str = "person"
    where: str = field(default="reviewed.csv", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Hold decisions by photo and by ad."""

    of_photos: Mapping[str, Decision] = field(default_factory=dict)
    of_ads: Mapping[str, Decision] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.of_photos) + len(self.of_ads)

    def find(self, photo_id: str, ad_id: str | None = None) -> Decision | None:
        """Return what was decided of a photo, else of its ad."""
        return self.of_photos.get(photo_id) or self.of_ads.get(ad_id or "")

    def pending(self, reviews: Iterable[Review]) -> list[Review]:
        """Return the reviews of which nothing was decided yet."""
        return [
            review for review in reviews
            if (self.of_ads.get(review.ad_id or "") if review.is_ad else self.find(review.photo_id, review.ad_id))
            is None
        ]  # fmt: skip


def write_csv(path: str | Path, reviews: Iterable[Review]) -> None:
    """Write reviews as CSV, `decision` empty, by way of a temporary name. Raises StorageError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(review.cells() for review in reviews)
    storage.write(path, text.getvalue().encode())


def read_decisions(path: str | Path) -> Decisions:
    """Read a reviewed file; one that is not there holds none. Raises LabelError that names file and line."""
    path = Path(path)
    if not path.exists():
        return Decisions()
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin their CSV with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} cannot be read: {error}; save it as CSV in UTF-8") from error
    return parse_decisions(text, where=str(path))


def decided_rows(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a reviewed file in which something was decided; none where there is no file."""
    path = Path(path)
    read_decisions(path)  # names the line that is wrong
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    return [row for _, row in rows_of(text, str(path), needed=NEEDED, known=COLUMNS) if row["decision"]] if text else []


def parse_decisions(text: str, *, where: str = "reviewed.csv") -> Decisions:
    """Read CSV text, with commas or semicolons. Raises LabelError that names the line."""
    photos: dict[str, Decision] = {}
    ads: dict[str, Decision] = {}
    for number, row in rows_of(text, where, needed=NEEDED, known=COLUMNS):
        decision = _decision(row, f"{where} line {number}")
        if decision is None:
            continue
        held, place = (ads, decision.ad_id) if decision.photo_id is None else (photos, decision.photo_id)
        first = held.setdefault(cast(str, place), decision)
        if (first.action, first.becomes) != (decision.action, decision.becomes):
            raise LabelError(f"{decision.where}: {place} was decided otherwise in {first.where}; keep one line")
    return Decisions(of_photos=photos, of_ads=ads)


def write_page(
    path: str | Path,
    reviews: Sequence[Review],
    *,
    title: str,
    thumbnail: Callable[[str], str | None],
    pairs: Sequence[Mapping[str, Any]] = (),
    judged: int | None = None,
    decided: Sequence[Mapping[str, str]] = (),
) -> None:
    """Draw the page: class pairs, doubts in the order given, outliers by class.

    `thumbnail` returns a photo's picture as a data URI, None where there is none. `pairs` are `Doubts.pair_rows`,
    `judged` is how many photos or ads were looked at, `decided` are rows of earlier rounds (`decided_rows`), which the
    page saves again with its own. Raises MissingExtraError without the extra `data`, StorageError.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", "data") from error
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        resources.files("carspotter.labels").joinpath("doubts.html").read_text(encoding="utf-8")
    )
    doubts = [review for review in reviews if review.why == LABEL]
    outliers = [review for review in reviews if review.why != LABEL]
    html = template.render(
        title=title, columns=COLUMNS, pairs=list(pairs), judged=judged, n_doubts=len(doubts), n_outliers=len(outliers),
        doubts=[_card(review, thumbnail) for review in doubts[:CARDS]], outliers=_by_class(outliers, thumbnail),
        decided=[{name: row.get(name, "") for name in COLUMNS} for row in decided],
    )  # fmt: skip
    storage.write(path, html.encode())


def _card(review: Review, thumbnail: Callable[[str], str | None]) -> dict[str, Any]:
    return {
        "picture": thumbnail(review.photo_id), "photo_id": review.photo_id, "ad_id": review.ad_id,
        "is_ad": review.is_ad, "given": review.given, "why": review.why, "score": review.score,
        "suggested": review.suggested.name() if review.suggested is not None else None,
        "given_probability": review.given_probability, "suggested_probability": review.suggested_probability,
        "cells": review.cells(),
    }  # fmt: skip


def _by_class(outliers: Sequence[Review], thumbnail: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Return outliers by class, the class of most first."""
    classes: dict[str, list[Review]] = {}
    for review in outliers:
        classes.setdefault(review.given, []).append(review)
    ordered = sorted(classes.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {"name": name, "n": len(found), "cards": [_card(review, thumbnail) for review in found[:PER_CLASS]]}
        for name, found in ordered
    ]


def _decision(row: Mapping[str, str], where: str) -> Decision | None:
    action = row["decision"].lower()
    if not action:
        return None
    if action not in ACTIONS:
        raise LabelError(f"{where}: decision is {row['decision']!r}; {suggestion(action, ACTIONS)}")
    if not row["photo_id"] and not row["ad_id"]:
        raise LabelError(f"{where}: photo_id and ad_id are empty; one of them must say what was decided of")
    becomes = _becomes(row, where) if action == "relabel" else None
    if becomes is not None and becomes.name() == row.get("given"):
        raise LabelError(f"{where}: {becomes.name()!r} is relabelled as itself; write keep, or another class")
    return Decision(
        action=action, photo_id=row["photo_id"] or None, ad_id=row["ad_id"] or None, becomes=becomes,
        said_by=row.get("said_by") or "person", where=where,
    )  # fmt: skip


def _becomes(row: Mapping[str, str], where: str) -> Taxon:
    make, model, generation, year = (row.get(name, "") for name in BECOMES)
    if not make:
        raise LabelError(f"{where}: relabel needs becomes_make, and becomes_model as far as known; or write drop")
    if year and not (year.isdecimal() and len(year) == 4):
        raise LabelError(f"{where}: becomes_year is {year!r}; it must be a year such as 2012, or empty")
    try:
        return Taxon(make=make, model=model or None, generation=generation or None, year=int(year) if year else None)
    except TaxonomyError as error:
        raise LabelError(f"{where}: {error}") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
