"""Networks that learn no more and whose answers a training follows: other runs, or a still network.

They see the very pixels that the student sees, changed and mixed: Beyer et al., "Knowledge distillation: A good teacher
is patient and consistent", 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from carspotter.errors import RecipeError
from carspotter.taxonomy import Taxonomy
from carspotter.training.checkpoint import BEST, TAXONOMY, load_checkpoint
from carspotter.training.identifier.model import Identifier, build_identifier
from carspotter.training.identifier.probe import resized
from carspotter.training.norms import fuse_norms
from carspotter.training.recipe import Recipe
from carspotter.training.recipe_file import load_recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A network, the side in pixels that it sees, and our class of each of its classes, -1 where we lack it."""

    network: Identifier
    side: int
    columns: Tensor | None = None
    """None where its classes are ours, in our order."""


class Teacher(nn.Module):
    """What several networks say of pixels (n, 3, h, w) in 0…255, on average (n, c)."""

    def __init__(self, members: Sequence[Member], n_classes: int) -> None:
        super().__init__()
        self.members, self.n_classes = members, n_classes
        self.networks = nn.ModuleList(fuse_norms(member.network).requires_grad_(False) for member in members)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        total = torch.zeros(len(pixels), self.n_classes, device=pixels.device)
        for member, network in zip(self.members, self.networks, strict=True):
            seen = resized(pixels, member.side).contiguous(memory_format=torch.channels_last)
            said = cast(Identifier, network).head(cast(Identifier, network).embed(seen)).float().softmax(dim=1)
            if member.columns is None:
                total += said
            else:
                columns = member.columns.to(pixels.device)
                # Classes that we lack are left out, and what remains sums to one again.
                total.index_add_(1, columns[columns >= 0], said[:, columns >= 0])
        return total / total.sum(dim=1, keepdim=True).clamp_min(1e-6)


def open_teachers(recipe: Recipe, taxonomy: Taxonomy) -> list[Member]:
    """Read the runs that `data.teachers` names. Raises RecipeError, TrainingError."""
    return [_member(Path(name), taxonomy) for name in recipe.data.teachers]


def _member(run: Path, taxonomy: Taxonomy) -> Member:
    saved = load_checkpoint(run / BEST)
    if not (run / TAXONOMY).is_file():
        raise RecipeError(f"data.teachers: {run} is no run of an identifier")
    recipe, classes = load_recipe(run / "recipe.json"), Taxonomy.load(run / TAXONOMY)
    places = {taxon: place for place, taxon in enumerate(taxonomy.classes)}
    columns = torch.tensor([places.get(taxon, -1) for taxon in classes.classes])
    if (columns < 0).all():
        raise RecipeError(f"data.teachers: {run} has none of the classes of this training")
    heads = {name: len(saved.kept[f"heads.head_{name.replace('.', '_')}.bias"]) for name in recipe.model.heads}
    network = build_identifier(recipe, classes, heads, blank=True)
    network.load_state_dict(saved.kept)
    is_same = classes.classes == taxonomy.classes
    return Member(network=network, side=recipe.input.height, columns=None if is_same else columns)
