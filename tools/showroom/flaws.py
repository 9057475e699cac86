"""Spoil photos on purpose: what sellers, sites and broken transfers do to pictures, with the truth kept.

In: a picture with its boxes, or the bytes of its file, and the flaw or the change. Out: the same, spoilt. It plans
nothing and draws no car.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

if TYPE_CHECKING:
    from tools.showroom.listings import Change, Flaw

Box = tuple[int, int, int, int]

_NOT_FOUND = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


_WEBP_LOWER = 32
"""WebP of a quality so much lower looks about as a JPEG; at 50 to 61, 500 photographs of the showroom take 6 MB."""


def encode(image: Image.Image, quality: int, *, form: Literal["JPEG", "WEBP"] = "JPEG") -> bytes:
    """Encode a picture in the quality of a JPEG."""
    buffer = BytesIO()
    if form == "WEBP":
        image.save(buffer, form, quality=quality - _WEBP_LOWER, method=6)
    else:
        image.save(buffer, form, quality=quality)
    return buffer.getvalue()


def break_bytes(data: bytes, flaw: Flaw | None, random: np.random.Generator) -> bytes | None:
    """Break a file: cut it, empty it, put a page of HTML in its place, or lose it (None)."""
    if flaw == "truncated":
        return data[: int(len(data) * random.uniform(0.15, 0.7))]
    if flaw == "empty":
        return b""
    if flaw == "html":
        return _NOT_FOUND
    return None if flaw == "missing" else data


def spoil(
    image: Image.Image, boxes: tuple[Box, ...], flaw: Flaw, random: np.random.Generator
) -> tuple[Image.Image, tuple[Box, ...]]:
    """Make a picture too small, too dark or blurred; other flaws leave it as it is."""
    if flaw == "small":
        width = int(random.integers(72, 128))
        return _resized(image, boxes, (width, width * image.height // image.width))
    if flaw == "dark":
        # 4 to 8 % of full brightness: a photo at night without a flash.
        factor = float(random.uniform(0.04, 0.08))
        return image.point([int(value * factor) for value in range(256)] * 3), boxes
    if flaw == "blurred":
        return image.filter(ImageFilter.GaussianBlur(image.width * float(random.uniform(0.010, 0.018)))), boxes
    return image, boxes


def change(
    image: Image.Image, boxes: tuple[Box, ...], how: Change, random: np.random.Generator
) -> tuple[Image.Image, tuple[Box, ...], int]:
    """Change a picture as little as a second site does; return picture, boxes and the JPEG quality to save it with."""
    quality = int(random.integers(62, 80))
    if how == "resized":
        share = float(random.uniform(0.55, 0.85))
        image, boxes = _resized(image, boxes, (round(image.width * share), round(image.height * share)))
    elif how == "cropped":
        image, boxes = _cropped(image, boxes, random)
    elif how == "watermark":
        image = _watermarked(image, random)
    elif how == "brightness":
        factor = float(random.choice([random.uniform(0.78, 0.9), random.uniform(1.1, 1.22)]))
        image = ImageEnhance.Brightness(image).enhance(factor)
    return image, boxes, quality


def _resized(image: Image.Image, boxes: tuple[Box, ...], size: tuple[int, int]) -> tuple[Image.Image, tuple[Box, ...]]:
    across, down = size[0] / image.width, size[1] / image.height
    moved = tuple(
        (int(x1 * across), int(y1 * down), int(np.ceil(x2 * across)), int(np.ceil(y2 * down)))
        for x1, y1, x2, y2 in boxes
    )
    return image.resize(size, Image.Resampling.LANCZOS), moved


def _cropped(
    image: Image.Image, boxes: tuple[Box, ...], random: np.random.Generator
) -> tuple[Image.Image, tuple[Box, ...]]:
    """Cut up to 2.5 % off each side."""
    left, top, right, bottom = (int(side) for side in random.uniform(0.005, 0.025, 4) * image.width)
    image = image.crop((left, top, image.width - right, image.height - bottom))
    width, height = image.size
    moved = (
        tuple(np.clip((x1 - left, y1 - top, x2 - left, y2 - top), 0, (width, height) * 2).tolist())
        for x1, y1, x2, y2 in boxes
    )
    return image, tuple((box[0], box[1], box[2], box[3]) for box in moved if box[2] > box[0] and box[3] > box[1])


def _watermarked(image: Image.Image, random: np.random.Generator) -> Image.Image:
    words = ("auto-north.example", "CARS24x7.example", "bestdeal.example")[int(random.integers(3))]
    layer = Image.new("RGBA", image.size)
    size = image.width * 0.055
    place = (image.width * float(random.uniform(0.3, 0.7)), image.height * float(random.choice([0.08, 0.5, 0.93])))
    pen = ImageDraw.Draw(layer)
    pen.text(place, words, fill=(255, 255, 255, 120), font=ImageFont.load_default(size), anchor="mm")
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")
