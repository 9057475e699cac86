"""Turn the pages of a crawl into ads, each with an id of its own.

An ad is named by the number that its page gives it, or by the page's address, whichever no other car of the crawl has.
The same ad found twice is one ad, and a row with a status says where the second stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote, urlsplit

from carspotter.catalog.tables import OK
from carspotter.sources.listing import Ad, clean, listing_row, photo_row

NO_PHOTO, NO_WORDS, REPEATED = "no-photo", "no-words", "repeated-ad"

_SAID = ("make", "model", "submodel", "year", "title", "price")
_MAX_SLUG = 40


@dataclass(slots=True, kw_only=True)
class _Found:
    url: str
    keys: tuple[str, ...]
    words: Mapping[str, Any]
    photos: tuple[str, ...]
    first: _Found | None = None  # what it repeats
    ad_id: str = ""


def ads_of(pages: Sequence[Mapping[str, Any]], *, source: str) -> Iterator[Ad]:
    """Yield the ads that a crawl's pages offer, those that repeat another, and those without photos or words."""
    for found in _named([_found(page, offer) for page in pages for offer in page["offers"]]):
        status, message = OK, None
        if found.first is not None:
            status, message = REPEATED, f"the same ad as {found.first.ad_id!r}, {found.first.url}"
        elif not found.photos:
            status, message = NO_PHOTO, "the page shows no photo that its data or Open Graph names"
        elif not any(found.words.get(name) for name in ("make", "model", "title")):
            status, message = NO_WORDS, "the page says no make, no model and no title"
        photos = () if found.first else found.photos
        rows = tuple(photo_row(found.ad_id, url, number) for number, url in enumerate(photos))
        yield Ad(listing_row(ad_id=found.ad_id, source=source, status=status, message=message, **found.words), rows)


def _found(page: Mapping[str, Any], offer: Mapping[str, Any]) -> _Found:
    address = offer.get("address") or page["url"]
    number = clean(offer["ad_id"])
    keys = (*([number] if number else []), address_id(address), address_id(page["url"]))
    return _Found(url=page["url"], keys=keys, words=offer["words"], photos=tuple(offer["photos"]))


def _named(found: Sequence[_Found]) -> list[_Found]:
    """Name each ad by its first key that no other car has; leave out a page that was found twice."""
    met: dict[str, list[_Found]] = {}
    contents: dict[bytes, _Found] = {}
    kept = []
    for ad in found:
        others = [other for key in ad.keys for other in met.get(key, ())]
        twin = contents.setdefault(_content(ad), ad)
        ad.first = next((other for other in others if _is_repeat(ad, other)), None)
        if ad.first is None and twin is not ad and ad.photos and len(ad.keys) == len(twin.keys) == 2:
            ad.first = twin
        if ad.first is not None and ad.first.url == ad.url:
            continue
        kept.append(ad)
        if ad.first is None:
            for key in dict.fromkeys(ad.keys):
                met.setdefault(key, []).append(ad)
    for ad in kept:
        free = [key for key in ad.keys if len(met.get(key, ())) == 1]
        ad.ad_id = free[0] if free and ad.first is None else ad.keys[-1]
    return kept


def _is_repeat(ad: _Found, other: _Found) -> bool:
    """Return whether two ads that share a key are one: one page, or equal words and a photo in common."""
    if ad.url == other.url:
        return True
    if any(ad.words.get(name) != other.words.get(name) for name in _SAID):
        return False
    return bool(set(ad.photos) & set(other.photos)) or not (ad.photos or other.photos)


def _content(ad: _Found) -> bytes:
    words = {name: word for name, word in ad.words.items() if name != "url"}
    return blake2b(json.dumps([words, ad.photos], sort_keys=True).encode(), digest_size=16).digest()


def address_id(url: str) -> str:
    """Name an ad by its page's address: its last words, to be read, and a digest, to be unique."""
    bare = url.partition("://")[2].removeprefix("www.").rstrip("/")
    parts = urlsplit(url)
    last = unquote(parts.query or parts.path.rstrip("/").rpartition("/")[2])
    slug = re.sub(r"[^A-Za-z0-9]+", "-", last)[-_MAX_SLUG:].strip("-")
    digest = blake2b(bare.encode(errors="replace"), digest_size=5).hexdigest()
    return f"{slug}-{digest}" if slug else digest
