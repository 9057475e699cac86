"""The recipe of a training: a frozen dataclass, with a section for each of its parts.

Every setting of a training stands here and nowhere else. `recipe_file` reads it from TOML and `key=value` overrides.
This module reads nothing and needs no torch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from carspotter.errors import RecipeError
from carspotter.training.augmentation import AugmentSettings as AugmentSettings

TaskName = Literal["identifier", "finder", "attribute", "hog", "linear"]
BASELINES: tuple[TaskName, ...] = ("hog", "linear")
"""Tasks that learn in one step, without epochs: HOG and a linear classifier, or frozen features and one of two."""
Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which photos are learnt from.

    `labels` is a CSV with a row a photo; its column `path` counts from the CSV's folder. Identifier: `class_id` names a
    row of the CSV `taxonomy`, or is empty and `make`, `model`, … say as much as is known; `x1,y1,x2,y2` (may be absent)
    is the vehicle's box; photos of one `group` (may be absent) are held out together. Finder: see `finder.data`.
    """

    labels: str = ""
    """A CSV with a row a photo or a vehicle; its column `path` counts from the CSV's folder."""
    shards: str = ""
    """Folder of a project's shards, instead of `labels` and `taxonomy`; its split `train` is learnt from."""
    taxonomy: str = ""
    """A CSV that says what each `class_id` of the labels is."""
    split: str = ""
    """Keep the rows whose column `split` says this. Empty: what the column calls train is learnt from and validation
    held out, and its test is left alone (`parts`); without such a column all rows are kept."""
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
    """Any network of timm."""
    weights: str = ""
    """A .safetensors file, looked for where the process stands and in $CARSPOTTER_WEIGHTS; `pretrained`: timm's own,
    looked for as BACKBONE.safetensors in $CARSPOTTER_WEIGHTS and else downloaded; empty: random weights."""
    dropout: float = 0.2
    """Share of features dropped before the head."""
    start: str = ""
    """What to go on from: a shipped bundle by its name (`identifier`, `finder`), or the folder of a bundle or a run,
    in place of `weights`. Of a head it takes the rows of classes that are ours, or stand above ours (`start`)."""
    layers: str = "all"
    """What is trained: `all`, `head`, or `last-N`, the head and the last N layers of the backbone, counted as Keras
    counts them (`layers`)."""
    stages: int = 0
    """Train the head and so many of the backbone's last stages; 0: as `layers` says."""
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
    """Pixels."""
    height: int = 224
    """Pixels."""
    fit: Literal["squash", "letterbox"] = "squash"
    """Regardless of proportions (squash), or with a margin (letterbox)."""
    pad: float = 0.0
    """Margin around the vehicle's box, as a part of it on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How the weights are learnt."""

    batch: int = 32
    """Photos a step."""
    lr: float = 1e-3
    """Largest learning rate."""
    head_lr: float = 3.0
    """The new head's learning rate as a multiple of `lr`: it starts from nothing."""
    weight_decay: float = 0.05
    """Of AdamW."""
    warmup: float = 0.04
    """Part of all steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    """Share of a label that is spread over all classes."""
    logit_adjustment: float = 0.0
    """Strength of the logit adjustment for rare classes (Menon et al. 2021); 1 is theirs."""
    class_weights: float | Literal["balanced"] = 0.0
    """What a class's photos weigh: `balanced`, as scikit-learn has it (photos / (classes * photos of the class)); or a
    number, the power of the inverse of its frequency, by each batch's own mean; 0: all alike."""
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
    """auto times a step in each and takes the faster."""
    threads: int = 0
    """Threads of torch; 0: one per core. With busy cores one is faster than two (RESULTS.md)."""
    workers: int = 0
    """Processes that draw a finder's pictures; 0: the training draws them itself. A GPU needs about a dozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings:
    """What the bundle's card says in words; figures are added by the export."""

    data: str = "not stated"
    """Which photographs it learnt from."""
    use: str = "not stated: ask whoever trained it"
    """What it may be used for."""
    licence: str = "not stated"
    """Of the weights."""
    notice: str = ""
    """A file whose text the card repeats, such as the licence of first weights; where it is empty,
    the notice of what `model.start` names."""
    retrain: str = "carspotter train RECIPE, then carspotter export RUN --out BUNDLE"
    """How to train it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Some epochs at one size of the input with the first `frozen` stages of the backbone kept as they are."""

    epochs: int
    """Times that all photos are seen."""
    width: int
    """Pixels of the input."""
    height: int
    """Pixels of the input."""
    frozen: int = 0
    """Stages of the backbone that do not learn, from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of one training; the resolved recipe is saved in the run."""

    task: TaskName
    """What is trained; hog and linear are baselines."""
    name: str
    """Of the network, written into its bundle."""
    data: DataSettings = field(default_factory=DataSettings)
    phases: tuple[Phase, ...] = ()
    """Epochs at one size of the input each, one after the other."""
    seed: int = 0
    """Of everything that is drawn at random."""
    claim: str = ""
    """What the recipe reaches and how long it takes, with the machine, in words."""
    model: ModelSettings = field(default_factory=ModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    card: CardSettings = field(default_factory=CardSettings)

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

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return dataclasses.asdict(self)

    def learnt_with(self) -> dict[str, Any]:
        """Return as JSON values what a run is known by: not its words, nor what it is worked on with."""
        settings = self.to_dict()
        for free in ("claim", "card"):
            settings.pop(free)
        for free in ("threads", "workers"):
            settings["train"].pop(free)
        return settings
