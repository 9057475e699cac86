"""What a person may decide next, in order: queues of photos, ads and words of a project.

In: the catalogue, `labels/doubts.csv`, `labels/unresolved.csv`. Out: items, each with all that a screen shows of it.
It decides nothing and does not know what was decided, but which photos people called exterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from carspotter.catalog.catalog import Catalog
from carspotter.errors import ProjectError, suggestion
from carspotter.labels.corrections import BECOMES, NOTES, WORDS, Corrections, Words, rows_of, words_key
from carspotter.labels.decisions import Task, Thing
from carspotter.labels.doubts_page import COLUMNS, NEEDED
from carspotter.project.reviews import PHOTO_LABELS
from carspotter.taxonomy import Taxon

Row = dict[str, Any]

QueueName = Literal["random", "uncertain", "kind", "viewpoint", "doubts", "unresolved"]
QUEUES: tuple[QueueName, ...] = get_args(QueueName)
TASKS_OF: Mapping[QueueName, tuple[Task, ...]] = {
    "random": ("kind", "viewpoint", "class"),
    "uncertain": ("class", "kind", "viewpoint"),
    "kind": ("kind",),
    "viewpoint": ("viewpoint",),
    "doubts": ("class",),
    "unresolved": ("words",),
}
"""What each queue may ask; the first is what it asks unless told otherwise."""

GATE = 200
"""Photos of a random sample unless told otherwise: 95 % of them right is then known to ± 3 %."""
MOST = 5000
"""Items of any other queue unless told otherwise, which is a week's work for one person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Hold one thing to decide: `photo_id` is what is shown, `is_ad` says that the answer is about its whole ad.

    `box` is relative to the upright photo. `given` is its label, `is_reviewed` says that a person said so before;
    `suggested` is what it may be instead. `machine` is what finder and learned bundle say.
    """

    task: Task
    photo_id: str | None = None
    ad_id: str | None = None
    is_ad: bool = False
    path: str | None = None
    size: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    given: Taxon | None = None
    is_reviewed: bool = False
    suggested: Taxon | None = None
    seller: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    words: Words | None = None
    why: str | None = None

    @property
    def thing(self) -> Thing:
        """Return what its decision is about, as `Entry.thing` does."""
        if self.words is not None:
            return (self.task, *words_key(self.words))
        return (self.task, "ad", self.ad_id or "") if self.is_ad else (self.task, "photo", self.photo_id or "")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values for a screen; where its file lies is not told."""
        return {
            "key": "\x1f".join(self.thing), "task": self.task, "photo": self.photo_id, "ad": self.ad_id,
            "is_ad": self.is_ad, "size": self.size, "box": self.box, "seller": self.seller, "why": self.why,
            "given": None if self.given is None else self.given.name(),
            "suggested": None if self.suggested is None else self.suggested.to_dict(),
            "suggested_name": None if self.suggested is None else self.suggested.name(),
            "machine": dict(self.machine), "words": None if self.words is None else list(self.words),
        }  # fmt: skip


_PHOTOS = f"""SELECT p.photo_id, p.ad_id, f.path, c.width, c.height, v.kind, v.kind_probability, v.viewpoint,
v.viewpoint_probability, v.score, v.x1, v.y1, v.x2, v.y2, r.answer, r.probability,
w.make, w.model, w.generation, w.year,
w.status = 'ok' AS is_labelled, d.photo_id IS NOT NULL AS is_reviewed,
concat_ws(' ', l.make, l.model, l.submodel, l.year::VARCHAR) AS seller
FROM listing_photos p JOIN files f USING (photo_id) JOIN checks c USING (photo_id) LEFT JOIN findings v USING (photo_id)
LEFT JOIN listings l ON l.ad_id = p.ad_id LEFT JOIN predictions r ON r.photo_id = p.photo_id
LEFT JOIN ({PHOTO_LABELS}) w ON w.photo_id = p.photo_id LEFT JOIN reviews d ON d.photo_id = p.photo_id
WHERE f.status = 'ok' AND c.width IS NOT NULL"""
"""Every photo that was fetched and can be read, good or bad, with what is known of it."""

