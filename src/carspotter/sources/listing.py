"""What every source ends in: an ad with its listing and its photos, as rows of the catalogue.

In: a seller's words and the places of photos, as a source found them. Out: `Ad`, whose rows fit the tables `listings`
and `listing_photos`; what cannot be used has a status and a message. It reads no file and does not judge two ads that
share an id: `merge` does, with the rows that are already known.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carspotter.catalog.tables import OK
from carspotter.records import KINDS, SPLITS, UNKNOWN_VIEWPOINT, VIEWPOINTS, photo_id

Row = dict[str, Any]

# The first car was patented in 1886; model years run up to two years ahead of the calendar.
_FIRST_YEAR, _YEARS_AHEAD = 1886, 2
_YEAR = re.compile(r"(\d{4})(?:\.0)?(?:[-/.]\d{1,2}){0,2}(?:[T ].*)?|\d{1,2}[-/.](?:\d{1,2}[-/.])?(\d{4})")
_PRICE = re.compile(r"\d[\d., ']*")
_MAX_RAW = 200  # of a value that a message repeats


@dataclass(frozen=True, slots=True)
class Ad:
    """One advertisement: a row of `listings`, and its rows of `listing_photos` in their order.

    An empty listing says nothing new: the photos alone are to be added.
    """

    listing: Row
    photos: tuple[Row, ...] = ()


def listing_row(*, ad_id: str, source: str, status: str = OK, message: str | None = None, **words: Any) -> Row:
    """Return a row of `listings`; `words` are its other columns, `attributes` a mapping or JSON text.

    Blanks are cleaned and empty words left out. An impossible year or price is left out and named in the message.
    """
    row: Row = {"ad_id": clean(ad_id), "source": clean(source)}
    problems = [message] if message else []
    for name in ("url", "make", "model", "submodel", "body", "title", "description", "currency"):
        row[name] = clean(words.pop(name, None))
    for name, parse in (("year", parse_year), ("price", parse_price)):
        value = words.pop(name, None)
        raw = clean(value)
        row[name] = parse(value) if raw else None
        if raw and row[name] is None:
            problems.append(f"{name} {raw[:_MAX_RAW]!r} is none")
    row["attributes"] = _json(words.pop("attributes", None))
    if words:
        raise ValueError(f"listing_row: unknown columns {', '.join(words)}")
    row |= {"status": status, "message": "; ".join(problems) or None}
    return _without_nulls(row)


def photo_row(  # the parts of one row of a table
    ad_id: str,
    url: str | None,
    position: int,
    *,
    kind: str | None = None,
    viewpoint: str | None = None,
    split: str | None = None,
    status: str = OK,
    message: str | None = None,
) -> Row:
    """Return a row of `listing_photos`; `url` is a URL or an absolute path.

    Without a URL the status is "no-url"; a URL with a password is "secret-in-url" and kept without it. A kind,
    viewpoint or split outside of the known words is left out and named in the message.
    """
    problems = [message] if message else []
    place = storable(url.strip()) if url else ""
    if not place:
        status, place = (status if status != OK else "no-url"), ""
        problems.append(f"photo {position + 1} has neither URL nor path")
    elif _has_password(place):
        place = re.sub(r"://[^/?#]*@", "://", place, count=1)
        status = status if status != OK else "secret-in-url"
        problems.append("a password in a URL is not kept; give it in the environment")
    row: Row = {"photo_id": photo_id(ad_id, place or f"#{position}"), "ad_id": ad_id, "position": position}
    row["url"] = place or None
    allowed_words = (
        ("kind", kind, KINDS),
        ("viewpoint", viewpoint, (*VIEWPOINTS, UNKNOWN_VIEWPOINT)),
        ("split", split, SPLITS),
    )
    for name, value, allowed in allowed_words:
        row[name] = value if value in allowed else None
        if value and value not in allowed:
            problems.append(f"{name} {value[:_MAX_RAW]!r} is none of {', '.join(allowed)}")
    return _without_nulls(row | {"status": status, "message": "; ".join(problems) or None})


def row_key(file: str, number: int) -> str:
    """Return the key of a row that names no ad: "row:cars.csv:17", counted from 1."""
    return f"row:{file}:{number}"


# ---- two ads of one id

# What says which car it is; prices and titles change while an ad stays the same.
_CAR = ("make", "model", "submodel", "year", "body")


def merge(known: Mapping[str, Mapping[str, Any]], ad: Ad) -> Ad:
    """Judge an ad against the listings that are `known` by their ad_id, those of `<ad_id>#2`, `#3`, … among them.

    A new id passes. The same ad again gives the columns that it adds or changes on top of the known ones, or an empty
    listing. Another car under a known id becomes `<ad_id>#2`, its rows of status "duplicate-id".
    """
    ad_id = str(ad.listing["ad_id"])
    first = known.get(ad_id)
    if first is None:
        return ad
    key, number = ad_id, 1
    while key in known and not _same_car(known[key], ad.listing):
        number += 1
        key = f"{ad_id}#{number}"
    if key == ad_id:
        return Ad(_news(first, ad.listing), ad.photos)
    says = f"{ad_id!r} is already {_car(first)}; this one is {_car(ad.listing)}"
    photos = tuple(_rekeyed(photo, key, says) for photo in ad.photos)
    if key in known:
        return Ad({}, photos)
    changes = {"ad_id": key, "status": "duplicate-id", "message": f"ad {says}"}
    return Ad(ad.listing | changes, photos)


def _same_car(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two rows agree in all words that both have."""
    pairs = ((one.get(name), other.get(name)) for name in _CAR)
    return all(a is None or b is None or str(a).casefold() == str(b).casefold() for a, b in pairs)


