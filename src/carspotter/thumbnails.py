"""Make small pictures of photos for people: a `data:` URI for a report in one file, or a JPEG for a screen.

No picture has any of the photo's metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from carspotter import storage
from carspotter.errors import CarspotterError
from carspotter.geometry import BoundingBox
from carspotter.pixels import Pixels, decode

HEIGHT = 120
"""Pixels: six pictures stand side by side on a usual screen, and two on a phone."""
LONGEST = 2.4
"""A panorama is cut in its middle to this many times its height."""
QUALITY = 80
LONGEST_ON_SCREEN = 1280
"""Pixels of the longer side of a picture that is looked at alone: sharp on a laptop, some 150 kB."""
SCREEN_QUALITY = 84
BOX_COLOR = "#2f9e44"


def thumbnail(pixels: Pixels, *, box: BoundingBox | None = None, height: int = HEIGHT) -> str:
    """Return a photo (h, w, 3) as a `data:` URI, `height` pixels high, with its box (in its pixels) in green."""
    image = of_height(pixels, height)
    if box is not None:
        scaled = box.scale(image.width / pixels.shape[1], image.height / pixels.shape[0])
        inside = scaled.clip(image.width - 1, image.height - 1)
        ImageDraw.Draw(image).rectangle(inside.to_list(), outline=BOX_COLOR, width=2)
    return data_uri(image)


def thumbnail_of(
    folder: Path, row: Mapping[str, Any], *, height: int = HEIGHT, blur: Callable[[Pixels], Pixels] | None = None
) -> str | None:
    """Return the thumbnail of a photo on disk, or None where it cannot be read.

    `row` has `path`, below `folder` or absolute, and may have `x1, y1, x2, y2`, a box in pixels of the original.
    `blur` hides what the picture must not show, on the upright photo before it is made small.
    """
    if not row.get("path"):
        return None
    try:
        photo = decode(storage.read(folder / row["path"]), min_side=height)
    except CarspotterError:
        return None
    box = None
    if row.get("x1") is not None:
        decoded = photo.pixels.shape  # decoding may have shrunk the photo already
        box = BoundingBox(row["x1"], row["y1"], row["x2"], row["y2"])
        box = box.scale(decoded[1] / photo.width, decoded[0] / photo.height)
    pixels = photo.pixels if blur is None else blur(photo.pixels)
    return thumbnail(pixels, box=box, height=height)


def screen_picture(data: bytes, *, longest: int = LONGEST_ON_SCREEN) -> bytes:
    """Return a photo as an upright JPEG of at most `longest` pixels a side, without metadata. Raises ImageError."""
    image = Image.fromarray(decode(data, min_side=longest).pixels)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _jpeg(image, SCREEN_QUALITY)


def of_height(pixels: Pixels, height: int) -> Image.Image:
    """Return a picture (h, w, 3) scaled to a height in pixels."""
    image = Image.fromarray(pixels)
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def data_uri(image: Image.Image) -> str:
    """Return a picture as a `data:` URI in JPEG; the middle of a panorama."""
    longest = round(image.height * LONGEST)
    if image.width > longest:
        left = (image.width - longest) // 2
        image = image.crop((left, 0, left + longest, image.height))
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(image, QUALITY)).decode()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
