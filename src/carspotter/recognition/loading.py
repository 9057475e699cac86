"""A photo in, as a path, a URL, bytes or an array; its pixels out, at the size that the networks need, or its error.

It measures how long that takes and, where asked, what tells copies: hashes, brightness and sharpness.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carspotter import storage
from carspotter.crops import read_photo, shrunk
from carspotter.errors import CarspotterError
from carspotter.hashes import dhash, greyscale, phash
from carspotter.pixels import MAX_PIXELS, DecodedPhoto, check_pixels
from carspotter.quality import scores
from carspotter.records import PhotoError, Quality

Photo = str | Path | bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A photo that was read and decoded, or the error."""

    name: str
    decoded: DecodedPhoto | None
    error: PhotoError | None
    milliseconds: float
    hashes: tuple[int, int] | None = None
    quality: Quality | None = None


def load(photo: Photo, side: int, *, max_pixels: int = MAX_PIXELS, with_hashes: bool = False) -> Loaded:
    """Read and decode a photo for networks of `side` pixels (`crops.decode_side`); what goes wrong is in the answer.

    `with_hashes` adds perceptual hashes, by which copies are known, brightness and sharpness.
    """
    start = time.perf_counter()
    decoded, error = None, None
    try:
        decoded = _decode(photo, side, max_pixels)
    except CarspotterError as problem:
        error = PhotoError.of(problem)
    hashes, quality = _described(decoded.pixels) if with_hashes and decoded else (None, None)
    took = milliseconds_since(start)
    return Loaded(name=_name(photo), decoded=decoded, error=error, milliseconds=took, hashes=hashes, quality=quality)


def milliseconds_since(start: float) -> float:
    """Return the milliseconds since a moment of `time.perf_counter`."""
    return (time.perf_counter() - start) * 1000


def _decode(photo: Photo, side: int, max_pixels: int) -> DecodedPhoto:
    if isinstance(photo, np.ndarray):
        check_pixels(photo)
        return shrunk(DecodedPhoto(pixels=photo, width=photo.shape[1], height=photo.shape[0]), side)
    data = photo if isinstance(photo, bytes) else storage.read(photo)
    return read_photo(data, side, max_pixels=max_pixels)


def _described(pixels: NDArray[np.uint8]) -> tuple[tuple[int, int], Quality]:
    grey = greyscale(pixels)
    measured = scores(grey)
    quality = Quality(brightness=measured["brightness"], sharpness=measured["sharpness"])
    return (phash(grey), dhash(grey)), quality


def _name(photo: Photo) -> str:
    if isinstance(photo, np.ndarray):
        return "<array>"
    return "<bytes>" if isinstance(photo, bytes) else str(photo)
