"""Write a dataset as a folder of shards: WebDataset tars, TFRecord files, or both, and a manifest.

Each photo is read once. What a shard holds follows from its rows and the settings alone, so a shard that stands is kept
when writing was stopped and is taken up again. A photo that cannot be read becomes a row of `errors.csv`.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

from carspotter import compute, storage
from carspotter.csv_rows import csv_text
from carspotter.dataset.crops import Format as ImageFormat
from carspotter.dataset.cutting import CROPS, Cutting
from carspotter.dataset.manifest import MANIFEST, UNFINISHED, Manifest, Shard, join, load_manifest
from carspotter.dataset.samples import Sample, to_members, to_record
from carspotter.dataset.tfrecord import encode_records
from carspotter.errors import DatasetError, StorageError
from carspotter.geometry import SIDES
from carspotter.pixels import Preprocessing
from carspotter.taxonomy import Taxonomy

Format = Literal["webdataset", "tfrecord"]
Fit = Literal["keep", "squash"]
Encoding = Literal["lossless", "jpeg", "webp"]
Row = Mapping[str, Any]
Progress = Callable[[int, int], None]
Cutter = Callable[[Iterable[compute.Row], int], Iterator[Row]]

REQUIRED = ("photo_id", "path", *SIDES, "class_name", "class_index", "split")
"""What each row must have; all else that it has goes into the sample's metadata."""
NETWORK = Preprocessing(width=224, height=224, pad=0.04)
"""The input of the identifier that ships."""
SUFFIX: Mapping[Format, str] = {"webdataset": ".tar", "tfrecord": ".tfrecord"}

# Grows when equal rows and settings give other shards; then no shard of an older version is kept.
_VERSION = 2
_ERROR_COLUMNS = ("photo_id", "path", "split", "code", "message")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """How crops are cut and written."""

    format: tuple[Format, ...] = ("webdataset",)
    """WebDataset tars, TFRecord files, or both."""
    size: int = 0
    """Pixels of a crop; 0: what the project's identifier sees, at its size, fit and margin."""
    fit: Fit = "squash"
    """Of another size: `size` x `size` (squash), or the shorter side `size` pixels and nothing enlarged (keep)."""
    pad: float = 0.04
    """Of another size: margin around the box, as a part of it on each side."""
    encoding: Encoding = "lossless"
    """lossless is WebP, or PNG where TFRecords are written, since TensorFlow reads no WebP; the others are smaller
    and lose something."""
    quality: int = 90
    """Of JPEG and lossy WebP, 1 to 100."""
    per_shard: int = 1000
    """Samples of a file."""
    seed: int = 0
    """Of the order of samples."""
    workers: int = 0
    """Processes; 0: as many as the build's other steps."""
    blur: bool = False
    """Hide number plates and faces, for shards that others get: what is trained on them does not see plates either."""

    def __post_init__(self) -> None:
        if not self.format or len(set(self.format)) < len(self.format):
            raise ValueError(f"format is {list(self.format)}; it must name webdataset, tfrecord, or both")
        words = (("fit", self.fit, Fit), ("encoding", self.encoding, Encoding))
        for name, word, allowed in (*words, *(("format", each, Format) for each in self.format)):
            if word not in get_args(allowed):
                raise ValueError(f"{name} is {word!r}; allowed: {', '.join(get_args(allowed))}")
        for name, low, high in (("quality", 1, 100), ("per_shard", 1, 100_000), ("workers", 0, 64)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from {low} to {high}")
        if self.size != 0 and not 16 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}; it must be from 16 to 4096, or 0 for that of the identifier")
        if not 0 <= self.pad <= 1:
            raise ValueError(f"pad is {self.pad}; it must be a part from 0 to 1")

    @property
    def image_format(self) -> ImageFormat:
        """Return the format of the image files."""
        if self.encoding != "lossless":
            return self.encoding
        return "png" if "tfrecord" in self.format else "webp-lossless"

    def target(self, network: Preprocessing) -> Preprocessing:
        """Return the input that crops are cut for: that of the network, or what the settings say in its place."""
        if self.size == 0:
            return network
        return Preprocessing(width=self.size, height=self.size, fit="squash", pad=self.pad)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One shard to be written: `first` is the number of its first sample in the dataset."""

    folder: str
    name: str
    split: str
    first: int
    rows: tuple[Row, ...]
    settings: ShardSettings
    plan: str

    @property
    def files(self) -> dict[Format, str]:
        """Return the name of the file of each format."""
        return {form: self.name + SUFFIX[form] for form in self.settings.format}

    @property
    def numbers(self) -> range:
        """Return the numbers of its samples."""
        return range(self.first, self.first + len(self.rows))


def write(
    rows: Iterable[Row],
    settings: ShardSettings,
    folder: str | Path,
    *,
    network: Preprocessing = NETWORK,
    root: str | Path = ".",
    taxonomy: Taxonomy | None = None,
    progress: Progress | None = None,
    on: str = "local",
    workers: int | None = 0,
) -> Manifest:
    """Write the shards of a dataset into a folder or URL and return their manifest, which is written last.

    Rows have `REQUIRED`, the box in pixels of the upright photo; paths count from `root`. Crops are cut for `network`,
    unless the settings give a size. The order of rows decides nothing: the seed shuffles each split. `progress` is
    called with samples done and in all. `on` and, where the settings name none, `workers` say where crops are cut, as
    in `compute.run`; this process alone writes. Raises DatasetError for rows that lack a column or contradict each
    other, StorageError when the folder cannot be written, ComputeError when workers cannot be started.
    """
    folder = str(folder)
    ordered = _ordered(rows, settings.seed)
    classes = _classes(ordered)
    target = settings.target(network)
    tasks = list(_tasks(ordered, settings, folder, target=target))
    parts = [*(task.plan for task in tasks), json.dumps(classes), json.dumps(taxonomy.to_dict() if taxonomy else None)]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    storage.write(join(folder, MANIFEST), UNFINISHED)
    shards = _run(tasks, _cutter(settings, target, root, on=on, workers=settings.workers or workers), progress)
    manifest = Manifest(
        folder=folder,
        fingerprint=fingerprint,
        settings=_said(settings, target),
        classes=classes,
        shards=tuple(shards[task.name] for task in tasks),
    )
    _write_words(manifest, taxonomy)
    _remove_stale(manifest)
    storage.write(join(folder, MANIFEST), manifest.to_bytes())
    return load_manifest(folder)


# ---- the plan


def _ordered(rows: Iterable[Row], seed: int) -> list[Row]:
    """Check the rows and shuffle them within their splits; the same rows and seed give the same order."""
    keyed: dict[tuple[str, bytes], Row] = {}
    for row in rows:
        missing = [name for name in REQUIRED if row.get(name) is None]
        if missing:
            raise DatasetError(f"row {row.get('photo_id')!r} lacks {', '.join(missing)}; each row of shards needs it")
        split, photo_id = str(row["split"]), str(row["photo_id"])
        if not split.replace("_", "").isalnum():
            raise DatasetError(f"row {photo_id!r}: split is {split!r}; it must be a word, which names files")
        place = split, hashlib.blake2b(f"{seed}/{photo_id}".encode(errors="surrogateescape")).digest()
        if place in keyed:
            raise DatasetError(f"photo {photo_id!r} is in split {split} twice; a sample is written once")
        keyed[place] = row
    return [keyed[place] for place in sorted(keyed)]


def _classes(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the names of the classes by index; an index that no row has is an empty name."""
    names: dict[int, str] = {}
    for row in rows:
        index, name = int(row["class_index"]), str(row["class_name"])
        if index < 0 or names.setdefault(index, name) != name:
            raise DatasetError(f"class_index {index} is {names.get(index, name)!r} and {name!r}; one name, from 0 on")
    if len(set(names.values())) < len(names):
        raise DatasetError("a class has two values of class_index; give each class one")
    return tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))


