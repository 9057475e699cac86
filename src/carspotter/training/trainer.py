"""The training loop: it trains a recipe and writes `recipe.json`, `log.jsonl`, `last.pt` and `best.pt` to a folder.

It knows no task: a `Task` gives the network, the batches, the loss and the figures. Learning rate and batches depend
on seed and step alone, so that a run that was killed goes on, from its last whole epoch, as if it had not been. With
several processes the first one judges and writes.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from carspotter import storage
from carspotter.errors import TrainingError
from carspotter.progress import Quiet, Watch
from carspotter.runtime.seen import SEEN_FILE, to_bytes
from carspotter.storage import replacing
from carspotter.training.averaging import average
from carspotter.training.checkpoint import BEST, LAST, TAXONOMY, Checkpoint, fill, load_checkpoint
from carspotter.training.device import chooses_bfloat16, environment, is_out_of_memory, open_fabric, to_device
from carspotter.training.identifier.model import FURTHER, parameter_groups
from carspotter.training.norms import blend_folded, estimate_norms
from carspotter.training.progress import Clock, Foretold, epoch_line
from carspotter.training.recipe import Phase, Recipe
from carspotter.training.start import NOTICE, notice_of, seen_by_start
from carspotter.training.task import LOG, RECIPE, Task

logger = logging.getLogger(__name__)
ENVIRONMENT = "environment.json"
NORM_PHOTOS = 2048
"""Photos by which the statistics of folded norms are estimated: a mean over 2048 photos is sure to a few per cent."""


class Training:
    """The state of one run between epochs."""

    def __init__(self, recipe: Recipe, task: Task, run: Path, fabric: Fabric | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.task, self.run = recipe, task, run
        self.fabric = fabric or open_fabric(recipe)
        self.device = self.fabric.device
        task.move(self.device)
        self.model = task.build_model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.model.norms == "estimate":
            self._estimate_norms()
        # Judged and exported in place of the last weights, whose figures jump from step to step.
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        # Kept only where it is asked for: it is a third copy of all weights.
        self.first = self._blended_weights() if recipe.train.blend < 1 else {}
        optimizer = torch.optim.AdamW(parameter_groups(self.model, recipe.train), lr=recipe.train.lr)
        self.network, self.optimizer = self.fabric.setup(self.model, optimizer)
        self.epoch = self.step = self.best_epoch = self.first_step = 0
        self.place: float = 0  # in the schedule of the learning rate, in steps: a budget may be ahead of the steps
        self.best, self.best_loss = -math.inf, math.inf
        self.task_name = "figure"
        # Gradients of different data would be averaged without any error.
        if self.fabric.broadcast(task.fingerprint) != task.fingerprint:
            raise TrainingError(f"process {self.fabric.global_rank} learns from other data; copy the same to each host")
        starts = [task.steps(recipe.phase_of(epoch)) for epoch in range(recipe.epochs)]
        # Of the whole run, since the cosine must know its end from the first step, also after a restart.
        self.n_steps = sum(starts)
        self.autocast: bool | None = None  # decided on the first batch, by measuring
        self.watch: Watch = Quiet()
        self.clock = Clock()
        self.lines: list[str] = []
        self.board: SummaryWriter | None = None  # of the process that writes

    def _blended_weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights that knew something before; further heads begin at nothing."""
        state = self.model.state_dict()
        return {name: value.clone() for name, value in state.items() if not name.startswith(FURTHER)}

    def _estimate_norms(self) -> None:
        """Estimate the statistics of folded norms on some batches; all processes see the same."""
        batches = self.task.batches(self.recipe.phase_of(0), 0, self.recipe.seed)
        # Augmented batches of the first phase: the statistics of what is learnt from, not of photos as they are.
        few = itertools.islice(batches, max(1, math.ceil(NORM_PHOTOS / self.recipe.train.batch)))
        self.model.eval()
        # The loss is computed for its forward pass alone; nothing is learnt from it.
        looks = (functools.partial(self.task.loss, self.model, to_device(batch, self.device)) for batch in few)
        estimate_norms(cast(nn.Module, self.model.backbone), looks)

    def go_on(self, resume: bool = True) -> None:
        """Go on from the newest checkpoint in the run, where there is one. Raises TrainingError."""
        # Of several hosts, the first one's disk holds the run.
        found = resume and (self.run / LAST).exists() and self.fabric.is_global_zero
        saved = self.fabric.broadcast(load_checkpoint(self.run / LAST) if found else None)
        if saved is not None:
            self.restore(saved)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe and data. Raises TrainingError."""
        if saved.fingerprint != self.task.fingerprint:
            raise TrainingError(f"{self.run}: recipe or data differ from what the run began with; use another --out")
        fill(self.model, saved.model, self.run)
        self.averaged.load_state_dict(saved.averaged)
        self.first = saved.first
        self.optimizer.load_state_dict(saved.optimizer)
        self.epoch, self.step, self.best, self.best_epoch = saved.epoch, saved.step, saved.best, saved.best_epoch
        self.best_loss, self.place = saved.best_loss, saved.place
        self.clock = Clock(spent=saved.spent)
        # The choice of precision comes along: another one halfway would make another run of it.
        self.autocast, self.lines = saved.autocast, list(saved.log)
        if self.lines and self.fabric.is_global_zero:
            storage.write(self.run / LOG, "".join(self.lines).encode())

    def describe(self) -> None:
        """Write the resolved recipe, the classes, the notice and what the run runs on into its folder."""
        if not self.fabric.is_global_zero:
            return
        # As resolved, with `--set` and `extends` applied: the file alone repeats the run.
        storage.write_json(self.run / RECIPE, self.recipe.to_dict())
        said = environment(self.device) | {"data": self.task.fingerprint, "seed": self.recipe.seed}
        storage.write_json(self.run / ENVIRONMENT, said)
        if self.task.taxonomy is None:
            (self.run / TAXONOMY).unlink(missing_ok=True)  # of an identifier that was stopped in the same folder
        else:
            self.task.taxonomy.save(self.run / TAXONOMY)
        notice = notice_of(self.recipe)
        _put(self.run / NOTICE, notice.encode() if notice else None)
        # Hashed once: of a checkpoint that was restored they are those of the same photos.
        if not (self.lines and (self.run / SEEN_FILE).exists()):
            _put(self.run / SEEN_FILE, self._seen())

    def _seen(self) -> bytes | None:
        """Return the hashes of what is learnt from, and of what the start has learnt from; None where not known."""
        seen = getattr(self.task, "seen", None)
        hashes = seen() if seen is not None else None
        if hashes is not None:
            return to_bytes(hashes, seen_by_start(self.recipe))
        if seen is not None:
            logger.info("photos that are streamed are not hashed: the bundle will not say which it has seen")
        return None

    def fit(self, seconds: float = math.inf, foretold: Foretold | None = None) -> None:
        """Train until the recipe's last epoch, with a checkpoint and a line in the log after each.

        With `train.patience` it stops when the figure has not risen for that many epochs. `seconds` are a budget of
        wall time for this and what follows it, counted over all resumed parts: when work is slower than was foretold,
        the learning rate falls with the time, so that its schedule ends whole, and before what follows must begin.
        """
        patience = self.recipe.train.patience
        self.clock.limit(seconds, foretold)
        self.first_step = self.step  # of this part of the run, by which the time that is left is told
        if self.recipe.train.probe and not self.lines:
            self._judge({})  # what fitted heads reach by themselves, which learning must beat
        # One is judged at least, or there would be nothing to keep.
        while self.epoch < self.recipe.epochs and not (self.lines and self._is_over()):
            if patience and self.epoch - self.best_epoch >= patience:
                break
            started = time.monotonic()
            loss = self._train_epoch(self.recipe.phase_of(self.epoch))
            self.epoch += 1
            self._judge({"loss": loss, "seconds": time.monotonic() - started})
        if self.fabric.is_global_zero:
            self._finish()

    def _is_over(self) -> bool:
        """Return whether the budget is spent, or was before a restart: a schedule at its end teaches nothing more."""
        # Without a budget the place is that of the steps.
        return self.clock.is_over() or self.place > max(self.step, self.n_steps - 1)

    def _judge(self, said: dict[str, float]) -> None:
        """Judge the network as it is, keep it where it is the best so far, and write checkpoint and log."""
        kept = self._kept()
        # One process judges and all get its figures: else they could disagree on the best epoch and on when to
        # stop.
        figures = self.task.evaluate(kept) if self.fabric.is_global_zero else {}
        self.clock.did(self.clock.foretold.judge)
        self._move()
        figures = self.fabric.broadcast(figures)
        self.task_name, primary = next(iter(figures.items()))
        loss = figures.get("held-out loss", math.inf)
        # Strictly better: of equal epochs the first is kept, and patience is not renewed by standing still. Of few
        # held-out photos many epochs have the same share right, and all of them soon: then the loss decides.
        is_best = (primary, -loss) > (self.best, -self.best_loss)
        if is_best:
            self.best, self.best_loss, self.best_epoch = primary, loss, self.epoch
        if self.fabric.is_global_zero:
            line = {"epoch": self.epoch, **said, **figures}
            self._note(line)
            self.watch.say(epoch_line(self.epoch, self.recipe.epochs, line, is_best=is_best))
            self._save(kept, is_best)
            storage.write(self.run / LOG, "".join(self.lines).encode())
        # No process begins an epoch whose predecessor is not on the disk.
        self.fabric.barrier()

    def _finish(self) -> None:
        """Call the task's `finish` on the best network, once: a run that is resumed at its end stays as it is."""
        best, finish = load_checkpoint(self.run / BEST), getattr(self.task, "finish", None)
        if finish is None or best.is_finished:
            return
        self.averaged.load_state_dict(best.kept)
        finish(self.averaged)
        logger.info("finished: %s", self.task.evaluate(self.averaged))
        # Saved as finished, so that resuming at the end does not fit on top of the fit.
        state = self.averaged.state_dict()
        dataclasses.replace(best, averaged=state, blended={}, is_finished=True).save(self.run / BEST)

    def _kept(self) -> nn.Module:
        """Return the network that is judged: the averaged one, or one between it and what learning began with."""
        if not self.first:
            return cast(nn.Module, self.averaged)
        # A copy: the averaged weights go on with the training, the blended ones are only judged and saved.
        kept = cast(nn.Module, copy.deepcopy(self.averaged))
        kept.load_state_dict(blend_folded(kept, self.first, kept.state_dict(), self.recipe.train.blend))
        return kept

    def _train_epoch(self, phase: Phase) -> float:
        # Each epoch, since a resumed run may begin in the middle of a phase.
        freeze = getattr(self.model, "freeze", None)
        if freeze is not None:
            freeze(phase.frozen)
        self.model.train()
        torch.manual_seed(self.recipe.seed * 100_003 + self.epoch)  # dropout, too, must not depend on a restart
        total, count = 0.0, 0
        part = (self.fabric.global_rank, self.fabric.world_size)
        for batch in self.task.batches(phase, self.epoch, self.recipe.seed, part):
            batch = to_device(batch, self.device)
            total += self._step_or_explain(batch, phase)
            self.clock.did(self.clock.foretold.step * phase.width * phase.height / self._pixels())
            count += 1
            if self.fabric.is_global_zero:
                self.watch.advance(self.step - self.first_step, self.n_steps - self.first_step)
            if self.clock.is_over():
                break
        # The mean over processes, all of which saw as many photos.
        mean = self.fabric.all_reduce(torch.tensor(total / max(1, count)))
        return float(mean) if isinstance(mean, Tensor) else total / max(1, count)

    def _pixels(self) -> int:
        """Return the pixels of the last phase, of which a step was timed."""
        return self.recipe.phases[-1].width * self.recipe.phases[-1].height

    def _step_or_explain(self, batch: Any, phase: Phase) -> float:
        """Take a step; turn running out of memory into an error that says which setting to lower."""
        try:
            if self.autocast is None:
                self.autocast = self._chooses_bfloat16(batch)
            return self._train_step(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"{self.run}: out of memory at train.batch={self.recipe.train.batch} with {phase.width}x{phase.height} "
                "px; lower train.batch (and train.lr as much), or the size of the phase, or model.layers"
            ) from error

    def _train_step(self, batch: Any) -> float:
        self._set_learning_rate()
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged("loss", value)
        # None instead of zeros saves a pass over all weights, and leaves frozen ones out of the optimizer.
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        # One norm over all weights, so that clipping changes the length of the step and not its direction.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.clip).item()
        if not math.isfinite(norm):
            raise self._diverged("gradient", norm)  # before it gets into the weights, and they into a checkpoint
        self.optimizer.step()
        self.step += 1
        average(self.averaged, self.model, ema=self.recipe.train.ema, step=self.step)
        return value

    def _diverged(self, what: str, value: float) -> TrainingError:
        return TrainingError(
            f"{self.run}: the {what} became {value} at step {self.step}; lower train.lr and begin again under another "
            "--out"
        )

    def _loss(self, batch: Any) -> Tensor:
        # Weights stay in float32; only products and convolutions are computed in bfloat16, which needs no loss scaling.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.autocast)):
            return self.task.loss(self.network, batch)

    def _chooses_bfloat16(self, batch: Any) -> bool:
        chosen = chooses_bfloat16(
            lambda: self.task.loss(self.model, batch), self.model, self.device, self.recipe.train.precision
        )
        return bool(self.fabric.broadcast(chosen))  # processes that measure differently must agree

    def _set_learning_rate(self) -> None:
        """Rise in a line, then fall as a half cosine to 1 % (Loshchilov and Hutter 2017, without restarts)."""
        settings = self.recipe.train
        # At least one step, by which is divided below.
        rise = max(1, round(settings.warmup * self.n_steps))
        step = self._move()
        done = (step - rise) / max(1, self.n_steps - rise)
        # step + 1: at 0 the first batch would teach nothing.
        factor = min(1.0, (step + 1) / rise) if step < rise else 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            # Set from the step alone, without a scheduler whose state would have to be saved.
            group["lr"] = settings.lr * group["lr_scale"] * factor

    def _move(self) -> float:
        """Return the place in the schedule, moved to where steps and budget are, whichever is further."""
        # Never back: a machine that is idle again lengthens what is left of the schedule, and repeats none of it.
        self.place = max(self.place, self.step, self.clock.share() * self.n_steps)
        return self.place

    def _save(self, kept: nn.Module, is_best: bool) -> None:
        # Everything that the next epoch depends on, so that a resumed run is the same run.
        checkpoint = Checkpoint(
            epoch=self.epoch,
            step=self.step,
            place=self.place,
            model=self.model.state_dict(),
            averaged=self.averaged.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            best_epoch=self.best_epoch,
            best_loss=self.best_loss,
            spent=self.clock.spent(),
            autocast=self.autocast,
            log=tuple(self.lines),
            fingerprint=self.task.fingerprint,
            first=self.first,
            # Without blending these are the averaged weights, which are saved already.
            blended=kept.state_dict() if self.first else {},
        )
        # LAST comes last: a run killed in between repeats the epoch and writes BEST again.
        if is_best:
            checkpoint.save(self.run / BEST)
            with replacing(self.run / LAST) as temporary:
                shutil.copyfile(self.run / BEST, temporary)  # quicker than writing the same twice
        else:
            checkpoint.save(self.run / LAST)

    def _note(self, line: dict[str, float]) -> None:
        """Keep an epoch's figures for the log, and show them to TensorBoard; one that is no number is null."""
        # JSON has no NaN; five digits are more than any held-out set can tell.
        kept = {key: round(value, 5) if math.isfinite(value) else None for key, value in line.items()}
        self.lines.append(json.dumps(kept) + "\n")
        if self.board is None:
            self.board = SummaryWriter(str(self.run / "tensorboard"))
        for key, value in line.items():
            self.board.add_scalar(key, value, self.epoch)
        self.board.flush()
        logger.info("%s", "  ".join(f"{key} {value:.4g}" for key, value in line.items()))


def _put(path: Path, content: bytes | None) -> None:
    """Write a file; with nothing to write, take away that of a run that was stopped in the same folder."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        storage.write(path, content)
