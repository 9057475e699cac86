"""Cut the photos of a CSV of labels to shards in the run's folder, where memory does not hold them, for a stream.

Crops are the network's input to the byte, without loss, so that what is learnt is what would have been.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.dataset.manifest import MANIFEST, Manifest, load_manifest
from carspotter.dataset.shards import ShardSettings, write
from carspotter.dataset.stream import Reading, open_split
from carspotter.errors import DatasetError, RecipeError
from carspotter.geometry import SIDES
from carspotter.training.identifier.holdout import hashes, held_out, part_hashes, part_of
from carspotter.training.identifier.parts import given_validation
from carspotter.training.identifier.source import (
    SOURCE,
    Ints,
    LabelledPhotos,
    Streamed,
    most_held,
    preprocessing_of,
    read_photos,
)
from carspotter.training.recipe import Recipe

logger = logging.getLogger(__name__)
Row = dict[str, str]
_SAID_EVERY_S = 10.0
_LOOK_S = 1.0  # how often a process looks whether another has cut the shards


def cut_labels(
    recipe: Recipe, rows: list[Row], targets: Ints, *, run: Path, words: Mapping[str, tuple[str, ...]]
) -> tuple[Streamed, LabelledPhotos]:
    """Cut shards of labelled rows, unless they stand, and return what is learnt from and what is held out.

    Raises RecipeError for a photo that cannot be read, DatasetError where shards cannot be written.
    """
    chosen = list(_rows(recipe, rows, targets))
    said = repr((chosen, recipe.input, str(Path(recipe.data.labels).resolve()))).encode("utf-8", "surrogateescape")
    folder = run / f"shards-{hashlib.sha256(said).hexdigest()[:12]}"
    if not (folder / MANIFEST).exists() or not _stands(folder):
        logger.info("data: %d photos are more than data.memory holds: they are cut to shards in %s", len(rows), folder)
        _cut(recipe, chosen, folder)
    manifest = load_manifest(str(folder))
    _refuse_errors(recipe, manifest, folder)
    size = preprocessing_of(recipe.input)
    counted = manifest.counts["train"]
    counts = np.zeros(max(map(int, counted)) + 1, np.int64)
    for name, count in counted.items():
        counts[int(name)] = count
    learnt, held = (
        Reading(split=open_split(manifest, split), target=size, words=words) for split in ("train", "validation")
    )
    streamed = Streamed(learnt, counts, recipe, ("stream", manifest.fingerprint))
    return streamed, read_photos(held, most_held(recipe))


def _rows(recipe: Recipe, rows: list[Row], targets: Ints) -> Iterator[dict[str, Any]]:
    """Yield the rows of the shards: split by what is held out, classes by the numbers of their nodes."""
    named = Counter(row["path"] for row in rows)
    groups = hashes(row.get("group") or row["path"] for row in rows)
    held = given_validation(rows, recipe.data)
    if not held.any():
        held = held_out(targets, groups, min(recipe.data.holdout, most_held(recipe) / len(rows)))
    kept = np.ones(len(rows), bool)
    if recipe.data.fraction < 1:
        names = part_hashes(row["path"] for row in rows)
        kept[~held] = part_of(targets[~held], names[~held], recipe.data.fraction)
    for index in np.flatnonzero(kept).tolist():
        row, target = rows[index], int(targets[index])
        said = {column: row[column] for column in recipe.model.heads if row.get(column)}
        yield {
            "photo_id": row["path"] if named[row["path"]] == 1 else f"{row['path']}#{index}",
            "ad_id": row.get("group") or row["path"],
            "path": row["path"],
            **{side: row[side] if row.get("x2") else "" for side in SIDES},
            "class_name": str(target),
            "class_index": target,
            "split": "validation" if held[index] else "train",
            SOURCE: row.get("source") or None,
            **said,
        }


def _cut(recipe: Recipe, rows: list[dict[str, Any]], folder: Path) -> None:
    """Cut the shards, or wait until the first process of this host has."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        while not _stands(folder):
            time.sleep(_LOOK_S)
        return
    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SAID_EVERY_S or done == total:
            said = time.monotonic()
            logger.info("data: %d of %d photos cut", done, total)

    root = Path(recipe.data.labels).parent
    workers = recipe.data.workers if recipe.data.workers >= 0 else None
    write(
        rows,
        ShardSettings(),
        folder,
        root=root,
        network=preprocessing_of(recipe.input),
        progress=progress,
        workers=workers,
    )


def _stands(folder: Path) -> bool:
    """Return whether the shards are whole."""
    try:
        load_manifest(str(folder))
    except DatasetError:
        return False
    return True


def _refuse_errors(recipe: Recipe, manifest: Manifest, folder: Path) -> None:
    """Refuse photos that cannot be read, as where all are kept in memory; they are tried again at the next start."""
    if not manifest.errors:
        return
    for shard in manifest.shards:
        if shard.errors:
            (folder / f"{shard.name}.json").unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    first = manifest.errors[0]
    raise RecipeError(
        f"data: {Path(recipe.data.labels)} names {len(manifest.errors)} photos that cannot be read, the first "
        f"of them {first['path']}: {first['message']}; all of them stand in {folder / 'errors.csv'}"
    )
