"""Choose a training by the data, the machine and what a person asked for: size, batch, precision, epochs.

Recipes are beginnings; this bends one to the number of photos and to what a step takes here, which is measured on real
batches. It trains nothing and prints nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from carspotter.errors import TrainingError
from carspotter.progress import counted
from carspotter.training.device import is_out_of_memory
from carspotter.training.identifier.model import check_phases, fixed_size, known_stages, load_backbone, parameter_groups
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe import Phase, Recipe
from carspotter.training.recipe_file import load_recipe
from carspotter.training.task import Task

STEPS = {"fine-tune": 96, "imagenet": 600}
"""Steps that a training should have at least: a car network whose head was fitted before the first step only needs
turning, and of few photos more steps make it worse; an everyday network has to learn what a car is."""
MOST_EPOCHS = 40
"""Of few photos each is seen at most so often: after that a network learns them by heart."""
LEAST_BATCH, BATCH, LARGE_BATCH = 8, 32, 128
LARGE_MEMORY, LARGE_DATA = 14 << 30, 4000
"""From that much memory on a GPU and so many photos on, large batches are faster, and there are steps enough."""
PATIENCE = {"fine-tune": 6, "imagenet": 12}
"""Epochs without a better one after which a training ends early: few photos are soon known by heart, while
an everyday network goes on learning what a car is."""
LEAST_SIDE = 96
"""Pixels of a side below which a car cannot be told from another; phases at fewer would unlearn more than they save."""
TIMED = 3
SLACK = 0.9
"""Part of a budget that epochs are chosen for: other work on the machine may slow the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked for; None: choose. `changes` are `key=value` of the recipe and go before all else."""

    epochs: int | None = None
    size: int | None = None
    minutes: float | None = None
    backbone: str | None = None
    recipe: str | None = None
    seed: int | None = None
    changes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the wishes as JSON values."""
        return dataclasses.asdict(self) | {"changes": list(self.changes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """How many photos there are in each split, and of how many classes."""

    train: int
    validation: int
    test: int
    classes: int

    def held_by(self, task: Task) -> Photos:
        """Return the same photos where a split without `validation` holds some of its train part out to choose by."""
        if self.validation or not isinstance(task, IdentifierTask):
            return self
        held = len(task.holdout.targets)
        return dataclasses.replace(self, train=self.train - held, validation=held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Measured seconds of a step at the size and batch of `recipe`, and of judging all photos to choose by."""

    step: float
    judge: float
    device: str
    load: float = 1.0
    """Seconds that pass while a core works one, on the CPU: other work slows all that comes after, too."""


def begin(wish: Wish, shards: str, photos: Photos, card: Mapping[str, str]) -> Recipe:
    """Return the recipe that a wish names, with the batch that suits the data. Raises RecipeError.

    Weights that cannot be had are an error here, before any photo is read.
    """
    name = wish.recipe or _kind(wish)
    words = {key: value for key, value in card.items() if value}
    changes = [f"data.shards={shards}", "name=trained", *(f"card.{key}={_quoted(text)}" for key, text in words.items())]
    if wish.backbone:
        changes.append(f"model.backbone={wish.backbone}")
    if wish.seed is not None:
        changes.append(f"seed={wish.seed}")
    before = load_recipe(name, changes)
    batch = batch_for(photos.train)
    # By the square root, as Adam's steps grow with the batch (Malladi et al. 2022).
    rate = before.train.lr * math.sqrt(batch / before.train.batch)
    own = [f"train.batch={batch}", f"train.lr={rate:.3g}", f"train.patience={PATIENCE[_kind(wish)]}"]
    own = [] if wish.recipe else own
    recipe = load_recipe(name, [*changes, *own, *wish.changes])
    if recipe.task != "identifier":
        raise TrainingError(f"recipe {name} is for the task {recipe.task!r}; a project trains an identifier")
    return _suited(recipe, wish)


def _suited(recipe: Recipe, wish: Wish) -> Recipe:
    """Return a recipe with the size that was asked for, and with phases that the backbone asked for can learn by."""
    if wish.size:
        square = dataclasses.replace(recipe.input, width=wish.size, height=wish.size)
        phases = [dataclasses.replace(phase, **_scaled(phase, recipe, wish.size)) for phase in recipe.phases]
        recipe = dataclasses.replace(recipe, input=square, phases=tuple(phases))
    backbone = load_backbone(recipe.model)
    if wish.backbone and not known_stages(backbone):
        phases = [dataclasses.replace(phase, frozen=0) for phase in recipe.phases]
        recipe = dataclasses.replace(recipe, phases=tuple(phases))
    if wish.backbone and not wish.size:
        recipe = at_fixed_size(recipe)
    check_phases(recipe, backbone)
    return recipe


def at_fixed_size(recipe: Recipe) -> Recipe:
    """Return a recipe with input and phases at the size of its backbone, where that takes no other."""
    size = fixed_size(recipe.model.backbone)
    if size is None:
        return recipe
    whole = dataclasses.replace(recipe.input, width=size[0], height=size[1])
    phases = [dataclasses.replace(phase, width=size[0], height=size[1]) for phase in recipe.phases]
    return dataclasses.replace(recipe, input=whole, phases=tuple(phases))


def batch_for(n_photos: int) -> int:
    """Return the batch for so many photos: several steps in each epoch, and more at a time where a GPU has room."""
    if torch.cuda.is_available() and n_photos >= LARGE_DATA and torch.cuda.mem_get_info()[0] >= LARGE_MEMORY:
        return LARGE_BATCH
    # At least eight steps an epoch, or the averaged weights would hardly have moved when they are first judged.
    return max(LEAST_BATCH, min(BATCH, n_photos // 8))


def measure(task: Task, recipe: Recipe) -> Pace:
    """Time some real steps of the last phase, and judging, on a network with random weights.

    Raises TrainingError where a step needs more memory than there is.
    """
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.move(device)
    model = task.build_model(blank=True).to(device)
    optimizer = torch.optim.AdamW(parameter_groups(cast(Any, model), recipe.train), lr=1e-6)
    phase = recipe.phases[-1]
    times: list[float] = []
    began, worked = time.monotonic(), time.process_time()
    try:
        for batch in task.batches(phase, 0, recipe.seed):
            started = time.monotonic()
            optimizer.zero_grad(set_to_none=True)
            cast(Any, task.loss(model, {name: value.to(device) for name, value in batch.items()})).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.monotonic() - started)
            if len(times) > TIMED:
                break
        started = time.monotonic()
        task.evaluate(copy.deepcopy(model).eval())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"a step with train.batch={recipe.train.batch} and {phase.width}x{phase.height} px needs more memory than "
            f"there is; add --set train.batch={max(2, recipe.train.batch // 2)}, or a smaller --size"
        ) from error
    judged = time.monotonic()
    # A GPU works while its process waits, so that waiting says nothing there.
    load = (judged - began) / max(1e-3, time.process_time() - worked) if device.type == "cpu" else 1.0
    # The first step pays for memory and kernels.
    rest = times[1:] or times
    step = sum(rest) / len(rest)
    return Pace(step=step, judge=judged - started, device=_device(device), load=max(1.0, load))


def epochs_for(recipe: Recipe, steps: int, *, wish: Wish, pace: Pace, seconds: float) -> Recipe:
    """Return the recipe with as many epochs as the data want, or as fit into `seconds` (infinity: no budget)."""
    epochs = recipe.epochs
    if wish.epochs:
        epochs = wish.epochs
    elif not wish.recipe:
        least = STEPS[_kind(wish)]
        epochs = min(MOST_EPOCHS, max(epochs, math.ceil(least / steps)))
    recipe = dataclasses.replace(recipe, phases=phases_of(recipe.phases, epochs))
    if not math.isinf(seconds):
        while epochs > 1 and estimate(recipe, steps, pace) > SLACK * seconds:
            epochs -= 1
            recipe = dataclasses.replace(recipe, phases=phases_of(recipe.phases, epochs))
    return recipe


def phases_of(phases: Sequence[Phase], epochs: int) -> tuple[Phase, ...]:
    """Return phases with `epochs` in all, shared out as they were; of too few epochs the last phases remain."""
    total, kept, left = sum(phase.epochs for phase in phases), [], epochs
    for number, phase in enumerate(reversed(phases)):
        is_first = number == len(phases) - 1
        share = left if is_first else min(left, max(1, round(phase.epochs * epochs / total)))
        if share:
            kept.append(dataclasses.replace(phase, epochs=share))
        left -= share
    return tuple(reversed(kept))


def estimate(recipe: Recipe, steps: int, pace: Pace) -> float:
    """Return about how many seconds the epochs take: a step costs as much as it has pixels."""
    last = recipe.phases[-1].width * recipe.phases[-1].height
    learning = sum(phase.epochs * steps * pace.step * phase.width * phase.height / last for phase in recipe.phases)
    return learning + (recipe.epochs + 1) * pace.judge


def in_words(recipe: Recipe, photos: Photos, steps: int, *, pace: Pace) -> list[str]:
    """Return what a training will do, in lines for people."""
    begun = f"the weights of {recipe.model.start}" if recipe.model.start else "random weights"
    if recipe.model.weights and not recipe.model.start:
        begun = f"{'public' if recipe.model.weights == 'pretrained' else 'given'} weights"
    sizes = " then ".join(dict.fromkeys(f"{phase.width}x{phase.height}" for phase in recipe.phases))
    precision = "float32 or bfloat16, whichever a timed step says" if recipe.train.precision == "auto" else ""
    return [
        f"{photos.train} photos of {photos.classes} classes to learn from, {photos.validation} to choose by, "
        f"{photos.test} to judge on",
        f"{recipe.model.backbone} from {begun}, {sizes} px, batches of {recipe.train.batch}, "
        f"{precision or recipe.train.precision}, on {pace.device}",
        *([f"what learns: {learns}"] if (learns := _learns(recipe)) else []),
        f"{counted(recipe.epochs, 'epoch')} of {counted(steps, 'step')}{_early(recipe)}; "
        f"a step takes {pace.step:.2f} s here",
    ]


def _learns(recipe: Recipe) -> str:
    """Say what of the network learns and which classes weigh more, where a recipe asks for it."""
    layers, stages, weights = recipe.model.layers, recipe.model.stages, recipe.train.class_weights
    parts = []
    if layers == "head":
        parts.append("the head alone")
    elif layers != "all":
        parts.append(f"the head and the last {counted(int(layers.removeprefix('last-')), 'layer')}")
    if stages:
        parts.append(f"the head and the last {counted(stages, 'stage')}")
    if weights:
        parts.append(f"rare classes weigh more, {weights if weights == 'balanced' else f'by the power {weights:g}'}")
    return "; ".join(parts)


def _scaled(phase: Phase, recipe: Recipe, size: int) -> dict[str, int]:
    def side(pixels: int, whole: int) -> int:
        # In steps of 16: networks halve four or five times.
        return max(min(size, LEAST_SIDE), round(pixels * size / whole / 16) * 16)

    is_whole = (phase.width, phase.height) == (recipe.input.width, recipe.input.height)
    if is_whole:
        return {"width": size, "height": size}
    return {"width": side(phase.width, recipe.input.width), "height": side(phase.height, recipe.input.height)}


def _kind(wish: Wish) -> str:
    return "imagenet" if wish.backbone else "fine-tune"


def _early(recipe: Recipe) -> str:
    patience = recipe.train.patience
    return f", fewer where {patience} in a row bring nothing better" if 0 < patience < recipe.epochs else ""


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"the CPU ({count} {'thread' if count == 1 else 'threads'} of {os.cpu_count()} cores)"


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
