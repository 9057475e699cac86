"""A page in; the car it offers, its photos and the links on it out.

Pages say what they sell in schema.org's words (`Car`, `Vehicle`, `Product`), as JSON-LD or microdata, which extruct
reads. The door of extruct. It fetches nothing; sites with other structures have adapters in `crawl_sites`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from carspotter.errors import MissingExtraError

Item = Mapping[str, Any]

CARS = ("Car", "Vehicle", "MotorizedVehicle", "BusOrCoach", "Motorcycle")
PRODUCTS = ("Product", "IndividualProduct", "ProductModel")

_MAX_DEPTH = 8  # of nested data; a page that nests deeper is a trap
_LD = re.compile(r"<script[^>]*type=[\"']application/ld\+json[\"'][^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Hold a page: its address, its text, and its status."""

    url: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Hold what a page says of one car, in the columns of `listings`, and the addresses of its photos in order."""

    ad_id: str | None
    words: Mapping[str, Any]
    photos: tuple[str, ...]


def offers(page: Page) -> list[Offer]:
    """Return the cars that a page describes; usually one, none on other pages, raising MissingExtraError sans extruct.

    A page of results that describes each of its cars gives no offers: the listings have more photos.
    """
    found = [item for item in items(page) if _is_car(item)]
    unique = {json.dumps(item, sort_keys=True, default=str): item for item in found}
    return [_offer(item, page) for item in unique.values()] if len(unique) == 1 else []


def items(page: Page) -> list[Item]:
    """Return all described things of a page, nested ones after those that hold them; broken data is passed over."""
    try:
        import extruct
    except ModuleNotFoundError as error:
        raise MissingExtraError("extruct", "crawl") from error
    content = extruct.extract(
        _with_readable_data(page.text), base_url=page.url, syntaxes=["json-ld", "microdata"], uniform=True,
        errors="ignore",
    )  # fmt: skip
    return [item for syntax in ("json-ld", "microdata") for item in _walk(content.get(syntax, []), 0)]


def _with_readable_data(text: str) -> str:
    """Take out JSON-LD that is broken, or extruct would pass over all of the page's."""

    def kept(match: re.Match[str]) -> str:
        try:
            json.loads(match.group(1), strict=False)
        except ValueError:
            return ""
        return match.group(0)

    return _LD.sub(kept, text)


def _walk(value: Any, depth: int) -> Iterator[Item]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _walk(entry, depth)
    elif isinstance(value, Mapping):
        if "@type" in value:
            yield value
        for name, inner in value.items():
            if isinstance(inner, list | Mapping) and name not in ("image", "photo", "brand", "manufacturer", "model"):
                yield from _walk(inner, depth + 1)


def _types(item: Item) -> set[str]:
    names = item.get("@type", [])
    return {str(name).rsplit("/", 1)[-1] for name in (names if isinstance(names, list) else [names])}


def _is_car(item: Item) -> bool:
    """Say whether an item is a car for sale: by its type, or a product that names a model year or an engine."""
    types = _types(item)
    if types & set(CARS):
        return True
    known = ("vehicleModelDate", "mileageFromOdometer", "vehicleEngine", "vehicleTransmission", "fuelType")
    has_words = bool(_text(item.get("brand")) and (_text(item.get("model")) or any(name in item for name in known)))
    return bool(types & set(PRODUCTS)) and has_words and bool(_images(item))


def _offer(item: Item, page: Page) -> Offer:
    price = _first(item.get("offers"))
    sold = price if isinstance(price, Mapping) else {}
    model = item.get("model")
    date = _text(item.get("vehicleModelDate")) or _text(item.get("modelDate")) or _text(item.get("productionDate"))
    if date is None and isinstance(model, Mapping):
        date = _text(model.get("vehicleModelDate")) or _text(model.get("releaseDate"))
    words = {
        "url": page.url, "make": _text(item.get("brand")) or _text(item.get("manufacturer")), "model": _text(model),
        "submodel": _text(item.get("vehicleConfiguration")), "year": date, "body": _text(item.get("bodyType")),
        "title": _text(item.get("name")), "price": _text(sold.get("price")) or _text(item.get("price")),
        "currency": _text(sold.get("priceCurrency")),
    }  # fmt: skip
    photos = _addresses(_images(item), page.url) or open_graph_images(page)
    return Offer(
        ad_id=_text(item.get("sku")) or _text(item.get("productID")),
        words={name: word for name, word in words.items() if word},
        photos=tuple(photos),
    )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _text(value: Any) -> str | None:
    """Return a value as words: a text, a number, or the name of a thing."""
    value = _first(value)
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("@value") or value.get("value")
    if value is None or isinstance(value, bool | list | Mapping):
        return None
    return " ".join(html.unescape(str(value)).split()) or None


def _images(item: Item) -> list[str]:
    found: list[str] = []
    for name in ("image", "photo"):
        value = item.get(name)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping):
                entry = entry.get("contentUrl") or entry.get("url") or entry.get("@id")
            if isinstance(entry, str) and entry.strip():
                found.append(entry.strip())
    return found


def open_graph_images(page: Page) -> list[str]:
    """Return the pictures that a page shows to social networks, where its data names none."""
    found = re.findall(r"<meta\s[^>]*property=[\"']og:image(?::url)?[\"'][^>]*>", page.text, re.IGNORECASE)
    contents = [match.group(1) for tag in found if (match := re.search(r"content=[\"']([^\"']+)", tag))]
    return _addresses([html.unescape(content) for content in contents], page.url)


def _addresses(urls: Sequence[str], base: str) -> list[str]:
    """Return whole http(s) addresses, each once: nothing that a site says may make us read a local file."""
    whole = [urldefrag(urljoin(base, url)).url for url in urls]
    return list(dict.fromkeys(url for url in whole if urlsplit(url).scheme in ("http", "https")))


def links(page: Page) -> list[str]:
    """Return the addresses that a page links to, each once, in their order."""
    found = re.findall(r"<a\s[^>]*?href=[\"']([^\"'#][^\"']*)[\"']", page.text, re.IGNORECASE)
    return _addresses([html.unescape(url) for url in found], page.url)
