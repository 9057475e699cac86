"""One shard of a dataset: what it is to hold, its files, and whether it stands already.

A shard is whole once its description stands, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

from carspotter import storage
from carspotter.catalog.tables import ERROR
from carspotter.dataset.crops import Format as ImageFormat
from carspotter.dataset.manifest import Shard, join
from carspotter.dataset.samples import Sample, to_members, to_record
from carspotter.dataset.shard_settings import Format, ShardSettings
from carspotter.dataset.tfrecord import encode_records
from carspotter.errors import DatasetError, StorageError
from carspotter.geometry import SIDES
from carspotter.pixels import Preprocessing

Row = Mapping[str, Any]

# Grows when equal rows and settings give other shards; then no shard of an older version is kept.
_VERSION = 2
# Faults of the storage, and of a worker that was ended or ran out of time; a broken photo stays broken.
_PASSING = (StorageError.code, ERROR)
SUFFIX: Mapping[Format, str] = {"webdataset": ".tar", "tfrecord": ".tfrecord"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
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


def standing(task: Task) -> Shard | None:
    """Return the description of a shard that stands as this task would write it, or None.

    One that lacks a photo which could not be read does not stand: another time it may be.
    """
    shard = read_shard(join(task.folder, f"{task.name}.json"))
    path = storage.local_path(task.folder)
    if shard is None or shard.plan != task.plan or set(shard.files) != set(task.files.values()):
        return None
    if any(error["code"] in _PASSING for error in shard.errors):
        return None
    for name, stated in shard.files.items():
        if path is not None and (not (path / name).is_file() or (path / name).stat().st_size != stated["bytes"]):
            return None
    return shard


def read_shard(path: str) -> Shard | None:
    """Read the description of a shard; None where there is none, or none that can be read."""
    try:
        return Shard.from_dict(json.loads(storage.read(path)))
    except (StorageError, DatasetError, ValueError, TypeError):
        return None


def write_shard(task: Task, crops: Mapping[int, Row]) -> Shard:
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
    storage.write_json(join(task.folder, f"{task.name}.json"), asdict(shard))
    return shard


def _sample(row: Row, key: str, crop: Row, form: ImageFormat) -> Sample:
    metadata = {name: value for name, value in row.items() if name not in SIDES and value is not None} | crop[
        "metadata"
    ]
    plain = json.loads(json.dumps(metadata, default=plain_value))
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


def plan(rows: Iterable[Row], settings: ShardSettings, target: Preprocessing, first: int) -> str:
    """Return what tells whether a shard of these rows, whose first has the number `first`, would be another."""
    said = {key: value for key, value in asdict(settings).items() if key not in ("workers", "per_shard", "seed")}
    content = [_VERSION, said, target.to_dict(), first, [dict(row) for row in rows]]
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=True, default=plain_value)
    except TypeError as error:
        raise DatasetError(f"a row holds what JSON cannot: {error}; leave it out of the rows") from error
    return hashlib.sha256(text.encode()).hexdigest()


def plain_value(value: Any) -> Any:
    """Return a numpy value, or a tuple's like, as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r:.60}")
