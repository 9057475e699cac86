"""Load a project's shards: photos to learn from and to choose by; classes are those of the manifest.

The split `train` is learnt from and `validation` held out, as the project's split has it, which no ad and no duplicate
crosses. Crops are decoded once into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carspotter.dataset.manifest import load_classes, load_manifest
from carspotter.dataset.reader import read_webdataset
from carspotter.dataset.samples import Sample
from carspotter.errors import RecipeError
from carspotter.pixels import Preprocessing, decode, network_input
from carspotter.training.identifier.data import IdentifierData, LabelledPhotos, preprocessing_of, split_holdout
from carspotter.training.identifier.targets import Nodes, words
from carspotter.training.recipe import Recipe


def load_shards(recipe: Recipe) -> IdentifierData:
    """Read what a recipe's `data.shards` hold. Raises RecipeError, DatasetError."""
    folder = recipe.data.shards
    manifest = load_manifest(folder)
    samples = {split: _samples(folder, split) if split in manifest.counts else [] for split in ("train", "validation")}
    if not samples["train"]:
        raise RecipeError(f"data: {folder} has no sample of split 'train' with a class; build the project first")
    taxonomy = load_classes(folder)
    found = {column: _words(samples, column) for column in recipe.model.heads}
    learnt, held = (_photos(recipe, samples[split], found, manifest.cut_for) for split in ("train", "validation"))
    if not len(held):
        learnt, held = split_holdout(learnt, recipe.data.holdout)
    nodes = Nodes(taxonomy, {str(index): index for index in range(len(taxonomy))})
    return IdentifierData(photos=learnt, holdout=held, nodes=nodes, words=found)


def _samples(folder: str, split: str) -> list[Sample]:
    return [sample for sample in read_webdataset(folder, split=split) if sample.class_index is not None]


def _photos(
    recipe: Recipe, samples: Sequence[Sample], found: dict[str, tuple[str, ...]], cut_for: Preprocessing | None
) -> LabelledPhotos:
    size = preprocessing_of(recipe.input)
    images = np.empty((len(samples), size.height, size.width, 3), np.uint8)
    for index, sample in enumerate(samples):
        pixels = decode(sample.image).pixels
        # A crop that was cut for this input is the input; any other is cut from once more.
        images[index] = pixels if cut_for == size else network_input(pixels, size, sample.box)
    numbers = {column: {word: number for number, word in enumerate(known)} for column, known in found.items()}
    return LabelledPhotos(
        images=images,
        targets=np.array([sample.class_index for sample in samples], np.int64),
        paths=tuple(map(_name, samples)),
        groups=tuple(str(sample.metadata.get("ad_id") or _name(sample)) for sample in samples),
        extras={
            column: np.array([known.get(_cell(sample, column), -1) for sample in samples], np.int64)
            for column, known in numbers.items()
        },
    )


def _name(sample: Sample) -> str:
    """Name a sample by its photo: keys are running numbers, which move when the project grows."""
    return str(sample.metadata.get("photo_id") or sample.key)


def _words(samples: dict[str, list[Sample]], column: str) -> tuple[str, ...]:
    return words([{column: _cell(sample, column)} for part in samples.values() for sample in part], column)[0]


def _cell(sample: Sample, column: str) -> str:
    return str(sample.metadata.get(column) or "")