def _said(settings: ShardSettings, target: Preprocessing) -> dict[str, Any]:
    """Return what a manifest says of how crops were cut; `target` is the network input they are cut for, or None."""
    said = {key: value for key, value in asdict(settings).items() if key != "workers"}
    is_input = settings.size == 0 or settings.fit == "squash"
    return said | {"target": target.to_dict() if is_input else None}


def _tasks(rows: list[Row], settings: ShardSettings, folder: str, *, target: Preprocessing) -> Iterator[_Task]:
    counts: dict[str, int] = {}
    start = 0
    while start < len(rows):
        split = str(rows[start]["split"])
        end = start
        while end < min(start + settings.per_shard, len(rows)) and str(rows[end]["split"]) == split:
            end += 1
        number = counts[split] = counts.get(split, -1) + 1
        chosen = tuple(rows[start:end])
        yield _Task(
            folder=folder,
            name=f"{split}-{number:06d}",
            split=split,
            first=start,
            rows=chosen,
            settings=settings,
            plan=_plan(chosen, settings, target, start),
        )
        start = end


def _plan(rows: Iterable[Row], settings: ShardSettings, target: Preprocessing, first: int) -> str:
    said = {key: value for key, value in asdict(settings).items() if key not in ("workers", "per_shard", "seed")}
    content = [_VERSION, said, target.to_dict(), first, [dict(row) for row in rows]]
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=True, default=_plain)
    except TypeError as error:
        raise DatasetError(f"a row holds what JSON cannot: {error}; leave it out of the rows") from error
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return a numpy value, or a tuple's like, as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r:.60}")


# ---- one shard


def _run(tasks: list[_Task], cut: Cutter, progress: Progress | None) -> dict[str, Shard]:
    kept = {task.name: shard for task in tasks if (shard := _standing(task)) is not None}
    pending = [task for task in tasks if task.name not in kept]
    sizes = {task.name: len(task.rows) for task in tasks}
    for shard in _written(pending, cut):
        kept[shard.name] = shard
        if progress is not None:
            progress(sum(sizes[name] for name in kept), sum(sizes.values()))
    return kept