def _news(known: Mapping[str, Any], row: Row) -> Row:
    """Return the known row with what the new one adds, or nothing; attributes alone are no news."""
    if row["status"] != OK and known.get("status") == OK:
        return {}
    plain = {name: value for name, value in known.items() if value is not None and name in _KEPT}
    ignored = ("attributes", "message", "source")
    changed = {name for name in row if name not in ignored and not equal(row[name], known.get(name))}
    return plain | row if changed else {}


_KEPT = (
    "ad_id",
    "source",
    "url",
    "make",
    "model",
    "submodel",
    "year",
    "body",
    "title",
    "description",
    "price",
    "currency",
    "attributes",
)


def equal(one: Any, other: Any) -> bool:
    """Return whether two values of a column are the same to a catalogue."""
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6)  # a catalogue keeps 24 bits of a price
    return bool(one == other)


def _rekeyed(photo: Row, ad_id: str, says: str) -> Row:
    place = photo.get("url") or f"#{photo['position']}"
    changes = {"ad_id": ad_id, "photo_id": photo_id(ad_id, place)}
    if photo["status"] == OK:
        changes |= {"status": "duplicate-id", "message": f"ad {says}"}
    return photo | changes


def _car(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[name]) for name in _CAR if row.get(name) is not None) or "without words"


# ---- values


def clean(value: Any) -> str | None:
    """Return a value as one line of text without blanks around it, or None where nothing is left.

    Letters and their accents are composed (NFC): what looks the same is the same, whoever typed it. Whole numbers lose
    the ".0" that spreadsheets give them; what UTF-8 cannot hold becomes "?".
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    text = value if isinstance(value, str) else _json(value) if isinstance(value, dict | list) else str(value)
    plain = (text or "").encode(errors="replace").decode()
    return " ".join(unicodedata.normalize("NFC", plain).split()) or None


def parse_year(value: Any) -> int | None:
    """Return the year in "2012", "2012-05", "05/2012" or a date, or None without a year that a car can have."""
    match = _YEAR.fullmatch(clean(value) or "")
    year = int(match[1] or match[2]) if match else 0
    return year if _FIRST_YEAR <= year <= date.today().year + _YEARS_AHEAD else None


def parse_price(value: Any) -> float | None:
    """Return the one amount in "12 500", "12.500,00 €" or "$12,500", or None where there is not just one.

    A single separator with three digits behind it and at most three before it parts thousands; a number is itself.
    """
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _amount(value)
    text = clean(value) or ""
    found = _PRICE.findall(text)
    if len(found) != 1 or text.startswith("-"):
        return None
    digits = found[0].replace(" ", "").replace("'", "").rstrip(".,")
    mark = max(digits.rfind("."), digits.rfind(","))
    is_thousands = len(digits) - mark == 4 and mark <= 3 and not _has_both(digits)
    is_decimal = mark >= 0 and digits.count(digits[mark]) == 1 and not is_thousands
    whole, part = (digits[:mark], digits[mark + 1 :]) if is_decimal else (digits, "")
    return _amount(re.sub(r"[.,]", "", whole) + "." + (part or "0"))


def _amount(value: float | Decimal | str) -> float | None:
    """Return a number that a price can be, or None for one below zero, none at all, or one of hundreds of digits."""
    try:
        amount = float(value)
    except OverflowError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def _has_both(digits: str) -> bool:
    return "." in digits and "," in digits


def storable(place: str) -> str:
    """Return a URL or path as UTF-8 can hold it: a file whose name is of other bytes becomes a `file://` URL."""
    try:
        place.encode()
    except UnicodeEncodeError:
        path = Path(place)
        return path.as_uri() if path.is_absolute() else place.encode(errors="replace").decode()
    return place


def _has_password(url: str) -> bool:
    if "@" not in url or "://" not in url:
        return False
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return False


def _json(value: Mapping[str, Any] | Sequence[Any] | str | None) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    text = json.dumps(value, ensure_ascii=False, default=_word) if value else None
    return text.encode(errors="replace").decode() if text else None


def _word(value: Any) -> str | None:
    return None if isinstance(value, bytes) else str(value)


def _without_nulls(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}
