"""Prediction tables of earlier runs in, soft labels for distillation out: averaged, in the order of our photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from carspotter.errors import RecipeError
from carspotter.evaluation.predictions import Predictions
from carspotter.taxonomy import Taxonomy
from carspotter.training.recipe import Recipe


def soft_labels(recipe: Recipe, paths: Sequence[str], taxonomy: Taxonomy) -> Tensor:
    """Return the teachers' mean probabilities (n, c) of our classes for the photos `paths`.

    A photo that no teacher saw, or whose probability lies on classes that we lack, gets a row of zeros: it is learnt
    from its label alone. Raises RecipeError where a teacher knows none of the photos or classes, EvaluationError for a
    file that is no prediction table.
    """
    total = np.zeros((len(paths), len(taxonomy)), np.float64)
    seen = np.zeros(len(paths), np.int64)
    for name in recipe.data.teachers:
        table = Predictions.load(recipe.path(name))
        rows, columns = _matched(table, paths, taxonomy, name)
        known = np.flatnonzero(rows >= 0)
        total[known[:, None], columns[columns >= 0]] += table.probabilities[rows[known]][:, columns >= 0]
        seen[known] += 1
    total /= np.maximum(seen, 1)[:, None]
    mass = total.sum(axis=1, keepdims=True)
    return torch.from_numpy(np.where(mass > 0.5, total / np.maximum(mass, 1e-12), 0).astype(np.float32))


def _matched(table: Predictions, paths: Sequence[str], taxonomy: Taxonomy, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the table's row of each photo (n,) and our class of each of its columns (c,), -1 where there is none."""
    place = {photo: row for row, photo in enumerate(table.photos.tolist())}
    classes = {taxon: index for index, taxon in enumerate(taxonomy.classes)}
    rows = np.array([place.get(path, -1) for path in paths])
    columns = np.array([classes.get(taxon, -1) for taxon in table.taxonomy.classes])
    if (rows < 0).all() or (columns < 0).all():
        what = "photos" if (rows < 0).all() else "classes"
        raise RecipeError(f"data.teachers: {name} has none of the {what} of this training")
    return rows, columns
