"""The catalogue kept in step with its sources: ads as they are listed now in, rows to append out.

A new ad is added, a changed one is replaced, one that went is retired, and so are single photographs. Retired rows stay
on the disk but no question sees them; they come back with their ad. Nothing is retired that a source did not say: only
a source that was read to its end can lack an ad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK, RETIRED
from carspotter.records import photo_id
from carspotter.sources.listing import Ad, equal, merge

ROWS_AT_ONCE = 20_000
"""Rows in one part of the tables."""

_SHOWN = 20  # differences that are told one by one
_SILENT = frozenset({"ad_id", "source", "attributes", "message"})  # a change of these alone is no news of an ad

Row = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Difference:
    """What differs between the sources and the catalogue: ads by id; photos by number."""

    new: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    merged: set[str] = field(default_factory=set)
    """Ads of several rows that name one car and differ in what one ad has once."""
    new_photos: int = 0
    gone_photos: int = 0
    stopped: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """Keep a difference to be shown, as long as there are few."""
        if len(self.examples) < _SHOWN:
            self.examples.append(text)


class Sync:
    """Compare what sources list with what a catalogue holds, and append what differs unless `dry`."""

    def __init__(self, catalog: Catalog, *, dry: bool = False) -> None:
        """Read what the catalogue holds: all listings, and for each photo its ad and a digest of its row."""
        self._catalog, self._dry = catalog, dry
        self._listings: dict[str, Row] = {
            row["ad_id"]: _plain(row) for row in catalog.rows("SELECT * EXCLUDE (stage_version) FROM listings")
        }
        self._ads: dict[str, str] = {ad: ad for ad in self._listings}
        self._photos: dict[str, tuple[str, bytes]] = {
            row["photo_id"]: (self._ads.setdefault(row["ad_id"], row["ad_id"]), _digest(row))
            for row in catalog.rows("SELECT * EXCLUDE (stage_version) FROM listing_photos")
        }
        self._was_empty = not self._listings
        self._seen: dict[str, Row] = {}
        self._seen_photos: set[str] = set()
        self._fresh: list[Row] = []
        self._complete: set[str] = set()
        self.difference = Difference()

    @property
    def was_empty(self) -> bool:
        """Return whether the catalogue had no ad before."""
        return self._was_empty

    def add(self, ad: Ad, *, source: str, prefix: str) -> None:
        """Take one ad of a source: what it says more of one that this reading has had already is added to that."""
        ad = _of(ad, source, prefix)
        judged = merge(self._seen, ad)
        before = self._seen.get(ad.listing["ad_id"])
        if before and judged.listing.get("ad_id") == before["ad_id"] and _differ(before, ad.listing):
            self.difference.merged.add(before["ad_id"])
        if judged.listing:
            self._seen[judged.listing["ad_id"]] = judged.listing
        for photo in judged.photos:
            if photo["photo_id"] not in self._seen_photos:
                self._take(photo)
        if len(self._fresh) >= ROWS_AT_ONCE:
            self._append("listing_photos", self._fresh)
            self._fresh = []

    def _take(self, photo: Row) -> None:
        self._seen_photos.add(photo["photo_id"])
        known = self._photos.pop(photo["photo_id"], None)
        if known is not None and known[1] == _digest(photo):
            return
        self._fresh.append(photo)
        self.difference.new_photos += known is None
        self.difference.changed.add(photo["ad_id"])
        if photo["status"] != OK and self._seen.get(photo["ad_id"], {}).get("status", OK) == OK:
            self._stop(photo["status"])  # of an ad that stops, the photos stop for the same reason; it is told once

    def complete(self, source: str) -> None:
        """Note that a source was read to its end, so that what it did not list is gone."""
        self._complete.add(source)

    def finish(self, sources: set[str]) -> Difference:
        """Append what differs, and retire what went; `sources` are all that the settings name."""
        self._append("listing_photos", self._fresh)
        self._append("listings", list(self._news()))
        kept = sources - self._complete

        def went(ad_id: str) -> bool:
            return self._listings.get(ad_id, {}).get("source") not in kept

        photos = [photo for photo, (ad_id, _) in self._photos.items() if went(ad_id)]
        ads = [ad_id for ad_id in self._listings if ad_id not in self._seen and went(ad_id)]
        self.difference.gone_photos = len(photos)
        self.difference.gone = set(ads)
        self.difference.changed |= {self._photos[photo][0] for photo in photos}
        self.difference.changed -= self.difference.new | self.difference.gone
        for ad_id in ads:
            self.difference.tell(f"gone {ad_id}: {_words(self._listings[ad_id])}")
        self._append("listings", [_gone("ad_id", ad_id) for ad_id in ads])
        self._append("listing_photos", [_gone("photo_id", photo) for photo in photos])
        if not self._dry:
            prune(self._catalog)
        return self.difference

    def _news(self) -> Iterator[Row]:
        """Yield the listings that are new or changed."""
        for ad_id, row in self._seen.items():
            known = self._listings.get(ad_id)
            if known is None:
                self.difference.new.add(ad_id)
                self.difference.tell(f"new {ad_id}: {_words(row)}")
            else:
                changes = {name for name in {*row, *known} if not equal(row.get(name), known.get(name))}
                if not changes:
                    continue
                if changes - _SILENT:
                    self.difference.changed.add(ad_id)
                    self.difference.tell(f"changed {ad_id}: {_changes(known, row, changes - _SILENT)}")
            if row["status"] != OK:
                self._stop(row["status"])
            yield row

    def _stop(self, status: str) -> None:
        self.difference.stopped[status] = self.difference.stopped.get(status, 0) + 1

    def _append(self, table: str, rows: list[Row]) -> None:
        if self._dry:
            return
        for start in range(0, len(rows), ROWS_AT_ONCE):
            self._catalog.append(table, rows[start : start + ROWS_AT_ONCE])


DEPENDENT = ("files", "checks", "findings", "embeddings")
"""Tables of facts of photos: those of a photo that went are retired with it."""


def prune(catalog: Catalog) -> None:
    """Retire the facts of photos that no ad lists; asked of the tables, so that a killed build changes nothing."""
    for table in DEPENDENT:
        rows = catalog.rows(f"SELECT photo_id FROM {table} ANTI JOIN listing_photos USING (photo_id)")
        retire(catalog, table, [row["photo_id"] for row in rows])


STALE = """SELECT f.photo_id FROM files f JOIN checks c USING (photo_id) LEFT JOIN findings v USING (photo_id)
LEFT JOIN embeddings e USING (photo_id) WHERE f.status = 'ok' AND f.sha256 IS NOT NULL AND (
    c.sha256 <> f.sha256 OR (c.sha256 IS NULL AND f.bytes > 0 AND c.status NOT IN ('error', 'too-large'))
    OR 'storage' IN (v.status, e.status)
)"""
"""Photos whose bytes are no longer those that were looked at. A check without a checksum had no bytes to look at: an
empty file, or a disk that was away, for which versions before wrote `storage`."""


def forget_changed(catalog: Catalog) -> int:
    """Retire what was found in photos whose bytes have changed since, so that they are looked at again."""
    photos = [row["photo_id"] for row in catalog.rows(STALE)]
    for table in ("embeddings", "findings", "checks"):  # checks last: they are how a killed build finds these photos
        retire(catalog, table, photos)
    return len(photos)


def retire(catalog: Catalog, table: str, photos: list[str]) -> None:
    """Retire the facts of some photos in one table."""
    for start in range(0, len(photos), ROWS_AT_ONCE):
        catalog.append(table, [_gone("photo_id", photo) for photo in photos[start : start + ROWS_AT_ONCE]])


def _gone(key: str, value: str) -> Row:
    return {key: value, "status": RETIRED}


def _of(ad: Ad, source: str, prefix: str) -> Ad:
    """Return an ad as one of a source: its id begins with the source's prefix."""
    ad_id = f"{prefix}{ad.listing['ad_id']}"
    listing = {**ad.listing, "ad_id": ad_id, "source": source}
    if not prefix:
        return Ad(listing, ad.photos)
    photos = (
        {**row, "ad_id": ad_id, "photo_id": photo_id(ad_id, row.get("url") or f"#{row['position']}")}
        for row in ad.photos
    )
    return Ad(listing, tuple(photos))


def _plain(row: Mapping[str, Any]) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def _digest(row: Mapping[str, Any]) -> bytes:
    text = "\0".join(f"{name}={row[name]}" for name in sorted(row) if row[name] is not None)
    return blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()


def _differ(one: Row, other: Row) -> bool:
    """Return whether two rows of one id name different pages, titles or prices: one ad has but one."""
    return any(
        None not in (one.get(name), other.get(name)) and not equal(one[name], other[name])
        for name in ("url", "title", "price")
    )


def _words(row: Mapping[str, Any]) -> str:
    stats = [str(row[name]) for name in ("make", "model", "year") if row.get(name) is not None]
    return " ".join(stats) or str(row.get("title") or "without words")


def _changes(known: Mapping[str, Any], row: Mapping[str, Any], names: set[str]) -> str:
    return ", ".join(f"{name} {known.get(name)!r} is now {row.get(name)!r}" for name in sorted(names))
