"""Where the identifier's photos are drawn from: all of them in memory, or a stream of shards.

Both are one `PhotoSource`, so that a training does not know which it has. What fits into `data.memory` is kept, since
that is faster; all else is read anew each epoch, in memory that does not grow with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carspotter.cores import cores
from carspotter.dataset.samples import Sample
from carspotter.dataset.stream import Order, Reading, batches, cell, draw, numbers
from carspotter.pixels import Preprocessing
from carspotter.training.recipe import InputSettings, Recipe

logger = logging.getLogger(__name__)
Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

LEAST_SAMPLE = 1000
"""Photos that are held out, or that heads are fitted to, at most, however little memory is granted."""
_MOST_WORKERS = 12  # as many decode 2000 photos a second, more than one GPU learns from
_CHUNK = 256  # photos that are under way while they are read into memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPhotos:
    """Decoded photos `images` (n, h, w, 3), what they are labelled with, and where they came from.

    `targets` (n,) are nodes (`targets.Nodes`); `extras` further labels (n,), -1 where unknown; `groups` names photos
    that belong together, such as those of an ad, by default each photo by itself; `sources` the market or data set;
    `boxes` what was cut out, as it stood in the labels.
    """

    images: Images
    targets: npt.NDArray[np.int64]
    paths: tuple[str, ...]
    groups: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    extras: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def mark(self) -> tuple[object, ...]:
        """Return what tells these photos from others. Not their pixels: hashing gigabytes would delay each start."""
        extras = {name: values.tolist() for name, values in self.extras.items()}
        return self.paths, self.targets.tolist(), self.boxes, extras

    def take(self, chosen: npt.NDArray[np.bool_]) -> LabelledPhotos:
        """Keep the photos that `chosen` (n,) marks."""
        # Tuples of texts need places, arrays take the mask.
        kept = np.flatnonzero(chosen).tolist()
        return LabelledPhotos(
            images=self.images[chosen],
            targets=self.targets[chosen],
            paths=tuple(self.paths[i] for i in kept),
            groups=tuple(self.groups[i] for i in kept) if self.groups else (),
            sources=tuple(self.sources[i] for i in kept) if self.sources else (),
            boxes=tuple(self.boxes[i] for i in kept) if self.boxes else (),
            extras={name: values[chosen] for name, values in self.extras.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How an epoch's batches are drawn: they follow from this alone. `part` is this process's number, and how many.

    `weights` (m,) say of each target how often its photos are drawn against others; None: each photo once.
    """

    batch: int
    seed: int
    epoch: int
    part: tuple[int, int] = (0, 1)
    weights: Tensor | None = None

    @property
    def number(self) -> int:
        """Return one number of seed and epoch; an epoch's is below any run's count of epochs, so that no two meet."""
        return self.seed * 100_003 + self.epoch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A batch as it lies in the source: `pixels` uint8 (n, h, w, 3), `targets` (n,), `extras` by column (n,)."""

    pixels: Tensor
    targets: Tensor
    extras: Mapping[str, Tensor]


class PhotoSource(Protocol):
    """Photos to learn from, wherever they lie."""

    def __len__(self) -> int: ...

    @property
    def mark(self) -> tuple[object, ...]:
        """Return what tells these photos from others: a run goes on with the same alone."""

    def counts(self, n_targets: int) -> Ints:
        """Count the photos of each target (n_targets,)."""

    def move(self, device: torch.device) -> None:
        """Keep the photos on a device, where that is worth it."""

    def draw(self, drawing: Drawing) -> Iterator[Drawn]:
        """Yield an epoch's batches, this process's part of each."""

    def some(self) -> LabelledPhotos:
        """Return photos for what needs a look at all of them: all, or as many as memory is granted, drawn evenly."""


class Kept:
    """Photos in memory."""

    def __init__(self, photos: LabelledPhotos) -> None:
        self.photos = photos
        # Shares its memory with the array of photos, which may be gigabytes.
        self.images = torch.from_numpy(photos.images)
        """The pixels, on the device where they are changed and learnt."""

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def mark(self) -> tuple[object, ...]:
        """Return paths and labels."""
        return self.photos.mark

    def counts(self, n_targets: int) -> Ints:
        """Count the photos of each target."""
        return np.bincount(self.photos.targets, minlength=n_targets)

    def move(self, device: torch.device) -> None:
        """Keep the photos on a GPU where they leave it half its memory."""
        if device.type == "cuda" and self.images.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self.images = self.images.to(device)

    def draw(self, drawing: Drawing) -> Iterator[Drawn]:
        """Yield batches of photos in a new order; all processes draw the same ones, and each takes its part."""
        targets = torch.from_numpy(self.photos.targets)
        extras = {name: torch.from_numpy(values) for name, values in self.photos.extras.items()}
        generator = torch.Generator().manual_seed(drawing.number)
        weights = None if drawing.weights is None else drawing.weights[targets]
        for whole in batches_of(len(self), drawing.batch, generator, weights=weights):
            # Every n-th photo, so that together the processes see the batch once.
            chosen = whole[drawing.part[0] :: drawing.part[1]]
            labels = {name: values[chosen] for name, values in extras.items()}
            yield Drawn(pixels=self.images[chosen], targets=targets[chosen], extras=labels)

    def some(self) -> LabelledPhotos:
        """Return all photos."""
        return self.photos


class Streamed:
    """Photos in shards; `labels` (m,) counts those of each target, `mark` tells the data set from others."""

    def __init__(self, reading: Reading, labels: Ints, recipe: Recipe, mark: tuple[object, ...]) -> None:
        self.reading, self.labels, self.recipe = reading, labels, recipe
        self.size = len(reading.split)
        self._mark = mark

    def __len__(self) -> int:
        return self.size

    @property
    def mark(self) -> tuple[object, ...]:
        """Return what the shards' manifest says of them."""
        return self._mark

    def counts(self, n_targets: int) -> Ints:
        """Count the photos of each target, as the manifest or a pass over the labels says."""
        return np.pad(self.labels, (0, max(0, n_targets - len(self.labels))))

    def move(self, device: torch.device) -> None:
        """Do nothing: batches come to the device as they are read."""

    def draw(self, drawing: Drawing) -> Iterator[Drawn]:
        """Yield batches as shards give them; each process reads shards of its own."""
        own = max(1, drawing.batch // drawing.part[1])
        settings = self.recipe.data
        order = Order(seed=drawing.seed, epoch=drawing.epoch, part=drawing.part, buffer=settings.shuffle)
        times = None if drawing.weights is None else self._times(drawing)
        places = draw(self.reading.split, order, max(1, self.size // drawing.batch) * own, times=times)
        with closing(batches(self.reading, places, own, workers=workers_of(settings.workers))) as answers:
            for answer in answers:
                labels = {name: torch.from_numpy(answer[name]) for name in self.reading.words}
                pixels, targets = (torch.from_numpy(answer[name]) for name in ("pixels", "targets"))
                yield Drawn(pixels=pixels, targets=targets, extras=labels)

    def _times(self, drawing: Drawing) -> Any:
        """Return how often samples come: their targets' weights, 1 on average, rounded up or down by chance."""
        weights = cast(Tensor, drawing.weights).double().numpy()
        weights = weights / (weights[: len(self.labels)] * self.labels).sum() * self.size

        def times(shard: int, chosen: Ints) -> list[int]:
            # Labels alone, and those of the shards that are open: no pass over all.
            samples = (self.reading.sample((shard, number), image=False) for number in chosen.tolist())
            wanted = weights[[cast(int, sample.class_index) for sample in samples]]
            dice = np.random.default_rng((drawing.seed, drawing.epoch, shard))
            found: list[int] = np.floor(wanted + dice.random(len(chosen))).astype(int).tolist()
            return found

        return times

    def some(self) -> LabelledPhotos:
        """Read a sample that is drawn evenly, half of `data.memory` at most."""
        return read_photos(self.reading, most_held(self.recipe))


def batches_of(
    n_photos: int, batch: int, generator: torch.Generator, *, weights: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield the photos' numbers in a new order, `batch` at a time; the incomplete rest waits for the next epoch.

    With `weights` (n_photos,) as many are drawn, with replacement, each in proportion to its weight.
    """
    if weights is None:
        order = torch.randperm(n_photos, generator=generator)
    else:
        # With replacement, or the rare classes would run out early in the epoch.
        order = torch.multinomial(weights, n_photos, replacement=True, generator=generator)
    # Batches of one size: a last one of two photos would disturb norms and averages as much as a full one.
    whole = order[: n_photos - n_photos % batch] if n_photos >= batch else order
    yield from whole.split(batch)


def preprocessing_of(size: InputSettings) -> Preprocessing:
    """Return how photos become the input, in the words of `pixels`."""
    return Preprocessing(width=size.width, height=size.height, fit=size.fit, pad=size.pad)


def fits(n_photos: int, recipe: Recipe) -> bool:
    """Return whether so many decoded photos may be kept in memory."""
    return n_photos * recipe.input.width * recipe.input.height * 3 <= recipe.data.memory * 1e9


def most_held(recipe: Recipe) -> int:
    """Return how many photos of a stream are held out, or are looked at together, at most: half of `data.memory`."""
    return max(LEAST_SAMPLE, int(recipe.data.memory * 1e9 / 2 / (recipe.input.width * recipe.input.height * 3)))


def workers_of(setting: int) -> int:
    """Return how many processes read a stream: as many as set, or of -1 a core each but one, which learns."""
    if setting >= 0:
        return setting
    return max(1, min(_MOST_WORKERS, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def read_photos(reading: Reading, most: int | None = None) -> LabelledPhotos:
    """Read the chosen samples of a split into memory, or `most` of them, drawn evenly. Raises DatasetError."""
    places = reading.split.places(most)
    if len(places) < len(reading.split):
        logger.info("%d of %d photos, drawn evenly: data.memory grants no more", len(places), len(reading.split))
    # One array from the start: a list of photos and its copy would take twice the memory.
    images = np.empty((len(places), reading.target.height, reading.target.width, 3), np.uint8)
    samples: list[Sample] = []
    # Threads, since image libraries release the interpreter's lock.
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(places), _CHUNK):
            for pixels, sample in pool.map(reading.read, places[start : start + _CHUNK]):
                images[len(samples)] = pixels
                # Its bytes are not needed any more, and would take as much again.
                samples.append(Sample(key=sample.key, image=b"", format=sample.format, metadata=sample.metadata))
    return LabelledPhotos(
        images=images,
        targets=np.array([sample.class_index for sample in samples], np.int64),
        paths=tuple(map(name_of, samples)),
        groups=tuple(map(group_of, samples)),
        sources=_sources(samples),
        extras=numbers(samples, reading.words),
    )


def name_of(sample: Sample) -> str:
    """Name a sample by its photo: keys are running numbers, which move when the project grows."""
    return str(sample.metadata.get("photo_id") or sample.key)


def group_of(sample: Sample) -> str:
    """Name what a sample's photo belongs to: its ad, or else itself."""
    return str(sample.metadata.get("ad_id") or name_of(sample))


def _sources(samples: Sequence[Sample]) -> tuple[str, ...]:
    found = tuple(cell(sample, SOURCE) for sample in samples)
    return found if any(found) else ()


SOURCE = "label_source"
"""Column of shards that were cut from a CSV of labels: its `source`, by which thresholds are chosen."""
