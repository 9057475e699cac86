"""Read shards as a stream: crops in an order by seed and epoch, decoded in workers, in memory that does not grow.

The order is drawn first, as places in shards: shards in a new order, several at once interleaved, then a shuffle buffer
of places, not of pixels. It depends on seed, epoch and part alone, not on the workers, which read and decode what they
are told. What is learnt from crops is for `training`.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter import storage
from carspotter.compute import in_order
from carspotter.dataset.manifest import Manifest, join
from carspotter.dataset.reader import KINDS, ShardFile
from carspotter.dataset.samples import Sample
from carspotter.errors import DatasetError, ImageError
from carspotter.pixels import Pixels, Preprocessing, decode, network_input

Place = tuple[int, int]
"""A sample: the number of its shard in the split, and its own in the shard."""
Ints = npt.NDArray[np.int64]
Times = Callable[[int, Ints], Sequence[int]]

AT_ONCE = 8
"""Shards that are read side by side."""
_OPEN_FILES = 64  # of each worker: those read side by side, and those that the shuffle buffer still names
_AHEAD = 2  # batches that are ready before they are asked for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardedSplit:
    """The shards of one split: `files` with as many `samples` each; `chosen` has a bit a sample, None: all are.

    `cut_for` is the network input that the crops are, None where they have proportions of their own.
    """

    files: tuple[str, ...]
    samples: tuple[int, ...]
    cut_for: Preprocessing | None = None
    chosen: npt.NDArray[np.uint8] | None = None
    stamps: tuple[tuple[int, int] | None, ...] = ()
    """The size and the time in ns of each file when the split was opened, None for one that is not on a disk."""

    def __len__(self) -> int:
        return sum(self.samples) if self.chosen is None else int(np.unpackbits(self.chosen).sum())

    @property
    def sizes(self) -> list[int]:
        """Count the chosen samples of each shard."""
        return list(self.samples) if self.chosen is None else [len(self.of(shard)) for shard in range(len(self.files))]

    def of(self, shard: int) -> Ints:
        """Return the numbers of the chosen samples of a shard, in order."""
        if self.chosen is None:
            return np.arange(self.samples[shard])
        start = sum(self.samples[:shard])
        first = start // 8
        bits = np.unpackbits(self.chosen[first : (start + self.samples[shard]) // 8 + 1])[start - 8 * first :]
        return np.flatnonzero(bits[: self.samples[shard]])

    def choose(self, chosen: npt.NDArray[np.bool_]) -> ShardedSplit:
        """Keep of all samples those that `chosen` (n,) marks."""
        return replace(self, chosen=np.packbits(chosen.astype(bool)))

    def places(self, most: int | None = None) -> list[Place]:
        """Return the chosen samples in order, or `most` of them at even distances: shards are shuffled already."""
        total = len(self)
        wanted = np.arange(total) if most is None or most >= total else np.arange(most) * total // max(most, 1)
        found, begin = list[Place](), 0
        for shard, size in enumerate(self.sizes):
            here = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, begin + size)]
            # Shards that hold none of them are passed by.
            found += [(shard, number) for number in self.of(shard)[here - begin].tolist()] if len(here) else []
            begin += size
        return found


def open_split(manifest: Manifest, split: str) -> ShardedSplit:
    """Return the shards of a split, tars or TFRecords; none where the split is not there.

    Raises DatasetError, naming the file, where a shard is missing or has another size than the manifest says.
    """
    files, samples, stamps = [], [], []
    for shard in manifest.shards:
        if shard.split != split or not shard.samples:
            continue
        name = next((name for kind in KINDS for name in shard.files if name.endswith(kind)), None)
        if name is None:
            raise DatasetError(f"{manifest.folder}: shard {shard.name} has neither tar nor TFRecord; write it again")
        files.append(join(manifest.folder, name))
        samples.append(shard.samples)
        stamps.append(_stamp(files[-1]))
        _check_size(files[-1], stamps[-1], int(shard.files[name]["bytes"]))
    return ShardedSplit(files=tuple(files), samples=tuple(samples), cut_for=manifest.cut_for, stamps=tuple(stamps))


def _stamp(name: str) -> tuple[int, int] | None:
    """Return the size and the time in ns of a file on a disk, None for one elsewhere. Raises DatasetError."""
    path = storage.local_path(name)
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        raise DatasetError(f"shard {name} cannot be read: {error.strerror}; write the shards again") from error
    return found.st_size, found.st_mtime_ns


def _check_size(name: str, stamp: tuple[int, int] | None, stated: int) -> None:
    if stamp is not None and stamp[0] != stated:
        raise DatasetError(
            f"shard {name} has {stamp[0]} bytes, the manifest says {stated}: cut or damaged; write it again"
        )


# ---- the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an epoch's order follows from; `part` is the number of this process and how many there are."""

    seed: int
    epoch: int
    part: tuple[int, int] = (0, 1)
    buffer: int = 4096
    """Places in the shuffle buffer."""
    at_once: int = AT_ONCE

    def random(self, *words: object) -> random.Random:
        """Return a generator that follows from seed, epoch and words alone, in every process."""
        return random.Random(f"{self.seed} {self.epoch} {words}")


