"""The finder's photographs and their labels, in memory.

In: a manifest, a CSV with one row a vehicle (or one for a photo without): `path` (relative to a root), `part`,
`source`, `kind`, `viewpoint`, `x1, y1, x2, y2` (pixels of the upright photo), `ignore`, `ad_id`. Out: LabelledPhoto
with small pixels and boxes. It augments nothing and makes no batches.

A photo without a box means: no vehicle, when its kind is `interior` or `other`; unknown, when it is `exterior` or
`detail`. `viewpoint` is one of eight, one of five (`front-side`: left or right unknown), or empty. A box with
`ignore` = 1 is neither vehicle nor background.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carspotter.csv_rows import read_csv
from carspotter.errors import ImageError, TrainingError, suggestion
from carspotter.geometry import SIDES, BoundingBox
from carspotter.pixels import Pixels, Preprocessing, decode, network_input
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder.masks import Mask, cut_out_mask

FloatArray = npt.NDArray[np.float32]

CUT_OUTS = "cut-outs"
"""The source of photos of one vehicle on black."""
REQUIRED = ("path", "kind", "viewpoint", *SIDES)
# A side that is not named: the sum of both sides' probabilities is what the label says.
MERGED_VIEWPOINTS = {
    "front-side": ("front-left", "front-right"),
    "side": ("left", "right"),
    "back-side": ("back-left", "back-right"),
}
# Photos are kept a quarter larger than the network's input, so that zooming in still has pixels to show.
KEEP = 1.25
# 1.0 and True are what pandas writes.
_IGNORED = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPhoto:
    """A photo's labels, and its pixels once loaded.

    `boxes` (k, 4) are in pixels of `pixels`; `views` (k, 8) is 1 for each viewpoint that the label allows, all 0 when
    unknown; `ignore` (k,). `boxes_known` is False when vehicles may be there that have no box. `mask` (h, w) says where
    the vehicle is on a photo of the source `cut-outs`.
    """

    path: str
    part: str
    source: str
    kind: int
    boxes: FloatArray
    views: FloatArray
    ignore: npt.NDArray[np.bool_]
    pixels: Pixels | None = None
    mask: Mask | None = None

    @property
    def boxes_known(self) -> bool:
        """Return whether the photo's boxes are all the vehicles there are."""
        return len(self.boxes) > 0 or KINDS[self.kind] in ("interior", "other")

    @property
    def image(self) -> Pixels:
        """Return the loaded pixels (h, w, 3)."""
        if self.pixels is None:
            raise TrainingError(f"{self.path}: the pixels are not loaded")
        return self.pixels


def read_manifest(path: Path, *, parts: Iterable[str] = ()) -> list[LabelledPhoto]:
    """Read the labels of a manifest, all or only of some parts; the order is the file's.

    Raises TrainingError for a missing column, an unknown word or an impossible box, with the line.
    """
    rows = [(f"{path}:{number}", row) for number, row in read_csv(path, REQUIRED, error=TrainingError)]
    # Rows of one photo need not stand together: a manifest may be sorted by source or by kind.
    wanted = set(parts)
    grouped: dict[str, list[tuple[str, dict[str, str]]]] = defaultdict(list)
    for place, row in rows:
        if not wanted or (row.get("part") or "train") in wanted:
            grouped[row["path"]].append((place, row))
    return [_read_photo(path, entries) for path, entries in grouped.items()]


def load(photo: LabelledPhoto, root: Path, size: tuple[int, int]) -> LabelledPhoto:
    """Return the photo with its pixels, upright, shrunk to fit into KEEP times `size` (width, height); boxes alike.

    Raises TrainingError for a photo that cannot be read.
    """
    limits = round(size[0] * KEEP), round(size[1] * KEEP)
    try:
        # libjpeg halves while it decodes, as long as the shorter side keeps enough pixels.
        decoded = decode((root / photo.path).read_bytes(), min_side=min(limits))
    except (OSError, ImageError) as error:
        raise TrainingError(f"{root / photo.path} cannot be read: {error}; take its rows out") from error
    height, width = decoded.pixels.shape[:2]
    # Never enlarged: that would only take memory.
    scale = min(limits[0] / width, limits[1] / height, 1.0)
    new_width, new_height = max(round(width * scale), 1), max(round(height * scale), 1)
    pixels = network_input(decoded.pixels, Preprocessing(width=new_width, height=new_height))
    # From the original, in whose pixels the manifest has its boxes, and not from the scaled decode. Rounding makes the
    # two axes differ.
    factors = np.array([new_width / decoded.width, new_height / decoded.height] * 2, dtype=np.float32)
    mask = cut_out_mask(pixels) if photo.source == CUT_OUTS else None
    return replace(photo, pixels=pixels, boxes=photo.boxes * factors, mask=mask)


def flip_views(views: FloatArray) -> FloatArray:
    """Return viewpoints (k, 8) as a mirror shows them: left and right change places."""
    # Viewpoints go around the car, so that mirroring reverses the order and front and back stay.
    return views[:, [(-index) % len(VIEWPOINTS) for index in range(len(VIEWPOINTS))]]


def view_mask(name: str) -> FloatArray:
    """Return (8,) with 1 for each viewpoint that a label allows; all 0 for an empty or `unknown` one."""
    mask = np.zeros(len(VIEWPOINTS), dtype=np.float32)
    if name in ("", "unknown"):
        return mask
    for allowed in MERGED_VIEWPOINTS.get(name, (name,)):
        if allowed not in VIEWPOINTS:
            raise TrainingError(f"viewpoint {name!r}: {suggestion(name, [*VIEWPOINTS, *MERGED_VIEWPOINTS])}")
        mask[VIEWPOINTS.index(allowed)] = 1
    return mask


def _read_photo(path: str, entries: list[tuple[str, dict[str, str]]]) -> LabelledPhoto:
    # Labels of the photo as a whole are read off its first row.
    place, first = entries[0]
    if first["kind"] not in KINDS:
        raise TrainingError(f"{place}: kind {first['kind']!r}; {suggestion(first['kind'], KINDS)}")
    # A row with an empty box only says what kind of photo it is.
    with_box = [(where, row) for where, row in entries if any(row[side] for side in SIDES)]
    return LabelledPhoto(
        path=path,
        part=first.get("part") or "train",
        source=first.get("source") or "photos",
        kind=KINDS.index(first["kind"]),
        boxes=np.array([_read_box(where, row) for where, row in with_box], dtype=np.float32).reshape(-1, 4),
        views=np.array([view_mask(row["viewpoint"]) for _, row in with_box], dtype=np.float32).reshape(-1, 8),
        ignore=np.array([_is_ignored(where, row) for where, row in with_box], dtype=np.bool_),
    )


def _is_ignored(place: str, row: Mapping[str, str]) -> bool:
    word = row.get("ignore") or "0"
    if word.casefold() not in _IGNORED:
        raise TrainingError(f"{place}: ignore is {word!r}; allowed: {', '.join(_IGNORED)}, or nothing")
    return _IGNORED[word.casefold()]


def _read_box(place: str, row: Mapping[str, str]) -> list[float]:
    try:
        box = BoundingBox.of_cells(row)
    except ValueError as error:
        raise TrainingError(f"{place}: {error}") from error
    if box is None or not box.area:
        raise TrainingError(f"{place}: box {box}; x2 must be over x1 and y2 over y1")
    return box.to_list()
