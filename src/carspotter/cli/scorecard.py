"""A built showroom and its truth in; how many of the planted flaws were found and missed out.

The build never reads the truth: it is compared here, with what stands in the catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.funnel import STOPS
from carspotter.geometry import BoundingBox
from carspotter.project.folder import Project
from carspotter.sources import showroom

Row = Mapping[str, Any]

# Planted flaw of a photo → the statuses that find it; any other reason to drop it counts as well, since it is dropped.
_BROKEN = ("missing", "truncated", "empty", "html")
_SAME_BOX = 0.5  # IoU, the usual value of Pascal VOC


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Say of one kind of planted thing how many there are and how many were found."""

    name: str
    planted: int
    found: int

    @property
    def missed(self) -> int:
        """Count those that were not found."""
        return self.planted - self.found


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """The scores of planted flaws, and what was good but dropped, each as (what, dropped, of how many)."""

    flaws: tuple[Score, ...]
    good: tuple[Score, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard as JSON values."""
        return {
            "flaws": {score.name: {"planted": score.planted, "found": score.found} for score in self.flaws},
            "good": {score.name: {"of": score.planted, "right": score.found} for score in self.good},
        }


def scorecard(project: Project, catalog: Catalog) -> Scorecard:
    """Compare a built showroom with its truth; raises SourceError where the project has no showroom."""
    truth = showroom.truth(project.folder / showroom.FOLDER)
    photos = _photos(catalog, truth["photos"])
    flaws = [*_flaws(photos), *_duplicates(photos), *_words(catalog, truth["ads"])]
    return Scorecard(flaws=tuple(flaws), good=tuple(_good(photos)))


def _photos(catalog: Catalog, truths: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the truth of each photo together with what the catalogue says of it."""
    rows = catalog.rows(
        f"""SELECT p.photo_id, p.url, q.stage, q.reason, v.passed, v.viewpoint, v.x1, v.y1, v.x2, v.y2, d.group_id
        FROM listing_photos p JOIN ({STOPS}) q USING (photo_id) LEFT JOIN findings v USING (photo_id)
        LEFT JOIN duplicates d USING (photo_id)"""
    )
    known = {row["url"]: row for row in rows}
    return [{**known.get(f"{showroom.FOLDER}/{photo['path']}", {}), **_renamed(photo)} for photo in truths]


def _renamed(photo: Row) -> dict[str, Any]:
    return {f"true_{name}": value for name, value in photo.items()}


def _flaws(photos: list[dict[str, Any]]) -> Iterable[Score]:
    by_flaw: dict[str, list[dict[str, Any]]] = {}
    for photo in photos:
        if photo["true_flaw"]:
            name = "broken files" if photo["true_flaw"] in _BROKEN else f"{photo['true_flaw']} photos"
            by_flaw.setdefault(name, []).append(photo)
    for name, group in sorted(by_flaw.items()):
        yield Score(name=name, planted=len(group), found=sum(_is_dropped(photo) for photo in group))
    clean = [photo for photo in photos if not photo["true_flaw"]]
    placeholders = [photo for photo in clean if photo["true_kind"] == "other"]
    inside = [photo for photo in clean if photo["true_kind"] in ("interior", "detail")]
    for name, group in (("interiors and details", inside), ("other things", placeholders)):
        yield Score(name=name, planted=len(group), found=sum(photo.get("stage") is not None for photo in group))


def _is_dropped(photo: Row) -> bool:
    return photo.get("stage") in ("import", "fetch", "check")


def _duplicates(photos: list[dict[str, Any]]) -> Iterable[Score]:
    by_image = {photo["true_image_id"]: photo for photo in photos}
    for relation in ("exact", "near"):
        # A copy of a broken file has no picture; a copy of one that was darkened is another picture.
        group = [photo for photo in photos if photo["true_relation"] == relation and not _is_spoilt(photo, by_image)]
        found = sum(_same_group(photo, by_image[photo["true_of"]]) for photo in group)
        yield Score(name=f"{relation} duplicates", planted=len(group), found=found)


def _is_spoilt(photo: Row, by_image: Mapping[str, Row]) -> bool:
    return bool(photo["true_flaw"] or by_image[photo["true_of"]]["true_flaw"])


def _same_group(one: Row, other: Row) -> bool:
    return one.get("group_id") is not None and one.get("group_id") == other.get("group_id")


def _words(catalog: Catalog, ads: Iterable[Row]) -> Iterable[Score]:
    labels = {row["ad_id"]: row for row in catalog.rows("SELECT ad_id, make, model, status FROM labels")}
    ads = list(ads)
    names = {"spelling": "sellers' spellings", "make-only": "ads without a model", "nonsense": "nonsense words"}
    for wording, name in names.items():
        group = [ad for ad in ads if ad["wording"] == wording]
        right = [_is_resolved(labels.get(ad["ad_id"], {}), ad) == (wording == "spelling") for ad in group]
        yield Score(name=name, planted=len(group), found=sum(right))


def _is_resolved(label: Row, ad: Row) -> bool:
    """Return whether a label names the ad's true model; the truth's name goes on with the body: "Focus Sedan"."""
    is_model = f"{ad['model']} ".startswith(f"{label.get('model')} ")
    return label.get("status") == "ok" and label.get("make") == ad["make"] and is_model


def _good(photos: list[dict[str, Any]]) -> Iterable[Score]:
    """Yield what must not be dropped, and how right the rest is."""
    clean = [photo for photo in photos if not photo["true_flaw"] and photo["true_kind"] == "exterior"]
    yield Score(
        name="clean photos that pass the checks",
        planted=len(clean),
        found=sum(not _is_dropped(photo) for photo in clean),
    )
    passed = [photo for photo in clean if photo.get("passed") and photo.get("x1") is not None]
    yield Score(name="whole vehicles that pass the gate", planted=len(clean), found=len(passed))
    yield Score(
        name="viewpoints", planted=len(passed), found=sum(p["viewpoint"] == p["true_viewpoint"] for p in passed)
    )
    yield Score(name="boxes (IoU 0.5)", planted=len(passed), found=sum(_has_box(photo) for photo in passed))
    by_image = {photo["true_image_id"]: photo for photo in photos}
    # Placeholders and error pages look alike by nature, whoever shows them.
    grouped = [p for p in photos if p.get("group_id") is not None and not p["true_flaw"] and p["true_kind"] != "other"]
    pairs, true_pairs = _pairs(grouped, by_image)
    yield Score(name="pairs of duplicates that are true", planted=pairs, found=true_pairs)


def _has_box(photo: Row) -> bool:
    box = BoundingBox(photo["x1"], photo["y1"], photo["x2"], photo["y2"])
    return any(box.iou(BoundingBox(*true)) >= _SAME_BOX for true in photo["true_boxes"])


def _pairs(photos: list[dict[str, Any]], by_image: Mapping[str, Row]) -> tuple[int, int]:
    """Count the pairs in groups that were found, and those of them that show the same drawing."""

    def origin(photo: Row) -> str:
        while photo["true_of"]:
            photo = by_image[photo["true_of"]]
        return str(photo["true_image_id"])

    groups: dict[str, Counter[str]] = {}
    for photo in photos:
        groups.setdefault(photo["group_id"], Counter())[origin(photo)] += 1
    found = sum(_choose_two(sum(drawings.values())) for drawings in groups.values())
    return found, sum(_choose_two(count) for drawings in groups.values() for count in drawings.values())


def _choose_two(count: int) -> int:
    return count * (count - 1) // 2
