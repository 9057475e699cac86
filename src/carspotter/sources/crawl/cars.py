"""Find the cars among the things that a page describes, each once, and the one that the page is about.

A page describes one car in several syntaxes, and other cars beside it: "similar cars" are no reason to take a listing
for a page of results, nor is a page of results a listing. It reads no text of a page: `crawl.data` does.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from carspotter.sources.crawl.data import Document
from carspotter.sources.crawl.things import Described, Item

CARS = frozenset(("car", "vehicle", "motorizedvehicle", "busorcoach", "motorcycle", "usedcar", "automobile"))
PRODUCTS = frozenset(("product", "individualproduct", "productmodel", "productgroup", "someproducts"))

# What distinguishes a car from a cap with a badge among the products of one make.
_OF_CARS = (
    "vehicleModelDate",
    "modelDate",
    "mileageFromOdometer",
    "vehicleEngine",
    "vehicleTransmission",
    "fuelType",
    "vehicleIdentificationNumber",
    "bodyType",
    "driveWheelConfiguration",
)
# Cars below these are others than the one that the page is about.
_OTHERS = frozenset(
    (
        "itemListElement",
        "ItemList",
        "OfferCatalog",
        "isSimilarTo",
        "isRelatedTo",
        "isAccessoryOrSparePartFor",
        "makesOffer",
        "hasOfferCatalog",
        "hasVariant",
        "isVariantOf",
    )
)
_IDENTITIES = ("vehicleIdentificationNumber", "sku", "productID", "@id")
_IMAGES = ("image", "images", "photo", "photos", "associatedMedia", "primaryImageOfPage")
_MAX_DESCRIPTION = 20_000  # characters


@dataclass(slots=True, kw_only=True)
class Car:
    """What a page says of one car: words in the columns of `listings`, photos in order, and where it stands."""

    words: dict[str, str]
    photos: list[str]
    ad_id: str | None = None
    url: str | None = None
    """The address that the description itself names."""
    sources: set[tuple[str, bool]] = field(default_factory=set)
    """Syntaxes that describe it, and whether as a car rather than as a product."""
    identities: dict[str, str] = field(default_factory=dict)
    is_other: bool = False
    """It stands among other cars: in a list, or as similar to the page's own."""


def cars_of(doc: Document, *, is_listing: bool = False) -> list[Car]:
    """Return the cars that a page describes, each once, in their order, with all that is said of them.

    On a page that `is_listing`, a product with a name and a photo is its car, if it describes no other.
    """
    here = _addresses_of(doc)
    found = [_car(thing, doc) for thing in doc.things if _is_car(thing.item)]
    products = [_car(thing, doc) for thing in doc.things if _is_product(thing.item)]
    if not found and is_listing:
        found = products
    merged: list[Car] = []
    for car in sorted(found, key=lambda car: not any(as_car for _, as_car in car.sources)):
        same = next((known for known in merged if _is_same(known, car, here)), None)
        if same is None:
            merged.append(car)
        else:
            _merge(same, car)
    if len(merged) == 1 and not merged[0].photos and len(products) == 1:
        _merge(merged[0], products[0])  # the product of which the car is offered
    return merged


