"""Photos of an ad that show no whole car: dashboards, seats, gauges, engines, and things that are no car at all.

In: a size and a random generator. Out: a picture. All are drawn flat, from polygons with soft
gradients. Close-ups of wheels and lamps are renderings, and `photos` makes those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from tools.showroom.scenes import RGB, noise

Points = Sequence[tuple[float, float]]

_TRIMS: tuple[tuple[RGB, RGB], ...] = (
    ((38, 38, 41), (64, 64, 68)),
    ((46, 46, 50), (150, 132, 104)),
    ((70, 68, 66), (120, 118, 116)),
    ((30, 30, 33), (98, 34, 32)),
    ((58, 46, 38), (136, 94, 62)),
)


class Canvas:
    """Draw shapes with vertical gradients; coordinates are shares of the width, from the left and from the top."""

    def __init__(self, size: tuple[int, int], colour: RGB) -> None:
        """Start with a picture of one colour."""
        self.image = Image.new("RGB", size, colour)
        self.pen = ImageDraw.Draw(self.image)
        self.unit = size[0]
        self.height = size[1] / size[0]

    def shape(self, points: Points, top: RGB, bottom: RGB | None = None) -> None:
        """Fill a polygon, from one colour at its top to another at its bottom."""
        pixels = [(x * self.unit, y * self.unit) for x, y in points]
        left, right = int(min(x for x, _ in pixels)), int(max(x for x, _ in pixels)) + 1
        high, low = int(min(y for _, y in pixels)), int(max(y for _, y in pixels)) + 1
        mask = Image.new("L", (right - left, low - high))
        ImageDraw.Draw(mask).polygon([(x - left, y - high) for x, y in pixels], fill=255)
        self._paste(mask, (left, high), top, bottom or top)

    def round(
        self, box: tuple[float, float, float, float], top: RGB, bottom: RGB | None = None, *, radius: float = 9.0
    ) -> None:
        """Fill a box with round corners; a great radius makes an ellipse of it."""
        left, high, right, low = (round(value * self.unit) for value in box)
        if right <= left or low <= high:
            return
        mask = Image.new("L", (right - left, low - high))
        pen = ImageDraw.Draw(mask)
        if radius > 1:
            pen.ellipse((0, 0, right - left - 1, low - high - 1), fill=255)
        else:
            pen.rounded_rectangle((0, 0, right - left - 1, low - high - 1), radius * self.unit, fill=255)
        self._paste(mask, (left, high), top, bottom or top)

    def line(self, points: Points, colour: RGB, width: float = 0.004) -> None:
        """Draw a line of straight pieces."""
        pixels = [(x * self.unit, y * self.unit) for x, y in points]
        self.pen.line(pixels, fill=colour, width=max(round(width * self.unit), 1), joint="curve")

    def text(self, place: tuple[float, float], words: str, colour: RGB, size: float) -> None:
        """Write words around a place."""
        font = ImageFont.load_default(size * self.unit)
        self.pen.text((place[0] * self.unit, place[1] * self.unit), words, fill=colour, font=font, anchor="mm")

    def _paste(self, mask: Image.Image, place: tuple[int, int], top: RGB, bottom: RGB) -> None:
        if top == bottom:
            self.image.paste(top, place, mask)
            return
        share = np.linspace(0, 1, mask.height)[:, None]
        column = np.array(top) * (1 - share) + np.array(bottom) * share
        ramp = Image.fromarray(column[:, None].astype(np.uint8)).resize(mask.size, Image.Resampling.NEAREST)
        self.image.paste(ramp, place, mask)

    def finish(self, random: np.random.Generator, *, blur: float = 0.9, grain: float = 0.03) -> Image.Image:
        """Return the picture as seen from somewhere near, softened and unevenly lit.

        The place, and the light from one side, are what tells two dashboards of one make apart.
        """
        image = self._from_elsewhere(random).filter(ImageFilter.BoxBlur(blur * self.unit / 640))
        top, left = (int(place) for place in random.integers(0, 512, 2))
        width, height = image.size
        cloth = _cloth(grain).crop((left, top, left + width, top + height))
        return ImageChops.multiply(image.point(_BRIGHTER), cloth)

    def _from_elsewhere(self, random: np.random.Generator) -> Image.Image:
        width, height = self.image.size
        corner = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], float)
        near = 0.5 + (corner - 0.5) * random.uniform(0.66, 0.9) + random.uniform(-0.035, 0.035, (4, 2))
        slack = np.minimum(near.min(0), 1 - near.max(0)).clip(0)
        quad = (near + random.uniform(-1, 1, 2) * slack) * (width, height)
        return self.image.transform(
            self.image.size, Image.Transform.QUAD, tuple(quad.ravel().tolist()), Image.Resampling.BILINEAR
        )


# 255 / 200: the cloth's middle grey takes as much away.
_BRIGHTER = [min(round(value * 255 / 200), 255) for value in range(256)] * 3


@lru_cache(maxsize=4)
def _cloth(grain: float) -> Image.Image:
    """Return the unevenness of surfaces and of light, around 200, longer than a picture on each side."""
    rows = np.arange(1536)
    fine = noise(0.6)[rows[:, None] % 512, rows % 512] * grain
    wide = noise(2.0)[rows[:, None] // 3 % 512, rows // 3 % 512] * 0.08
    uneven = np.clip(200 * (1 + fine + wide), 0, 255).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(uneven)] * 3)


def tone(colour: RGB, factor: float) -> RGB:
    """Return a colour brighter or darker."""
    red, green, blue = (min(int(value * factor), 255) for value in colour)
    return red, green, blue


def _outside(canvas: Canvas, low: float, random: np.random.Generator) -> None:
    """Draw what is seen through a windscreen: overexposed sky, blurred green and walls."""
    canvas.round((0, 0, 1, low), (214, 224, 234), (238, 240, 238), radius=0)
    for _ in range(int(random.integers(3, 7))):
        x, wide, tall = random.uniform(-0.1, 1), random.uniform(0.08, 0.3), random.uniform(0.04, 0.14)
        shade = ((126, 146, 104), (176, 166, 152), (150, 156, 160))[int(random.integers(3))]
        canvas.round((x, low - tall, x + wide, low + 0.02), tone(shade, 1.1), shade, radius=0.02)
    canvas.image.paste(canvas.image.filter(ImageFilter.BoxBlur(canvas.unit / 90)))


def _gauge(canvas: Canvas, place: tuple[float, float], size: float, random: np.random.Generator) -> None:
    x, y = place
    canvas.round((x - size, y - size, x + size, y + size), (150, 152, 156), (70, 72, 76))
    canvas.round((x - 0.94 * size, y - 0.94 * size, x + 0.94 * size, y + 0.94 * size), (10, 11, 13), (20, 21, 24))
    for step in range(25):
        turn = 2.4 + 4.6 * step / 24
        near = (0.72 if step % 3 == 0 else 0.80) * size
        ends = [(x + np.cos(turn) * r, y + np.sin(turn) * r) for r in (near, 0.88 * size)]
        canvas.line(ends, (226, 228, 230), 0.05 * size)
        if step % 6 == 0 and size > 0.05:
            canvas.text(
                (x + 0.55 * size * np.cos(turn), y + 0.55 * size * np.sin(turn)),
                str(step * 10),
                (226, 228, 230),
                0.16 * size,
            )
    turn = 2.4 + float(random.uniform(0, 2.0))
    canvas.line([(x, y), (x + 0.8 * size * np.cos(turn), y + 0.8 * size * np.sin(turn))], (226, 70, 40), 0.07 * size)
    canvas.round((x - 0.12 * size, y - 0.12 * size, x + 0.12 * size, y + 0.12 * size), (50, 50, 54), (20, 20, 22))


def _steering(canvas: Canvas, place: tuple[float, float], size: float, trim: RGB) -> None:
    x, y = place
    around = np.linspace(0, 2 * np.pi, 49)
    for radius, wide, factor in ((1.0, 0.21, 0.62), (0.99, 0.13, 0.95), (0.97, 0.035, 1.5)):
        ring = [(x + radius * size * np.cos(t), y + 0.94 * radius * size * np.sin(t)) for t in around]
        canvas.line(ring, tone(trim, factor), wide * size)
    for turn in (0.12, np.pi - 0.12, np.pi / 2):
        canvas.line(
            [(x, y + 0.05 * size), (x + 0.92 * size * np.cos(turn), y + 0.86 * size * np.sin(turn))],
            tone(trim, 0.8),
            0.24 * size,
        )
    canvas.round(
        (x - 0.36 * size, y - 0.26 * size, x + 0.36 * size, y + 0.34 * size),
        tone(trim, 1.35),
        tone(trim, 0.7),
        radius=0.25 * size,
    )
    canvas.round((x - 0.09 * size, y - 0.05 * size, x + 0.09 * size, y + 0.13 * size), (170, 172, 176), (110, 112, 116))


def _vent(canvas: Canvas, box: tuple[float, float, float, float]) -> None:
    left, high, right, low = box
    canvas.round(box, (92, 94, 98), (30, 31, 34), radius=0.012)
    for step in range(1, 5):
        y = high + (low - high) * step / 5
        canvas.line([(left + 0.008, y), (right - 0.008, y)], (14, 14, 16), 0.006)


def dashboard(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw a dashboard from between the seats: windscreen, instruments, wheel, console."""
    dark, seat = _TRIMS[int(random.integers(len(_TRIMS)))]
    canvas = Canvas(size, dark)
    top = float(random.uniform(0.20, 0.27))
    _outside(canvas, top + 0.06, random)
    h = canvas.height
    canvas.shape([(0, 0), (0.13, 0), (0.02, top + 0.05), (0, top + 0.05)], (120, 116, 110), (88, 86, 82))
    canvas.shape([(1, 0), (0.87, 0), (0.98, top + 0.05), (1, top + 0.05)], (120, 116, 110), (88, 86, 82))
    canvas.shape([(0, 0), (1, 0), (1, 0.035), (0, 0.035)], (150, 146, 138), (120, 116, 110))
    canvas.round((0.44, 0.04, 0.60, 0.095), (30, 30, 32), (66, 74, 84), radius=0.02)
    canvas.shape(
        [(0, top + 0.05), (0.25, top), (0.78, top), (1, top + 0.05), (1, h), (0, h)], tone(dark, 1.75), tone(dark, 0.75)
    )
    canvas.shape(
        [(0, top + 0.15), (1, top + 0.13), (1, top + 0.165), (0, top + 0.19)], tone(seat, 1.25), tone(seat, 0.8)
    )
    canvas.shape(
        [(0.62, top + 0.21), (1, top + 0.20), (1, top + 0.34), (0.64, top + 0.35)], tone(dark, 1.25), tone(dark, 0.9)
    )
    side = float(random.uniform(0.25, 0.30))
    canvas.round((side - 0.17, top - 0.03, side + 0.17, top + 0.17), tone(dark, 1.2), tone(dark, 0.5), radius=0.07)
    _gauge(canvas, (side - 0.075, top + 0.065), 0.066, random)
    _gauge(canvas, (side + 0.075, top + 0.065), 0.066, random)
    _console(canvas, top, dark, random)
    _steering(canvas, (side, top + 0.22), 0.205, tone(dark, 1.0))
    canvas.shape(
        [(0, h), (0, h - 0.13), (0.12, h - 0.18), (0.30, h - 0.10), (0.36, h)], tone(seat, 1.2), tone(seat, 0.6)
    )
    canvas.shape(
        [(1, h), (1, h - 0.15), (0.86, h - 0.18), (0.72, h - 0.10), (0.66, h)], tone(seat, 1.2), tone(seat, 0.6)
    )
    return canvas.finish(random)


