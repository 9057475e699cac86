"""Open the bytes of a photo with Pillow: within limits, whole or mended at its end; else an error that says why not."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib import import_module
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from carspotter.errors import ImageCode, ImageError
from carspotter.headers import count_scans, lacks_end, lacks_scans, unsupported
from carspotter.srgb import METADATA_ERRORS

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


DAMAGE = (*METADATA_ERRORS, Image.DecompressionBombError)


def open_image(data: bytes, form: str) -> Image.Image:
    """Open a photo of a form that `headers` told; nothing is decoded yet. Raises ImageError, and what Pillow raises."""
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


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError for a photo without pixels, and for one over a limit."""
    if width < 1 or height < 1:
        raise ImageError(f"photo of {width}x{height}: there is no pixel", "broken")
    if width * height > max_pixels:
        million = max_pixels / 1e6
        raise ImageError(f"photo of {width}x{height} is over the limit of {million:g} million pixels", "too-large")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"photo of {width}x{height} is over the limit of {MAX_SIDE} pixels a side", "too-large")


def check_scans(data: bytes, n_pixels: int) -> None:
    """Raise ImageError for a progressive JPEG that would keep a decoder busy for minutes."""
    n_scans = count_scans(data)
    if n_scans * n_pixels > _MAX_SCANNED_PIXELS:
        raise ImageError(f"JPEG with {n_scans} scans of {n_pixels} pixels: a bomb, or damaged", "too-large")


def with_end(data: bytes, min_side: int | None) -> bytes | None:
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
        image = open_image(start + filling + b"\xff\xd9", "JPEG")
        draft(image, min_side)
        image.load()
        return blake2b(image.tobytes()).digest()

    try:
        first = seen(b"")
        # Two opposite patterns: where blocks are missing they decode to different pixels, and the digests differ.
        fillings = ((bits * _FILLING).join([b"", *markers, b""]) for bits in (b"\xaa", b"\x55"))
        # Digests, not pictures: three photos of 50 megapixels would take 450 MB.
        return whole if all(seen(filling) == first for filling in fillings) else None
    except (MemoryError, *DAMAGE):
        return None


def draft(image: Image.Image, min_side: int | None) -> None:
    """Let the decoder of JPEG shrink a photo to no less than `min_side` pixels a side, as it reads it."""
    if min_side is None:
        return
    width, height = image.size
    # The shorter side decides, so that a panorama is not shrunk below what the network needs.
    factor = min(width, height) // max(min_side, 1)
    for step in (8, 4, 2):  # the scales that libjpeg decodes at
        if factor >= step:
            image.draft(None, (width // step, height // step))
            return


def explain(error: Exception, data: bytes, form: str, max_pixels: int) -> ImageError:
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
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings from the process while any thread is inside."""
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
