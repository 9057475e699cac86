"""Load a project's shards, tars or TFRecords: photos to learn from and to choose by; classes are the manifest's.

The split `train` is learnt from and `validation` held out, as the project's split has it, which no ad and no duplicate
crosses. Crops that fit into memory are decoded once; more are read as a stream (`source`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from carspotter.dataset.manifest import Manifest, load_classes, load_manifest
from carspotter.dataset.stream import Reading, ShardedSplit, cell, open_split
from carspotter.errors import RecipeError
from carspotter.training.identifier.data import IdentifierData
from carspotter.training.identifier.holdout import Hashes, hashes, held_out, part_hashes, part_of
from carspotter.training.identifier.source import (
    Ints,
    Kept,
    PhotoSource,
    Streamed,
    fits,
    group_of,
    most_held,
    name_of,
    preprocessing_of,
    read_photos,
)
from carspotter.training.identifier.targets import Nodes
from carspotter.training.recipe import Recipe

logger = logging.getLogger(__name__)
_SAID_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Labels:
    """What a pass over a split's labels found: `targets` (n,), -1 where unknown, hashes of groups and names, words."""

    targets: Ints
    groups: Hashes
    parts: Hashes
    words: Mapping[str, set[str]]


def load_shards(recipe: Recipe) -> IdentifierData:
    """Read what a recipe's `data.shards` hold. Raises RecipeError, DatasetError."""
    folder = recipe.data.shards
    manifest = load_manifest(folder)
    if not sum(manifest.counts.get("train", {}).values()):
        raise RecipeError(f"data: {folder} has no sample of split 'train' with a class; build the project first")
    taxonomy = load_classes(folder)
    nodes = Nodes(taxonomy, {str(index): index for index in range(len(taxonomy))})
    learnt, held = (open_split(manifest, split) for split in ("train", "validation"))
    small = fits(len(learnt) + len(held), recipe)
    found: dict[str, tuple[str, ...]] = {}
    if small or _needs_labels(recipe, manifest, held):
        labels = _read_labels(recipe, learnt), _read_labels(recipe, held)
        found = {name: tuple(sorted(set.union(*(each.words[name] for each in labels)))) for name in recipe.model.heads}
        learnt, held, counts = _choose(recipe, (learnt, held), labels)
    else:
        said = manifest.counts["train"]
        counts = np.array([said.get(name, 0) for name in manifest.classes], np.int64)
    size = preprocessing_of(recipe.input)
    reading, other = (Reading(split=split, target=size, words=found) for split in (learnt, held))
    photos: PhotoSource
    if small:
        photos = Kept(read_photos(reading))
    else:
        mark = ("stream", manifest.fingerprint, counts.tolist(), found)
        photos = Streamed(reading, counts, recipe, mark)
        logger.info("data: %d photos are read as a stream, %d are held out", len(photos), len(held))
    holdout = read_photos(other, None if small else most_held(recipe))
    return IdentifierData(photos=photos, holdout=holdout, nodes=nodes, words=found)


def _needs_labels(recipe: Recipe, manifest: Manifest, held: ShardedSplit) -> bool:
    """Return whether the manifest does not say enough: words of further heads, a holdout, photos without a class."""
    unknown = any(sum(shard.classes.values()) != shard.samples for shard in manifest.shards)
    return bool(recipe.model.heads) or recipe.data.fraction < 1 or not len(held) or unknown


def _read_labels(recipe: Recipe, split: ShardedSplit) -> _Labels:
    """Go over the labels of a split once, without pixels, and keep twenty bytes of each sample."""
    reading = Reading(split=split, target=preprocessing_of(recipe.input))
    total = sum(split.samples)
    targets = np.full(total, -1, np.int64)
    keys = np.zeros((2, total), np.uint64)
    words: dict[str, set[str]] = {column: set() for column in recipe.model.heads}
    said, index = time.monotonic(), 0
    for shard, samples in enumerate(split.samples):
        for number in range(samples):
            sample = reading.sample((shard, number), image=False)
            if sample.class_index is not None:
                targets[index] = sample.class_index
            name = name_of(sample)
            keys[:, index] = (*hashes([group_of(sample)]), *part_hashes([name]))
            for column, known in words.items():
                known |= {cell(sample, column)} - {""}
            index += 1
        if time.monotonic() - said > _SAID_EVERY_S:
            said = time.monotonic()
            logger.info("data: labels of %d of %d photos read", index, total)
    return _Labels(targets=targets, groups=keys[0], parts=keys[1], words=words)


def _choose(
    recipe: Recipe, splits: tuple[ShardedSplit, ShardedSplit], labels: tuple[_Labels, _Labels]
) -> tuple[ShardedSplit, ShardedSplit, Ints]:
    """Return what is learnt from and what is held out, of what has a class, and counts of the former by class."""
    (train, validation), (learnt, held) = splits, labels
    chosen = learnt.targets >= 0
    out = validation.choose(held.targets >= 0)
    if not len(out):
        part = recipe.data.holdout
        if not fits(len(chosen), recipe):
            part = min(part, most_held(recipe) / len(chosen))
        away = np.zeros(len(chosen), bool)
        away[chosen] = held_out(learnt.targets[chosen], learnt.groups[chosen], part)
        out, chosen = train.choose(away), chosen & ~away
    if recipe.data.fraction < 1:
        places = np.flatnonzero(chosen)
        chosen[places] = part_of(learnt.targets[places], learnt.parts[places], recipe.data.fraction)
    return train.choose(chosen), out, np.bincount(learnt.targets[chosen])
