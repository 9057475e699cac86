"""The queues of a project: photos, ads and words to decide, in order, with all that a screen shows of each.

In: the catalogue, `labels/doubts.csv`, `labels/unresolved.csv`. Out: items. It decides nothing, and knows of decisions
only which photos people called exterior and which words they wrote down.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.csv_rows import Rows, read_text
from carspotter.errors import LabelError, ProjectError, typed
from carspotter.geometry import SIDES
from carspotter.labels.corrections import (
    BECOMES,
    DECIDED,
    NOTES,
    WORDS,
    Corrections,
    Words,
    rows_of,
    taxon_of,
    words_key,
)
from carspotter.labels.doubts import COLUMNS, NEEDED
from carspotter.project.folder import Project
from carspotter.review.apply import PHOTO_LABELS, decided_alone, written_words
from carspotter.review.decisions import Decision, Task
from carspotter.review.imported import open_decisions
from carspotter.review.queue import TASKS_OF, Box, Item, QueueQuery, Shot
from carspotter.review.taxa import taxa_to_choose
from carspotter.taxonomy import Taxon

Row = dict[str, Any]

_SAID = "concat_ws(' ', l.make, l.model, l.submodel, l.year::VARCHAR)"
_SELLER = f"""concat_ws(' · ', nullif({_SAID}, ''),
CASE WHEN NOT contains(lower({_SAID}), lower(l.title)) THEN left(l.title, 120) END)"""
"""What the seller wrote: words and year, and the title where it says more, such as the code of a type."""

_PHOTOS = f"""SELECT p.photo_id, p.ad_id, f.path, c.width, c.height, v.kind, v.kind_probability,
v.viewpoint, v.viewpoint_probability, v.score, v.x1, v.y1, v.x2, v.y2, r.answer, r.probability,
w.make, w.model, w.generation, w.year,
w.status = 'ok' AS is_labelled, d.photo_id IS NOT NULL AS is_reviewed,
{_SELLER} AS seller
FROM listing_photos p JOIN files f USING (photo_id) JOIN checks c USING (photo_id) LEFT JOIN findings v USING (photo_id)
LEFT JOIN listings l ON l.ad_id = p.ad_id LEFT JOIN predictions r ON r.photo_id = p.photo_id
LEFT JOIN ({PHOTO_LABELS}) w ON w.photo_id = p.photo_id LEFT JOIN reviews d ON d.photo_id = p.photo_id
WHERE f.status = 'ok' AND c.width IS NOT NULL"""
"""Every photo that was fetched and can be read, good or bad, with what is known of it."""

_SHOTS = """SELECT p.photo_id, p.ad_id, f.path, c.width, c.height, v.x1, v.y1, v.x2, v.y2
FROM listing_photos p JOIN files f USING (photo_id) JOIN checks c USING (photo_id) LEFT JOIN findings v USING (photo_id)
WHERE f.status = 'ok' AND c.width IS NOT NULL AND list_contains(?::VARCHAR[], p.ad_id)
ORDER BY p.position, p.photo_id"""
"""The same photos of some ads, in each ad's own order."""

_ASKABLE: Mapping[Task, str] = {
    "kind": "true",
    "viewpoint": "x1 IS NOT NULL AND (kind = 'exterior' OR list_contains(?::VARCHAR[], photo_id))",
    "class": "x1 IS NOT NULL AND is_labelled",
}
_LEAST_SURE: Mapping[Task, str] = {
    "kind": "kind_probability",
    "viewpoint": "viewpoint_probability",
    "class": "probability",
}


