"""Write a dataset as a folder of shards: WebDataset tars, TFRecord files, or both, and a manifest.

Each photo is read once. What a shard holds follows from its rows and the settings alone, so a shard that stands is kept
when writing was stopped and is taken up again. A photo that cannot be read becomes a row of `errors.csv`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carspotter import compute, storage
from carspotter.csv_rows import csv_text
from carspotter.dataset.cutting import CROPS, Cutting
from carspotter.dataset.manifest import MANIFEST, UNFINISHED, Manifest, Shard, join, load_manifest
from carspotter.dataset.shard import SUFFIX, Task, plan, read_shard, standing, write_shard
from carspotter.dataset.shard_settings import Format as Format
from carspotter.dataset.shard_settings import ShardSettings as ShardSettings
from carspotter.errors import DatasetError
from carspotter.geometry import SIDES
from carspotter.pixels import Preprocessing
from carspotter.taxonomy import Taxonomy

Row = Mapping[str, Any]
Progress = Callable[[int, int], None]
Cutter = Callable[[Iterable[compute.Row], int], Iterator[Row]]

REQUIRED = ("photo_id", "path", *SIDES, "class_name", "class_index", "split")
"""What each row must have; all else that it has goes into the sample's metadata."""
NETWORK = Preprocessing(width=224, height=224, pad=0.04)
"""The input of the identifier that ships."""

_ERROR_COLUMNS = ("photo_id", "path", "split", "code", "message")


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
    _remove_stale(manifest, taxonomy)
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


def _tasks(rows: list[Row], settings: ShardSettings, folder: str, *, target: Preprocessing) -> Iterator[Task]:
    counts: dict[str, int] = {}
    start = 0
    while start < len(rows):
        split = str(rows[start]["split"])
        end = start
        while end < min(start + settings.per_shard, len(rows)) and str(rows[end]["split"]) == split:
            end += 1
        number = counts[split] = counts.get(split, -1) + 1
        chosen = tuple(rows[start:end])
        yield Task(
            folder=folder,
            name=f"{split}-{number:06d}",
            split=split,
            first=start,
            rows=chosen,
            settings=settings,
            plan=plan(chosen, settings, target, start),
        )
        start = end


# ---- one shard


def _run(tasks: list[Task], cut: Cutter, progress: Progress | None) -> dict[str, Shard]:
    kept = {task.name: shard for task in tasks if (shard := standing(task)) is not None}
    pending = [task for task in tasks if task.name not in kept]
    sizes = {task.name: len(task.rows) for task in tasks}
    for shard in _written(pending, cut):
        kept[shard.name] = shard
        if progress is not None:
            progress(sum(sizes[name] for name in kept), sum(sizes.values()))
    return kept


def _written(tasks: list[Task], cut: Cutter) -> Iterator[Shard]:
    """Write each shard as soon as the last of its crops is there; no more are under way than workers cut from."""
    owner = {number: task for task in tasks for number in task.numbers}
    found: dict[str, dict[int, Row]] = {}
    for crop in cut((_asked(number, task.rows[number - task.first]) for number, task in owner.items()), len(owner)):
        task = owner[crop["number"]]
        crops = found.setdefault(task.name, {})
        crops[crop["number"]] = crop
        if len(crops) == len(task.rows):
            yield write_shard(task, found.pop(task.name))


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


# ---- what stands beside the shards


def _write_words(manifest: Manifest, taxonomy: Taxonomy | None) -> None:
    storage.write_json(join(manifest.folder, "classes.json"), list(manifest.classes))
    if taxonomy is not None:
        storage.write_json(join(manifest.folder, "taxonomy.json"), taxonomy.to_dict())
    text = csv_text(manifest.errors, _ERROR_COLUMNS)
    storage.write(join(manifest.folder, "errors.csv"), text.encode(errors="surrogateescape"))


def _remove_stale(manifest: Manifest, taxonomy: Taxonomy | None) -> None:
    """Remove from a local folder what an earlier, longer dataset left: only files that a description names as ours."""
    path = storage.local_path(manifest.folder)
    if path is None:  # readers go by the manifest, so that a stale remote file costs room and nothing else
        return
    if taxonomy is None:
        (path / "taxonomy.json").unlink(missing_ok=True)
    current = {shard.name for shard in manifest.shards}
    wanted = {name for shard in manifest.shards for name in shard.files}
    for described in sorted(path.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].json")):
        shard = read_shard(str(described))
        if shard is None or shard.name != described.stem:
            continue
        for suffix in SUFFIX.values():
            if described.with_suffix(suffix).name not in wanted:
                described.with_suffix(suffix).unlink(missing_ok=True)
        if described.stem not in current:
            described.unlink()
