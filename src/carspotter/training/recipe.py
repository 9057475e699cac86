"""The recipe of a training: a frozen dataclass, read from TOML and `key=value` overrides.

Every setting of a training stands here and nowhere else; unknown keys are errors that offer the nearest known one.
Paths in a recipe count from the recipe's own folder, those in changes from where the process stands. This module
reads no photo and needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from carspotter.errors import RecipeError
from carspotter.runtime.bundle import Task
from carspotter.settings import parse_toml, read_section

TaskName = Literal["identifier", "finder", "hog", "linear"]
BASELINES: tuple[TaskName, ...] = ("hog", "linear")
"""Tasks that learn in one step, without epochs: HOG and a linear classifier, or frozen features and one of two."""
Precision = Literal["float32", "bfloat16", "auto"]
_PLACES = {"data": ("labels", "shards", "taxonomy", "teachers"), "model": ("start",), "card": ("notice",)}
"""Settings that name files or folders; `model.weights` is looked for in several places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which photos are learnt from.

    `labels` is a CSV with a row a photo; its column `path` counts from the CSV's folder. Identifier: `class_id` names a
    row of the CSV `taxonomy`, or is empty and `make`, `model`, … say as much as is known; `x1,y1,x2,y2` (may be absent)
    is the vehicle's box; photos of one `group` (may be absent) are held out together. Finder: see `finder.data`.
    """

    labels: str = ""
    shards: str = ""
    """Folder of a project's shards, instead of `labels` and `taxonomy`; its split `train` is learnt from."""
    taxonomy: str = ""
    split: str = ""
    """Keep the rows whose column `split` says this; empty keeps all."""
    holdout: float = 0.08
    """Part of each class that is kept for choosing and calibrating, never for learning."""
    test: str = ""
    """The split that a baseline answers; empty: the photos held out."""
    fraction: float = 1.0
    """Part of each class's photos that is learnt from, for data curves."""
    teachers: tuple[str, ...] = ()
    """Folders of runs whose networks say, on average, what `train.distill` follows."""
    memory: float = 1.5
    """GB of decoded photos that are kept in memory; a data set of more is read as a stream, in memory that does not
    grow with it."""
    shuffle: int = 4096
    """Photos of a stream among which the next one is drawn; its shards come in a new order each epoch."""
    workers: int = -1
    """Processes that read and decode a stream; -1: one a core but one, 0: the training itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which network is trained: any backbone of timm, and where its first weights come from."""

    backbone: str = "tf_mobilenetv3_small_100"
    weights: str = ""
    """A .safetensors file, looked for in the recipe's folder and in $CARSPOTTER_WEIGHTS; `pretrained`: timm's own,
    looked for as BACKBONE.safetensors in $CARSPOTTER_WEIGHTS and else downloaded; empty: random weights."""
    dropout: float = 0.2
    start: str = ""
    """What to go on from: a shipped bundle by its name (`identifier`, `finder`), or the folder of a bundle or a run,
    in place of `weights`. Of a head it takes the rows of classes that are ours, or stand above ours (`start`)."""
    layers: str = "all"
    """What is trained: `all`, `head`, or `last-N`, the head and the last N stages of the backbone."""
    norms: Literal["learn", "fixed", "estimate"] = "learn"
    """`fixed`: the backbone's batch norms keep their statistics, while their weights and biases learn; for small
    batches, and for first weights whose norms are folded into the convolutions. `estimate`: of folded norms the
    statistics are estimated before the first step, and learnt like any other's from then on."""
    heads: tuple[str, ...] = ()
    """Columns of the labels that are learnt beside the class, such as viewpoint or body; an empty cell is left out."""

    def without_weights(self) -> ModelSettings:
        """Return the same network with random first weights."""
        return dataclasses.replace(self, weights="", start="")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSettings:
    """How a photo becomes the network's input; it goes into the bundle as it stands (pixels.Preprocessing)."""

    width: int = 224
    height: int = 224
    fit: Literal["squash", "letterbox"] = "squash"
    pad: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How much a batch is changed at random; 0 switches a change off."""

    min_area: float = 0.5
    """Smallest part of the photo's area that a random crop keeps."""
    zoom_out: float = 0.05
    """A crop may reach this part of the side beyond the photo, as a loose box does."""
    aspect: float = 0.15
    """Largest change of the aspect ratio, as a logarithm."""
    rotate: float = 5.0
    """Largest turn in degrees."""
    flip: float = 0.5
    color: float = 0.3
    """Largest change of brightness, contrast and saturation, as a part."""
    gray: float = 0.05
    erase: float = 0.25
    """Share of photos with a rectangle (2 to 20 % of the area) replaced by noise."""
    mixup: float = 0.0
    """Two photos blended: the parameter of the Beta distribution their shares are drawn from."""
    cutmix: float = 0.0
    """A window of one photo pasted into another: likewise."""
    mix: float = 1.0
    """Share of batches that are mixed, where `mixup` or `cutmix` is not 0."""
    randaugment: int = 0
    """RandAugment: changes a photo, out of torchvision's fourteen."""
    randaugment_strength: int = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How the weights are learnt."""

    batch: int = 32
    lr: float = 1e-3
    head_lr: float = 3.0
    """The new head's learning rate as a multiple of `lr`: it starts from nothing."""
    weight_decay: float = 0.05
    warmup: float = 0.04
    """Part of all steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    logit_adjustment: float = 0.0
    """Strength of the logit adjustment for rare classes (Menon et al. 2021); 1 is theirs."""
    class_weights: float = 0.0
    """Power of the inverse of a class's frequency that its photos weigh; 0: all alike."""
    balance: float = 0.0
    """Power of the inverse of a class's frequency by which its photos are drawn; 1: each class as often."""
    distill: float = 0.0
    """Weight of the teachers' answers against the labels, 0 to 1."""
    teacher_side: int = 0
    """Pixels of a side that the still network sees as a teacher of itself, beside `data.teachers`; 0: it is none."""
    temperature: float = 2.0
    """Of the teachers' answers."""
    probe: int = 0
    """Epochs over still features in which the heads are fitted before the backbone learns (`probe`)."""
    probe_lr: float = 4e-3
    """First size of the probe's steps."""
    probe_decay: float = 3e-4
    """How much it costs the heads to leave where they start."""
    refit_decay: float = 1e-3
    """The same of the fit to the features of what is kept of a run with a `blend`."""
    keep: float = 0.0
    """Weight in the probe of what the first network says of the make: makes without photos are not forgotten."""
    heads_weight: float = 0.2
    """Weight of the loss of each of `model.heads`."""
    patience: int = 0
    """Epochs without a better figure after which the training stops; 0: never."""
    hierarchy: float = 0.2
    """Weight of the loss at the level of the make, its probability being the sum of its classes'."""
    ema: float = 0.998
    """Decay a step of the averaged weights, which are the ones evaluated and exported."""
    blend: float = 1.0
    """Share of the averaged weights in those that are kept of backbone and classes; the rest is what learning began
    with (`checkpoint`)."""
    clip: float = 5.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    threads: int = 0
    """Threads of torch; 0: one per core. With busy cores one is faster than two (RESULTS.md)."""
    workers: int = 0
    """Processes that draw a finder's pictures; 0: the training draws them itself. A GPU needs about a dozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings:
    """What the bundle's card says in words; figures are added by the export."""

    data: str = "not stated"
    use: str = "not stated: ask whoever trained it"
    licence: str = "not stated"
    notice: str = ""
    """A file beside the recipe whose text the card repeats, such as the licence of first weights; where it is empty,
    the notice of what `model.start` names."""
    retrain: str = "carspotter train RECIPE, then carspotter export RUN --out BUNDLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Some epochs at one size of the input with the first `frozen` stages of the backbone kept as they are."""

    epochs: int
    width: int
    height: int
    frozen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of one training; the resolved recipe is saved in the run."""

    task: TaskName
    name: str
    data: DataSettings
    phases: tuple[Phase, ...] = ()
    seed: int = 0
    claim: str = ""
    """What the recipe reaches and how long it takes, with the machine, in words."""
    model: ModelSettings = field(default_factory=ModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    card: CardSettings = field(default_factory=CardSettings)
    folder: str = "."
    """The folder that the recipe's paths count from; set by `load_recipe`."""

    @property
    def epochs(self) -> int:
        """Count the epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def phase_of(self, epoch: int) -> Phase:
        """Return the phase that epoch number `epoch` (from 0) belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        raise RecipeError(f"recipe {self.name}: it has {self.epochs} epochs, number {epoch} was asked for")

    def path(self, value: str) -> Path:
        """Resolve a path of the recipe against the recipe's folder."""
        return Path(self.folder) / value

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return dataclasses.asdict(self)


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, TOML or the JSON of a run, and apply changes like `train.lr=1e-3`. Raises RecipeError.

    `extends = "other.toml"` begins with another recipe of the same folder. Paths in a change count from where the
    process stands, as others on its command line do.
    """
    path = Path(path)
    content = _content(path, ())
    for change in changes:
        _apply(content, change, where=path.name)
    content.setdefault("folder", str(path.parent.resolve()))
    recipe = read_section(Recipe, content, where=f"recipe {path.name}", error=RecipeError)
    _check(recipe, path.name)
    return recipe


# Settings that went: a run of before has all settings in its JSON, and is still evaluated and exported.
_GONE = {"train": ("loss", "q"), "data": ("backgrounds",)}


def _content(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe's settings; those of the recipe that it `extends` stand where it says nothing itself."""
    try:
        text = path.read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text) if path.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error}") from error
    for section, gone in _GONE.items() if path.suffix == ".json" else ():
        if isinstance(content.get(section), dict):
            content[section] = {key: value for key, value in content[section].items() if key not in gone}
    other = content.pop("extends", None)
    if other is None:
        return content
    if not isinstance(other, str) or path.resolve() in above:
        raise RecipeError(f"recipe {path}: extends {other!r}; it must name another recipe, and not itself")
    base = _content(path.parent / other, (*above, path.resolve()))
    for key, value in content.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return base