class ProjectQueues:
    """The queues of a project, from its catalogue; it holds the catalogue open until `close()`."""

    tasks = TASKS_OF

    def __init__(self, project: Project) -> None:
        """Open the catalogue and the decisions; raises CatalogError, LabelError, StorageError."""
        self.folder, self.name = project.folder, project.settings.name or project.folder.name
        self.project: Project | None = project
        self.store = open_decisions(project.labels)
        self._labels, self._catalog = project.labels, project.catalog()

    def close(self) -> None:
        """Close the catalogue."""
        self._catalog.close()

    def items(self, query: QueueQuery) -> list[Item]:
        """Return the items of a queue in their order, decided ones among them.

        Raises ProjectError where there is nothing to ask for yet, LabelError for a wrong file. A photo's place in a
        random order depends on the seed and its id alone, so that a sample stays one when photos are added.
        """
        if query.queue == "doubts":
            return _doubts(self._catalog, self._labels, decided_alone(self.store))[: query.most]
        if query.queue == "unresolved":
            written = written_words(self._labels, self.store)
            return _unresolved(self._catalog, self._labels, written)[: query.most]
        kinds = self.store.settled("kind").values()
        exteriors = [each.photo_id for each in kinds if each.photo_id and each.says == "exterior"]
        return _photos(self._catalog, query, exteriors)

    def find(self, decision: Decision) -> Item | None:
        """Return the item that a decision is about, or None where the project has no such photo that can be shown."""
        photo_id = decision.photo_id or _a_photo(self._catalog, decision.ad_id or "", decided_alone(self.store))
        rows = self._catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE photo_id = ?", photo_id) if photo_id else []
        return replace(photo_item(rows[0], decision.task), is_ad=decision.photo_id is None) if rows else None

    def with_albums(self, items: Sequence[Item]) -> list[Item]:
        """Return items with all photos of their ad, in its order."""
        ads = list({item.ad_id for item in items if item.ad_id is not None})
        if not ads:
            return list(items)
        shots: dict[str, list[Shot]] = {}
        for row in self._catalog.rows(_SHOTS, ads):
            size = int(row["width"]), int(row["height"])
            shot = Shot(photo_id=row["photo_id"], path=row["path"], size=size, box=_box(row, size))
            shots.setdefault(row["ad_id"], []).append(shot)
        albums = {ad: tuple(found) for ad, found in shots.items()}
        return [replace(each, album=albums.get(each.ad_id or "", ())) for each in items]

    def taxa(self) -> list[dict[str, Any]]:
        """Return all that a label may become: the project's own taxa, of most ads first, then known models."""
        return taxa_to_choose(self._catalog, self.store)


def _photos(catalog: Catalog, query: QueueQuery, exteriors: Sequence[str]) -> list[Item]:
    params: list[Any] = [list(exteriors)] if query.asks == "viewpoint" else []
    where, order = _ASKABLE[query.asks], f"md5('{int(query.seed)}:' || photo_id)"
    if query.queue == "uncertain":
        column = _LEAST_SURE[query.asks]
        where, order = f"{where} AND {column} IS NOT NULL", f"{column}, photo_id"
    rows = catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE {where} ORDER BY {order} LIMIT {query.most}", *params)
    return [photo_item(row, query.asks) for row in rows]


def _a_photo(catalog: Catalog, ad_id: str, alone: Collection[str]) -> str | None:
    """Return the ad's first photo: of those whose label is the ad's, unless all are in `alone`, decided apart."""
    sql = "SELECT p.photo_id FROM listing_photos p JOIN checks c USING (photo_id) WHERE p.ad_id = ? AND c.width > 0"
    order = "list_contains(?::VARCHAR[], p.photo_id), p.position, p.photo_id"
    rows = catalog.rows(f"{sql} ORDER BY {order} LIMIT 1", ad_id, list(alone))
    return rows[0]["photo_id"] if rows else None


def photo_item(row: Mapping[str, Any], task: Task) -> Item:
    """Return the item of a row of photos."""
    size = int(row["width"]), int(row["height"])
    return Item(
        task=task,
        photo_id=row["photo_id"],
        ad_id=row["ad_id"],
        path=row["path"],
        size=size,
        box=_box(row, size),
        given=_label(row),
        is_reviewed=bool(row["is_reviewed"]),
        seller=row["seller"] or None,
        machine=_machine(row),
    )


def _box(row: Mapping[str, Any], size: tuple[int, int]) -> Box | None:
    if row["x1"] is None:
        return None
    (width, height), corners = size, [row[side] for side in SIDES]
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


def _rows(path: Path, needed: Sequence[str], known: Sequence[str], *, advice: str) -> Rows:
    if not path.exists():
        raise ProjectError(f"{path} is not there; run first: {advice}")
    return rows_of(read_text(path, error=LabelError), str(path), needed=needed, known=known)