def main_car(cars: list[Car], doc: Document, *, is_listing: bool = False) -> Car | None:
    """Return the car that a page is about, or None on a page of results.

    Cars in lists and cars that the page links to are described elsewhere. Of the others it is the one with the page's
    address, without an address, named by the page's title, or with the nearest address; else, of a page that
    `is_listing`, the first.
    """
    here = _addresses_of(doc)
    linked = {_bare(url) for url in doc.links}
    title = " ".join(filter(None, (doc.said("og:title"), doc.heading("h1"), doc.heading("title")))).casefold()
    # Each rule keeps some of the cars that are left; one that would keep none says nothing.
    rules: tuple[Callable[[Car], bool], ...] = (
        lambda car: car.url is not None and _bare(car.url) in here,
        lambda car: not car.is_other,
        lambda car: car.url is None,
        lambda car: len(name := car.words.get("title", "").casefold()) > 5 and " " in name and name in title,
        lambda car: _nearness(car.url, doc.url) == max(_nearness(other.url, doc.url) for other in cars),
    )
    left = cars
    if len(cars) > 1 or not is_listing:
        left = [car for car in cars if car.url is None or _bare(car.url) in here or _bare(car.url) not in linked]
        if all(car.is_other for car in left) and (len(cars) > 1 or any(car.url for car in left)):
            left = [car for car in left if car.url and _bare(car.url) in here]
    for rule in rules:
        kept = [car for car in left if rule(car)]
        if len(kept) == 1:
            return kept[0]
        left = kept or left
    return left[0] if left and (is_listing or len(left) == 1) else None


def _addresses_of(doc: Document) -> set[str]:
    return {_bare(url) for url in (doc.url, doc.canonical) if url}


def _bare(url: str) -> str:
    """Return an address as it is compared: without its scheme, "www." and a last slash."""
    return url.partition("://")[2].removeprefix("www.").rstrip("/")


def _nearness(url: str | None, page: str) -> int:
    """Return how many parts the paths of two addresses begin with in common."""
    one, other = urlsplit(url or "").path.split("/"), urlsplit(page).path.split("/")
    return next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


# ---- one description


def _types(item: Item) -> set[str]:
    return {str(name).casefold() for name in item.get("@type", ())}


def _is_car(item: Item) -> bool:
    """Return whether an item is a car: by its type, or a product of a make and a model, or with what only cars have."""
    types = _types(item)
    if types & CARS:
        return True
    has_words = bool(text_of(item.get("brand")) or text_of(item.get("manufacturer"))) and (
        bool(text_of(item.get("model"))) or any(name in item for name in _OF_CARS)
    )
    return bool(types & PRODUCTS) and has_words and any(_images(item))


def _is_product(item: Item) -> bool:
    return bool(_types(item) & PRODUCTS and text_of(item.get("name")) and any(_images(item)))


def _car(thing: Described, doc: Document) -> Car:
    item = thing.item
    identities = {name: text for name in _IDENTITIES if (text := text_of(item.get(name)))}
    url = next((text for name in ("url", "mainEntityOfPage") if (text := _address(item.get(name)))), None)
    photos = (doc.address(place) for place in _images(item))
    return Car(
        words={name: word for name, word in _words(item).items() if word},
        photos=list(dict.fromkeys(photo for photo in photos if photo)),
        ad_id=text_of(item.get("sku")) or text_of(item.get("productID")),
        url=doc.address(url) if url else None,
        sources={(thing.syntax, bool(_types(item) & CARS))},
        identities=identities,
        is_other=bool(thing.within & _OTHERS),
    )


def _words(item: Item) -> dict[str, str | None]:
    sold = next((offer for offer in _each(item.get("offers")) if isinstance(offer, Mapping)), {})
    asked = next((part for part in _each(sold.get("priceSpecification")) if isinstance(part, Mapping)), {})
    model = next(_each(item.get("model")), None)
    dates = [item.get(name) for name in ("vehicleModelDate", "modelDate", "productionDate")]
    if isinstance(model, Mapping):
        dates += [model.get("vehicleModelDate"), model.get("releaseDate")]
    dates += [item.get("releaseDate"), item.get("dateVehicleFirstRegistered")]
    prices = (sold.get("price"), asked.get("price"), sold.get("lowPrice"), item.get("price"))
    currencies = (sold.get("priceCurrency"), asked.get("priceCurrency"), item.get("priceCurrency"))
    return {
        "make": text_of(item.get("brand")) or text_of(item.get("manufacturer")) or text_of(item.get("make")),
        "model": text_of(model),
        "submodel": text_of(item.get("vehicleConfiguration")),
        "year": next(filter(None, map(text_of, dates)), None),
        "body": text_of(item.get("bodyType")),
        "title": text_of(item.get("name")),
        "description": prose_of(item.get("description")),
        "price": next(filter(None, map(text_of, prices)), None),
        "currency": next(filter(None, map(text_of, currencies)), None),
    }


