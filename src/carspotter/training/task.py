"""What a training and an export ask of what is learnt: the protocol `Task`, and which task a recipe names.

The loop (`trainer`) needs Lightning Fabric and TensorBoard; an export needs neither, and opens tasks here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from carspotter.taxonomy import Taxonomy
from carspotter.training.recipe import Phase, Recipe

RECIPE, LOG = "recipe.json", "log.jsonl"
"""The resolved recipe in a run's folder."""


class Task(Protocol):
    """What is learnt. The first key of `evaluate` is the primary figure: the higher, the better.

    A task may have `finish(model)`, which fits something to the best averaged network after the last epoch, in place;
    and `seen()`, which returns hashes of the crops that it learns from (`runtime.seen`).
    """

    @property
    def fingerprint(self) -> str:
        """Identify the data that is learnt from; a run resumes only with the same."""

    @property
    def taxonomy(self) -> Taxonomy | None:
        """Return the classes of an identifier, None for a finder."""

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Return what an identifier answers in addition to classes, each with its words; empty for a finder."""

    def move(self, device: torch.device) -> None:
        """Make ready to learn on a device."""

    def build_model(self, *, blank: bool = False) -> nn.Module:
        """Make the network with its first weights; all but its `backbone` is new, its `freeze` is called each phase.

        A `blank` one has random weights and reads no file: a checkpoint fills it.
        """

    def steps(self, phase: Phase) -> int:
        """Count the batches of an epoch."""

    def batches(self, phase: Phase, epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Iterator[Any]:
        """Yield an epoch's batches, tensors in tuples or dicts; they depend on the arguments alone.

        `part` is the number of this process and how many there are: of each batch it gets that part.
        """

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute a batch's loss, one number."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return figures on held-out photos, the primary one first."""

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network so that it takes uint8 pixels (n, h, w, 3) and returns its raw outputs in order.

        An identifier returns logits, the embedding and the logits of each of its `attributes`.
        """

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the bundle's calibration, chosen on held-out photos, and figures on them for its card.

        The temperatures in it (`temperature`, and `temperatures` by attribute) and `iou` go into the exported graph.
        """


def open_task(recipe: Recipe, run: Path | None = None) -> Task:
    """Make the task that a recipe names; `run` is the folder of its run, where shards of too many photos are cut."""
    if recipe.task == "finder":
        from carspotter.training.finder.task import FinderTask

        return FinderTask(recipe)
    if recipe.task == "attribute":
        from carspotter.training.attribute.task import AttributeTask

        return AttributeTask(recipe)
    from carspotter.training.identifier.task import IdentifierTask

    return IdentifierTask(recipe, run)
