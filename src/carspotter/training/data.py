"""Photos of the identifier: a CSV of labels and a taxonomy in, batches of augmented tensors out.

Each photo is decoded once, by `pixels.network_input` as in serving, into one array in memory; augmentation works on
whole batches. Millions of photos need shards instead: this holds some ten thousand (150 kB each at 224 px).
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.errors import ImageError, RecipeError
from carspotter.geometry import BoundingBox
from carspotter.pixels import Preprocessing, decode, network_input
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.recipe import AugmentSettings, DataSettings, InputSettings, Recipe

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPhotos:
    """Hold decoded photos `images` (n, h, w, 3), their classes `targets` (n,) and where they came from."""

    images: Images
    targets: npt.NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: npt.NDArray[np.bool_]) -> LabelledPhotos:
        """Keep the photos that `chosen` (n,) marks."""
        kept = tuple(path for path, keep in zip(self.paths, chosen, strict=True) if keep)
        return LabelledPhotos(images=self.images[chosen], targets=self.targets[chosen], paths=kept)


def load_taxonomy(path: Path) -> tuple[Taxonomy, dict[str, int]]:
    """Read the CSV `class_id, make, model, generation, year, body`; return it with the index of each `class_id`."""
    rows = read_rows(path, ("class_id", "make", "model"))
    taxa = [
        Taxon(
            make=row["make"],
            model=row["model"],
            generation=row.get("generation") or None,
            year=int(row["year"]) if row.get("year") else None,
            body=row.get("body") or None,
        )
        for row in rows
    ]
    return Taxonomy(classes=tuple(taxa)), {row["class_id"]: index for index, row in enumerate(rows)}


def read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV whose header has the `needed` columns. Raises RecipeError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"data: {path} cannot be read: {error}") from error
    if not rows:
        raise RecipeError(f"data: {path} has no row")
    missing = [name for name in needed if name not in rows[0]]
    if missing:
        raise RecipeError(f"data: {path} lacks the column {missing[0]!r}; it has {', '.join(rows[0])}")
    return rows


def load_photos(settings: DataSettings, labels: Path, ids: dict[str, int], size: InputSettings) -> LabelledPhotos:
    """Decode every photo that the CSV `labels` names for `settings.split`. Raises RecipeError."""
    rows = read_rows(labels, ("path", "class_id"))
    rows = [row for row in rows if not settings.split or row.get("split") == settings.split]
    unknown = next((row["class_id"] for row in rows if row["class_id"] not in ids), None)
    if not rows or unknown is not None:
        what = f"class_id {unknown!r} is not in the taxonomy" if rows else f"no row with split {settings.split!r}"
        raise RecipeError(f"data: {labels}: {what}")
    preprocessing = Preprocessing(width=size.width, height=size.height, fit=size.fit, pad=size.pad)

    def read(row: dict[str, str]) -> Images:
        path = labels.parent / row["path"]
        try:
            photo = decode(path.read_bytes())
        except (OSError, ImageError) as error:
            raise RecipeError(f"data: {labels} names {path}, which cannot be read: {error}") from error
        box = BoundingBox(*(float(row[side]) for side in ("x1", "y1", "x2", "y2"))) if row.get("x2") else None
        return network_input(photo.pixels, preprocessing, box)

    images = np.empty((len(rows), size.height, size.width, 3), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        for index, image in enumerate(pool.map(read, rows)):
            images[index] = image
    targets = np.array([ids[row["class_id"]] for row in rows], np.int64)
    return LabelledPhotos(images=images, targets=targets, paths=tuple(row["path"] for row in rows))


def split_holdout(photos: LabelledPhotos, part: float) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Return what is learnt from and what is held out: of each class the photos with the smallest hash of their path.

    It depends on the paths alone, so that it is the same for every seed, and each class keeps at least one of both.
    """
    order = np.array([hashlib.sha256(path.encode()).hexdigest() for path in photos.paths])
    held = np.zeros(len(photos), bool)
    for target in np.unique(photos.targets):
        members = np.flatnonzero(photos.targets == target)
        if len(members) > 1:
            count = min(max(1, round(part * len(members))), len(members) - 1)
            held[members[np.argsort(order[members])[:count]]] = True
    return photos.take(~held), photos.take(held)