def _each(value: Any) -> Iterator[Any]:
    """Yield a value, or each one of a list."""
    if isinstance(value, list):
        for entry in value:
            yield from _each(entry)
    elif value is not None:
        yield value


def text_of(value: Any) -> str | None:
    """Return a value as words: a text, a number, or the name of a thing; None where there are none."""
    for entry in _each(value):
        for _ in range(2):  # the name of a thing may be a thing itself
            if isinstance(entry, Mapping):
                entry = next(_each(entry.get("name") or entry.get("value")), None)
        if isinstance(entry, str | int | float) and not isinstance(entry, bool):
            text = " ".join(html.unescape(str(entry)).split())
            if text and text.casefold() not in ("null", "none", "undefined", "nan"):
                return text
    return None


def prose_of(value: Any) -> str | None:
    """Return a description as plain text: sites write HTML into it."""
    text = text_of(value)
    plain = re.sub(r"</?[A-Za-z][^<>]*>", " ", text or "")
    return " ".join(html.unescape(plain).split())[:_MAX_DESCRIPTION] or None


def _address(value: Any) -> str | None:
    for entry in _each(value):
        if isinstance(entry, Mapping):
            entry = entry.get("@id") or entry.get("url")
        if isinstance(entry, str) and entry.strip():
            return entry
    return None


def _images(item: Item) -> Iterator[str]:
    """Yield the places of a thing's pictures; of a thumbnail only where there is nothing larger."""
    n_found = 0
    for name in (*_IMAGES, "thumbnailUrl", "thumbnail"):
        if name.startswith("thumbnail") and n_found:
            return
        for entry in _each(item.get(name)):
            for place in _places(entry):
                n_found += 1
                yield place


def _places(picture: Any, depth: int = 0) -> list[str]:
    """Return the places of a picture, which is a text, a thing, or a gallery of things."""
    if isinstance(picture, str):
        return [picture] if picture.strip() else []
    if not isinstance(picture, Mapping) or depth > 1:
        return []
    for key in ("contentUrl", "associatedMedia", "image", "url", "@id"):
        if found := [place for entry in _each(picture.get(key)) for place in _places(entry, depth + 1)]:
            return found
    return []


# ---- one car described twice


def _is_same(one: Car, other: Car, here: set[str]) -> bool:
    """Return whether two descriptions are of one car: by number, or because they agree and are of different kinds.

    One that names another address than those of the page, `here`, is another car unless they have a photo in common.
    """
    pairs = [(one.identities[name], other.identities[name]) for name in one.identities if name in other.identities]
    if any(a == b for a, b in pairs):
        return True
    if pairs and one.sources & other.sources:
        return False
    if one.url and other.url and _bare(one.url) != _bare(other.url):
        return False
    have_shared_photo = bool(set(one.photos) & set(other.photos))
    is_elsewhere = any(car.url and _bare(car.url) not in here for car in (one, other))
    if is_elsewhere and one.url != other.url and not have_shared_photo:
        return False
    if not all(_agree(one.words.get(name), other.words.get(name)) for name in ("make", "model", "year")):
        return False
    if one.sources & other.sources:  # of one kind: the same thing only where it is repeated
        return one.words == other.words and one.photos == other.photos
    return one.is_other == other.is_other or have_shared_photo


def _agree(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return True
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return long.startswith(short) or short in long.split()


def _merge(known: Car, more: Car) -> None:
    known.words = {**more.words, **known.words}
    known.photos = max(known.photos, more.photos, key=len)
    known.identities = {**more.identities, **known.identities}
    known.ad_id, known.url = known.ad_id or more.ad_id, known.url or more.url
    known.sources |= more.sources
    known.is_other = known.is_other and more.is_other
