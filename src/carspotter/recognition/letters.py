"""Find a font that can draw a text, among Pillow's own and those of this machine, and spell out what none can draw.

A frame in place of a letter says nothing: a letter that no font at hand has is drawn as its plain Latin one (é: e), or
as its number in Unicode (U+5947). It draws nothing itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = (
    "DejaVuSans.ttf",  # Latin, Cyrillic, Greek, Georgian, Armenian, Arabic, Hebrew
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansGeorgian-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Arial Unicode.ttf",  # macOS
    "PingFang.ttc",
    "segoeui.ttf",  # Windows
    "msyh.ttc",
)
"""Fonts that systems bring along, by the names of their files; Pillow looks for them where the system has its fonts."""
_MISSING = "\U0010ffff"  # no letter, so that no font has it


def drawable(text: str, height: float) -> tuple[str, Font]:
    """Return a font of a height in pixels, the one that has the most letters of a text, and the text as it draws it."""
    composed = unicodedata.normalize("NFC", text)
    plain = ImageFont.load_default(height)
    if composed.isascii():
        return composed, plain
    fonts = [plain, *(font for name in FONTS if (font := _font(name, height)) is not None)]
    # The first of equals: Pillow's own draws what it can.
    best = max(fonts, key=lambda font: sum(_has(font, letter) for letter in composed))
    return "".join(_drawn(best, composed)), best


def _drawn(font: Font, text: str) -> Iterator[str]:
    """Yield what a font draws for each letter of a text."""
    is_known = True  # whether the font has the letter that a mark stands on
    for letter in text:
        is_mark = unicodedata.category(letter)[0] == "M"
        is_known = is_known and _has(font, letter) if is_mark else _has(font, letter)
        yield letter if is_known else _spelled(letter)


@lru_cache(maxsize=64)
def _font(name: str, height: float) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, height)
    except OSError:
        return None


def _has(font: Font, letter: str) -> bool:
    """Return whether a font draws a letter as more than the frame for a missing one."""
    if letter.isascii():
        return True
    drawn, frame = font.getmask(letter), font.getmask(_MISSING)
    return drawn.getbbox() is not None and (drawn.size, bytes(drawn)) != (frame.size, bytes(frame))


def _spelled(letter: str) -> str:
    if unicodedata.category(letter)[0] == "M" or unicodedata.category(letter) == "Cf":
        return ""  # a mark or a joiner means nothing without its letter
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or f"U+{ord(letter):04X} "
