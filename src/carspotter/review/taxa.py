"""The taxa that a label may become in a review, each with its name and how many ads have it.

In: the catalogue, what was decided. Out: rows for a screen: the project's own taxa, of most ads first, those that
people made in a review among them, and then the known models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.labels.known import Known
from carspotter.review.decisions import DecisionStore
from carspotter.taxonomy import LEVELS, Taxon

_Path = tuple[Any, ...]

_LABELLED = """SELECT make, model, generation, year, count(*) AS ads FROM labels WHERE status = 'ok'
AND make IS NOT NULL GROUP BY ALL ORDER BY ALL"""
_REVIEWED = "SELECT DISTINCT make, model, generation, year FROM reviews WHERE status = 'ok' AND make IS NOT NULL"


def taxa_to_choose(catalog: Catalog, store: DecisionStore) -> list[dict[str, Any]]:
    """Return all that a label may become, the parents of each taxon among them."""
    ads: Counter[_Path] = Counter()
    for row in catalog.rows(_LABELLED):
        ads.update(dict.fromkeys(_paths(row), row["ads"]))
    settled = [*store.settled("class").values(), *store.settled("words").values()]
    made = [*catalog.rows(_REVIEWED), *(each.becomes.to_dict() for each in settled if each.becomes is not None)]
    for row in made:  # by no ad's words, but to be found when it is typed again
        ads.update(dict.fromkeys(_paths(row), 0))
    makes = Known.bundled().makes.values()
    known = {(make.name, model, None, None) for make in makes for model in make.models.values()}
    own = sorted(ads, key=lambda path: (-ads[path], [str(part or "") for part in path]))
    return [_row(path, ads[path]) for path in dict.fromkeys([*own, *sorted(known)])]


def _paths(row: Mapping[str, Any]) -> list[_Path]:
    """Return a taxon and its parents, each as (make, model, generation, year)."""
    path = tuple(row.get(level) for level in LEVELS)
    none = (None,) * len(path)
    return [path[:depth] + none[depth:] for depth in range(1, len(path) + 1) if path[depth - 1] is not None]


def _row(path: _Path, ads: int) -> dict[str, Any]:
    taxon = {level: part for level, part in zip(LEVELS, path, strict=True) if part is not None}
    return {"taxon": taxon, "name": Taxon(**taxon).name(), "ads": ads}
