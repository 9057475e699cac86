"""Sites whose pages do not speak schema.org: one plain function a site, from a page to what it offers and links to.

An adapter returns None for a page that it does not know, which is then read like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from carspotter.sources.crawl.cars import prose_of, text_of
from carspotter.sources.crawl.data import document, join
from carspotter.sources.crawl.pages import Offer, Page, notes, offers


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a page gave: cars, links to listings, links to further pages of results (None: not known), and notes."""

    offers: tuple[Offer, ...] = ()
    listings: tuple[str, ...] = ()
    pages: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


Adapter = Callable[[Page], Found | None]


def autoscout24(page: Page) -> Found | None:
    """Read AutoScout24's pages: their data stands as JSON in `__NEXT_DATA__`.

    A page of results has `pageProps.listings`, a listing `pageProps.listingDetails`.
    """
    scripts = document(page.url, page.text).elements("script")
    text = next(("".join(script.itertext()) for script in scripts if script.get("id") == "__NEXT_DATA__"), "")
    try:
        props = _mapping(json.loads(text)["props"]["pageProps"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(details := props.get("listingDetails"), Mapping):
        return Found(offers=(_autoscout24_offer(details, page),), pages=())
    if isinstance(results := props.get("listings"), list):
        urls = [join(page.url, str(entry.get("url") or "")) for entry in results if isinstance(entry, Mapping)]
        return Found(listings=tuple(url for url in urls if url), pages=_next_pages(page, props))
    return None


def _autoscout24_offer(details: Mapping[str, Any], page: Page) -> Offer:
    vehicle = _mapping(details.get("vehicle"))
    price = _mapping(_mapping(details.get("prices")).get("public")) or _mapping(details.get("price"))
    words = {
        "url": page.url,
        "make": vehicle.get("make"),
        "model": vehicle.get("model") or vehicle.get("modelGroup"),
        "submodel": vehicle.get("modelVersionInput") or vehicle.get("variant"),
        "year": vehicle.get("firstRegistrationDateRaw")
        or vehicle.get("firstRegistrationDate")
        or vehicle.get("productionYear"),
        "body": vehicle.get("bodyType"),
        "description": prose_of(details.get("description")),
        "price": price.get("priceRaw"),
        "currency": "EUR" if price else None,
    }
    images = details.get("images")
    urls = [join(page.url, url) for url in images if isinstance(url, str)] if isinstance(images, list) else []
    return Offer(
        ad_id=text_of(details.get("id")),
        words={name: str(word) for name, word in words.items() if isinstance(word, str | int | float) and word},
        photos=tuple(dict.fromkeys(_sized(url) for url in urls if url)),
    )


def _sized(url: str) -> str:
    """Return the photo as it was given, not the site's thumbnail: `…/a.jpg/250x188.webp` is a size of `…/a.jpg`."""
    return re.sub(r"(\.(?:jpe?g|png|webp))/\d+x\d+\.\w+$", r"\1", url)


def _next_pages(page: Page, props: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the next page of results: the site counts them in the address, `page=2`, and says how many there are."""
    count = props.get("numberOfPages")
    match = re.search(r"[?&]page=(\d{1,9})", page.url)
    number = int(match.group(1)) if match else 1
    if not isinstance(count, int) or number >= count:
        return ()
    if match:
        return (f"{page.url[: match.start(1)]}{number + 1}{page.url[match.end(1) :]}",)
    return (f"{page.url}{'&' if '?' in page.url else '?'}page={number + 1}",)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


SITES: Mapping[str, Adapter] = {"autoscout24": autoscout24}
"""Adapters by name; a host is theirs when the name is one of its parts, or when settings say so."""


def read_page(page: Page, *, site: str | None = None) -> Found:
    """Return what a page gives, by the adapter of its site or by schema.org."""
    parts = (urlsplit(page.url).hostname or "").split(".")
    names = [site] if site else [name for name in SITES if name in parts]
    for name in names:
        found = SITES[name](page)
        if found is not None:
            return found
    found_offers = tuple(offers(page))
    return Found(offers=found_offers, pages=() if found_offers else None, notes=tuple(notes(page)))
