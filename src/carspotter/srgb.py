"""The colours of an opened image, in sRGB: profiles, palettes, 16 bits, alpha. A step of `pixels`, which decodes."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from carspotter.errors import ImageError
from carspotter.headers import unsupported

# Real profiles have 0.5 kB (sRGB) to 2 MB (CMYK presses).
_MAX_PROFILE_BYTES = 4 << 20

# All that Pillow's readers raise on damaged bytes, seen with the hostile files of the tests: no reader documents it.
METADATA_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the image as 8-bit RGB in sRGB. Raises ImageError for colours that cannot be read."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        image = _from_16_bit(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = _on_white(image)
    elif image.mode == "P":  # a profile speaks of the palette's colours
        image = image.convert("RGB")
    if profile:
        image = _apply_profile(image, profile)
    if image.mode == "RGB":
        return image
    if image.mode not in ("1", "L", "CMYK", "YCbCr", "RGBX"):
        raise unsupported(f"its colours are of mode {image.mode}")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # `I` has 32 bits but comes from 16-bit files; the byte that counts is the upper of the two.
    return Image.fromarray((np.clip(values, 0, 65_535) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    # Most files with an alpha channel are opaque, which saves a copy of the photo.
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    canvas = Image.new("RGB", rgba.size, "white")
    canvas.paste(rgba, mask=alpha)
    return canvas


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from the embedded profile to sRGB; leave the image as it is when the profile is of no use."""
    if len(profile) > _MAX_PROFILE_BYTES:
        raise ImageError(f"ICC profile of {len(profile)} bytes is over the limit of {_MAX_PROFILE_BYTES}", "too-large")
    transform = _profile_transform(bytes(profile), image.mode)
    return image if transform is None else ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=8)  # photos of one site share few profiles; building a transform costs milliseconds
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the step from a profile to sRGB, or None when there is nothing to do or the profile is broken."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip().casefold().startswith("srgb"):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, *METADATA_ERRORS):
        return None
