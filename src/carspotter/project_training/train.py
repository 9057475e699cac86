"""Train a network on a project: its shards, its classes, its split in; the bundle `models/trained` and its figures out.

The run lies in `runs/trained`. `plan.json` there keeps what was asked for and which data it is about: the same command
goes on with it, another one is told what differs.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from carspotter import storage
from carspotter.catalog.lock import TRAINING, ProjectLock
from carspotter.dataset.manifest import load_manifest
from carspotter.errors import EvaluationError, ProjectError, TrainingError, typed
from carspotter.evaluation import evaluating
from carspotter.evaluation.compare import Pair, compare
from carspotter.evaluation.metrics import evaluate, seen_in_words
from carspotter.evaluation.predictions import Predictions
from carspotter.progress import Watch, duration
from carspotter.project.build import Journal
from carspotter.project.folder import RESULT, TRAINED, Project
from carspotter.project.pipeline import build
from carspotter.project_training.bundle import write_bundle
from carspotter.runtime.blur import Blurrer
from carspotter.runtime.bundle import ModelBundle

if TYPE_CHECKING:
    from carspotter.training.identifier.task import IdentifierTask
    from carspotter.training.plan import Pace, Photos, Wish
    from carspotter.training.progress import Foretold
    from carspotter.training.recipe import Recipe

PLAN = "plan.json"
JUDGED = ("validation", "test")
LEAST_CLASSES = 2
_EXPORT_S = 30.0
"""Seconds of a core that writing the bundle and the report takes at most; a budget keeps them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a training made: the bundle, its shares of right answers by split, and what it is against `learned`."""

    bundle: str
    report: str
    chosen: str
    """The better of the two by the photos to choose by: `trained` or `learned`."""
    words: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Any]]


def train_project(project: Project, wish: Wish, *, fresh: bool = False, watch: Watch) -> Result:
    """Train on a project, or go on where it was stopped.

    Raises ProjectError, RecipeError, TrainingError; CatalogError while another process builds it or trains on it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            "a project is trained by one process; for several give a recipe: carspotter train fine-tune"
        )
    _check_built(project)
    with ProjectLock(project.folder, TRAINING):
        return _train(project, wish, fresh=fresh, watch=watch)