def draw(split: ShardedSplit, order: Order, most: int, *, times: Times | None = None) -> Iterator[Place]:
    """Yield `most` places of a split for one process, in the order of an epoch.

    Processes read shards of their own where there are as many as processes, and else samples of their own. One that is
    through begins again in another order, so that all take as many steps. `times` says, of a shard and the numbers of
    its samples, how often each comes.
    """
    sizes = split.sizes

    def opened(shard: int) -> Iterator[Place]:
        numbers = split.of(shard)
        repeats = [1] * len(numbers) if times is None else times(shard, numbers)
        for number, repeat in zip(numbers.tolist(), repeats, strict=True):
            yield from [(shard, number)] * repeat

    def endless() -> Iterator[Place]:
        passes, found = count(), True
        while found:
            found = False
            for place in _once(sizes, opened, order, next(passes)):
                found = True
                yield place

    return islice(endless(), most)


def _once(sizes: Sequence[int], opened: Callable[[int], Iterator[Place]], order: Order, again: int) -> Iterator[Place]:
    """Yield the places of one pass over the shards, for one process."""
    rank, world = order.part
    shards = list(range(len(sizes)))
    # Dealt once an epoch: a process that begins again must not take another's.
    order.random("shards").shuffle(shards)
    own = _own(shards, sizes, order.part)
    dice = order.random("samples", again, 0 if own is None else rank)
    taken = shards if own is None else own
    dice.shuffle(taken)
    found = shuffled(interleaved(map(opened, taken), order.at_once, dice), order.buffer, dice)
    # Without shards of its own each process goes through the same order and takes every n-th.
    yield from islice(found, rank, None, world) if own is None else found


def _own(shards: list[int], sizes: Sequence[int], part: tuple[int, int]) -> list[int] | None:
    """Deal the shards to the processes, each to the one with the fewest samples; None: there are too few."""
    rank, world = part
    filled = [shard for shard in shards if sizes[shard]]  # of a shard without a chosen sample nobody could live
    if len(filled) < world:
        return None
    loads, dealt = [0] * world, [list[int]() for _ in range(world)]
    for shard in filled:
        least = loads.index(min(loads))
        loads[least] += sizes[shard]
        dealt[least].append(shard)
    return dealt[rank]


def interleaved(sources: Iterator[Iterator[Place]], at_once: int, dice: random.Random) -> Iterator[Place]:
    """Yield what several sources hold, `at_once` of them open, each time from one drawn at random."""
    lanes = list(islice(sources, at_once))
    while lanes:
        lane = dice.randrange(len(lanes))
        place = next(lanes[lane], None)
        if place is not None:
            yield place
        elif (following := next(sources, None)) is not None:
            lanes[lane] = following
        else:
            del lanes[lane]


def shuffled(places: Iterable[Place], size: int, dice: random.Random) -> Iterator[Place]:
    """Yield places from a buffer of `size`, each time one drawn at random, whose room the next one takes."""
    held: list[Place] = []
    for place in places:
        if len(held) < size:
            held.append(place)
            continue
        if size:
            drawn = dice.randrange(size)
            place, held[drawn] = held[drawn], place
        yield place
    dice.shuffle(held)
    yield from held


# ---- reading and decoding


