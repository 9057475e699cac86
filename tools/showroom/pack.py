"""Draw a planned showroom into one zip: photos, the table of ads as a dealer exports it, and the truth of both.

In: `ShowroomSettings`. Out: the zip's bytes, the same for the same settings and versions of Pillow and libwebp.
`carspotter.sources.showroom` reads it.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import BytesIO, StringIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from carspotter.records import VIEWPOINTS
from carspotter.sources.showroom import FORMAT
from tools.showroom.listings import AdPlan, PhotoPlan, ShowroomSettings, plan
from tools.showroom.photos import Drawn, draw_photo

_COLUMNS = ("ad_id", "make", "model", "submodel", "images", "year", "body", "price", "currency", "title")
_PHOTO_COLUMNS = (
    "image_id",
    "path",
    "ad_id",
    "kind",
    "viewpoint",
    "cars",
    "x1",
    "y1",
    "x2",
    "y2",
    "width",
    "height",
    "make",
    "model",
    "generation",
    "year",
    "flaw",
    "relation",
    "of",
    "change",
)


def pack(settings: ShowroomSettings) -> bytes:
    """Draw a showroom; return it as a zip."""
    ads = plan(settings)
    photos = [(ad, photo) for ad in ads for photo in ad.photos]
    rows, buffer = [], BytesIO()
    with ZipFile(buffer, "w") as archive:
        for ad, photo in photos:
            drawn = draw_photo(photo)
            rows.append(_photo_truth(ad, photo, drawn))
            if drawn.data is not None:
                archive.writestr(_entry(f"photos/{photo.file}"), drawn.data)
        for name, text in _tables(settings, ads, rows):
            archive.writestr(_entry(name, ZIP_DEFLATED), text)
    return buffer.getvalue()


def _entry(name: str, compression: int = ZIP_STORED) -> ZipInfo:
    """Name a file in the zip, at the earliest time that a zip knows: what is drawn has no date."""
    entry = ZipInfo(name)
    entry.compress_type = compression
    return entry


def _photo_truth(ad: AdPlan, photo: PhotoPlan, drawn: Drawn) -> dict[str, Any]:
    sold = ad.sold
    return {
        "image_id": photo.image_id,
        "path": f"photos/{photo.file}",
        "ad_id": ad.ad_id,
        "kind": photo.kind,
        "viewpoint": None if photo.viewpoint is None else VIEWPOINTS[photo.viewpoint],
        "cars": len(drawn.boxes),
        "boxes": [list(box) for box in drawn.boxes],
        "width": drawn.size[0],
        "height": drawn.size[1],
        "make": sold.make,
        "model": sold.model,
        "generation": sold.generation,
        "year": ad.look.year,
        "flaw": photo.flaw,
        "relation": photo.relation,
        "of": photo.of,
        "change": photo.change,
    }


def _ad_truth(ad: AdPlan) -> dict[str, Any]:
    return {
        "ad_id": ad.ad_id,
        "make": ad.sold.make,
        "model": ad.sold.model,
        "generation": ad.sold.generation,
        "year": ad.look.year,
        "body": ad.sold.style,
        "paint": ad.look.paint,
        "place": ad.look.setting.place,
        "wording": ad.wording,
        "said_make": ad.make,
        "said_model": ad.model,
        "said_submodel": ad.submodel,
        "relists": ad.relists,
    }


def _tables(settings: ShowroomSettings, ads: list[AdPlan], photos: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield name and text of the table of ads and of the truth, `truth.json` last: it says that all is there."""
    counts = Counter(row["flaw"] for row in photos if row["flaw"])
    counts.update(f"{row['relation']} duplicate" for row in photos if row["relation"])
    counts.update("several cars" for row in photos if row["cars"] > 1)
    counts.update(ad.wording for ad in ads if ad.wording != "plain")
    content = {
        "format": FORMAT,
        "settings": asdict(settings),
        "counts": dict(sorted(counts.items())),
        "ads": [_ad_truth(ad) for ad in ads],
        "photos": photos,
    }
    yield "cars.csv", _table(_COLUMNS, [_csv_row(ad) for ad in ads])
    yield "truth.csv", _table(_PHOTO_COLUMNS, [_flat(row) for row in photos])
    yield "truth.json", json.dumps(content, indent=1, ensure_ascii=False)


def _csv_row(ad: AdPlan) -> dict[str, Any]:
    images = ", ".join(photo.file for photo in ad.photos)
    return {
        "ad_id": ad.ad_id,
        "make": ad.make,
        "model": ad.model,
        "submodel": ad.submodel,
        "images": images,
        "year": ad.look.year,
        "body": ad.sold.style,
        "price": ad.price,
        "currency": "EUR",
        "title": ad.title,
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a photo's truth with the main car's box in four columns."""
    box = row["boxes"][0] if row["boxes"] else [None] * 4
    flat = {name: row[name] for name in _PHOTO_COLUMNS if name in row}
    return flat | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