def _doubts(catalog: Catalog, labels: Path, alone: Collection[str]) -> list[Item]:
    path = labels / "doubts.csv"
    rows = _rows(path, NEEDED, COLUMNS, advice=f"carspotter doubts {typed(labels.parent)}")
    shown_by = [_shown(catalog, row, alone) for _, row in rows]
    photos = _facts(catalog, shown_by)
    asked = {row["ad_id"] for _, row in rows if not row["photo_id"]}
    items = []
    for (line, row), photo_id in zip(rows, shown_by, strict=True):
        facts, where = photos.get(photo_id), f"{path} line {line}"
        # Unlike a label that is doubted itself is no news; to keep the photo would overrule what is said of the ad.
        if facts is None or (row["photo_id"] and row["ad_id"] in asked):
            continue
        shown = photo_item(facts, "class")
        numbers = {name: _number(row, name, where) for name in _PROBABILITIES if row.get(name)}
        items.append(
            replace(
                shown,
                is_ad=not row["photo_id"],
                suggested=taxon_of(row, where),
                machine={**shown.machine, **numbers},
                why=row.get("why") or None,
            )
        )
    return items


_PROBABILITIES = ("given_probability", "suggested_probability")


def _number(row: Mapping[str, str], name: str, where: str) -> float:
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    raise LabelError(f"{where}: {name} is {row[name]!r}; it must be a number such as 0.873, with a point")


def _shown(catalog: Catalog, row: Mapping[str, str], alone: Collection[str]) -> str:
    photo_id = row.get("shown") or row["photo_id"]
    if row["photo_id"] or photo_id not in alone:
        return photo_id
    return _a_photo(catalog, row["ad_id"], alone) or photo_id  # relabelled by itself since, it is not what its ad is


def _facts(catalog: Catalog, photo_ids: Sequence[str]) -> dict[str, Row]:
    rows = catalog.rows(f"SELECT * FROM ({_PHOTOS}) WHERE list_contains(?::VARCHAR[], photo_id)", list(photo_ids))
    return {row["photo_id"]: row for row in rows}


# The likeliest outside view of the ads that have these words: a person who knows cars sees at once what the words mean.
_WORDS_SHOWN = """SELECT coalesce(l.make, '') AS make, CASE WHEN coalesce(l.make, l.model, l.submodel) IS NULL
THEN l.title ELSE coalesce(l.model, '') END AS model, coalesce(l.submodel, '') AS submodel,
arg_max(p.photo_id, v.exterior) AS photo_id, any_value(l.title) AS title
FROM listings l JOIN labels w ON w.ad_id = l.ad_id AND w.status = 'unresolved'
JOIN listing_photos p ON p.ad_id = l.ad_id JOIN findings v ON v.photo_id = p.photo_id GROUP BY ALL"""


def _unresolved(catalog: Catalog, labels: Path, written: Corrections) -> list[Item]:
    rows = _rows(
        labels / "unresolved.csv",
        WORDS,
        (*WORDS, *BECOMES, *NOTES),
        advice=f"carspotter resolve {typed(labels.parent)}",
    )
    shown = {words_key((row["make"], row["model"], row["submodel"])): row for row in catalog.rows(_WORDS_SHOWN)}
    photos = _facts(catalog, [row["photo_id"] for row in shown.values() if row["photo_id"]])
    items = []
    for _, row in rows:
        if row.get(DECIDED):
            continue
        words: Words = (row["make"] or None, row["model"] or None, row["submodel"] or None)
        facts = photos.get((shown.get(words_key(words)) or {}).get("photo_id") or "")
        photo = photo_item(facts, "words") if facts else Item(task="words")
        items.append(
            replace(
                photo,
                words=words,
                is_reviewed=False,  # the photo may be; the words are not
                seller=(shown.get(words_key(words)) or {}).get("title"),
                given=written.find(words),
                why=_in_words(row),
            )
        )
    return items


def _in_words(row: Mapping[str, str]) -> str:
    ads = row.get("ads") or ""
    counted = f"{ads} ad{'' if ads == '1' else 's'}" if ads else ""
    said = (row.get("message") or "").partition("; write what")[0]  # here it is asked for, not to be written
    return "; ".join(part for part in (counted, said) if part)
