"""The training loop: a recipe in; a run folder with `recipe.json`, `log.jsonl`, `last.pt` and `best.pt` out.

It knows no task: a `Task` gives the network, the batches, the loss and the figures. Learning rate and batches depend
on seed and step alone, so that a run that was killed goes on, from its last whole epoch, as if it had not been.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from carspotter.errors import TrainingError
from carspotter.taxonomy import Taxonomy
from carspotter.training.checkpoint import BEST, LAST, Checkpoint, load_checkpoint
from carspotter.training.model import parameter_groups
from carspotter.training.recipe import Phase, Precision, Recipe, load_recipe

logger = logging.getLogger(__name__)
RECIPE, LOG = "recipe.json", "log.jsonl"


class Task(Protocol):
    """What is learnt. The first key of `evaluate` is the primary figure: the higher, the better."""

    @property
    def fingerprint(self) -> str:
        """Tell apart what is learnt from; a run resumes only with the same."""

    @property
    def taxonomy(self) -> Taxonomy | None:
        """Return the classes of an identifier, None for a finder."""

    def build_model(self) -> nn.Module:
        """Make the network with its first weights; all but its `backbone` is new, its `freeze` is called each phase."""

    def steps(self, phase: Phase) -> int:
        """Count the batches of an epoch."""

    def batches(self, phase: Phase, epoch: int, seed: int) -> Iterator[Any]:
        """Yield an epoch's batches, tensors in tuples or dicts; they depend on the arguments alone."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute a batch's loss, one number."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return figures on held-out photos, the primary one first."""

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network so that it takes uint8 pixels (n, h, w, 3) and returns a bundle's outputs in order."""

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the bundle's calibration, chosen on held-out photos, and figures on them for its card."""


def open_task(recipe: Recipe) -> Task:
    """Make the task that a recipe names."""
    if recipe.task == "finder":
        from carspotter.training.finder_task import FinderTask

        return FinderTask(recipe)
    from carspotter.training.identifier_task import IdentifierTask

    return IdentifierTask(recipe)


def train(
    recipe_path: str | Path, changes: Sequence[str] = (), out: str | Path | None = None, resume: bool = False
) -> str:
    """Train a recipe; return a line with the run's folder and best figures. Raises RecipeError, TrainingError."""
    recipe = load_recipe(recipe_path, changes)
    run = Path(out) if out else Path("runs") / recipe.name
    if (run / LAST).exists() and not resume:
        raise TrainingError(f"{run} holds a training already; go on with --resume, or name another folder with --out")
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    run.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, open_task(recipe), run)
    if resume and (run / LAST).exists():
        training.restore(load_checkpoint(run / LAST))
    (run / RECIPE).write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", encoding="utf-8")
    training.fit()
    return f"{run}: best {training.task_name} {training.best:.4f} after {recipe.epochs} epochs"


