"""Draw the finder's training pictures: varied photos, pasted scenes, pairs; and put them into batches.

In: loaded photos, how they vary, a random generator. Out: Pictures, and tensors in the form of FinderTargets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder.augment import Picture, Variation, place, recolor
from carspotter.training.finder.data import CUT_OUTS, LabelledPhoto, flip_views
from carspotter.training.finder.scenes import on_another_color, parked_row, pasted_scene, plain_background, side_by_side

CROPS = "crops"
"""The source of photos that are squashed whole vehicles: they are only pasted into scenes."""
# A group of photos (source, kind, viewpoint) comes as often as the number of its photos to this power: 1 would show
# few profiles, 0 would show the same few negatives over and over.
BALANCE = 0.7
# How much more often than that, by source: streets alone have small vehicles, many to a photo, and lorries; interiors
# are few and must stay silent; cut-outs are pasted as well.
OFTENER = {"street": 2.0, "road": 1.5, "interiors": 2.0, "not-cars": 1.5, "cut-outs": 0.6}
# Parts of the pictures that are pasted, parked in a row or paired: enough for several vehicles to be found, while most
# are photographs.
PASTED, PARKED, PAIRED = 0.16, 0.08, 0.06
# Parts of the pasted scenes on a photo with vehicles of its own, and on one without; the rest stands on plain colours.
ON_VEHICLES, ON_OTHERS = 0.3, 0.5
# Chances of one, two, three and four pasted vehicles, and how many stand in a row.
PASTES, ROW = (0.3, 0.35, 0.2, 0.15), (3, 9)
# Part of the cut-outs that stand on another colour than black.
RECOLORED = 0.7

Batch = dict[str, Tensor]


class PictureSource:
    """Draw pictures from training photos; those of the source `crops` are pasted, `cut-outs` as well."""

    def __init__(self, photos: Sequence[LabelledPhoto], variation: Variation) -> None:
        self.photos = [photo for photo in photos if photo.source != CROPS]
        self.cut_outs = [photo for photo in photos if photo.source == CUT_OUTS]
        self.crops = [photo for photo in photos if photo.source == CROPS and len(photo.boxes)]
        self.variation = variation
        self._weights, self._crop_weights = group_weights(self.photos), group_weights(self.crops)
        exterior = KINDS.index("exterior")
        self._vehicles = [
            # A pair or a background with vehicles that have no box would teach that they are background.
            photo
            for photo in self.photos
            if photo.kind == exterior and photo.boxes_known and photo.mask is None
        ]
        self._others = [photo for photo in self.photos if KINDS[photo.kind] == "other"]

    def picture(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        """Draw one picture of `size` (width, height)."""
        dice = rng.random()
        if dice < PASTED and (self.crops or self.cut_outs):
            picture = self._scene(size, rng)
        elif dice < PASTED + PARKED and self.cut_outs:
            row = [_any(self.cut_outs, rng) for _ in range(int(rng.integers(*ROW)))]
            picture = parked_row(self._background(size, rng), row, rng)
        elif dice < PASTED + PARKED + PAIRED and len(self._vehicles) > 1:
            picture = self._pair(size, rng)
        else:
            picture = self._photo(size, rng)
        # Last and over the whole picture, so that pasted vehicles and their background share one light and no seam
        # gives them away.
        picture.pixels = recolor(picture.pixels, rng, self.variation)
        return picture

    def _photo(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        photo = _any(self.photos, rng, self._weights)
        if photo.mask is not None and rng.random() < RECOLORED:
            photo = replace(photo, pixels=on_another_color(photo, rng))
        return place(photo, size, rng, self.variation)

    def _pair(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        first, second = _any(self._vehicles, rng), _any(self._vehicles, rng)
        # Beside a car stands something else in a third of the pairs: two halves must not mean two cars.
        if self._others and rng.random() < 0.3:
            second = _any(self._others, rng)
        return side_by_side((first, second), size, rng, self.variation)

    def _background(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        dice = rng.random()
        if dice < ON_VEHICLES and self._vehicles:
            return place(_any(self._vehicles, rng), size, rng, self.variation)
        if dice < ON_VEHICLES + ON_OTHERS and self._others:
            close = replace(self.variation, zoom_in=2.0, zoom_out=0.0)  # so that the thing fills the picture
            return place(_any(self._others, rng), size, rng, close)
        return plain_background(size, rng)

    def _scene(self, size: tuple[int, int], rng: np.random.Generator) -> Picture:
        crops: list[LabelledPhoto] = []
        for _ in range(1 + int(rng.choice(len(PASTES), p=PASTES))):
            # Cut-outs bring their outline; crops are rectangles, whose edges a network could learn instead.
            is_cut_out = bool(self.cut_outs) and (not self.crops or rng.random() < 0.6)
            crops.append(_any(self.cut_outs, rng) if is_cut_out else _any(self.crops, rng, self._crop_weights))
        # Rectangles without a vehicle are pasted too, so that a pasted edge alone means nothing.
        patches = [_any(self._others, rng) for _ in range(int(rng.integers(0, 3)))] if self._others else []
        return pasted_scene(self._background(size, rng), crops, patches, rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn(Dataset[Batch]):
    """Draw an epoch's batches by their number, so that several processes can share the work.

    Each follows from `seed` and its number alone.
    """

    source: PictureSource
    size: tuple[int, int]
    batch: int
    steps: int
    seed: tuple[int, ...]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        # From the seed and the number of the batch alone: whichever worker draws it, it is the same batch.
        rng = np.random.default_rng((*self.seed, step))
        return collate([self.source.picture(self.size, rng) for _ in range(self.batch)])


def collate(pictures: Sequence[Picture]) -> Batch:
    """Put pictures into tensors: uint8 `images` (n, h, w, 3) and the fields of FinderTargets."""
    # At least one row, so that no tensor has a side of 0; role 0 marks rows that are filled up.
    most = max(1, *(len(picture.boxes) for picture in pictures))
    # Filled up to the picture with most boxes, since tensors have no ragged rows.
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
    """Return each photo's chance (n,): its group's size to the power BALANCE, shared among the group, and OFTENER."""
    groups = [_group(photo) for photo in photos]
    counts = Counter(groups)
    often = [OFTENER.get(photo.source, 1.0) for photo in photos]
    # n photos, each with n to the (BALANCE - 1), give their group n to the BALANCE.
    rare = [counts[group] ** (BALANCE - 1) for group in groups]
    weights: npt.NDArray[np.float64] = np.array(rare, dtype=np.float64) * np.array(often)
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
