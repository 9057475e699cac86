"""Load the identifier's photos from a CSV of labels, and augment batches of them.

Each photo is decoded and cut once, by `crops.crop_of` as in serving: into one array in memory where that holds all, and
else into shards in the run's folder, which are read as a stream (`source`). Augmentation works on whole batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.cores import cores
from carspotter.crops import crop_of
from carspotter.csv_rows import read_csv, year_of
from carspotter.errors import ImageError, RecipeError
from carspotter.geometry import SIDES, BoundingBox
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.identifier.cutting import cut_labels
from carspotter.training.identifier.holdout import split_holdout, take_fraction
from carspotter.training.identifier.parts import given_validation, of_split, without_test
from carspotter.training.identifier.source import Images, Kept, LabelledPhotos, PhotoSource, fits, preprocessing_of
from carspotter.training.identifier.targets import Nodes, words
from carspotter.training.recipe import AugmentSettings, DataSettings, InputSettings, Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdentifierData:
    """Photos to learn from and others to choose by, what their targets mean, and the words of each extra label."""

    photos: PhotoSource
    holdout: LabelledPhotos
    nodes: Nodes
    words: Mapping[str, tuple[str, ...]]


def load_labels(recipe: Recipe, run: Path) -> IdentifierData:
    """Read the photos that a recipe's labels CSV names; cut more than memory holds to shards below `run`.

    Raises RecipeError, DatasetError.
    """
    taxonomy, ids = load_taxonomy(Path(recipe.data.taxonomy))
    nodes = Nodes(taxonomy, ids)
    labels = Path(recipe.data.labels)
    rows = labelled_rows(recipe.data, labels)
    # Words are numbered over all photos before they are split, so that both parts use the same numbers.
    named = {column: words(rows, column) for column in recipe.model.heads}
    found = {column: found for column, (found, _) in named.items()}
    if not fits(len(rows), recipe):
        targets = targets_of(rows, labels, nodes)
        learnt, held = cut_labels(recipe, rows, targets, run=run, words=found)
        return IdentifierData(photos=learnt, holdout=held, nodes=nodes, words=found)
    photos = load_photos(rows, labels, nodes, recipe.input)
    extras = {column: numbers for column, (_, numbers) in named.items()}
    photos, given = replace(photos, extras=extras), given_validation(rows, recipe.data)
    kept, held = (
        (photos.take(~given), photos.take(given)) if given.any() else split_holdout(photos, recipe.data.holdout)
    )
    if recipe.data.fraction < 1:
        kept = take_fraction(kept, recipe.data.fraction)
    return IdentifierData(photos=Kept(kept), holdout=held, nodes=nodes, words=found)


def load_taxonomy(path: Path) -> tuple[Taxonomy, dict[str, int]]:
    """Read the CSV `class_id, make, model, generation, year, body`; return it with the index of each `class_id`."""
    rows = read_rows(path, ("class_id", "make", "model"))
    taxa = [
        Taxon(
            make=row["make"],
            model=row["model"] or None,
            generation=row.get("generation") or None,
            year=year_of(row.get("year") or "", error=RecipeError, where=f"data: {path}"),
            body=row.get("body") or None,
        )
        for row in rows
    ]
    # In the file's order, which becomes that of the network's outputs: sorting would hide an accidental change.
    ids = {row["class_id"]: index for index, row in enumerate(rows)}
    if len(ids) < len(rows):
        raise RecipeError(f"data: {path}: a class_id occurs twice")
    return Taxonomy(classes=tuple(taxa)), ids


def read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV whose header has the `needed` columns. Raises RecipeError."""
    return [row for _, row in read_csv(path, needed, error=RecipeError, where=f"data: {path}")]


def labelled_rows(settings: DataSettings, labels: Path) -> list[dict[str, str]]:
    """Read the rows of a labels CSV that belong to `settings.split`. Raises RecipeError where there are none."""
    rows = read_rows(labels, ("path",))
    if not {"class_id", "make"} & set(rows[0]):
        raise RecipeError(f"data: {labels} lacks the column 'class_id' (or 'make'); it has {', '.join(rows[0])}")
    rows = of_split(rows, settings.split) if settings.split else without_test(rows, str(labels))
    if not rows:
        raise RecipeError(f"data: {labels}: no row with split {settings.split!r}")
    return rows