def fingerprint(recipe: Recipe, photos: LabelledPhotos) -> str:
    """Tell recipe and data apart in 16 letters; paths, phases and words may change without a new fingerprint."""
    settings: dict[str, Any] = recipe.to_dict()
    for free in ("folder", "claim", "card", "data", "phases"):
        settings.pop(free)
    settings["train"].pop("threads")
    labels = hashlib.sha256(repr((photos.paths, photos.targets.tolist())).encode()).hexdigest()
    return hashlib.sha256(repr((sorted(settings.items()), labels)).encode()).hexdigest()[:16]


def batches(n_photos: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the photos' numbers in a new order, `batch` at a time; the incomplete rest waits for the next epoch."""
    order = torch.randperm(n_photos, generator=generator)
    whole = order[: n_photos - n_photos % batch] if n_photos >= batch else order
    yield from whole.split(batch)


def augment(images: Tensor, size: tuple[int, int], settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Crop, turn, flip, recolour and erase a batch: uint8 (n, h, w, 3) to uint8-ranged floats (n, 3, height, width)."""
    height, width = size
    # A quarter larger than the target: the crops below then sample about one to one, without aliasing.
    pixels = images.permute(0, 3, 1, 2)
    around = (min(round(height * 1.25), pixels.shape[2]), min(round(width * 1.25), pixels.shape[3]))
    pixels = F.interpolate(pixels, around, mode="bilinear", antialias=True).float()
    grid = F.affine_grid(_crops(len(images), settings, generator), [len(images), 3, height, width], align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    pixels = _recolor(pixels, settings, generator)
    return _erase(pixels, settings, generator).contiguous(memory_format=torch.channels_last)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _crops(n: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Draw affine maps (n, 2, 3) from output to input, both in -1…1."""
    area = _uniform(n, settings.min_area, 1.0, generator).sqrt()
    skew = _uniform(n, -settings.aspect, settings.aspect, generator).div(2).exp()
    limit = 1 + settings.zoom_out
    scale_x, scale_y = (area * skew).clamp(max=limit), (area / skew).clamp(max=limit)
    shift_x = (limit - scale_x) * _uniform(n, -1, 1, generator)
    shift_y = (limit - scale_y) * _uniform(n, -1, 1, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < settings.flip, -1.0, 1.0)
    angle = _uniform(n, -settings.rotate, settings.rotate, generator) * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    rows = [cosine * scale_x * mirror, -sine * scale_y, shift_x, sine * scale_x * mirror, cosine * scale_y, shift_y]
    return torch.stack(rows, dim=1).view(n, 2, 3)


def _recolor(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    n, strength = len(pixels), settings.color
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # luma of ITU-R BT.601
    gray = (pixels * weights).sum(1, keepdim=True)
    saturation = _uniform(n, 1 - strength, 1 + strength, generator)
    saturation[torch.rand(n, generator=generator) < settings.gray] = 0
    pixels = torch.lerp(gray.expand_as(pixels), pixels, saturation.view(n, 1, 1, 1))
    contrast = _uniform(n, 1 - strength, 1 + strength, generator).view(n, 1, 1, 1)
    brightness = _uniform(n, 1 - strength, 1 + strength, generator).view(n, 1, 1, 1)
    mean = gray.mean((2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(pixels), pixels, contrast).mul_(brightness).clamp_(0, 255)


def _erase(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    n, _, height, width = pixels.shape
    for index in torch.nonzero(torch.rand(n, generator=generator) < settings.erase).flatten().tolist():
        area, ratio = _uniform(2, 0, 1, generator).tolist()
        side = math.sqrt(0.02 + 0.18 * area)
        high, wide = int(height * side * 2 ** (ratio - 0.5)), int(width * side * 2 ** (0.5 - ratio))
        top = int(torch.randint(height - high + 1, (1,), generator=generator))
        left = int(torch.randint(width - wide + 1, (1,), generator=generator))
        pixels[index, :, top : top + high, left : left + wide] = torch.rand(3, high, wide, generator=generator) * 255
    return pixels
