"""What people say of an answer, kept in a folder that the service was given; without a folder nothing is kept.

In: the photos of the last requests, held in memory for some minutes, and later a word whether the answer was right.
Out: `REQUEST_ID.jpg`, encoded anew so that no EXIF and no GPS is in it, without number plates
and faces unless the service was told otherwise, and a line of `feedback.jsonl`.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from carspotter import storage
from carspotter.errors import StorageError
from carspotter.pixels import MAX_PIXELS, Pixels, decode
from carspotter.records import Prediction
from carspotter.runtime.blur import Blur
from carspotter.storage_errors import refusal

KEEP_S = 600.0
KEEP_BYTES = 64 << 20
PREDICTION_BYTES = 32 << 10  # as Python objects, with its embedding and probabilities
FOLDER_BYTES = 4 << 30
QUALITY = 92
LINES = "feedback.jsonl"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    photo: bytes
    prediction: Prediction
    at: float


class FullError(Exception):
    """Raised when the folder holds as much as it may."""


@dataclass(slots=True, kw_only=True)
class Feedback:
    """Keep the last photos until their senders give feedback, and store it with them; safe to call from threads."""

    folder: Path
    blur: Blur | None = None
    max_pixels: int = MAX_PIXELS
    _held: OrderedDict[str, _Held] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _written: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, request_id: str, photo: bytes, prediction: Prediction) -> None:
        """Keep a photo in memory for a while; the oldest go when there are too many."""
        with self._lock:
            self._held[request_id] = _Held(photo=photo, prediction=prediction, at=time.monotonic())
            self._bytes += _size(photo)
            while self._bytes > KEEP_BYTES:
                self._drop(next(iter(self._held)))

    def sweep(self) -> None:
        """Drop the photos whose time is over."""
        with self._lock:
            for request_id in [name for name, held in self._held.items() if held.at < time.monotonic() - KEEP_S]:
                self._drop(request_id)

    def say(self, request_id: str, *, right: bool, said: str | None) -> bool:
        """Write the photo and what was said of it; False for a request that is not held any more.

        Raises StorageError when the folder cannot be written, and FullError when it holds enough; the photo is held on.
        """
        with self._lock:
            held = self._held.get(request_id)
        if held is None or not _ID.fullmatch(request_id) or held.at < time.monotonic() - KEEP_S:
            return False
        if self._size_of_folder() > FOLDER_BYTES:
            raise FullError(f"{self.folder} holds over {FOLDER_BYTES >> 20} MiB")
        pixels = decode(held.photo, max_pixels=self.max_pixels).pixels
        encoded = encode(pixels if self.blur is None else self.blur(pixels))
        storage.write(self.folder / f"{request_id}.jpg", encoded)
        line: dict[str, Any] = {
            "request_id": request_id,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "right": right,
            "said": said,
            "prediction": {**held.prediction.to_dict(), "photo": f"{request_id}.jpg"},
        }
        self._append(json.dumps(line) + "\n")
        with self._lock:
            self._written = (self._written or 0) + len(encoded)
            if request_id in self._held:
                self._drop(request_id)
        return True

    def _append(self, line: str) -> None:
        # One write in append mode: two processes on one folder do not mix their lines.
        try:
            file = os.open(self.folder / LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise StorageError(f"{self.folder / LINES} cannot be written: {refusal(error)}") from error

    def _size_of_folder(self) -> int:
        if self._written is None:
            files = self.folder.glob("*.jpg") if self.folder.is_dir() else ()
            self._written = sum(file.stat().st_size for file in files)
        return self._written

    def _drop(self, request_id: str) -> None:
        self._bytes -= _size(self._held.pop(request_id).photo)


def encode(pixels: Pixels) -> bytes:
    """Return the JPEG of pixels (h, w, 3), without metadata."""
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()


def _size(photo: bytes) -> int:
    return len(photo) + PREDICTION_BYTES