def _train(project: Project, wish: Wish, *, fresh: bool, watch: Watch) -> Result:
    from carspotter.training.trainer import Training

    started = time.monotonic()
    build(project, only=("shard",), watch=watch)
    photos, mark = _counted(project)
    run = project.run
    _put_back(run)
    saved = _saved(run, wish, mark, fresh=fresh)
    if saved and (done := _done(run, project)):
        watch.say(f"{TRAINED:<12}is trained already on these photos with these settings; --fresh trains anew")
        return done
    with _aside(run, keep=saved):
        watch.start("plan", "look at the photos and time some steps")
        planned = _planned(project, wish, photos=photos, mark=mark, saved=saved, started=started)
        for line in planned.words:
            watch.say(f"{'':<12}{line}")
        watch.end("plan", {"text": "the run was stopped and goes on" if saved else "the run begins"})
        watch.start("train", "learn from the photos of the project")
        training = Training(planned.recipe, planned.task, run)
        training.watch = watch
        training.go_on()
        training.describe()
    # What learning took before a restart counts already: the budget is that of the whole run.
    training.fit(planned.budget - (time.monotonic() - started), planned.foretold)
    watch.end("train", {"text": f"the best is epoch {training.best_epoch} of {training.epoch}"})
    said = write_bundle(project, planned.task, run)
    return _judge(project, run, photos, watch=watch, said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """What is going to be trained, how many seconds all may take from its start, and what to say of it."""

    recipe: Recipe
    task: IdentifierTask
    budget: float
    foretold: Foretold
    words: tuple[str, ...]


def _planned(project: Project, wish: Wish, *, photos: Photos, mark: str, saved: bool, started: float) -> _Planned:
    """Choose the recipe of a new run, or take that of a saved one, and time some of its steps."""
    from carspotter.training import plan as planning
    from carspotter.training.progress import Foretold
    from carspotter.training.recipe_file import load_recipe
    from carspotter.training.task import RECIPE, open_task

    run = project.run
    card = _card(project, wish, photos.train)
    recipe = load_recipe(run / RECIPE) if saved else planning.begin(wish, str(project.shards), photos, card)
    recipe = replace(recipe, data=replace(recipe.data, shards=str(project.shards)))
    task = cast("IdentifierTask", open_task(recipe, run))
    steps = task.steps(recipe.phases[0])
    pace = planning.measure(task, recipe)
    used = photos.held_by(task)
    kept_back = _after(used, pace)
    budget = wish.minutes * 60 if wish.minutes else math.inf
    if not saved:
        left = budget - kept_back - (time.monotonic() - started)
        recipe = planning.epochs_for(recipe, steps, wish=wish, pace=pace, seconds=left)
        _begin(run, wish, mark, recipe)
    about = min(planning.estimate(recipe, steps, pace) + kept_back, budget)
    most = f", at most {wish.minutes:g} min" if wish.minutes else ""
    words = (*planning.in_words(recipe, used, steps, pace=pace), f"about {duration(about)} in all{most}")
    foretold = Foretold(step=pace.step, judge=pace.judge, after=kept_back)
    return _Planned(recipe=recipe, task=task, budget=budget, foretold=foretold, words=words)


def _after(photos: Photos, pace: Pace) -> float:
    """Return about how many seconds the bundle and its judging take: what no epoch may take away."""
    from carspotter.export.kept import PROFILED

    # Three looks at the photos to choose by and one at some to learn from; two bundles are asked about both splits.
    looks = 5 * photos.validation + 2 * photos.test + min(photos.train, PROFILED * photos.classes)
    return _EXPORT_S * pace.load + pace.judge * looks / max(1, photos.validation)


def _check_built(project: Project) -> None:
    if not Journal(project.folder).stats("split"):
        raise ProjectError(f"{project.folder} is not built yet; run: carspotter build {typed(project.folder)}")


def _counted(project: Project) -> tuple[Photos, str]:
    """Return how many photos there are to learn from, and the mark of the data. Raises ProjectError for too few."""
    from carspotter.training.plan import Photos

    manifest = load_manifest(str(project.shards))
    by_split = {split: sum(counts.values()) for split, counts in manifest.counts.items()}
    known = [name for name, number in manifest.counts.get("train", {}).items() if number]
    if len(known) < LEAST_CLASSES:
        raise ProjectError(
            f"{project.folder}: {len(known)} classes have photos to learn from, {LEAST_CLASSES} are needed; see "
            f"`carspotter status {typed(project.folder)}` for what was left out, and "
            "min_photos and min_ads under [classes]"
        )
    counts = {split: by_split.get(split, 0) for split in ("train", *JUDGED)}
    return Photos(**counts, classes=len(manifest.classes)), manifest.fingerprint


def _saved(run: Path, wish: Wish, mark: str, *, fresh: bool) -> bool:
    """Return whether a run of these wishes and data is there to go on with. Raises TrainingError for another one."""
    if fresh:
        return False
    try:
        before = json.loads((run / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    changed = ["the photos of the project"] if before.get("data") != mark else []
    asked, now = before.get("wish", {}), wish.to_dict()
    changed += [f"{key} (was {asked.get(key)}, is {now[key]})" for key in now if now[key] != asked.get(key)]
    if changed:
        raise TrainingError(f"{run} was begun with others: {'; '.join(changed)}; add --fresh to train anew")
    return True


def _before(run: Path) -> Path:
    return run.with_name(f".{run.name}-before")


@contextmanager
def _aside(run: Path, *, keep: bool) -> Iterator[None]:
    """Put a run aside for one that takes its place, and back where that one fails before it learns."""
    if keep or not run.exists():
        yield
        return
    run.rename(_before(run))
    try:
        yield
        shutil.rmtree(_before(run))
    finally:
        _put_back(run)


def _put_back(run: Path) -> None:
    """Put a run back that was put aside for one that did not come to learn, even if its process was killed."""
    if _before(run).exists():
        shutil.rmtree(run, ignore_errors=True)
        _before(run).rename(run)


def _begin(run: Path, wish: Wish, mark: str, recipe: Recipe) -> None:
    """Note what a run is about; the plan comes last, so that a run with one can be gone on with."""
    from carspotter.training.task import RECIPE

    shutil.rmtree(run, ignore_errors=True)
    storage.write_json(run / RECIPE, recipe.to_dict())
    storage.write_json(run / PLAN, {"wish": wish.to_dict(), "data": mark})


def _done(run: Path, project: Project) -> Result | None:
    """Return the result of a run that is finished and whose bundle stands, None otherwise."""
    if not (project.trained / "bundle.json").is_file():
        return None
    try:
        content = json.loads((run / RESULT).read_text(encoding="utf-8"))
        return Result(**{**content, "words": tuple(content["words"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _card(project: Project, wish: Wish, n_photos: int) -> dict[str, str]:
    name = project.settings.name or project.folder.name
    said = {
        "data": f"{n_photos} photographs of the project {name}, labelled by its listings",
        "retrain": "carspotter train PROJECT, in the project that it was trained on",
    }
    if wish.backbone or wish.recipe:
        return said
    from carspotter.runtime.bundle import shipped

    # Its weights go on into the new ones, and so do their terms.
    card = shipped("identifier").card
    return said | {key: str(card.get(key, "")) for key in ("use", "licence")}


def _judge(project: Project, run: Path, photos: Photos, *, watch: Watch, said: Sequence[str]) -> Result:
    """Ask the new bundle, and the one that the build learned, about the photos that neither learnt from."""
    from carspotter.training.task import LOG

    watch.start("evaluate", "judge on photos that were not learnt from")
    bundle = ModelBundle.load(project.trained)
    learned = ModelBundle.load(project.learned) if (project.learned / "bundle.json").is_file() else None
    words: list[str] = []
    figures: dict[str, dict[str, Any]] = {}
    right: dict[str, float] = {}
    for split in JUDGED:
        if not getattr(photos, split):
            continue
        asked = evaluating.from_shards(str(project.shards), split=split)
        table, _ = evaluating.predict(bundle, asked)
        rival = evaluating.predict(learned, asked)[0] if learned else None
        figures[split] = {TRAINED: asdict(evaluate(table).top1)}
        if rival is not None:
            figures[split][rival.name] = asdict(evaluate(rival).top1)
        if not right:  # by the photos to choose by, or without any by those of the test
            right = {each.name: float(each.right_at()[0].mean()) for each in (table, rival) if each is not None}
        if split == "validation":
            continue
        hides = Blurrer.open().blur if project.settings.share.blur else None
        evaluating.write_evaluation(run / split, table, asked, other=rival, log=run / LOG, blur=hides)
        words += judged(table, rival)
    if "test" not in figures:
        words.append("no photos to judge on: give a larger share to `test` under [split], or add ads, and build again")
    # Ties go to the learned one, whose network was changed by nothing.
    best = max(right, key=lambda name: (right[name], name != TRAINED)) if right else TRAINED
    result = Result(
        bundle=str(project.trained),
        report=str(run / "test" / evaluating.REPORT) if "test" in figures else "",
        chosen=TRAINED if best == TRAINED else "learned",
        words=(*words, *said),
        figures=figures,
    )
    storage.write_json(run / RESULT, asdict(result))
    watch.end("evaluate", {"text": f"{words[0]}"})
    return result


def judged(table: Predictions, rival: Predictions | None) -> list[str]:
    """Say how many test photos are right, how many without those known to the network, and whether one is better."""
    figures = evaluate(table)
    top1 = figures.top1
    said = [f"{top1.value:.1%} of {top1.total} test photos right ({top1.low:.1%} to {top1.high:.1%})"]
    said += seen_in_words(figures.seen)
    if rival is None:
        return said
    try:
        (pair,) = compare([rival, table]).pairs
    except EvaluationError as error:
        return [*said, f"not compared with models/{rival.name}: {error}"]
    return [*said, _verdict(pair, f"models/{rival.name}")]


def _verdict(pair: Pair, rival: str) -> str:
    difference = pair.difference
    spread = f"{100 * difference.value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    if difference.low > 0:
        return f"better than {rival}: {spread} on {pair.photos} test photos"
    if difference.high < 0:
        return f"worse than {rival}: {spread} on {pair.photos} test photos; keep that one, or add photos"
    return f"it cannot be told whether it is better than {rival}: {spread} on {pair.photos} test photos"
