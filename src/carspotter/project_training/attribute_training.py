"""Train a network for an attribute on crops of labelled photos, or go on where a training was stopped; a `Base` out.

How long suits the number of photos; how long that takes is measured before the first step, and said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carspotter.pixels import Preprocessing
from carspotter.project_training.attribute_look import Crops
from carspotter.project_training.attribute_network import LABELS, Base, exported, recipe_of, run_of

if TYPE_CHECKING:
    from carspotter.progress import Watch
    from carspotter.project_training.attribute_photos import AttributeSettings, Photos
    from carspotter.training.attribute.task import AttributeTask
    from carspotter.training.progress import Foretold
    from carspotter.training.recipe import Recipe
    from carspotter.training.trainer import Training

LEAST_STEPS = 2400
MOST_EPOCHS = 150
"""Of a network from nothing; after 182 steps it still answers the commonest label of most photos."""


def trained_base(
    photos: Photos, crops: Sequence[Crops], settings: AttributeSettings, out: Path, *, watch: Watch
) -> Base:
    """Train a network on crops (n, h, w, 3) of each of `sizes_of`, and export it so that it answers its embedding."""
    from carspotter.training.attribute.labels import write_table

    run = run_of(out)
    write_table(run / LABELS, photos.rows)
    recipe = recipe_of(settings, out)
    if settings.how == "scratch" and not settings.epochs:
        recipe = _long_enough(recipe, int(photos.part("train").sum()))
    return exported(_fitted(recipe, crops, run, photos=photos, minutes=settings.minutes, watch=watch), settings, out)


def sizes_of(settings: AttributeSettings, out: Path) -> tuple[Preprocessing, ...]:
    """Return the sizes of crops that a training wants: as the network sees them, and as it learns from them."""
    if not settings.learns:
        return ()
    from carspotter.training.attribute.task import input_of, learnt_size

    recipe = recipe_of(settings, out)
    return tuple(dict.fromkeys((input_of(recipe), learnt_size(recipe))))


def log_of(settings: AttributeSettings, out: Path) -> Path | None:
    """Return where the figures of each epoch stand; None where no network is trained."""
    if not settings.learns:
        return None
    from carspotter.training.task import LOG

    return run_of(out) / LOG


def _long_enough(recipe: Recipe, n_photos: int) -> Recipe:
    """Give a network from nothing as many epochs as make `LEAST_STEPS`: of few photos an epoch is a few steps."""
    phase = recipe.phases[-1]
    # Rounded up; of fewer photos than a batch an epoch is still one step.
    needed = -(-LEAST_STEPS // max(1, n_photos // recipe.train.batch))
    return replace(recipe, phases=(replace(phase, epochs=min(max(phase.epochs, needed), MOST_EPOCHS)),))


def _fitted(recipe: Recipe, crops: Sequence[Crops], run: Path, *, photos: Photos, minutes: float, watch: Watch) -> Any:
    """Train, or go on from the newest checkpoint of the same data; return the best network."""
    from carspotter.training.attribute.task import AttributeTask
    from carspotter.training.checkpoint import BEST, load_checkpoint
    from carspotter.training.trainer import Training

    watch.start("plan", "look at the photos and time some steps")
    task = AttributeTask(recipe, crops[0], crops[-1])
    _leave_another(run, task.fingerprint, watch)
    training = Training(recipe, task, run)
    training.watch = watch
    training.go_on()
    lines, foretold = _plan(training, task, photos, minutes)
    for line in lines:
        watch.say(f"{'':<12}{line}")
    text = f"the run was stopped and goes on after epoch {training.epoch}" if training.epoch else "the run begins"
    watch.end("plan", {"text": text})
    watch.start("train", "learn from the photos")
    training.describe()
    training.fit(minutes * 60 or math.inf, foretold)
    text = f"the best of {training.epoch} epochs is {training.best_epoch}, {training.task_name} {training.best:.3f}"
    watch.end("train", {"text": text})
    model = task.build_model(blank=True)
    model.load_state_dict(load_checkpoint(run / BEST).kept)
    return model.eval()


def _leave_another(run: Path, fingerprint: str, watch: Watch) -> None:
    """Take away a run of other labels or settings: with more labels the same command trains anew."""
    from carspotter.errors import TrainingError
    from carspotter.training.checkpoint import BEST, LAST, load_checkpoint
    from carspotter.training.task import LOG

    if not (run / LAST).exists():
        return
    try:
        is_same = load_checkpoint(run / LAST).fingerprint == fingerprint
    except TrainingError as error:
        watch.say(f"{'':<12}{error}; the training begins anew")
        is_same = False
    else:
        if not is_same:
            watch.say(f"{'':<12}labels or settings are others than those of the run in {run}: it begins anew")
    if not is_same:
        for name in (LAST, BEST, LOG):
            (run / name).unlink(missing_ok=True)


def _plan(
    training: Training, task: AttributeTask, photos: Photos, minutes: float
) -> tuple[Sequence[str], Foretold | None]:
    """Say what is going to be done, and about how long it takes: some steps are timed for it, and judging."""
    from carspotter.progress import duration
    from carspotter.training import plan as planning
    from carspotter.training.progress import Foretold

    recipe, steps = training.recipe, task.steps(training.recipe.phases[0])
    if training.epoch >= recipe.epochs:
        return ["trained already on these photos with these settings"], None
    pace = planning.measure(task, recipe)
    parts = {name: int(photos.part(name).sum()) for name in ("train", "validation", "test")}
    counted = planning.Photos(**parts, classes=len(photos.words))
    about = planning.estimate(recipe, steps, pace) * (1 - training.epoch / recipe.epochs)
    most = f", at most {minutes:g} min" if minutes else ""
    # Every photo is looked at once more, and its mirror image, by the network as it will be served.
    looks = 2 * sum(parts.values()) / max(1, parts["validation"])
    foretold = Foretold(step=pace.step, judge=pace.judge, after=pace.judge * looks)
    about = min(about + foretold.after, minutes * 60 or math.inf)
    words = [*planning.in_words(recipe, counted, steps, pace=pace), f"about {duration(about)}{most}"]
    return words, foretold
