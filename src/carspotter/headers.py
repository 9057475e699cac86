"""Read what the bytes of a photo's file say before a decoder sees them.

In: bytes from any source. Out: the format, the EXIF orientation, whether the end is missing, and an ImageError for
headers that would keep a decoder busy for minutes. It decodes nothing and needs the standard library alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice

from carspotter.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "HEIC")
"""The formats that `sniff` names; nothing else is decoded."""
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".avif",
    ".heic",
    ".heif",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
)
"""How names of photos end, in lower case. TIFF is among them so that such a file is reported instead of passed over."""

_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP"}
# Pillow reads headers piece by piece in Python, some microseconds each: a file of markers alone would take a minute.
# A PNG of 32 MiB in the smallest usual chunks (8 KiB) has 4096 pieces, other photos have dozens.
_MAX_PIECES = 50_000
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Markers of frames that decoders read, and whether their scans bring the coefficients bit by bit.
_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True, 0xC9: False, 0xCA: True}
# What ends compressed pixels: neither a byte FF of them (FF 00), nor filling, nor a marker without content.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# EXIF tag 0x0112 says where the sensor's first row and column lie (Exif 2.32, 4.6.4).
_ORIENTATION = 0x0112


def sniff(data: bytes) -> str:
    """Return the format that the first bytes tell, whatever the file is called."""
    if not data:
        raise ImageError("the file is empty (0 bytes)", "empty")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _sniff_boxes(data)
    for magic, form in _MAGIC.items():
        if data.startswith(magic):
            return form
    raise unsupported(f"it begins with {data[:8].decode('latin-1')!r}")


def _sniff_boxes(data: bytes) -> str:
    """Tell AVIF from HEIC by the brands of an ISO base media file (ISO/IEC 23008-12, annex B)."""
    length = min(int.from_bytes(data[:4], "big"), 256)  # a few dozen brands at most
    brands = {data[offset : offset + 4] for offset in range(8, length, 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"}:
        return "HEIC"
    raise unsupported(f"it is a media file of brand {data[8:12]!r}")


def unsupported(why: str) -> ImageError:
    """Return the error for bytes that are no photo of `FORMATS`."""
    return ImageError(f"not a photo that can be read: {why}; allowed: {', '.join(FORMATS)}", "unsupported-format")


def check_pieces(data: bytes, form: str) -> None:
    """Raise ImageError for a header in so many pieces that Pillow would be busy with them for minutes."""
    walk = {"JPEG": _jpeg_pieces, "PNG": _png_pieces, "GIF": _gif_pieces}.get(form)
    if walk is not None and next(islice(walk(data), _MAX_PIECES, None), None) is not None:
        raise ImageError(f"{form} header in over {_MAX_PIECES} pieces: a bomb, or damaged", "broken")


def _jpeg_pieces(data: bytes) -> Iterator[int]:
    offset = 2
    while offset + 4 <= len(data):
        yield offset
        marker = data[offset + 1]
        if data[offset] != 0xFF or marker in (0x00, 0xFF):  # junk and filling, a byte a time
            offset += 1
        elif marker == _START_OF_SCAN:
            return
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # markers without content
            offset += 2
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")


def count_scans(data: bytes) -> int:
    """Return how many scans a JPEG has: how often a decoder passes over its pixels.

    Raises ImageError where there are so many markers between them that counting would take seconds.
    """
    return sum(1 for _ in _scans(data))


def lacks_scans(data: bytes) -> bool:
    """Return whether the scans of a JPEG leave out bits of any component that its frame names (ITU-T T.81, B.2, G.1).

    A file that was cut between two scans is such a one: each scan is whole, and a decoder shows a coarser picture.
    """
    frame = next((at for at in _jpeg_pieces(data) if data[at] == 0xFF and data[at + 1] in _FRAMES), None)
    if frame is None:
        return True
    is_progressive = _FRAMES[data[frame + 1]]
    wanted = {(name, place) for name in _names(data, frame + 9, step=3) for place in range(64)}
    for at in _scans(data):
        names = _names(data, at + 4, step=2)
        spectrum = data[at + 5 + 2 * len(names) :][:3] if is_progressive else bytes((0, 63, 0))
        if len(spectrum) == 3 and not spectrum[2] & 15:  # what bits of each coefficient are still to come
            places = range(spectrum[0], spectrum[1] + 1)
            wanted -= {(name, place) for name in names for place in places}
    return bool(wanted)


def _names(data: bytes, at: int, *, step: int) -> bytes:
    """Return the names of components in a frame or a scan: their number, then `step` bytes for each, its name first."""
    n_components = int.from_bytes(data[at : at + 1], "big")
    return data[at + 1 : at + 1 + step * n_components : step]


def _scans(data: bytes) -> Iterator[int]:
    """Yield where each scan begins; raises ImageError where there are too many markers between them."""
    for number, at in enumerate(_scan_pieces(data)):
        if number == _MAX_PIECES:
            raise ImageError(f"JPEG with over {_MAX_PIECES} markers: a bomb, or damaged", "broken")
        if data[at + 1] == _START_OF_SCAN:
            yield at


def _scan_pieces(data: bytes) -> Iterator[int]:
    """Yield where each marker stands, from the first scan to the end of the image.

    Not to the end of the file: phones append a film of some megabytes, in which any bytes occur.
    """
    offset = max(_jpeg_pieces(data), default=len(data))
    while offset + 4 <= len(data) and data[offset + 1] != _END_OF_IMAGE:
        yield offset
        found = _NEXT_MARKER.search(data, offset + 2 + int.from_bytes(data[offset + 2 : offset + 4], "big"))
        if found is None:
            return
        offset = found.start()


def _png_pieces(data: bytes) -> Iterator[int]:
    offset = 8
    while offset + 12 <= len(data):
        yield offset
        offset += 12 + int.from_bytes(data[offset : offset + 4], "big")


def _gif_pieces(data: bytes) -> Iterator[int]:
    """Yield the blocks before the first frame, and the parts of the extensions among them."""
    flags = data[10] if len(data) > 10 else 0
    offset = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while offset < len(data) and data[offset] not in b",;":
        yield offset
        is_extension = data[offset] == 0x21
        offset += 2 if is_extension else 1
        while is_extension and offset < len(data) and data[offset]:
            yield offset
            offset += 1 + data[offset]


def orientation(exif: object) -> int:
    """Return the orientation in EXIF bytes, 1 (upright) where they are missing or broken.

    Pillow's own reader copies what each tag points to, so that a small file exhausts the memory; this one looks at one
    tag of the first folder.
    """
    if not isinstance(exif, bytes):
        return 1
    body = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", body, 4)
        (n_tags,) = struct.unpack_from(f"{order}H", body, start)
        for offset in range(start + 2, start + 2 + 12 * n_tags, 12):
            tag, kind = struct.unpack_from(f"{order}HH", body, offset)
            if tag == _ORIENTATION:  # SHORT by the standard; some writers use LONG
                return int(struct.unpack_from(order + ("I" if kind == 4 else "H"), body, offset + 8)[0])
    except struct.error:
        return 1
    return 1


def lacks_end(data: bytes, form: str) -> bool:
    """Return whether a file that failed is shorter than it claims to be."""
    if form == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if form in ("AVIF", "HEIC"):
        offset = 0
        while 0 <= offset < len(data):  # top-level boxes; size 0 reaches to the end, 1 means a long size: leave it
            size = int.from_bytes(data[offset : offset + 4], "big")
            if size < 8:
                return False
            offset += size
        return offset > len(data)
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b"\x3b"}
    return form in ends and ends[form] not in data[-64:]