def targets_of(rows: list[dict[str, str]], labels: Path, nodes: Nodes) -> npt.NDArray[np.int64]:
    """Return the node of each row (n,). Raises RecipeError for a label that the taxonomy does not have."""
    try:
        return np.array([nodes.of(row) for row in rows], np.int64)
    except RecipeError as error:
        raise RecipeError(f"data: {labels}: {error}") from error


def load_photos(rows: list[dict[str, str]], labels: Path, nodes: Nodes, size: InputSettings) -> LabelledPhotos:
    """Decode every photo of `rows`, whose paths count from the folder of `labels`. Raises RecipeError."""
    preprocessing = preprocessing_of(size)
    # Labels first: a typing error shows in a second, decoding takes minutes.
    targets = targets_of(rows, labels, nodes)

    def read(row: dict[str, str]) -> Images:
        path = labels.parent / row["path"]
        try:
            return crop_of(path.read_bytes(), preprocessing, BoundingBox.of_cells(row))
        except (OSError, ValueError, ImageError) as error:
            raise RecipeError(f"data: {labels} names {path}, which cannot be read: {error}") from error

    # One array from the start: a list of photos and its copy would take twice the memory.
    images = np.empty((len(rows), size.height, size.width, 3), np.uint8)
    # Threads, since libjpeg and Pillow's resize release the interpreter's lock.
    with ThreadPoolExecutor(cores()) as pool:
        for index, image in enumerate(pool.map(read, rows)):
            images[index] = image
    return LabelledPhotos(
        images=images,
        targets=targets,
        paths=tuple(row["path"] for row in rows),
        groups=tuple(row.get("group") or row["path"] for row in rows),
        sources=tuple(row.get("source") or "" for row in rows),
        boxes=tuple(" ".join(row.get(side) or "" for side in SIDES).strip() for row in rows),
    )


def fingerprint(
    recipe: Recipe, photos: PhotoSource | LabelledPhotos, held: LabelledPhotos, classes: tuple[Taxon, ...] = ()
) -> str:
    """Tell recipe, data and classes apart in 16 letters; folders, phases and words may change without a new one.

    Photos that are held out count, since the best epoch is chosen by them.
    """
    settings = recipe.learnt_with()
    # `data` counts below by what it gave, not by where it lies.
    for free in ("data", "phases"):
        settings.pop(free)
    learnt = (*photos.mark, *held.mark, recipe.data.holdout, recipe.data.teachers)
    labels = hashlib.sha256(repr((learnt, classes)).encode()).hexdigest()
    return hashlib.sha256(repr((sorted(settings.items()), labels)).encode()).hexdigest()[:16]


