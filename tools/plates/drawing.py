"""Draw number plates and paste them onto photographs, bent, shaded and blurred as cameras see them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from carspotter.geometry import BoundingBox

Colour = tuple[int, int, int]

LONG, SQUARE = 72, 110
"""Pixels: height of a drawn plate of one row, and of one that is about as wide as two rows are high."""
ASPECTS = (4.7, 4.7, 4.7, 4.4, 4.0, 3.2, 2.0, 2.0, 1.45)
"""Width to height: Europe's (520 x 110 mm) most, then those of America, Japan and of two rows."""
WHITE: Colour = (245, 245, 240)
YELLOW: Colour = (245, 205, 60)
# Red ones are of transit: a network that saw none drawn missed all real ones.
GROUNDS: tuple[Colour, ...] = (
    *([WHITE] * 9),
    *([YELLOW] * 2),
    *((200, 40, 60), (225, 60, 80), (170, 30, 45), (235, 90, 110)),
    *((40, 70, 160), (60, 150, 110), (25, 25, 28), (200, 230, 210)),
)
FRAMES: tuple[Colour, ...] = ((20, 20, 20), (60, 60, 60), (160, 160, 165))
STRIP: Colour = (30, 60, 150)  # the blue strip at the left of European plates
FINER = 3  # times the photo's pixels in which a plate is bent, before it is made small


def fonts_of(folder: Path | None) -> tuple[str, ...]:
    """Return the TrueType fonts below a folder; none stands for the one that Pillow brings."""
    return tuple(map(str, sorted(folder.rglob("*.ttf")))) if folder else ()


def draw_plate(random: Random, fonts: Sequence[str] = ()) -> Image.Image:
    """Draw a plate of any country's look with five to eight random letters, RGB."""
    aspect = random.choice(ASPECTS)
    height = LONG if aspect > 2.5 else SQUARE
    width = round(height * aspect)
    ground = random.choice(GROUNDS)
    ink: Colour = (20, 20, 25) if sum(ground) > 330 and ground[1] > 100 else (240, 240, 240)
    plate = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(plate)
    left = 4
    if aspect > 3.5 and random.random() < 0.6:
        draw.rectangle((0, 0, height // 2, height), fill=STRIP)
        left = round(height * 0.55)
    rows = _rows(random, 2 if aspect < 1.6 else 1)
    for number, text in enumerate(rows):
        place = left, number * height // len(rows), width, (number + 1) * height // len(rows)
        _write(plate, text, place, ink, random=random, fonts=fonts)
    if random.random() < 0.5:
        draw.rectangle((0, 0, width - 1, height - 1), outline=ink, width=2)
    return _framed(plate, random) if random.random() < 0.5 else plate


def paste_plate(
    photo: Image.Image, center: tuple[float, float], width: float, *, random: Random, fonts: Sequence[str] = ()
) -> BoundingBox:
    """Paste a drawn plate onto an RGB photo and return the box around it; width in pixels, before it is turned away."""
    plate = draw_plate(random, fonts)
    corners = _turned(plate, center, width, random)
    left, top = (int(corners[:, side].min()) - 2 for side in (0, 1))
    right, bottom = (int(corners[:, side].max()) + 3 for side in (0, 1))
    size = right - left, bottom - top
    source = np.array([(0, 0), (plate.width, 0), (plate.width, plate.height), (0, plate.height)], float)
    bent = plate.convert("RGBA").transform(
        (size[0] * FINER, size[1] * FINER),
        Image.Transform.PERSPECTIVE,
        _perspective(source, (corners - (left, top)) * FINER),
        Image.Resampling.BILINEAR,
    )
    shown = _lit(bent.resize(size, Image.Resampling.LANCZOS), random)
    photo.paste(shown, (left, top), shown)
    return BoundingBox(*map(float, (*corners.min(0), *corners.max(0))))


def _rows(random: Random, n: int) -> list[str]:
    length = random.choice((5, 6, 7, 7, 8))
    text = "".join(random.choice(string.ascii_uppercase + string.digits) for _ in range(length))
    if random.random() < 0.6:
        cut = random.randint(1, length - 1)
        text = f"{text[:cut]} {text[cut:]}"
    return [text] if n == 1 else [text[: length // 2], text[length // 2 :]]


def _write(
    plate: Image.Image,
    text: str,
    place: tuple[int, int, int, int],
    ink: Colour,
    *,
    random: Random,
    fonts: Sequence[str],
) -> None:
    """Write a row of letters into a place (left, top, right, bottom), as narrow or wide as that asks for."""
    left, top, right, bottom = place
    size = (bottom - top) * 0.9
    font = ImageFont.truetype(random.choice(fonts), size) if fonts else ImageFont.load_default(size)
    x1, y1, x2, y2 = map(round, font.getbbox(text))
    letters = Image.new("L", (max(1, x2 - x1), max(1, y2 - y1)))
    ImageDraw.Draw(letters).text((-x1, -y1), text, font=font, fill=255)
    high, wide = random.uniform(0.55, 0.8), random.uniform(0.8, 0.94)
    letters = letters.resize((max(1, int((right - left) * wide)), max(1, int((bottom - top) * high))))
    corner = left + (right - left - letters.width) // 2, top + (bottom - top - letters.height) // 2
    plate.paste(ink, corner, letters)


def _framed(plate: Image.Image, random: Random) -> Image.Image:
    """Return the plate in a holder, often with a broader lower edge, where dealers print their names."""
    edge = random.randint(2, 6)
    below = edge if random.random() < 0.5 else plate.height // 5
    framed = Image.new("RGB", (plate.width + 2 * edge, plate.height + edge + below), random.choice(FRAMES))
    framed.paste(plate, (edge, edge))
    return framed


def _turned(plate: Image.Image, center: tuple[float, float], width: float, random: Random) -> npt.NDArray[np.float64]:
    """Return where a plate's corners (4, 2) lie, clockwise from the upper left: seen from a side, rolled, tapering."""
    height = width * plate.height / plate.width * random.uniform(0.85, 1.1)
    if random.random() < 0.6:
        width *= random.uniform(0.55, 1.0)
    shear, taper = random.gauss(0, 0.08) * width / 2, random.uniform(0.85, 1.0)
    x, y = width / 2, height / 2
    corners = np.array([(-x, -y - shear), (x, -y * taper + shear), (x, y * taper + shear), (-x, y - shear)])
    if random.random() < 0.5:  # the far side is the left one
        corners = (corners * (-1, 1))[[1, 0, 3, 2]]
    return corners + center


def _perspective(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> list[float]:
    """Return Pillow's eight coefficients that take four corners (4, 2) of the result back to those of the source."""
    rows = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
    return [float(value) for value in np.linalg.solve(np.array(rows), source.ravel())]


def _lit(plate: Image.Image, random: Random) -> Image.Image:
    """Return an RGBA plate in some light: darker, with a shadow across, a little out of focus."""
    values = np.asarray(plate, np.float64)
    colours = values[..., :3] * random.uniform(0.35, 1.05) + random.uniform(-10, 20)
    if random.random() < 0.4:
        across = np.linspace(random.uniform(0.6, 1), random.uniform(0.6, 1), values.shape[1])
        colours = colours * across[None, :, None]
    lit = Image.fromarray(np.dstack([colours.clip(0, 255), values[..., 3]]).astype(np.uint8))
    return lit.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.9))) if random.random() < 0.6 else lit
