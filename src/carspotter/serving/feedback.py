"""What people say of an answer, kept in a folder that the service was given; without a folder nothing is kept.

In: the photos of the last requests, held in memory for some minutes, and later a word whether the answer was right.
Out: `REQUEST_ID.jpg`, encoded anew so that no EXIF and no GPS is in it, and a line of `feedback.jsonl`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from carspotter import storage
from carspotter.pixels import decode
from carspotter.records import Prediction

KEEP_S = 600.0
KEEP_BYTES = 64 << 20
QUALITY = 92
LINES = "feedback.jsonl"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    photo: bytes
    prediction: Prediction
    at: float


@dataclass(slots=True, kw_only=True)
class Feedback:
    """Hold the last photos until their senders speak, and write down what they say."""

    folder: Path
    _held: OrderedDict[str, _Held] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def hold(self, request_id: str, photo: bytes, prediction: Prediction) -> None:
        """Keep a photo in memory for a while; the oldest go when there are too many."""
        self._held[request_id] = _Held(photo=photo, prediction=prediction, at=time.monotonic())
        self._bytes += len(photo)
        while self._held and (self._bytes > KEEP_BYTES or self._oldest() < time.monotonic() - KEEP_S):
            self._drop(next(iter(self._held)))

    def say(self, request_id: str, *, right: bool, said: str | None) -> bool:
        """Write the photo and what was said of it; False for a request that is not held any more.

        Raises StorageError when the folder cannot be written.
        """
        held = self._held.get(request_id)
        if held is None or not _ID.fullmatch(request_id) or held.at < time.monotonic() - KEEP_S:
            return False
        self._drop(request_id)
        encoded = BytesIO()
        Image.fromarray(decode(held.photo).pixels).save(encoded, "JPEG", quality=QUALITY)
        storage.write(self.folder / f"{request_id}.jpg", encoded.getvalue())
        line: dict[str, Any] = {
            "request_id": request_id, "time": datetime.now(UTC).isoformat(timespec="seconds"), "right": right,
            "said": said, "prediction": {**held.prediction.to_dict(), "photo": f"{request_id}.jpg"},
        }  # fmt: skip
        # One write in append mode: two processes on one folder do not mix their lines.
        file = os.open(self.folder / LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, (json.dumps(line) + "\n").encode())
        finally:
            os.close(file)
        return True

    def _oldest(self) -> float:
        return next(iter(self._held.values())).at

    def _drop(self, request_id: str) -> None:
        self._bytes -= len(self._held.pop(request_id).photo)
