"""Draw the finder's training pictures: varied photos, pasted scenes, pairs; and put them into batches.

In: loaded photos, how they vary, a random generator. Out: Pictures, and tensors in the form of FinderTargets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder_augment import Picture, Variation, place, recolor
from carspotter.training.finder_data import LabelledPhoto, flip_views
from carspotter.training.finder_scenes import pasted_scene, plain_background, side_by_side

CROPS = "crops"
"""The source of photos that are squashed whole vehicles: they are only pasted into scenes."""
# A group of photos (source, kind, viewpoint) comes as often as the number of its photos to this power: 1 would show
# few profiles, 0 would show the same few negatives over and over.
BALANCE = 0.7
# Parts of the pictures that are pasted or paired: enough for several vehicles to be found, while most are photographs.
PASTED, PAIRED = 0.22, 0.08
# Parts of the pasted scenes on a photo with vehicles of its own, and on one without; the rest stands on plain colours.
ON_VEHICLES, ON_OTHERS = 0.35, 0.45
# Chances of one, two and three pasted vehicles.
PASTES = (0.4, 0.4, 0.2)

Batch = dict[str, Tensor]


class PictureSource:
    """Draw pictures from training photos; those of the source `crops` are pasted."""

    def __init__(self, photos: Sequence[LabelledPhoto], variation: Variation) -> None:
        self.photos = [photo for photo in photos if photo.source != CROPS]
        self.crops = [photo for photo in photos if photo.source == CROPS and len(photo.boxes)]
        self.variation = variation
        self._weights, self._crop_weights = group_weights(self.photos), group_weights(self.crops)
        exterior = KINDS.index("exterior")
        self._vehicles = [photo for photo in self.photos if photo.kind == exterior and photo.boxes_known]
        self._others = [photo for photo in self.photos if KINDS[photo.kind] == "other"]

    def picture(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        """Draw one picture of `size` (width, height)."""
        dice = rng.random()
        if dice < PASTED and self.crops:
            picture = self._scene(size, rng)
        elif dice < PASTED + PAIRED and len(self._vehicles) > 1:
            picture = self._pair(size, rng)
        else:
            picture = place(_any(self.photos, rng, self._weights), size, rng, self.variation)
        picture.pixels = recolor(picture.pixels, rng, self.variation)
        return picture

    def _pair(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        first, second = _any(self._vehicles, rng), _any(self._vehicles, rng)
        if self._others and rng.random() < 0.3:
            second = _any(self._others, rng)
        return side_by_side((first, second), size, rng, self.variation)

    def _scene(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        dice = rng.random()
        if dice < ON_VEHICLES and self._vehicles:
            background = place(_any(self._vehicles, rng), size, rng, self.variation)
        elif dice < ON_VEHICLES + ON_OTHERS and self._others:
            close = replace(self.variation, zoom_in=2.0, zoom_out=0.0)  # so that the thing fills the picture
            background = place(_any(self._others, rng), size, rng, close)
        else:
            background = plain_background(size, rng)
        n_crops = 1 + int(rng.choice(len(PASTES), p=PASTES))
        crops = [_any(self.crops, rng, self._crop_weights) for _ in range(n_crops)]
        patches = [_any(self._others, rng) for _ in range(int(rng.integers(0, 3)))] if self._others else []
        return pasted_scene(background, crops, patches, rng)


def collate(pictures: Sequence[Picture]) -> Batch:
    """Put pictures into tensors: uint8 `images` (n, h, w, 3) and the fields of FinderTargets."""
    most = max(1, *(len(picture.boxes) for picture in pictures))
    boxes = np.zeros((len(pictures), most, 4), dtype=np.float32)
    views = np.zeros((len(pictures), most, len(VIEWPOINTS)), dtype=np.float32)
    role = np.zeros((len(pictures), most), dtype=np.int64)
    for index, picture in enumerate(pictures):
        count = len(picture.boxes)
        boxes[index, :count], views[index, :count] = picture.boxes, picture.views
        role[index, :count] = np.where(picture.ignore, 2, 1)
    return {
        "images": torch.from_numpy(np.stack([picture.pixels for picture in pictures])),
        "kind": torch.tensor([picture.kind for picture in pictures]),
        "boxes": torch.from_numpy(boxes),
        "views": torch.from_numpy(views),
        "role": torch.from_numpy(role),
        "boxes_known": torch.tensor([picture.boxes_known for picture in pictures]),
    }


def group_weights(photos: Sequence[LabelledPhoto]) -> npt.NDArray[np.float64]:
    """Return each photo's chance (n,): its group's size to the power BALANCE, shared among the group."""
    groups = [_group(photo) for photo in photos]
    counts = Counter(groups)
    weights = np.array([counts[group] ** (BALANCE - 1) for group in groups], dtype=np.float64)
    return weights / weights.sum() if len(weights) else weights


def _group(photo: LabelledPhoto) -> tuple[object, ...]:
    """Return what makes photos alike; a mirrored viewpoint is the same, since pictures are flipped."""
    views = photo.views.max(axis=0) if len(photo.views) else np.zeros(len(VIEWPOINTS), dtype=np.float32)
    either = np.maximum(views, flip_views(views[None])[0])
    return photo.source, photo.kind, tuple(either.astype(int))


def _any(
    photos: Sequence[LabelledPhoto], rng: np.random.Generator, weights: npt.NDArray[np.float64] | None = None
) -> LabelledPhoto:
    index = rng.integers(len(photos)) if weights is None else rng.choice(len(photos), p=weights)
    return photos[int(index)]
