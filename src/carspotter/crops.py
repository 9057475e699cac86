"""From the bytes of a photo and a vehicle's box to the pixels that the identifier sees: the one way.

Serving, a build, evaluation, training, shards and export cut by these functions and no others, so that a network sees
in service what it learnt from. Which vehicle is cut is for `recognition.view`.
"""

from __future__ import annotations

from dataclasses import replace

from carspotter.geometry import BoundingBox
from carspotter.pixels import MAX_PIXELS, DecodedPhoto, Pixels, Preprocessing, decode, network_input

CROP_SHARE = 0.5
"""Share of the photo's shorter side that a usual vehicle's box has at least; sets how large photos are decoded."""

LEAST_SIDE = 448
"""Pixels that the shorter side of a decoded photo has at least: what the finder needs, and twice what the identifier
that ships does. It holds for all networks, so that crops can be cut without knowing which finder found them."""

LONGEST = 8
"""Longer side of a decoded photo, at most this many times what its shorter side needs. Panoramas of phones are up to
4 : 1; without a bound 32 strips of 65535 x 895 pixels, which small files can hold, would take 5.6 GB."""

_STEPS = 64
"""Boxes are kept in steps of a 64th of a pixel: a number that float32, as the catalogue has it, holds exactly."""


def decode_side(identifier: Preprocessing, finder: Preprocessing | None = None) -> int:
    """Return how many pixels the shorter side of a decoded photo needs.

    The crop of a vehicle that takes half of the shorter side must not be below the identifier's input, and the whole
    photo not below the finder's (one of more than `LEAST_SIDE` must be named by the caller). More would only cost
    time in the JPEG decoder, which halves.
    """
    # The vehicle's longer side may lie along the photo's shorter one, so that the larger side of the input counts.
    crop = max(identifier.width, identifier.height) / CROP_SHARE
    return round(max(crop, LEAST_SIDE, min(finder.width, finder.height) if finder else 0))


def read_photo(data: bytes, side: int, *, max_pixels: int = MAX_PIXELS) -> DecodedPhoto:
    """Decode a photo as small as a shorter side of `side` pixels allows; raises ImageError."""
    return shrunk(decode(data, min_side=side, max_pixels=max_pixels), side)


def shrunk(photo: DecodedPhoto, side: int) -> DecodedPhoto:
    """Shrink a photo by the whole number that its shorter side allows, and a strip until its longer side is bounded.

    The decoder does so for JPEG alone, and a window of 32 photos of 50 megapixels in PNG would take 5 GB.
    """
    height, width = photo.pixels.shape[:2]
    # Whole numbers only, so that each output pixel averages the same number of inputs. -(-a // b) rounds up.
    factor = max(min(height, width) // side, -(-max(height, width) // (LONGEST * side)))
    if factor < 2:
        return photo
    # Rounded up, as libjpeg does, so that a PNG and a JPEG of one photo get the same size.
    small = Preprocessing(width=-(-width // factor), height=-(-height // factor))
    return replace(photo, pixels=network_input(photo.pixels, small), scale=small.width / photo.width)


def to_original(photo: DecodedPhoto, box: BoundingBox) -> BoundingBox:
    """Return a box of the decoded pixels in pixels of the upright original, in steps of a 64th.

    Both axes by themselves: the JPEG decoder rounds a scaled height and width up, each for itself.
    """
    height, width = photo.pixels.shape[:2]
    # Clipped after scaling: a rounded-up edge may lie a fraction of a pixel outside of the original.
    scaled = box.scale(photo.width / width, photo.height / height).clip(photo.width, photo.height)
    return BoundingBox(*(round(side * _STEPS) / _STEPS for side in scaled.to_list()))


def cut(photo: DecodedPhoto, target: Preprocessing, box: BoundingBox | None = None) -> Pixels:
    """Return a network's input (height, width, 3) of a decoded photo: the box, in pixels of the original, or all of it.

    Raises ImageError for a box that holds no pixel of the photo.
    """
    if box is None:
        return network_input(photo.pixels, target)
    height, width = photo.pixels.shape[:2]
    # Clipped before it is padded: a box over the photo's edge has its margin inside, as one that the finder drew.
    inside = box.clip(photo.width, photo.height)
    return network_input(photo.pixels, target, inside.scale(width / photo.width, height / photo.height))


def crop_of(data: bytes, target: Preprocessing, box: BoundingBox | None = None) -> Pixels:
    """Return the identifier's input of a photo's bytes and a box in pixels of its upright original; raises ImageError.

    Without a box the whole photo is the crop.
    """
    return cut(read_photo(data, decode_side(target)), target, box)