class Training:
    """Hold the state of one run between epochs."""

    def __init__(self, recipe: Recipe, task: Task, run: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.task, self.run = recipe, task, run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = task.build_model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, recipe.train), lr=recipe.train.lr)
        self.epoch = self.step = 0
        self.best = -math.inf
        self.task_name = "figure"
        starts = [task.steps(recipe.phase_of(epoch)) for epoch in range(recipe.epochs)]
        self.n_steps = sum(starts)
        self.autocast: bool | None = None  # decided on the first batch, by measuring

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe and data. Raises TrainingError."""
        if saved.fingerprint != self.task.fingerprint:
            raise TrainingError(f"{self.run}: recipe or data differ from what the run began with; use another --out")
        self.model.load_state_dict(saved.model)
        self.averaged.load_state_dict(saved.averaged)
        self.optimizer.load_state_dict(saved.optimizer)
        self.epoch, self.step, self.best = saved.epoch, saved.step, saved.best

    def fit(self) -> None:
        """Train until the recipe's last epoch, with a checkpoint and a line in the log after each."""
        while self.epoch < self.recipe.epochs:
            started = time.monotonic()
            loss = self._train_epoch(self.recipe.phase_of(self.epoch))
            self.epoch += 1
            figures = self.task.evaluate(self.averaged)
            self.task_name, primary = next(iter(figures.items()))
            self.best, is_best = max(self.best, primary), primary > self.best
            self._save(is_best)
            self._log({"epoch": self.epoch, "loss": loss, **figures, "seconds": time.monotonic() - started})

    def _train_epoch(self, phase: Phase) -> float:
        freeze = getattr(self.model, "freeze", None)
        if freeze is not None:
            freeze(phase.frozen)
        self.model.train()
        torch.manual_seed(self.recipe.seed * 100_003 + self.epoch)  # dropout, too, must not depend on a restart
        total, count, started = 0.0, 0, time.monotonic()
        n_steps = self.task.steps(phase)
        place = f"{self.epoch + 1}/{self.recipe.epochs}"
        for batch in self.task.batches(phase, self.epoch, self.recipe.seed):
            if self.autocast is None:
                self.autocast = self._chooses_bfloat16(batch, self.recipe.train.precision)
            total += self._train_step(_to(batch, self.device))
            count += 1
            _progress(place, count / n_steps, loss=total / count, started=started)
        return total / max(1, count)

    def _train_step(self, batch: Any) -> float:
        self._set_learning_rate()
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(f"{self.run}: the loss became {value} at step {self.step}; lower train.lr and --resume")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return value

    def _loss(self, batch: Any) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.autocast)):
            return self.task.loss(self.model, batch)

    def _set_learning_rate(self) -> None:
        """Rise in a line, then fall as a half cosine to 1 % (Loshchilov and Hutter 2017, without restarts)."""
        settings = self.recipe.train
        rise = max(1, round(settings.warmup * self.n_steps))
        done = (self.step - rise) / max(1, self.n_steps - rise)
        factor = (self.step + 1) / rise if self.step < rise else 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * group["lr_scale"] * factor

    @torch.no_grad()
    def _average(self) -> None:
        # Young averages forget faster, or the first random head would linger: the (1 + t) / (10 + t) of TensorFlow.
        decay = min(self.recipe.train.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _chooses_bfloat16(self, batch: Any, precision: Precision) -> bool:
        """Time a step of each where it is `auto`: bfloat16 is six times as fast with AMX, 13 times slower without."""
        if precision != "auto" or self.device.type == "cuda":
            return precision != "float32"  # on a GPU, auto means bfloat16
        seconds: dict[bool, float] = {}
        kept = copy.deepcopy(self.model.state_dict())
        for autocast in (False, True):
            self.autocast = autocast
            started = time.monotonic()
            self._loss(batch).backward()
            seconds[autocast] = time.monotonic() - started
        self.model.load_state_dict(kept)
        logger.info("precision: float32 %.2f s a step, bfloat16 %.2f s", seconds[False], seconds[True])
        return seconds[True] < seconds[False]

    def _save(self, is_best: bool) -> None:
        checkpoint = Checkpoint(
            epoch=self.epoch,
            step=self.step,
            model=self.model.state_dict(),
            averaged=self.averaged.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            fingerprint=self.task.fingerprint,
        )
        if is_best:
            checkpoint.save(self.run / BEST)
        checkpoint.save(self.run / LAST)

    def _log(self, line: dict[str, float]) -> None:
        with (self.run / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: round(value, 5) for key, value in line.items()}) + "\n")
        logger.info("%s", "  ".join(f"{key} {value:.4g}" for key, value in line.items()))


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_to(value, device) for value in batch)
    return batch


def _progress(epoch: str, part: float, *, loss: float, started: float) -> None:
    """Draw one line on a terminal: the epoch, its part done, the mean loss, the seconds left."""
    if not sys.stderr.isatty():
        return
    left = (time.monotonic() - started) * (1 / part - 1)
    sys.stderr.write(f"\repoch {epoch} {part:4.0%} loss {loss:.3f} {left:4.0f} s left ")
    if part >= 1:
        sys.stderr.write("\n")
    sys.stderr.flush()
