"""From the bytes of a photo to the input of a network: the only way, for training and for serving.

In: bytes of a JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP file, from any source. Out: upright sRGB pixels
(`decode`), and from pixels a crop of the size a network takes (`network_input`), uint8 throughout. Bad bytes raise
ImageError and nothing else. It reads no file, opens no URL and normalizes nothing: that is inside the network's graph.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib import import_module
from io import BytesIO
from math import ceil, floor
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from carspotter.errors import BundleError, ImageCode, ImageError, suggestion
from carspotter.geometry import BoundingBox
from carspotter.headers import check_pieces, count_scans, lacks_end, lacks_scans, orientation, sniff, unsupported
from carspotter.settings import read_section
from carspotter.srgb import METADATA_ERRORS, to_srgb

Pixels = npt.NDArray[np.uint8]
Fit = Literal["squash", "letterbox"]

# 50 megapixels, as today's phones and cameras have (the 108 and 200 of some are a special mode, 12 by default).
# A hostile PNG of twice the size took 1 GB and 1.7 s; imgproxy allows 50, thumbor 75. A server may want to pass less.
# The 0.4 over: sensors of 50 megapixels give up to 8192 x 6144.
MAX_PIXELS = 50_400_000
# JPEG's own limit. Pillow keeps a pointer a row, so that 1 x 100 000 000 pixels would cost 800 MB of pointers.
MAX_SIDE = 65_535
# A progressive JPEG passes over all its pixels once a scan: tiny files with hundreds of scans keep a decoder busy for
# minutes (libjpeg-turbo's advisory LJT-01-005). Encoders write about 10 scans, which a photo at the limit may have.
_MAX_SCANNED_PIXELS = 20 * MAX_PIXELS
_FILLING = 512  # bytes that stand in for blocks of a JPEG, to see whether any are missing, before each of its markers
# The customary grey of letterboxed detectors (YOLO): about the mean of photographs, so that bars draw no edges.
LETTERBOX_GREY = 114

# Format of Pillow → the module that reads it, imported when the first such photo comes: the others stay closed. TIFF is
# not among them: Pillow copies what each tag points to, so that 65 535 tags on one place of a file exhaust the memory.
_PLUGINS = {
    "JPEG": "PIL.JpegImagePlugin",
    "PNG": "PIL.PngImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
    "AVIF": "PIL.AvifImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "BMP": "PIL.BmpImagePlugin",
}

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

_DAMAGE = (*METADATA_ERRORS, Image.DecompressionBombError)


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
    with _quiet_pillow():
        try:
            # Before Pillow reads anything: a header in a million pieces would keep it busy for minutes.
            check_pieces(data, form)
            image = _open(data, form)
            width, height = image.size
            _check_size(width, height, max_pixels)
            if form == "JPEG":
                _check_scans(data, width * height)
                _draft(image, min_side)
            image.load()
            if form == "HEIC":  # its reader may correct the size while it decodes
                width, height = image.size
                _check_size(width, height, max_pixels)
            turn = _UPRIGHT.get(orientation(image.info.get("exif")))
            image = to_srgb(image)
        except MemoryError as error:
            raise ImageError(f"{form} photo does not fit into memory", "too-large") from error
        except _DAMAGE as error:
            whole = _with_end(data, min_side) if form == "JPEG" and lacks_end(data, form) else None
            if whole is None:
                raise _explain(error, data, form, max_pixels) from error
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
    with _quiet_pillow():
        check_pieces(data, form)
        return orientation(_open(data, form).info.get("exif")) not in _UPRIGHT


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


def _open(data: bytes, form: str) -> Image.Image:
    if form == "HEIC":
        try:
            # Its class is called without registering it, which would change Pillow for everyone in this process.
            from pillow_heif import HeifImageFile
        except ImportError as error:
            words = 'HEIC needs a library that is missing here (run: pip install "carspotter[heic]")'
            raise unsupported(words) from error
        heif: Image.Image = HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
        return heif
    import_module(_PLUGINS[form])
    return Image.open(BytesIO(data), formats=(form,))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"photo of {width}x{height}: there is no pixel", "broken")
    if width * height > max_pixels:
        million = max_pixels / 1e6
        raise ImageError(f"photo of {width}x{height} is over the limit of {million:g} million pixels", "too-large")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"photo of {width}x{height} is over the limit of {MAX_SIDE} pixels a side", "too-large")


def _check_scans(data: bytes, n_pixels: int) -> None:
    n_scans = count_scans(data)
    if n_scans * n_pixels > _MAX_SCANNED_PIXELS:
        raise ImageError(f"JPEG with {n_scans} scans of {n_pixels} pixels: a bomb, or damaged", "too-large")


def _with_end(data: bytes, min_side: int | None) -> bytes | None:
    """Return a JPEG with the end marker that it lacks, or None where more is missing; browsers show such a photo whole.

    Where a scan is missing, all blocks of the others may be there, so that scans are counted by what they bring. Where
    all blocks are there, what follows them changes no pixel; where some are not, the last ones are read from it.
    What follows is bits of either kind in turn (libjpeg itself fills in zeros) and the restart markers that are next:
    a decoder that awaits one reads no block before it. It is decoded at the scale of the photo itself, so that a
    damaged file costs about three good ones.
    """
    start = data.removesuffix(b"\xff")
    # A file cut in the middle of the marker ends in FF, which would escape the new one.
    whole = start + b"\xff\xd9"
    last = max(range(8), key=lambda number: start.rfind(bytes((0xFF, 0xD0 + number))))
    markers = [bytes((0xFF, 0xD0 + (last + 1 + number) % 8)) for number in range(8)]

    if lacks_scans(data):
        return None

    def seen(filling: bytes) -> bytes:
        image = _open(start + filling + b"\xff\xd9", "JPEG")
        _draft(image, min_side)
        image.load()
        return blake2b(image.tobytes()).digest()

    try:
        first = seen(b"")
        # Two opposite patterns: where blocks are missing they decode to different pixels, and the digests differ.
        fillings = ((bits * _FILLING).join([b"", *markers, b""]) for bits in (b"\xaa", b"\x55"))
        # Digests, not pictures: three photos of 50 megapixels would take 450 MB.
        return whole if all(seen(filling) == first for filling in fillings) else None
    except (MemoryError, *_DAMAGE):
        return None


def _draft(image: Image.Image, min_side: int | None) -> None:
    if min_side is None:
        return
    width, height = image.size
    # The shorter side decides, so that a panorama is not shrunk below what the network needs.
    factor = min(width, height) // max(min_side, 1)
    for step in (8, 4, 2):  # the scales that libjpeg decodes at
        if factor >= step:
            image.draft(None, (width // step, height // step))
            return


def _explain(error: Exception, data: bytes, form: str, max_pixels: int) -> ImageError:
    """Make an ImageError of what a reader raised, and tell a missing end from damage."""
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit comes first, and only its sizes are in it
        return ImageError(f"{form} photo is over the limit of {max_pixels / 1e6:g} million pixels", "too-large")
    text = " ".join(str(error).split()) or type(error).__name__
    code: ImageCode = "broken"
    if "too large" in text.lower() or "too much memory" in text.lower():
        code = "too-large"
    elif "truncated" in text.lower() or lacks_end(data, form):
        code = "truncated"
    if isinstance(error, UnidentifiedImageError):
        text = "its header cannot be read"
    what = {"truncated": "is truncated", "too-large": "is too large", "broken": "is broken"}[code]
    return ImageError(f"{form} photo {what} ({len(data)} bytes): {text[:120]}", code)


# Pillow warns of damaged metadata and of sizes that we check ourselves. Filters belong to the whole process, so that
# two threads must not each put back what they found: the first one in silences Pillow, the last one out restores.
_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    global _quiet_users, _quiet_filters
    with _quiet_lock:
        _quiet_users += 1
        # Only the first of several threads finds the filters as the program had set them.
        if _quiet_filters is None:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None
