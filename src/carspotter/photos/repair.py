"""Save the whole part of a photo that no decoder accepts, as a JPEG, where that is most of it.

Files below the project that cannot be saved are moved to its quarantine, with the reason in a table beside them.
Nothing is deleted, and nothing outside of the project's folder is moved or changed.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from carspotter import storage
from carspotter.errors import StorageError
from carspotter.photos.names import folder_name
from carspotter.pixels import MAX_PIXELS

LEAST_WHOLE = 0.7
"""Share of a photo's rows that must be there: with less, wheels or roof of the vehicle are missing."""

QUALITY = 95
_ORIENTATION = 0x0112  # the tag of EXIF
_LEDGER = "quarantine.csv"
# Pillow takes truncated files by a setting of its whole module.
_TRUNCATED = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """A photo that was saved: its bytes as JPEG, and what was done in words."""

    data: bytes
    what: str


def repair(data: bytes) -> Repaired | None:
    """Save what can be saved of a photo's bytes; None where too little is there, or nothing at all."""
    image = _open_anyway(data)
    if image is None:
        return None
    pixels = np.asarray(image)
    whole = intact_rows(pixels)
    if whole < LEAST_WHOLE * len(pixels):
        return None
    # Cut before it is turned: what is missing is the end of the file, the bottom of the picture as it is stored.
    kept = Image.fromarray(pixels[:whole])
    kept.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    kept = ImageOps.exif_transpose(kept)
    buffer = io.BytesIO()
    kept.save(buffer, "JPEG", quality=QUALITY)
    lost = 1 - whole / len(pixels)
    # The end of a progressive JPEG holds fine detail of all rows.
    what = f"{lost:.0%} of its rows were missing" if lost else "its end was missing, and with it some detail"
    return Repaired(data=buffer.getvalue(), what=f"written anew: {what}")


def _open_anyway(data: bytes) -> Image.Image | None:
    """Decode as far as the bytes go; None where they are no picture, or one too large."""
    with _TRUNCATED:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                return None
            rgb = image.convert("RGB")
            rgb.getexif().update(image.getexif())
        # Pillow's decoders raise nearly anything on damaged bytes.
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            TypeError,
            IndexError,
            KeyError,
            Image.DecompressionBombError,
        ):
            return None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    return rgb


def intact_rows(pixels: NDArray[np.uint8]) -> int:
    """Count the rows above the plain area that a decoder leaves where bytes were missing; pixels are (h, w, 3)."""
    plain = (pixels == pixels[-1:, -1:]).all(axis=(1, 2))
    return len(pixels) if not plain[-1] else int(len(pixels) - np.argmin(plain[::-1]))


def quarantine(path: Path, folder: Path, *, photo: Mapping[str, Any]) -> Path:
    """Move a file into the folder `quarantine`, note why beside it, and return where it is now.

    `photo` has photo_id, status and message. Raises StorageError where it cannot be moved.
    """
    target = folder / f"{folder_name(str(photo['photo_id']).replace('/', '-'))}{path.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        ledger = folder / _LEDGER
        is_new = not ledger.exists()
        with ledger.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(("photo_id", "file", "was", "status", "message"))
            writer.writerow((photo["photo_id"], target.name, path, photo.get("status"), photo.get("message")))
    except OSError as error:
        raise StorageError(f"{path} cannot be moved to {folder}: {error.strerror}") from error
    return target


def save_repaired(repaired: Repaired, folder: Path, *, name: str) -> Path:
    """Write a saved photo below the project's photos and return its path; raises StorageError."""
    path = folder / f"{name}.repaired.jpg"
    storage.write(path, repaired.data)
    return path