def _console(canvas: Canvas, top: float, dark: RGB, random: np.random.Generator) -> None:
    h = canvas.height
    canvas.shape([(0.44, top + 0.02), (0.63, top + 0.02), (0.62, h), (0.42, h)], tone(dark, 1.45), tone(dark, 0.8))
    _vent(canvas, (0.45, top + 0.03, 0.53, top + 0.085))
    _vent(canvas, (0.54, top + 0.03, 0.62, top + 0.085))
    _vent(canvas, (0.87, top + 0.06, 0.96, top + 0.12))
    _vent(canvas, (0.01, top + 0.08, 0.08, top + 0.14))
    canvas.round((0.455, top + 0.10, 0.615, top + 0.20), (12, 13, 15), (12, 13, 15), radius=0.008)
    screen = ((44, 86, 120), (26, 60, 66), (70, 66, 60))[int(random.integers(3))]
    canvas.round((0.465, top + 0.108, 0.605, top + 0.192), tone(screen, 1.4), tone(screen, 0.7), radius=0.004)
    for row in range(2):
        for column in range(5):
            x, y = 0.463 + 0.031 * column, top + 0.22 + 0.032 * row
            canvas.round((x, y, x + 0.024, y + 0.021), (92, 94, 98), (52, 53, 56), radius=0.004)
    for x in (0.485, 0.585):
        canvas.round((x - 0.021, top + 0.295, x + 0.021, top + 0.337), (160, 162, 166), (60, 61, 64))
    canvas.shape([(0.47, h - 0.11), (0.60, h - 0.11), (0.62, h), (0.45, h)], (26, 26, 28), (40, 40, 43))
    canvas.line([(0.535, h - 0.03), (0.53, h - 0.13)], (120, 122, 126), 0.016)
    canvas.round((0.507, h - 0.175, 0.555, h - 0.115), (120, 122, 126), (34, 34, 37), radius=0.02)


