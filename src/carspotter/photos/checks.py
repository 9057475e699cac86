"""Score, flag and judge a photo by its bytes and pixels.

Scores say what was measured, flags what the settings make of it, the status whether the photo goes on. They are apart,
so that a changed threshold needs no second look at a photo: `judge` takes stored scores. Decoding is the caller's,
since other parts look at the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from carspotter.catalog.tables import OK
from carspotter.errors import ImageError, suggestion
from carspotter.hashes import dhash, greyscale, phash
from carspotter.headers import sniff
from carspotter.pixels import DecodedPhoto
from carspotter.quality import scores

Row = dict[str, Any]

FLAGS = ("too-small", "dark", "bright", "placeholder", "blurred")
"""What a photo can be flagged as, the gravest first: the first one that drops it is its status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """From which scores on a photo is flagged, and which flags drop it.

    The thresholds were chosen on 1630 listing photographs and on copies of them that were darkened, brightened, blurred
    and painted over (docs/dropped-photos.md).
    """

    min_side: int = 120
    """Pixels: a vehicle that fills such a photo has less than the 48 that the recognizer wants of a side."""
    dark: float = 0.10
    """Mean brightness below which nothing can be made out."""
    bright: float = 0.92
    """Mean brightness above which nothing can be made out."""
    blurred: float = 60.0
    """Variance of the Laplacian below which edges are gone."""
    placeholder: float = 0.75
    """Share of one grey level and its neighbours from which a picture is a drawing or a plain area."""
    drop: tuple[str, ...] = FLAGS
    """Flags that drop a photo; the others are only kept."""

    def __post_init__(self) -> None:
        for flag in self.drop:
            if flag not in FLAGS:
                raise ValueError(f"drop names {flag!r}; {suggestion(flag, FLAGS)}")


def check(data: bytes, seen: DecodedPhoto | ImageError, settings: CheckSettings) -> Row:
    """Return a row of table `checks` without its key, from a photo's bytes and its pixels, or why these are missing.

    Brightness, contrast and plainness are 0..1, sharpness the variance of the Laplacian in grey levels of 0..255 at
    `quality.WORKING_SIDE`.
    """
    # Bytes are hashed even where they cannot be decoded: equal broken files are copies as well.
    row: Row = {"format": _format(data), "sha256": sha256(data).hexdigest()} if data else {}
    if isinstance(seen, ImageError):
        return {**row, "flags": [], "status": seen.code, "message": str(seen)}
    # All measures but the size look at brightness alone, so that the conversion is paid once.
    grey = greyscale(seen.pixels)
    row |= {"width": seen.width, "height": seen.height, "phash": phash(grey), "dhash": dhash(grey), **scores(grey)}
    flags, status = judge(row, settings)
    return {**row, "flags": flags, "status": status}


def _format(data: bytes) -> str | None:
    try:
        return sniff(data)
    except ImageError:
        return None  # the decoder has said so already


def judge(row: Mapping[str, Any], settings: CheckSettings) -> tuple[list[str], str]:
    """Return the flags and the status of a photo that could be read, from its stored size and scores."""
    holds = {
        # Thresholds stand here and not in the scores, so that a changed one re-judges stored photos without decoding.
        "too-small": min(row["width"], row["height"]) < settings.min_side,
        "dark": row["brightness"] < settings.dark,
        "bright": row["brightness"] > settings.bright,
        "placeholder": row["plainness"] > settings.placeholder,
        "blurred": row["sharpness"] < settings.blurred,
    }
    # In the order of gravity, so that the first flag that drops the photo names its status.
    flags = [flag for flag in FLAGS if holds[flag]]
    return flags, next((flag for flag in flags if flag in settings.drop), OK)
