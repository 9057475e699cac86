"""Save and load the state of a training in one file; a broken write replaces no good file."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carspotter.errors import TrainingError
from carspotter.storage import replacing
from carspotter.storage_errors import refusal

LAST = "last.pt"
BEST = "best.pt"
TAXONOMY = "taxonomy.json"
State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training after `epoch` whole epochs: enough to go on as if nothing had happened."""

    epoch: int
    step: int
    model: State
    averaged: State
    optimizer: State
    best: float
    best_epoch: int = 0
    best_loss: float = math.inf
    """The held-out loss of the best epoch: it decides between epochs of the same figure."""
    spent: float = 0.0
    """Seconds that learning took so far, of which a budget is the limit."""
    place: float = 0.0
    """In the schedule of the learning rate, in steps: a budget may be ahead of the steps."""
    autocast: bool | None = None
    """Whether bfloat16 was chosen: timed again after a restart, the choice might differ."""
    log: tuple[str, ...] = ()
    """The lines of the log up to here: a kill between checkpoint and log would lose the last one."""
    fingerprint: str
    """Of recipe and data: a run goes on only with what it began with."""
    first: State = field(default_factory=dict)
    """The weights that learning began with, where `train.blend` is below 1."""
    blended: State = field(default_factory=dict)
    """The weights between `first` and `averaged`, likewise."""
    is_finished: bool = False
    """Whether the task's `finish` has been at the averaged weights."""

    @property
    def kept(self) -> State:
        """Return the weights that are judged, exported and started from."""
        return self.blended or self.averaged

    def save(self, path: Path) -> None:
        """Write under a temporary name, then rename, so that a kill or a full disk leaves the previous file whole.

        Raises TrainingError.
        """
        try:
            with replacing(path) as temporary:
                torch.save({name: getattr(self, name) for name in self.__slots__}, temporary)
        except (OSError, RuntimeError) as error:  # what torch cannot write it says in its own way
            said = refusal(error) if isinstance(error, OSError) else "torch could not write all of it"
            raise TrainingError(
                f"checkpoint {path} cannot be written ({said}); what was there before is whole: make room, then run "
                "the same command again, which goes on after the last whole epoch"
            ) from error


def fill(model: nn.Module, state: State, run: Path) -> None:
    """Load weights of a run into its network. Raises TrainingError where they are of another shape."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(
            f"{run}: its weights do not fit: the labels have other words than the run learnt, or an earlier version of "
            "carspotter trained it; restore the labels, or train anew"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises TrainingError."""
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise TrainingError(f"no checkpoint {path}; train first, or name another run") from None
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
