"""The first step of a build: listings into the catalogue.

Sources are read again at every build, since only they know what is new; what is known already is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.tables import OK
from carspotter.project.build import Build
from carspotter.project.folder import Project
from carspotter.project.settings import SourceSettings
from carspotter.records import photo_id
from carspotter.sources.ad import Ad, merge

ROWS_AT_ONCE = 20_000
"""Rows in one part of the tables: a killed import loses at most these, and they are read again."""


@dataclass(slots=True, kw_only=True)
class _Known:
    """What the catalogue holds, and the rows that are to join it."""

    listings: dict[str, Mapping[str, Any]]
    photos: set[str]
    new_listings: list[dict[str, Any]] = field(default_factory=list)
    new_photos: list[dict[str, Any]] = field(default_factory=list)

    def add(self, ad: Ad) -> None:
        """Judge an ad against what is known and keep what it says anew."""
        judged = merge(self.listings, ad)
        if judged.listing:
            self.listings[judged.listing["ad_id"]] = judged.listing
            self.new_listings.append(judged.listing)
        for photo in judged.photos:
            if photo["photo_id"] not in self.photos:
                self.photos.add(photo["photo_id"])
                self.new_photos.append(photo)


def import_listings(build: Build) -> Mapping[str, Any]:
    """Read every source and append what is new; says how many listings and photos, and what was wrong with rows."""
    catalog = build.catalog
    known = _Known(
        listings={row["ad_id"]: row for row in catalog.rows("SELECT * EXCLUDE (stage_version) FROM listings")},
        photos={row["photo_id"] for row in catalog.rows("SELECT photo_id FROM listing_photos")},
    )
    said: dict[str, Any] = {"listings": 0, "photos": 0}
    stopped: dict[str, int] = {}
    n_ads = 0  # how many there will be, no source says before its end
    for source in build.project.settings.sources:
        for ad in read_source(build, source):
            known.add(portable(ad, build.project.folder))
            n_ads += 1
            if len(known.new_listings) + len(known.new_photos) >= ROWS_AT_ONCE:
                _flush(build, known, said, stopped)
                build.watch.advance(n_ads, n_ads)
    _flush(build, known, said, stopped)
    return {**said, "stopped": stopped} if stopped else said


def portable(ad: Ad, folder: Path) -> Ad:
    """Name the photos below the project's folder by their path in it, so that the folder can be moved or copied."""
    return Ad(ad.listing, tuple(_portable(photo, f"{folder}{os.sep}") for photo in ad.photos))


def _portable(photo: dict[str, Any], folder: str) -> dict[str, Any]:
    url = photo.get("url", "")
    if not url.startswith(folder):
        return photo
    inside = url.removeprefix(folder)
    return {**photo, "url": inside, "photo_id": photo_id(photo["ad_id"], inside)}


def _flush(build: Build, known: _Known, said: dict[str, Any], stopped: dict[str, int]) -> None:
    # A photo's row first: an ad whose listing is known already would not bring its photos again after a kill, had it
    # been the other way round and the ad gone from its source.
    for table, rows in (("listing_photos", known.new_photos), ("listings", known.new_listings)):
        if rows:
            build.catalog.append(table, rows)
        said["photos" if table == "listing_photos" else "listings"] += len(rows)
        for row in rows:
            # Of an ad that stops, the photos stop for the same reason; it is told once.
            if row["status"] != OK and (table == "listings" or _stops_alone(row, known)):
                stopped[row["status"]] = stopped.get(row["status"], 0) + 1
    known.new_listings, known.new_photos = [], []


def _stops_alone(photo: Mapping[str, Any], known: _Known) -> bool:
    listing = known.listings.get(photo["ad_id"], {})
    return bool(listing.get("status", OK) == OK)


def read_source(build: Build, source: SourceSettings) -> Iterator[Ad]:
    """Yield the ads of one source; its paths count from the project's folder. A showroom is drawn first."""
    from carspotter.sources import folders, stanford, table

    project, settings = build.project, source.settings
    if hasattr(settings, "path"):
        settings = replace(settings, path=project.path(settings.path))
    match source.kind:
        case "table":
            yield from table.read(_with_photos(project, settings))
        case "folders":
            yield from folders.read(settings)
        case "stanford":
            yield from stanford.read(settings)
        case "crawl":
            from carspotter.sources import crawl

            yield from crawl.read(settings, project.folder / "crawl", progress=build.watch.advance)
        case "showroom":
            from carspotter.sources import showroom

            folder = project.folder / "showroom"
            showroom.draw(settings, folder, workers=build.workers or None, progress=build.watch.advance)
            yield from showroom.read(settings, folder)


def _with_photos(project: Project, settings: Any) -> Any:
    """Resolve where a table's photo ids lead, when that is a path."""
    if not settings.photos or storage.is_url(settings.photos):
        return settings
    return replace(settings, photos=project.path(settings.photos))