def seats(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw two seats or a bench through an open door."""
    dark, seat = _TRIMS[int(random.integers(len(_TRIMS)))]
    canvas = Canvas(size, tone(dark, 0.8))
    _outside(canvas, 0.20, random)
    h = canvas.height
    canvas.shape([(0, 0), (1, 0), (1, 0.07), (0, 0.05)], (166, 160, 150), (128, 124, 116))
    canvas.shape([(0, 0.20), (1, 0.18), (1, h), (0, h)], tone(dark, 1.2), tone(dark, 0.5))
    for x in (0.08, 0.52):
        shift = float(random.uniform(-0.02, 0.02)) + x
        canvas.line([(shift + 0.15, 0.10), (shift + 0.15, 0.2)], (130, 132, 136), 0.01)
        canvas.line([(shift + 0.23, 0.10), (shift + 0.23, 0.2)], (130, 132, 136), 0.01)
        canvas.round((shift + 0.10, 0.05, shift + 0.28, 0.15), tone(seat, 1.35), tone(seat, 0.8), radius=0.04)
        canvas.shape(
            [(shift + 0.07, 0.17), (shift + 0.31, 0.17), (shift + 0.38, 0.48), (shift, 0.48)],
            tone(seat, 1.3),
            tone(seat, 0.72),
        )
        canvas.shape(
            [(shift + 0.12, 0.19), (shift + 0.26, 0.19), (shift + 0.28, 0.47), (shift + 0.10, 0.47)],
            tone(seat, 1.5),
            tone(seat, 0.9),
        )
        canvas.shape(
            [(shift, 0.47), (shift + 0.38, 0.47), (shift + 0.42, 0.64), (shift - 0.05, 0.64)],
            tone(seat, 1.45),
            tone(seat, 1.0),
        )
        canvas.shape(
            [(shift - 0.05, 0.64), (shift + 0.42, 0.64), (shift + 0.41, h), (shift - 0.03, h)],
            tone(seat, 0.8),
            tone(seat, 0.4),
        )
        for step in range(1, 5):
            y = 0.20 + 0.052 * step
            canvas.line([(shift + 0.115, y), (shift + 0.265, y)], tone(seat, 0.62), 0.004)
    canvas.line([(0.02, 0.12), (0.10, 0.50)], (24, 24, 26), 0.018)  # a belt
    return canvas.finish(random)


def gauges(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw the instruments from near, with the distance driven."""
    canvas = Canvas(size, (20, 20, 22))
    h = canvas.height
    canvas.round((-0.05, 0.02, 1.05, h + 0.2), (64, 65, 68), (22, 22, 24), radius=0.3)
    _gauge(canvas, (0.27, 0.40), 0.24, random)
    _gauge(canvas, (0.75, 0.40), 0.24, random)
    canvas.round((0.40, 0.50, 0.62, 0.60), (150, 172, 168), (116, 140, 138), radius=0.01)
    canvas.text(
        (0.51, 0.55), f"{int(random.integers(9, 320)) * 1000 + int(random.integers(1000)):06d} km", (20, 28, 28), 0.034
    )
    canvas.line([(0, h - 0.07), (1, h - 0.10)], (52, 52, 55), 0.09)
    return canvas.finish(random)


def engine(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw what lies below a bonnet: cover, battery, tanks, hoses."""
    canvas = Canvas(size, (34, 35, 37))
    h = canvas.height
    paint = ((120, 22, 24), (150, 152, 156), (28, 52, 104), (36, 36, 38))[int(random.integers(4))]
    canvas.shape([(0, 0), (1, 0), (1, 0.10), (0, 0.06)], (62, 62, 64), (30, 30, 32))
    canvas.shape([(0, 0.06), (0.07, 0.08), (0.10, h), (0, h)], paint, tone(paint, 0.6))
    canvas.shape([(1, 0.08), (0.93, 0.10), (0.90, h), (1, h)], paint, tone(paint, 0.6))
    for _ in range(14):
        x, y = random.uniform(0.1, 0.9), random.uniform(0.12, h - 0.1)
        bend = random.uniform(-0.2, 0.2, 4)
        shade = int(random.integers(14, 92))
        canvas.line(
            [(x, y), (x + bend[0], y + bend[1]), (x + bend[0] + bend[2], y + bend[3])],
            (shade, shade, shade + 2),
            float(random.uniform(0.008, 0.03)),
        )
    canvas.round((0.30, 0.22, 0.70, 0.52), (92, 94, 97), (40, 41, 43), radius=0.03)
    for step in range(5):
        canvas.line([(0.34 + 0.08 * step, 0.25), (0.34 + 0.08 * step, 0.49)], (26, 27, 28), 0.012)
    canvas.round((0.12, 0.24, 0.27, 0.42), (44, 45, 48), (20, 20, 22), radius=0.01)
    canvas.round((0.14, 0.22, 0.17, 0.25), (176, 30, 30))
    canvas.round((0.22, 0.22, 0.25, 0.25), (30, 60, 150))
    canvas.round((0.74, 0.20, 0.88, 0.36), (224, 222, 208), (176, 172, 150), radius=0.03)
    canvas.round((0.78, 0.18, 0.84, 0.23), (30, 30, 32), (60, 60, 62))
    canvas.round((0.75, 0.48, 0.83, 0.56), (226, 190, 40), (160, 128, 20))
    canvas.shape([(0.08, h - 0.10), (0.92, h - 0.10), (0.96, h), (0.04, h)], (70, 72, 75), (24, 24, 26))
    return canvas.finish(random, grain=0.10)


def document(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw a sheet of paper on a table: lines that nobody can read, a stamp."""
    wood = (132 + int(random.integers(40)), 98, 66)
    canvas = Canvas(size, wood)
    for step in range(9):
        canvas.line([(0, 0.09 * step), (1, 0.09 * step + 0.02)], tone(wood, 0.88), 0.006)
    lean = float(random.uniform(-0.05, 0.05))
    canvas.shape(
        [(0.2 + lean, 0.04), (0.8 + lean, 0.06), (0.8 - lean, 0.72), (0.17 - lean, 0.70)],
        (246, 246, 240),
        (226, 226, 220),
    )
    for row in range(17):
        y, x = 0.10 + 0.034 * row, 0.25 + lean * (1 - row / 9)
        while x < 0.70 - 0.2 * (row % 4 == 3):
            wide = float(random.uniform(0.02, 0.07))
            canvas.line([(x, y), (x + wide, y)], (70, 72, 84), 0.009)
            x += wide + 0.015
    canvas.round((0.56, 0.54, 0.70, 0.68), (150, 156, 200), (170, 176, 210))
    canvas.round((0.575, 0.555, 0.685, 0.665), (236, 236, 232), (226, 226, 220))
    return canvas.finish(random, blur=0.7)


def banner(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw a dealer's advertisement."""
    colour = ((170, 30, 34), (26, 62, 126), (24, 104, 76), (214, 148, 20))[int(random.integers(4))]
    canvas = Canvas(size, colour)
    h = canvas.height
    canvas.shape([(0, 0), (1, 0), (1, h), (0, h)], tone(colour, 1.3), tone(colour, 0.7))
    canvas.shape([(0, h - 0.22), (1, h - 0.32), (1, h), (0, h)], (248, 248, 248), (228, 228, 228))
    words = ("TRADE-IN WELCOME", "0 % FINANCE", "OPEN ON SUNDAYS", "WE BUY ANY VAN")[int(random.integers(4))]
    canvas.text((0.5, 0.20), words, (255, 255, 255), 0.085)
    canvas.text((0.5, 0.33), "AUTO PARK NORTH", (255, 240, 200), 0.05)
    canvas.text((0.5, h - 0.10), f"CALL 0555 01{int(random.integers(10, 99))}", tone(colour, 0.8), 0.06)
    return canvas.finish(random, blur=0.5, grain=0.01)


def placeholder(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Draw what a site shows where a photo is to come; always the same picture for one size."""
    canvas = Canvas(size, (232, 234, 236))
    canvas.round((0.36, 0.22, 0.64, 0.42), (176, 180, 186), radius=0.02)
    canvas.round((0.44, 0.19, 0.56, 0.26), (176, 180, 186), radius=0.015)
    canvas.round((0.44, 0.26, 0.56, 0.38), (232, 234, 236))
    canvas.round((0.465, 0.285, 0.535, 0.355), (176, 180, 186))
    canvas.text((0.5, 0.52), "PHOTO COMING SOON", (150, 154, 160), 0.05)
    del random  # the same interface as its neighbours; nothing of it is by chance
    return canvas.image


Draw = Callable[[tuple[int, int], np.random.Generator], Image.Image]

INTERIORS: tuple[Draw, ...] = (dashboard, seats, dashboard)
DETAILS: tuple[Draw, ...] = (gauges, engine)
OTHERS: tuple[Draw, ...] = (document, banner)
