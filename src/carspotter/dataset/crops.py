"""The bytes of a photo and a vehicle's box in, the crop of a shard out: encoded, with the box inside it.

A crop is cut by `pixels.network_input`, as serving cuts, but wider by `pad` and larger than a network's input. From the
crop and its box `network_input` then gives what it gives from the photo: the same area, pixels resized twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image

from carspotter.geometry import BoundingBox
from carspotter.pixels import DecodedPhoto, Pixels, Preprocessing, decode, network_input

Fit = Literal["keep", "squash"]
Encoding = Literal["jpeg", "webp"]

# A vehicle's box mostly has half of the photo's shorter side; recognition.recognizer decodes for the same share.
_DECODED_SIZES = 2
# Of WebP's 0..6: 4 is the library's default, 6 is twice as slow for 2 % fewer bytes.
_WEBP_METHOD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Hold a crop; `box` is in its pixels, `area` is where it lies in the upright photo of `photo_size` (w, h)."""

    pixels: Pixels
    box: BoundingBox
    area: BoundingBox
    photo_size: tuple[int, int]


def cut(data: bytes, box: BoundingBox, *, size: int, fit: Fit = "keep", pad: float = 0.1) -> Crop:
    """Decode a photo and cut out a box given in pixels of the upright original, widened by `pad` on each side.

    `keep` resizes so that the shorter side has `size` pixels, and enlarges nothing; `squash` gives `size` x `size`.
    Raises ImageError for a bad photo, or a box that holds no pixel of it.
    """
    photo = decode(data, min_side=_DECODED_SIZES * size)
    crop = _cut(photo, box, size, target=Preprocessing(width=size, height=size, pad=pad), fit=fit)
    if photo.scale < 1 and min(crop.pixels.shape[:2]) < size:  # a small vehicle: it needs the whole photo
        crop = _cut(decode(data), box, size, target=Preprocessing(width=size, height=size, pad=pad), fit=fit)
    return crop


def encode(pixels: Pixels, encoding: Encoding, quality: int) -> bytes:
    """Return the bytes of a JPEG or WebP file."""
    buffer = BytesIO()
    if encoding == "webp":
        Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=_WEBP_METHOD)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _cut(photo: DecodedPhoto, box: BoundingBox, size: int, *, target: Preprocessing, fit: Fit) -> Crop:
    height, width = photo.pixels.shape[:2]
    # Both axes by themselves: the JPEG decoder rounds a scaled height and width up, each for itself.
    to_photo = photo.width / width, photo.height / height
    inner = box.scale(1 / to_photo[0], 1 / to_photo[1]).clip(width, height)
    area = inner.pad(target.pad).clip(width, height)
    if fit == "keep" and min(area.width, area.height) >= 1:
        shrink = min(1.0, size / min(area.width, area.height))
        target = Preprocessing(
            width=max(1, round(area.width * shrink)), height=max(1, round(area.height * shrink)), pad=target.pad
        )
    pixels = network_input(photo.pixels, target, inner)
    inside = inner.shift(-area.x1, -area.y1).scale(target.width / area.width, target.height / area.height)
    return Crop(
        pixels=pixels,
        box=inside.clip(target.width, target.height),
        area=area.scale(*to_photo),
        photo_size=(photo.width, photo.height),
    )