def _apply(content: dict[str, Any], change: str, *, where: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"recipe {where}: change {change!r}; write it as key=value, such as train.lr=1e-3")
    *parents, last = key.strip().split(".")
    table = content
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"recipe {where}: change {change!r}: {parent} holds no settings by name")
    try:
        table[last] = parse_toml(f"value = {text}")["value"]
    except ValueError:
        table[last] = text.strip()  # a bare word or path needs no quotes on the command line
    if last in _PLACES.get(".".join(parents), ()):
        table[last] = _from_here(table[last])


def _from_here(value: Any) -> Any:
    """Make a path, or each of a list, absolute; a shipped bundle's name and an empty text stay."""
    if isinstance(value, list):
        return [_from_here(item) for item in value]
    is_path = isinstance(value, str) and value not in ("", *get_args(Task))
    return str(Path.cwd() / value) if is_path else value


def _check(recipe: Recipe, where: str) -> None:
    """Refuse values that would only fail hours later."""
    train = recipe.train
    rules = [
        (bool(recipe.phases) or recipe.task in BASELINES, "phases: at least one is needed"),
        (all(phase.epochs > 0 for phase in recipe.phases), "phases: epochs must be 1 or more"),
        (all(min(phase.width, phase.height) >= 32 for phase in recipe.phases), "phases: width and height from 32 px"),
        (train.batch >= 2, f"train.batch is {train.batch}; batch normalisation needs 2 or more"),
        (train.lr > 0, f"train.lr is {train.lr}; it must be above 0"),
        (0 <= train.ema < 1, f"train.ema is {train.ema}; it must be from 0 to below 1"),
        (0 <= train.label_smoothing < 1, f"train.label_smoothing is {train.label_smoothing}; from 0 to below 1"),
        (0 < recipe.data.holdout < 1, f"data.holdout is {recipe.data.holdout}; it must be between 0 and 1"),
        (0 < recipe.data.fraction <= 1, f"data.fraction is {recipe.data.fraction}; above 0, at most 1"),
        (recipe.data.memory >= 0, f"data.memory is {recipe.data.memory}; GB, 0 or more"),
        (recipe.data.shuffle >= 1, f"data.shuffle is {recipe.data.shuffle}; it must be 1 or more"),
        (-1 <= recipe.data.workers <= 256, f"data.workers is {recipe.data.workers}; from 0 to 256, or -1"),
        (0 < train.blend <= 1, f"train.blend is {train.blend}; above 0, at most 1"),
        (0 <= train.distill <= 1, f"train.distill is {train.distill}; it must be from 0 to 1"),
        (train.temperature > 0, f"train.temperature is {train.temperature}; it must be above 0"),
        (
            not train.distill or bool(recipe.data.teachers) or (train.probe > 0 and train.teacher_side >= 32),
            "train.distill needs data.teachers: runs to follow; or train.probe and train.teacher_side from 32: the "
            "still network follows itself",
        ),
        (bool(recipe.data.labels) != bool(recipe.data.shards), "data: give labels or shards, one of the two"),
        (min(recipe.augment.mixup, recipe.augment.cutmix) >= 0, "augment.mixup and cutmix must not be negative"),
        (
            bool(re.fullmatch(r"all|head|last-[1-9]\d*", recipe.model.layers)),
            f"model.layers is {recipe.model.layers!r}; allowed: all, head, last-N",
        ),
        (0 < recipe.augment.min_area <= 1, f"augment.min_area is {recipe.augment.min_area}; above 0, at most 1"),
    ]
    for holds, message in rules:
        if not holds:
            raise RecipeError(f"recipe {where}: {message}")
