"""The row stage behind `shards`: it cuts and encodes a crop for each row with a path and a box.

One photo is one row, so that `compute` spreads them over processes or a cluster, ends one that hangs, and blames one
that kills its worker. Only the caller writes files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.dataset.crops import Format, cut, encode
from carspotter.errors import DatasetError, ImageError, StorageError
from carspotter.geometry import SIDES, BoundingBox
from carspotter.pixels import Preprocessing
from carspotter.runtime.blur import Blurrer

CROPS = "crops"
"""What the stage fills, and what each of its rows lacks."""
_DECIMALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """Cut the vehicle out of each photo; paths count from `folder`, and `number` identifies rows."""

    folder: str
    target: Preprocessing
    keep: bool
    form: Format
    quality: int
    blur: bool = False
    name: str = "shard"
    reads: str = ""
    writes: Mapping[str, str] = field(default_factory=lambda: {CROPS: "1"})
    key: str = "number"
    _opened: list[Blurrer] = field(default_factory=list, compare=False, repr=False)

    def setup(self) -> None:
        """Open what hides plates and faces, where it is wanted; raises BundleError where it is missing."""
        if self.blur and not self._opened:
            self._opened.append(Blurrer.open(threads=1))

    def process(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return a crop for each row, or the code and the message of what is wrong with its photo."""
        return {CROPS: [self._crop(row) for row in rows]}

    def _crop(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"number": row["number"], "status": "ok", **self._cut(row)}
        except (ImageError, StorageError, DatasetError) as error:
            return {"number": row["number"], "status": error.code, "message": str(error)}

    def _cut(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the encoded `image` and its `metadata`: box and area in pixels, sizes of the crop and the photo."""
        try:
            corners = [row[name] for name in SIDES]
            # Four empty cells, as a CSV of labels has them, are the whole photo.
            box = None if corners == [""] * 4 else BoundingBox(*map(float, corners))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"its box is wrong: {error}") from error
        path = str(row["path"])
        data = storage.read(path if storage.is_url(path) else str(Path(self.folder) / path))
        crop = cut(data, box, self.target, keep=self.keep)
        height, width = crop.pixels.shape[:2]
        metadata = {
            "box": [round(value, _DECIMALS) for value in crop.box.to_list()],
            "area": [round(value, _DECIMALS) for value in crop.area.to_list()],
            "width": width,
            "height": height,
            "photo_width": crop.photo_size[0],
            "photo_height": crop.photo_size[1],
        }
        pixels = self._opened[0].blur(crop.pixels) if self._opened else crop.pixels
        return {"image": encode(pixels, self.form, self.quality), "metadata": metadata}