def _written(tasks: list[_Task], cut: Cutter) -> Iterator[Shard]:
    """Write each shard as soon as the last of its crops is there; no more are under way than workers cut from."""
    owner = {number: task for task in tasks for number in task.numbers}
    found: dict[str, dict[int, Row]] = {}
    for crop in cut((_asked(number, task.rows[number - task.first]) for number, task in owner.items()), len(owner)):
        task = owner[crop["number"]]
        crops = found.setdefault(task.name, {})
        crops[crop["number"]] = crop
        if len(crops) == len(task.rows):
            yield _write_shard(task, found.pop(task.name))


def _asked(number: int, row: Row) -> compute.Row:
    """Return what a worker needs of a row."""
    return {"number": number, "lacks": [CROPS], **{name: row[name] for name in ("path", *SIDES)}}


def _cutter(
    settings: ShardSettings, target: Preprocessing, root: str | Path, *, on: str, workers: int | None
) -> Cutter:
    """Return what yields the crop of each row, or what is wrong with it, as they come."""
    stage = Cutting(
        folder=str(root),
        target=target,
        keep=settings.size > 0 and settings.fit == "keep",
        form=settings.image_format,
        quality=settings.quality,
        blur=settings.blur,
    )

    def crops(rows: Iterable[compute.Row], total: int) -> Iterator[Row]:
        if total:
            with closing(compute.spread(stage, rows, total, on=on, workers=workers)) as answers:
                for _, tables in answers:
                    yield from tables[CROPS]

    return crops


def _standing(task: _Task) -> Shard | None:
    """Return the description of a shard that stands as this task would write it, or None."""
    shard = _described(join(task.folder, f"{task.name}.json"))
    path = storage.local_path(task.folder)
    if shard is None or shard.plan != task.plan or set(shard.files) != set(task.files.values()):
        return None
    for name, stated in shard.files.items():
        if path is not None and (not (path / name).is_file() or (path / name).stat().st_size != stated["bytes"]):
            return None
    return shard


def _described(path: str) -> Shard | None:
    try:
        return Shard.from_dict(json.loads(storage.read(path)))
    except (StorageError, DatasetError, ValueError, TypeError):
        return None


def _write_shard(task: _Task, crops: Mapping[int, Row]) -> Shard:
    """Write the files of a shard, each at once, and last its description, by which it is known to be whole."""
    samples: list[Sample] = []
    errors: list[dict[str, str]] = []
    for number, row in zip(task.numbers, task.rows, strict=True):
        crop = crops[number]
        if "image" in crop:
            samples.append(_sample(row, f"{number:09d}", crop, task.settings.image_format))
        else:
            named = {name: str(row[name]) for name in ("photo_id", "path", "split")}
            errors.append({**named, "code": str(crop["status"]), "message": str(crop["message"])})
    files = {}
    for form, name in task.files.items():
        data = _tar(samples) if form == "webdataset" else encode_records(map(to_record, samples))
        storage.write(join(task.folder, name), data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    counts: dict[str, int] = {}
    for sample in samples:
        name = str(sample.metadata["class_name"])
        counts[name] = counts.get(name, 0) + 1
    shard = Shard(
        name=task.name,
        split=task.split,
        plan=task.plan,
        samples=len(samples),
        files=files,
        classes=dict(sorted(counts.items())),
        errors=tuple(errors),
    )
    storage.write(join(task.folder, f"{task.name}.json"), _json(asdict(shard)))
    return shard


def _sample(row: Row, key: str, crop: Row, form: ImageFormat) -> Sample:
    metadata = {name: value for name, value in row.items() if name not in SIDES and value is not None} | crop[
        "metadata"
    ]
    plain = json.loads(json.dumps(metadata, default=_plain))
    return Sample(key=key, image=crop["image"], format=form.partition("-")[0], metadata=plain)


def _tar(samples: Iterable[Sample]) -> bytes:
    buffer = BytesIO()
    # Equal samples must give equal bytes: no times, no owner, the plain format of POSIX.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, content in to_members(sample):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return buffer.getvalue()


# ---- what stands beside the shards


def _write_words(manifest: Manifest, taxonomy: Taxonomy | None) -> None:
    storage.write(join(manifest.folder, "classes.json"), _json(list(manifest.classes)))
    if taxonomy is not None:
        storage.write(join(manifest.folder, "taxonomy.json"), _json(taxonomy.to_dict()))
    text = csv_text(manifest.errors, _ERROR_COLUMNS)
    storage.write(join(manifest.folder, "errors.csv"), text.encode(errors="surrogateescape"))


def _remove_stale(manifest: Manifest) -> None:
    """Remove shards of an earlier, longer dataset from a local folder: only files that a description names as ours."""
    path = storage.local_path(manifest.folder)
    if path is None:  # readers go by the manifest, so that a stale remote file costs room and nothing else
        return
    current = {shard.name for shard in manifest.shards}
    wanted = {name for shard in manifest.shards for name in shard.files}
    for described in sorted(path.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].json")):
        shard = _described(str(described))
        if shard is None or shard.name != described.stem:
            continue
        for suffix in SUFFIX.values():
            if described.with_suffix(suffix).name not in wanted:
                described.with_suffix(suffix).unlink(missing_ok=True)
        if described.stem not in current:
            described.unlink()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="surrogateescape")