@dataclass(slots=True, kw_only=True, eq=False)
class Reading:
    """A row stage that reads and decodes samples: a row names a batch by `number` and its `places`.

    It answers `pixels` uint8 (n, h, w, 3), `targets` (n,) and, of each of `words`, the numbers (n,), -1 where unknown.
    """

    split: ShardedSplit
    target: Preprocessing
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "read"
    reads: str = ""
    writes: Mapping[str, str] = field(default_factory=lambda: {"batches": "1"})
    key: str = "number"
    _files: OrderedDict[int, ShardFile] = field(default_factory=OrderedDict, init=False)
    _lock: Any = field(default=None, init=False)

    def setup(self) -> None:
        """Begin without any shard open; a copy of the stage in another process begins so too."""
        self._lock = threading.Lock()

    def process(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return the batch of each row."""
        return {"batches": [{"number": row["number"], "status": "ok", **self.batch(row["places"])} for row in rows]}

    def batch(self, places: Sequence[Place]) -> dict[str, Any]:
        """Read and decode some samples. Raises DatasetError, naming shard and sample."""
        pixels = np.empty((len(places), self.target.height, self.target.width, 3), np.uint8)
        samples = []
        for index, place in enumerate(places):
            pixels[index], sample = self.read(place)
            samples.append(sample)
        targets = np.array([-1 if sample.class_index is None else sample.class_index for sample in samples], np.int64)
        return {"pixels": pixels, "targets": targets, **numbers(samples, self.words)}

    def read(self, place: Place) -> tuple[Pixels, Sample]:
        """Read one sample and return its pixels (h, w, 3) as the network sees them. Raises DatasetError."""
        sample = self.sample(place)
        try:
            pixels = decode(sample.image).pixels
            # A crop that was cut for this input is the input; any other is cut from once more.
            return pixels if self.split.cut_for == self.target else network_input(
                pixels, self.target, sample.box
            ), sample
        except ImageError as error:
            where = f"{self.split.files[place[0]]}: sample {sample.key!r} (number {place[1]})"
            raise DatasetError(f"{where}: {error}; write the shard again") from error

    def sample(self, place: Place, *, image: bool = True) -> Sample:
        """Read one sample, or its labels alone, from a shard that may be open already."""
        return self._open(place[0]).sample(place[1], image=image)

    def _open(self, shard: int) -> ShardFile:
        if self._lock is None:
            self.setup()
        with self._lock:
            file = self._files.get(shard)
            if file is None:
                file = self._files[shard] = self._checked(shard)
            self._files.move_to_end(shard)
            if len(self._files) > _OPEN_FILES:
                # Dropped, not closed: another thread may read it; the last one to let go closes it.
                self._files.popitem(last=False)
            return file

    def _checked(self, shard: int) -> ShardFile:
        """Open a shard that is as it was when the split was opened. Raises DatasetError."""
        file, stated = ShardFile(self.split.files[shard]), self.split.samples[shard]
        # Looked at when it is open: numbers of classes may have moved, which no count of samples would show.
        if self.split.stamps and _stamp(file.name) != self.split.stamps[shard]:
            raise DatasetError(f"shard {file.name} was written anew while it was read, as by a build; begin again")
        if len(file) != stated:
            raise DatasetError(
                f"shard {file.name} holds {len(file)} samples, the manifest says {stated}: damaged; write the shard "
                "again"
            )
        return file


def numbers(samples: Sequence[Sample], words: Mapping[str, tuple[str, ...]]) -> dict[str, Ints]:
    """Return the number of each sample's word in each column (n,), -1 where it is empty or unknown."""
    known = {column: {word: number for number, word in enumerate(found)} for column, found in words.items()}
    return {
        column: np.array([places.get(cell(sample, column), -1) for sample in samples], np.int64)
        for column, places in known.items()
    }


def cell(sample: Sample, column: str) -> str:
    """Return what a sample's metadata say in a column, empty where they say nothing."""
    return str(sample.metadata.get(column) or "")


def batches(
    reading: Reading, places: Iterator[Place], size: int, *, workers: int
) -> Generator[dict[str, Any], None, None]:
    """Yield `Reading`'s answers for `size` places each, in order; 0 `workers`: this process reads them itself.

    Raises DatasetError for a sample that cannot be read, ComputeError for a worker that dies. Closing ends the workers.
    """
    rows = (
        {"number": number, "places": chosen, "lacks": list(reading.writes)}
        for number, chosen in enumerate(iter(lambda: list(islice(places, size)), []))
    )
    # A copy without open files, which cannot travel.
    answers: Generator[dict[str, Any], None, None] = in_order(replace(reading), rows, workers=workers)
    with closing(ahead(answers, _AHEAD) if workers else answers) as found:
        for answer in found:
            if answer["status"] != "ok":
                raise DatasetError(str(answer["message"]))
            yield answer


def ahead(answers: Generator[dict[str, Any], None, None], most: int) -> Generator[dict[str, Any], None, None]:
    """Yield what a generator yields, which runs in a thread of its own, `most` answers ahead; closing closes it.

    Receiving what workers decoded takes about as long as copying it, and need not wait for the step before.
    """
    with closing(answers), ThreadPoolExecutor(1) as thread:
        asked = deque(thread.submit(next, answers, None) for _ in range(most))
        try:
            while (answer := asked.popleft().result()) is not None:
                asked.append(thread.submit(next, answers, None))
                yield answer
        finally:
            for each in asked:
                each.cancel()
