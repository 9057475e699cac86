"""Draw boxes and labels of a prediction on its photo.

Strokes and letters grow with the picture, small photos are enlarged until a label can be read, labels stay inside the
picture and keep out of each other's way. It reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carspotter.geometry import BoundingBox
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.letters import Font, drawable
from carspotter.records import UNKNOWN_VIEWPOINT, Prediction, Vehicle

Colour = tuple[int, int, int]

# The palette of Okabe and Ito (2008), which colour-blind people can distinguish too; grey is kept for what is
# undecided.
PALETTE: tuple[Colour, ...] = (
    (240, 228, 66),
    (86, 180, 233),
    (230, 159, 0),
    (0, 190, 140),
    (224, 141, 189),
    (240, 110, 50),
)
UNDECIDED: Colour = (205, 205, 205)
DARK: Colour = (20, 20, 24)

MIN_SIDE = 320  # px: below it a readable label would hide the vehicle, so the picture is enlarged
LETTERS = 27  # a line of a label is 1/27 of the shorter side, about as subtitles are
SMALLEST_FONT = 11  # px: the default font is not readable below


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    lines: tuple[tuple[str, Font], ...]
    width: float
    height: float
    margin: float


def draw(pixels: NDArray[np.uint8], prediction: Prediction) -> Image.Image:
    """Draw each vehicle's box, answer, look, viewpoint and score on pixels (h, w, 3), perhaps fewer than the photo's.

    Returns a new RGB picture, enlarged by a whole number when its shorter side is below 320 px.
    """
    picture = _canvas(pixels)
    # Boxes are in pixels of the original, which is larger than what was decoded and may be smaller than the canvas.
    scale = picture.width / prediction.width if prediction.width else 1.0
    pen = ImageDraw.Draw(picture)
    taken: list[BoundingBox] = []
    note = why_no_vehicle(prediction)
    if note:
        _draw_label(pen, _label(pen, (note,), picture.size), BoundingBox(0, 0, 0, 0), UNDECIDED)
    boxes = [vehicle.box.scale(scale, scale).clip(*picture.size) for vehicle in prediction.vehicles]
    for number, (box, vehicle) in enumerate(zip(boxes, prediction.vehicles, strict=True)):
        _draw_box(pen, box, _colour(vehicle, number), _stroke(picture.size))
    # Labels come after all boxes, so that no box runs through the text of a neighbour.
    for number, (box, vehicle) in enumerate(zip(boxes, prediction.vehicles, strict=True)):
        label = _label(pen, _lines(vehicle), picture.size)
        places = [_inside(x, y, label, picture.size) for x, y in _corners(label, box)]
        # Over another label neither can be read, so that this counts before hiding a vehicle.
        place = min(places, key=lambda place: (_hidden(place, taken), _hidden(place, boxes)))
        taken.append(place)
        _draw_label(pen, label, place, _colour(vehicle, number))
    return picture


def _canvas(pixels: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    # Rounded up to a whole number, which keeps edges of pixels crisp.
    factor = -(-MIN_SIDE // max(1, min(picture.size)))
    # A strip of a few pixels is not blown up without bound: its longer side stays below that of a common photo.
    factor = max(1, min(factor, 1600 // max(picture.size)))
    if factor == 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def _stroke(size: tuple[int, int]) -> int:
    # Two pixels at least: thinner lines vanish when a page scales the picture down.
    return max(2, round(min(size) / 180))


def _colour(vehicle: Vehicle, number: int) -> Colour:
    return PALETTE[number % len(PALETTE)] if vehicle.answer else UNDECIDED


def _lines(vehicle: Vehicle) -> tuple[str, ...]:
    first = f"{vehicle.answer.name}  {vehicle.answer.probability:.2f}" if vehicle.answer else "undecided"
    second = [vehicle.look] if vehicle.look else []
    if vehicle.viewpoint.name != UNKNOWN_VIEWPOINT:
        second.append(f"{vehicle.viewpoint.name} {vehicle.viewpoint.probability:.2f}")
    return first, ", ".join((*second, f"vehicle {vehicle.score:.2f}"))


def _label(pen: ImageDraw.ImageDraw, lines: tuple[str, ...], size: tuple[int, int]) -> _Label:
    """Set the lines in the largest font that fits the picture's width; what still does not fit is cut with dots.

    Each line has a font that knows its letters: names may be of any script.
    """
    height = max(SMALLEST_FONT, round(min(size) / LETTERS))
    while True:
        texts = [drawable(line, height) for line in lines]
        margin = height * 0.35
        room = size[0] - 2 * margin
        if height <= SMALLEST_FONT or max(pen.textlength(text, font) for text, font in texts) <= room:
            break
        # Steps of a tenth end after some ten rounds; the width of text is not linear in the font's height.
        height = max(SMALLEST_FONT, int(height * 0.9))
    cut = tuple((_cut(pen, text, font, room), font) for text, font in texts)
    width = max(pen.textlength(text, font) for text, font in cut) + 2 * margin
    return _Label(lines=cut, width=width, height=height * 1.25 * len(lines) + margin, margin=margin)


def _cut(pen: ImageDraw.ImageDraw, line: str, font: Font, room: float) -> str:
    if pen.textlength(line, font) <= room:
        return line
    # Letter by letter, since the letters of this font are not equally wide.
    while line and pen.textlength(line + "...", font) > room:
        line = line[:-1]
    return line.rstrip() + "..."


def _corners(label: _Label, box: BoundingBox) -> Iterator[tuple[float, float]]:
    """Yield the places a label may have: above, below, inside; of equally good ones the first is taken."""
    above, below = box.y1 - label.height, box.y2
    for y in (above, below, box.y1, box.y2 - label.height):
        yield box.x1, y
        yield box.x2 - label.width, y


def _inside(x: float, y: float, label: _Label, size: tuple[int, int]) -> BoundingBox:
    x = max(0.0, min(x, size[0] - label.width))
    # A label larger than the picture keeps its beginning visible.
    y = max(0.0, min(y, size[1] - label.height))
    return BoundingBox(x, y, x + label.width, y + label.height)


def _hidden(place: BoundingBox, areas: Iterable[BoundingBox]) -> float:
    """Sum the square pixels that a label at this place would hide of the areas."""
    return sum(
        max(0.0, min(place.x2, area.x2) - max(place.x1, area.x1))
        * max(0.0, min(place.y2, area.y2) - max(place.y1, area.y1))
        for area in areas
    )


def _draw_box(pen: ImageDraw.ImageDraw, box: BoundingBox, colour: Colour, stroke: int) -> None:
    # A dark line on both sides of the bright one keeps it visible on a white car as on a black one.
    halo = max(1, stroke // 2)
    # Pillow includes the last pixel, where our boxes end before it.
    corners = (box.x1, box.y1, max(box.x1, box.x2 - 1), max(box.y1, box.y2 - 1))
    pen.rectangle(corners, outline=DARK, width=stroke + 2 * halo)
    inner = (corners[0] + halo, corners[1] + halo, corners[2] - halo, corners[3] - halo)
    # Of a box of a few pixels the halo alone is left; Pillow refuses corners in the wrong order.
    if inner[2] > inner[0] and inner[3] > inner[1]:
        pen.rectangle(inner, outline=colour, width=stroke)


def _draw_label(pen: ImageDraw.ImageDraw, label: _Label, place: BoundingBox, colour: Colour) -> None:
    x, y = round(place.x1), round(place.y1)
    pen.rectangle((x, y, x + int(label.width) - 1, y + int(label.height) - 1), fill=colour)
    step = (label.height - label.margin) / len(label.lines)
    for number, (text, font) in enumerate(label.lines):
        pen.text((x + label.margin, y + label.margin / 2 + number * step), text, fill=DARK, font=font)
