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

HEIGHT = 180
"""Pixels: sharp where six pictures stand side by side on a usual screen, and two on a phone."""
LONGEST = 2.4
"""A picture is at most this many times as wide as high; a panorama is smaller, so that all of it is seen."""
MARGIN = 0.2
"""Share of a box's sides that is shown around it: the vehicle fills the picture, and where it stands is still seen."""
SHAPE = 4 / 3
"""Width to height of the part of a photo that is shown around a box: what most photos have."""
QUALITY = 80
BOXED = 3
"""A photo with a box is decoded so many times as large as its thumbnail: a vehicle a third as high is still sharp."""
LONGEST_ON_SCREEN = 1280
"""Pixels of the longer side of a picture that is looked at alone: sharp on a laptop, some 150 kB."""
SCREEN_QUALITY = 84
BOX_COLOR = "#2f9e44"


def thumbnail(pixels: Pixels, *, box: BoundingBox | None = None, height: int = HEIGHT) -> str:
    """Return a photo (h, w, 3) as a `data:` URI, `height` pixels high at most; of a panorama all, and lower.

    With a box, in its pixels, only what stands `around` it is shown, and the box is drawn in green.
    """
    if box is None:
        return data_uri(of_height(pixels, height))
    shown = around(box, pixels.shape[1], pixels.shape[0], least=height)
    left, top, right, bottom = (round(side) for side in shown.to_list())
    image = of_height(pixels[top:bottom, left:right], height)
    scale = image.width / (right - left), image.height / (bottom - top)
    moved = BoundingBox(box.x1 - left, box.y1 - top, box.x2 - left, box.y2 - top)
    inside = moved.scale(*scale).clip(image.width - 1, image.height - 1)
    ImageDraw.Draw(image).rectangle(inside.to_list(), outline=BOX_COLOR, width=2)
    return data_uri(image)


def around(box: BoundingBox, width: int, height: int, *, least: int = HEIGHT) -> BoundingBox:
    """Return the part of a photo of this size (pixels) to show for a box: the box, a margin, and up to 4 : 3.

    It is at least `least` pixels high where the photo is, since a smaller part would be blown up. It lies inside the
    photo: at an edge it is moved, not cut. A box without an area, or beside the photo, gives the whole photo.
    """
    inner = box.clip(width, height)
    if not inner.area:
        return BoundingBox(0, 0, width, height)
    wanted = inner.pad(MARGIN)
    high = max(wanted.height, wanted.width / SHAPE, least)
    wide = min(max(high * SHAPE, 1.0), width)
    high = min(max(high, 1.0), height)
    x, y = inner.center
    left, top = min(max(x - wide / 2, 0.0), width - wide), min(max(y - high / 2, 0.0), height - high)
    return BoundingBox(left, top, left + wide, top + high)


def thumbnail_of(
    folder: Path, row: Mapping[str, Any], *, height: int = HEIGHT, blur: Callable[[Pixels], Pixels] | None = None
) -> str | None:
    """Return the thumbnail of a photo on disk, or None where it cannot be read.

    `row` has `path`, below `folder` or absolute, and may have `x1, y1, x2, y2`, a box in pixels of the original.
    `blur` hides what the picture must not show, on the upright photo before it is made small.
    """
    if not row.get("path"):
        return None
    has_box = row.get("x1") is not None
    try:
        # A box is a part of the photo, and shall not be blown up.
        photo = decode(storage.read(folder / row["path"]), min_side=height * (BOXED if has_box else 1))
    except CarspotterError:
        return None
    box = None
    if has_box:
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
    """Return a picture (h, w, 3) scaled to a height in pixels, or to `LONGEST` times that width if it is wider."""
    image = Image.fromarray(pixels)
    scale = min(height / image.height, height * LONGEST / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def data_uri(image: Image.Image, quality: int = QUALITY) -> str:
    """Return a picture as a `data:` URI in JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(image, quality)).decode()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
