"""Where the bytes of a fetched photo lie: names that any file system takes, and files that appear whole or not at all.

In: an ad's id and a photo's bytes. Out: a path below the project, under which the bytes are. It asks nobody.
"""

from __future__ import annotations

import errno
import os
import re
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from carspotter.errors import ImageError
from carspotter.hashes import phash
from carspotter.headers import sniff
from carspotter.pixels import decode

HALF_WRITTEN = Path("photos", ".incoming")  # no ad's folder begins with a dot

_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "GIF": ".gif",
    "BMP": ".bmp",
    "HEIC": ".heic",
}
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
_MAX_FOLDER_NAME = 120  # of 255 that file systems allow, for paths may be limited to 260 in all
# Pixels of the shorter side from which the hash is made; a scaled JPEG is three times as fast to decode.
_HASHED_SIDE = 64
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def not_saved(error: OSError) -> dict[str, Any]:
    """Return status and message of a photo that could not be written."""
    status = "no-space" if error.errno in _FULL else "failed"
    return {"status": status, "message": f"the photo cannot be written: {error.strerror or error}"}


def folder_name(ad_id: str) -> str:
    """Return an ad's id as the name of a folder on any file system: letters, digits and `-_~.`, the rest as %XX.

    Windows keeps some names for devices, and drops a dot at the end: one letter of such a name is %XX as well.
    """
    name = quote(ad_id, safe="", errors="replace")
    if name.startswith(".") or _DEVICE.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = name[:-1] + "%2E"
    if len(name) > _MAX_FOLDER_NAME:
        digest = blake2b(ad_id.encode(errors="replace"), digest_size=8).hexdigest()
        name = f"{name[: _MAX_FOLDER_NAME - 17]}-{digest}"
    return name


def photo_name(data: bytes) -> tuple[str, str]:
    """Return stem and suffix of a photo's file: its perceptual hash, or "unreadable-…", and its real format."""
    suffix = ".bin"
    try:
        suffix = _SUFFIXES[sniff(data)]
        pixels = decode(data, min_side=_HASHED_SIDE).pixels
    except ImageError:
        return f"unreadable-{sha256(data).hexdigest()[:16]}", suffix
    return f"{phash(pixels):016x}", suffix


def save(project: Path, ad_id: str, data: bytes) -> str:
    """Write a photo below the project if its bytes are not there yet; return its path from the project.

    Two photos of one ad with one hash but other bytes are two files. Raises OSError.
    """
    folder = Path("photos", folder_name(ad_id))
    stem, suffix = photo_name(data)
    (project / folder).mkdir(parents=True, exist_ok=True)
    for name in (f"{stem}{suffix}", f"{stem}-{sha256(data).hexdigest()[:8]}{suffix}"):
        if _put(project, project / folder / name, data):
            return (folder / name).as_posix()
    raise FileExistsError(errno.EEXIST, "another file has its name", str(folder / name))


def _put(project: Path, path: Path, data: bytes) -> bool:
    """Make a file at once and whole unless one is there; say whether the file has these bytes."""
    if path.exists():
        return path.stat().st_size == len(data) and path.read_bytes() == data
    temporary = project / HALF_WRITTEN / f"{uuid4().hex}.part"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)  # fails where another worker was faster; a rename would replace its file
        except FileExistsError:
            return _put(project, path, data)
        except OSError:
            temporary.replace(path)  # a file system without links
    finally:
        temporary.unlink(missing_ok=True)
    return True
