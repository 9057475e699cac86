"""Let a network name likely plates on real photographs, so that a person confirms them instead of drawing boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from carspotter.errors import ImageError
from carspotter.geometry import BoundingBox
from carspotter.headers import SUFFIXES
from carspotter.pixels import decode
from carspotter.runtime.blur import Blurrer
from carspotter.runtime.session import open_session

COLUMNS = ("path", "x1", "y1", "x2", "y2")
AT_MOST = 3  # of a photo: a fourth is seldom one
ACROSS, DOWN, WIDE, HIGH = 12, 17, 96, 64  # pictures of a sheet, and their pixels

Found = tuple[str, BoundingBox]


def propose(network: Path, folder: Path) -> list[Found]:
    """Return the likeliest plates on the photos below a folder, boxes in pixels of the upright photo."""
    blurrer = Blurrer({"plate": open_session(network, threads=1)})
    found: list[Found] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            pixels = decode(path.read_bytes()).pixels
        except ImageError:
            continue
        found += [(str(path), each.box) for each in blurrer.find(pixels)[:AT_MOST]]
    return found


def write_sheets(found: Sequence[Found], folder: Path) -> None:
    """Draw each find with what stands around it, numbered from 1 as the lines of the table below its head."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(found), ACROSS * DOWN):
        sheet = Image.new("RGB", (ACROSS * WIDE, DOWN * HIGH))
        for place, (path, box) in enumerate(found[start : start + ACROSS * DOWN]):
            corner = place % ACROSS * WIDE, place // ACROSS * HIGH
            sheet.paste(_look(path, box), corner)
            ImageDraw.Draw(sheet).text((corner[0] + 2, corner[1]), str(start + place + 1), fill="red")
        sheet.save(folder / f"{start // (ACROSS * DOWN) + 1}.png")


def _look(path: str, box: BoundingBox) -> Image.Image:
    photo = Image.fromarray(np.asarray(decode(Path(path).read_bytes()).pixels))
    (x, y), reach = box.center, max(box.width, 2 * box.height, 20.0)
    left, top = x - reach, y - reach * HIGH / WIDE
    scale = WIDE / (2 * reach)
    look = photo.crop((round(left), round(top), round(x + reach), round(y + reach * HIGH / WIDE))).resize((WIDE, HIGH))
    ImageDraw.Draw(look).rectangle(box.shift(-left, -top).scale(scale, scale).to_list(), outline="lime")
    return look
