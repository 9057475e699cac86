"""From the bytes of a photo to the input of a network: the only way, for training and for serving.

In: bytes of a JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP file, from any source. Out: upright sRGB pixels
(`decode`), and from pixels a crop of the size a network takes (`network_input`), uint8 throughout. Bad bytes raise
ImageError and nothing else. It reads no file, opens no URL and normalizes nothing: that is inside the network's graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, floor
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from carspotter.errors import BundleError, ImageError, suggestion
from carspotter.geometry import BoundingBox
from carspotter.headers import check_pieces, lacks_end, orientation, sniff
from carspotter.opening import DAMAGE, check_scans, check_size, draft, explain, open_image, quiet_pillow, with_end
from carspotter.opening import MAX_PIXELS as MAX_PIXELS
from carspotter.opening import MAX_SIDE as MAX_SIDE
from carspotter.settings import read_section
from carspotter.srgb import to_srgb

Pixels = npt.NDArray[np.uint8]
Fit = Literal["squash", "letterbox"]

# The customary grey of letterboxed detectors (YOLO): about the mean of photographs, so that bars draw no edges.
LETTERBOX_GREY = 114


# EXIF orientation → the step that brings a photo upright (Exif 2.32, 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How pixels become a network's input of `width` x `height`.

    `squash` resizes both sides freely; `letterbox` keeps the aspect ratio and fills with grey. `pad` widens a box by
    this part of its width and height on each side. Raises BundleError, since the values come from a bundle's file.
    """

    width: int
    height: int
    fit: Fit = "squash"
    pad: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = getattr(self, name)
            if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
                raise BundleError(f"preprocessing: {name} is {side!r}; it must be a whole number from 1 to {MAX_SIDE}")
        if self.fit not in get_args(Fit):
            raise BundleError(f"preprocessing: fit is {self.fit!r}; {suggestion(str(self.fit), get_args(Fit))}")
        if not isinstance(self.pad, int | float) or not 0 <= self.pad <= 1:
            raise BundleError(f"preprocessing: pad is {self.pad!r}; it must be a part from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote; an unknown or missing key is a BundleError."""
        return read_section(cls, content, where="preprocessing", error=BundleError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedPhoto:
    """A decoded photo: read-only sRGB `pixels` (h, w, 3), upright, maybe smaller than the original.

    `width` and `height` are of the upright original; `scale` is the pixels' width over the original's, at most 1.
    """

    pixels: Pixels
    width: int
    height: int
    scale: float = 1.0


def decode(data: bytes, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> DecodedPhoto:
    """Decode the first frame of a photo, turned upright, in sRGB; alpha is laid on white, as cut-outs in shops are.

    With `min_side` a JPEG is decoded at 1/2, 1/4 or 1/8 while its shorter side keeps at least that many pixels: three
    times as fast and within about 1/255 of a resize. Raises ImageError; `max_pixels` is compared with the header, and
    over 178 million Pillow's own limit holds.
    """
    # By the first bytes, never by a name or a header of HTTP: both are often wrong.
    form = sniff(data)
    with quiet_pillow():
        try:
            # Before Pillow reads anything: a header in a million pieces would keep it busy for minutes.
            check_pieces(data, form)
            image = open_image(data, form)
            width, height = image.size
            check_size(width, height, max_pixels)
            if form == "JPEG":
                check_scans(data, width * height)
                draft(image, min_side)
            image.load()
            if form == "HEIC":  # its reader may correct the size while it decodes
                width, height = image.size
                check_size(width, height, max_pixels)
            turn = _UPRIGHT.get(orientation(image.info.get("exif")))
            image = to_srgb(image)
        except MemoryError as error:
            raise ImageError(f"{form} photo does not fit into memory", "too-large") from error
        except DAMAGE as error:
            whole = with_end(data, min_side) if form == "JPEG" and lacks_end(data, form) else None
            if whole is None:
                raise explain(error, data, form, max_pixels) from error
            return decode(whole, min_side=min_side, max_pixels=max_pixels)
    if turn is not None:
        image = image.transpose(turn)
        # Quarter turns and diagonal mirrors swap the sides; the constants from ROTATE_90 on are these, except 180.
        if turn >= Image.Transpose.ROTATE_90 and turn != Image.Transpose.ROTATE_180:
            width, height = height, width
    pixels = np.asarray(image)
    return DecodedPhoto(pixels=pixels, width=width, height=height, scale=pixels.shape[1] / width)


def is_upright(data: bytes) -> bool:
    """Return whether a photo is shown as it is stored, by its EXIF; reads no pixels. Raises ImageError."""
    form = sniff(data)
    with quiet_pillow():
        check_pieces(data, form)
        return orientation(open_image(data, form).info.get("exif")) not in _UPRIGHT


def network_input(pixels: Pixels, preprocessing: Preprocessing, box: BoundingBox | None = None) -> Pixels:
    """Return uint8 (height, width, 3) for a network: the box padded, clipped, cropped and resized in one step.

    `box` is in the pixels of this array; None takes the whole array, unpadded. Raises ImageError when `pixels` is no
    RGB photo or nothing of the box lies inside it.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    area = BoundingBox(0, 0, width, height)
    if box is not None:
        # Padded before it is clipped: at the photo's edge a network sees less margin, never invented pixels.
        area = box.pad(preprocessing.pad).clip(width, height)
        if area.width < 1 or area.height < 1:
            corners = ", ".join(f"{value:g}" for value in box.to_list())
            raise ImageError(f"box ({corners}) holds no pixel of a photo of {width}x{height}: nothing to crop", "empty")
    left, top, new_width, new_height = _placement((area.width, area.height), preprocessing)
    # Crop and resize in one step: cutting at whole pixels first would shift small boxes by up to half a pixel.
    resized = _resize(pixels, area, (new_width, new_height))
    if (new_width, new_height) == (preprocessing.width, preprocessing.height):
        return resized
    canvas = np.full((preprocessing.height, preprocessing.width, 3), LETTERBOX_GREY, dtype=np.uint8)
    canvas[top : top + new_height, left : left + new_width] = resized
    return canvas


def to_photo_box(box: BoundingBox, size: tuple[int, int], preprocessing: Preprocessing) -> BoundingBox:
    """Return where a box of the network's input lies in the photo, for a whole photo of `size` (width, height).

    It is not clipped: a box in a letterbox's bars lies outside of the photo.
    """
    left, top, new_width, new_height = _placement(size, preprocessing)
    return box.shift(-left, -top).scale(size[0] / new_width, size[1] / new_height)


def to_network_box(box: BoundingBox, size: tuple[float, float], preprocessing: Preprocessing) -> BoundingBox:
    """Return where a box of a whole photo of `size` (width, height) lies in the network's input, in its pixels."""
    left, top, new_width, new_height = _placement(size, preprocessing)
    return box.scale(new_width / size[0], new_height / size[1]).shift(left, top)


# ---- network input


def _placement(size: tuple[float, float], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the resized photo in the network's input."""
    if preprocessing.fit == "squash":
        return 0, 0, preprocessing.width, preprocessing.height
    # The side that fills the input first sets the scale; the other gets bars of equal width.
    scale = min(preprocessing.width / size[0], preprocessing.height / size[1])
    # An extremely flat photo still gets a row of its own.
    width = min(max(round(size[0] * scale), 1), preprocessing.width)
    height = min(max(round(size[1] * scale), 1), preprocessing.height)
    return (preprocessing.width - width) // 2, (preprocessing.height - height) // 2, width, height


def _resize(pixels: Pixels, area: BoundingBox, size: tuple[int, int]) -> Pixels:
    """Resize a part of the pixels, antialiased, and return an array that may be written to (torch asks for it)."""
    height, width = pixels.shape[:2]
    # Pillow copies the array that it is given. The filter reaches one output pixel around the area, so that a cut-out
    # with this margin gives the same result as the whole photo and copies less.
    margin_x, margin_y = ceil(max(area.width / size[0], 1)) + 1, ceil(max(area.height / size[1], 1)) + 1
    x1, y1 = max(floor(area.x1) - margin_x, 0), max(floor(area.y1) - margin_y, 0)
    x2, y2 = min(ceil(area.x2) + margin_x, width), min(ceil(area.y2) + margin_y, height)
    part = Image.fromarray(pixels[y1:y2, x1:x2])
    inside = (area.x1 - x1, area.y1 - y1, area.x2 - x1, area.y2 - y1)
    # Bilinear with Pillow's support scaled by the reduction is antialiased; `box` takes fractions of a pixel.
    return np.array(part.resize(size, Image.Resampling.BILINEAR, box=inside))


def check_pixels(pixels: Pixels) -> None:
    """Raise ImageError unless an array is an RGB photo with a pixel at least: uint8 of (height, width, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}; allowed: uint8 of shape (height, width, 3), RGB",
            "unreadable",
        )
    if 0 in pixels.shape:
        raise ImageError(f"pixels of shape {pixels.shape}: there is no pixel", "empty")


# ---- opening