_ASKABLE: Mapping[Task, str] = {
    "kind": "true",
    "viewpoint": "x1 IS NOT NULL AND (kind = 'exterior' OR list_contains(?::VARCHAR[], photo_id))",
    "class": "x1 IS NOT NULL AND is_labelled",
}
_LEAST_SURE: Mapping[Task, str] = {
    "kind": "kind_probability", "viewpoint": "viewpoint_probability", "class": "probability"
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Say which queue is wanted: its name, what it asks, how many items, and the seed of its order.

    Raises ProjectError for a queue or task that there is not.
    """

    queue: QueueName = "kind"
    task: Task | None = None
    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise ProjectError(
                f"queue {self.queue!r} is unknown; {suggestion(str(self.queue), QUEUES, limit=len(QUEUES))}"
            )
        tasks = TASKS_OF[self.queue]
        if self.task is not None and self.task not in tasks:
            raise ProjectError(f"queue {self.queue} does not ask for {self.task!r}; it may ask for {', '.join(tasks)}")

    @property
    def asks(self) -> Task:
        """Return what it asks."""
        return self.task or TASKS_OF[self.queue][0]

    @property
    def most(self) -> int:
        """Return how many items it has at most."""
        return self.count or (GATE if self.queue == "random" else MOST)


def read_queue(catalog: Catalog, labels: Path, wish: Wish, *, exteriors: Sequence[str] = ()) -> list[Item]:
    """Return the items of a queue in their order, decided ones among them.

    `exteriors` are photos that people called so. Raises ProjectError where there is nothing to ask for yet, LabelError
    for a wrong file. A photo's place in a random order depends on the seed and its id alone, so that a sample stays one
    when photos are added.
    """
    if wish.queue == "doubts":
        return _doubts(catalog, labels)[: wish.most]
    if wish.queue == "unresolved":
        return _unresolved(catalog, labels)[: wish.most]
    params: list[Any] = [list(exteriors)] if wish.asks == "viewpoint" else []
    where, order = _ASKABLE[wish.asks], f"md5('{int(wish.seed)}:' || photo_id)"
    if wish.queue == "uncertain":
        column = _LEAST_SURE[wish.asks]
        where, order = f"{where} AND {column} IS NOT NULL", f"{column}, photo_id"
    rows = catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE {where} ORDER BY {order} LIMIT {wish.most}", *params)
    return [photo_item(row, wish.asks) for row in rows]


def find_photo(catalog: Catalog, photo_id: str, task: Task) -> Item | None:
    """Return the item of one photo, or None where there is none that can be shown."""
    rows = catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE photo_id = ?", photo_id)
    return photo_item(rows[0], task) if rows else None


def photo_item(row: Mapping[str, Any], task: Task) -> Item:
    """Return the item of a row of photos."""
    size = int(row["width"]), int(row["height"])
    return Item(
        task=task, photo_id=row["photo_id"], ad_id=row["ad_id"], path=row["path"], size=size, box=_box(row, size),
        given=_label(row), is_reviewed=bool(row["is_reviewed"]), seller=row["seller"] or None, machine=_machine(row),
    )  # fmt: skip


def _box(row: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    if row["x1"] is None:
        return None
    (width, height), corners = size, [row[side] for side in ("x1", "y1", "x2", "y2")]
    x1, y1, x2, y2 = (round(value / side, 4) for value, side in zip(corners, (width, height) * 2, strict=True))
    return x1, y1, x2, y2


def _label(row: Mapping[str, Any]) -> Taxon | None:
    if not row["is_labelled"] or row["make"] is None:
        return None
    return Taxon(make=row["make"], model=row["model"], generation=row["generation"], year=row["year"])


def _machine(row: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {
        "kind": ("kind", "kind_probability"),
        "viewpoint": ("viewpoint", "viewpoint_probability"),
        "class": ("answer", "probability"),
    }
    return {
        name: {"name": row[word], "probability": None if row[number] is None else round(float(row[number]), 3)}
        for name, (word, number) in pairs.items()
        if row[word] is not None
    }


def _rows(path: Path, needed: Sequence[str], known: Sequence[str], *, advice: str) -> list[dict[str, str]]:
    if not path.exists():
        raise ProjectError(f"{path} is not there; run first: {advice}")
    return [row for _, row in rows_of(path.read_text(encoding="utf-8-sig"), str(path), needed=needed, known=known)]


def _doubts(catalog: Catalog, labels: Path) -> list[Item]:
    rows = _rows(labels / "doubts.csv", NEEDED, COLUMNS, advice=f"carspotter doubts {labels.parent}")
    photos = _facts(catalog, [row.get("shown") or row["photo_id"] for row in rows])
    items = []
    for row in rows:
        facts = photos.get(row.get("shown") or row["photo_id"])
        if facts is None:
            continue
        shown = photo_item(facts, "class")
        numbers = {name: float(row[name]) for name in ("given_probability", "suggested_probability") if row.get(name)}
        items.append(
            Item(
                task="class", photo_id=shown.photo_id, ad_id=shown.ad_id, is_ad=not row["photo_id"], path=shown.path,
                size=shown.size, box=shown.box, given=shown.given, is_reviewed=shown.is_reviewed, seller=shown.seller,
                suggested=_becomes(row), machine={**shown.machine, **numbers}, why=row.get("why") or None,
            )
        )  # fmt: skip
    return items


def _becomes(row: Mapping[str, str]) -> Taxon | None:
    make, model, generation, year = (row.get(name) or None for name in BECOMES)
    if make is None:
        return None
    return Taxon(make=make, model=model, generation=generation, year=int(year) if year else None)


def _facts(catalog: Catalog, photo_ids: Sequence[str]) -> dict[str, Row]:
    rows = catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE list_contains(?::VARCHAR[], photo_id)", list(photo_ids))
    return {row["photo_id"]: row for row in rows}


# The likeliest outside view of the ads that have these words: who knows cars sees at once what the words mean.
_WORDS_SHOWN = """SELECT coalesce(l.make, '') AS make, CASE WHEN coalesce(l.make, l.model, l.submodel) IS NULL
THEN l.title ELSE coalesce(l.model, '') END AS model, coalesce(l.submodel, '') AS submodel,
arg_max(p.photo_id, v.exterior) AS photo_id, any_value(l.title) AS title
FROM listings l JOIN labels w ON w.ad_id = l.ad_id AND w.status = 'unresolved'
JOIN listing_photos p ON p.ad_id = l.ad_id JOIN findings v ON v.photo_id = p.photo_id GROUP BY ALL"""


def _unresolved(catalog: Catalog, labels: Path) -> list[Item]:
    rows = _rows(
        labels / "unresolved.csv", WORDS, (*WORDS, *BECOMES, *NOTES), advice=f"carspotter resolve {labels.parent}"
    )
    known = Corrections.read(labels / "words.csv")
    shown = {words_key((row["make"], row["model"], row["submodel"])): row for row in catalog.rows(_WORDS_SHOWN)}
    photos = _facts(catalog, [row["photo_id"] for row in shown.values() if row["photo_id"]])
    items = []
    for row in rows:
        words: Words = (row["make"] or None, row["model"] or None, row["submodel"] or None)
        facts = photos.get((shown.get(words_key(words)) or {}).get("photo_id") or "")
        photo = photo_item(facts, "words") if facts else Item(task="words")
        items.append(
            Item(
                task="words", words=words, photo_id=photo.photo_id, ad_id=photo.ad_id, path=photo.path, size=photo.size,
                box=photo.box, machine=photo.machine, seller=(shown.get(words_key(words)) or {}).get("title"),
                given=known.find(words), why=_in_words(row),
            )
        )  # fmt: skip
    return items


def _in_words(row: Mapping[str, str]) -> str:
    ads = row.get("ads") or ""
    counted = f"{ads} ad{'' if ads == '1' else 's'}" if ads else ""
    said = (row.get("message") or "").partition("; write what")[0]  # here it is asked for, not to be written
    return "; ".join(part for part in (counted, said) if part)
