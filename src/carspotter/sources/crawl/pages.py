"""Read the car that a page offers, its photos and its links.

Pages say what they sell in schema.org's words; where a page has none, Open Graph and its title say it. It fetches
nothing; sites with other structures have adapters in `crawl.sites`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carspotter.sources.crawl.cars import Car, cars_of, main_car, prose_of
from carspotter.sources.crawl.data import Document, document

UNREADABLE, SEVERAL, NO_AD = "data that cannot be read", "several cars", "no ad"
"""What is noted of pages without an offer."""

_OPEN_GRAPH_ADS = ("product", "vehicle", "car", "automobile", "auto")
_PRICES = ("product:price:amount", "og:price:amount", "product:sale_price:amount")
_CURRENCIES = ("product:price:currency", "og:price:currency", "product:sale_price:currency")
_PICTURES = ("og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: its address, its text, and whether its address says that it is a listing."""

    url: str
    text: str
    is_listing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a page says of one car, in the columns of `listings`, and the addresses of its photos in order.

    `address` is what the page calls its own address.
    """

    ad_id: str | None
    words: Mapping[str, Any]
    photos: tuple[str, ...]
    address: str | None = None


def offers(page: Page) -> list[Offer]:
    """Return the car that a page offers, in a list that is empty on other pages.

    A page of results that describes each of its cars gives no offers: the listings have more photos. Raises
    MissingExtraError where the extra is not installed.
    """
    doc = document(page.url, page.text)
    cars = cars_of(doc, is_listing=page.is_listing)
    car = main_car(cars, doc, is_listing=page.is_listing)
    if not cars and _is_ad(doc, is_listing=page.is_listing):
        car = Car(words={}, photos=[])
    return [] if car is None else [_offer(car, doc)]


def notes(page: Page) -> list[str]:
    """Return why a page has no offer, where a crawl should report it: broken data, several cars, no ad on a listing."""
    doc = document(page.url, page.text)
    if offers(page):
        return []
    if doc.has_unreadable_car:
        return [UNREADABLE]
    return [SEVERAL] if len(cars_of(doc)) > 1 else [NO_AD] if page.is_listing else []


def links(page: Page) -> list[str]:
    """Return the addresses that a page links to, each once, in their order."""
    return document(page.url, page.text).links


def _is_ad(doc: Document, *, is_listing: bool) -> bool:
    """Return whether a page without schema.org's words is an ad: a listing with a picture, or Open Graph's product."""
    kind = (doc.said("og:type") or "").rpartition(":")[2].partition(".")[0].casefold()
    is_product = kind in _OPEN_GRAPH_ADS or any(name in doc.meta for name in _PRICES)
    return is_product or (is_listing and any(name in doc.meta for name in _PICTURES))


def _offer(car: Car, doc: Document) -> Offer:
    """Complete what schema.org's words say of a car with what the page shows to social networks."""
    said = doc.said
    title = said("og:title", "twitter:title") or doc.heading("h1") or doc.heading("title")
    words = {
        "make": said("product:brand", "vehicle:make", "og:brand"),
        "model": said("vehicle:model", "product:model"),
        "year": said("vehicle:year"),
        "title": title,
        "description": prose_of(said("og:description", "twitter:description", "description")),
        "price": said(*_PRICES),
        "currency": said(*_CURRENCIES),
    }
    pictures = (doc.address(place) for name in _PICTURES for place in doc.meta.get(name, ()))
    return Offer(
        ad_id=car.ad_id or said("product:retailer_item_id"),
        words={"url": doc.url} | {name: word for name, word in words.items() if word} | car.words,
        photos=tuple(car.photos or dict.fromkeys(picture for picture in pictures if picture)),
        address=doc.canonical,
    )
