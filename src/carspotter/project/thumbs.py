"""A photo in, a picture of it for people out: a small data URI, since a report is one file, or a JPEG for a screen.

None has any of the photo's metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from carspotter import storage
from carspotter.errors import CarspotterError
from carspotter.geometry import BoundingBox
from carspotter.pixels import decode

HEIGHT = 120
"""Pixels: six pictures stand side by side on a usual screen, and two on a phone."""
LONGEST = 3.0
"""A panorama is cut in its middle to so many times its height."""
QUALITY = 78
LONGEST_ON_SCREEN = 1280
"""Pixels of the longer side of a picture that is looked at alone: sharp on a laptop, some 150 kB."""
SCREEN_QUALITY = 84
BOX_COLOR = "#2f9e44"


def thumb(folder: Path, row: Mapping[str, Any], *, height: int = HEIGHT) -> str | None:
    """Return a photo as a `data:` URI of so many pixels in height, or None where it cannot be read.

    `row` has `path`, below `folder` or absolute, and may have `x1, y1, x2, y2`, a box in pixels of the original.
    """
    if not row.get("path"):
        return None
    try:
        photo = decode(storage.read(folder / row["path"]), min_side=height)
    except CarspotterError:
        return None
    image = Image.fromarray(photo.pixels)
    width = max(1, round(image.width * height / image.height))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if row.get("x1") is not None:
        box = BoundingBox(row["x1"], row["y1"], row["x2"], row["y2"]).scale(width / photo.width, height / photo.height)
        ImageDraw.Draw(image).rectangle(box.to_list(), outline=BOX_COLOR, width=2)
    longest = round(height * LONGEST)
    if width > longest:
        left = (width - longest) // 2
        image = image.crop((left, 0, left + longest, height))
    return data_uri(image)


def data_uri(image: Image.Image) -> str:
    """Return a picture as a `data:` URI in JPEG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def screen_picture(data: bytes, *, longest: int = LONGEST_ON_SCREEN) -> bytes:
    """Return a photo's bytes as a JPEG of at most so many pixels, upright, without metadata. Raises ImageError."""
    photo = decode(data, min_side=longest)
    image = Image.fromarray(photo.pixels)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=SCREEN_QUALITY)
    return buffer.getvalue()