def augment(
    images: Tensor, size: tuple[int, int], settings: AugmentSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crop, turn, flip, recolour and erase a batch of uint8 (n, h, w, 3), on the processor that it lies on.

    Return uint8-ranged floats (n, 3, height, width), and which photos were flipped (n,): their left is now right.
    What is drawn at random is the same on every processor.
    """
    height, width = size
    # A quarter larger than the target: the crops below then sample about one to one, without aliasing.
    pixels = images.permute(0, 3, 1, 2)
    around = (min(round(height * 1.25), pixels.shape[2]), min(round(width * 1.25), pixels.shape[3]))
    if settings.randaugment:
        pixels = _randaugment(pixels, settings, generator)
    if pixels.is_cuda:
        pixels = pixels.float()  # PyTorch shrinks bytes on the CPU alone
    # Antialiased here, since `grid_sample` below is not.
    pixels = F.interpolate(pixels, around, mode="bilinear", antialias=True).float()
    crops, flipped = _crops(len(images), settings, generator)
    # Crop, turn, stretch and mirror in one sampling, so that pixels are blurred once.
    grid = F.affine_grid(crops.to(pixels.device), [len(images), 3, height, width], align_corners=False)
    # Reflected edges look like more of the same photo; black ones would be a mark of turned pictures.
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    pixels = _recolor(pixels, settings, generator)
    return _erase(pixels, settings, generator).contiguous(memory_format=torch.channels_last), flipped


def _randaugment(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Change each photo by some of RandAugment's operations (Cubuk et al. 2020), as torchvision has them."""
    from torchvision.transforms.v2 import RandAugment

    change = RandAugment(settings.randaugment, settings.randaugment_strength)
    # torchvision draws from the global generator; it follows ours, so that a resumed run sees the same.
    torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
    return torch.stack([change(photo) for photo in pixels])


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _crops(n: int, settings: AugmentSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw affine maps (n, 2, 3) from output to input, both in -1…1, and say which of them flip (n,)."""
    # The root turns a share of the area into one of each side.
    area = _uniform(n, settings.min_area, 1.0, generator).sqrt()
    # Half of the logarithm goes to each side, so that the area stays as drawn.
    skew = _uniform(n, -settings.aspect, settings.aspect, generator).div(2).exp()
    # A crop of more than 1 reaches over the photo's edge.
    limit = 1 + settings.zoom_out
    scale_x, scale_y = (area * skew).clamp(max=limit), (area / skew).clamp(max=limit)
    # Anywhere that the crop stays within the limit. In units of half the photo, as `affine_grid` counts.
    shift_x = (limit - scale_x) * _uniform(n, -1, 1, generator)
    shift_y = (limit - scale_y) * _uniform(n, -1, 1, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < settings.flip, -1.0, 1.0)
    angle = _uniform(n, -settings.rotate, settings.rotate, generator) * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    # The two rows of (rotation times scale and mirror | shift), flattened.
    rows = [cosine * scale_x * mirror, -sine * scale_y, shift_x, sine * scale_x * mirror, cosine * scale_y, shift_y]
    return torch.stack(rows, dim=1).view(n, 2, 3), mirror < 0


def _recolor(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    n, strength, device = len(pixels), settings.color, pixels.device
    weights = torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)  # luma of ITU-R BT.601
    gray = (pixels * weights).sum(1, keepdim=True)
    saturation = _uniform(n, 1 - strength, 1 + strength, generator)
    # Some photos wholly without colour, so that no class is known by a colour of paint.
    saturation[torch.rand(n, generator=generator) < settings.gray] = 0
    pixels = torch.lerp(gray.expand_as(pixels), pixels, saturation.view(n, 1, 1, 1).to(device))
    contrast = _uniform(n, 1 - strength, 1 + strength, generator).view(n, 1, 1, 1).to(device)
    brightness = _uniform(n, 1 - strength, 1 + strength, generator).view(n, 1, 1, 1).to(device)
    # Contrast is changed about the photo's own mean brightness, so that it is not a second change of brightness.
    mean = gray.mean((2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(pixels), pixels, contrast).mul_(brightness).clamp_(0, 255)


def _erase(pixels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    n, _, height, width = pixels.shape
    for index in torch.nonzero(torch.rand(n, generator=generator) < settings.erase).flatten().tolist():
        area, ratio = _uniform(2, 0, 1, generator).tolist()
        # From 2 % to 20 % of the photo, after Zhong et al. (2020); the 33 % of torchvision can hide a whole front.
        side = math.sqrt(0.02 + 0.18 * area)
        # Aspect ratios from 1 : 2 to 2 : 1 with the area kept.
        high, wide = int(height * side * 2 ** (ratio - 0.5)), int(width * side * 2 ** (0.5 - ratio))
        top = int(torch.randint(height - high + 1, (1,), generator=generator))
        left = int(torch.randint(width - wide + 1, (1,), generator=generator))
        # Noise has no edges or colour of its own that could be learnt as a part of a car.
        noise = torch.rand(3, high, wide, generator=generator) * 255
        pixels[index, :, top : top + high, left : left + wide] = noise.to(pixels.device)
    return pixels
