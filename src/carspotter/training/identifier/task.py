"""The identifier as a task for `trainer`: network, batches, loss and held-out figures."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from carspotter.errors import RecipeError
from carspotter.runtime.bundle import CAR, SUBJECT, TASK_OUTPUTS
from carspotter.runtime.calibration import calibrate, stands_for
from carspotter.runtime.seen import Hashes, hashes_of
from carspotter.taxonomy import Taxonomy
from carspotter.training.identifier import data, losses
from carspotter.training.identifier.heads import HEAD, Batch, calibrate_heads, head_loss
from carspotter.training.identifier.mixing import mix
from carspotter.training.identifier.model import Identifier, build_identifier
from carspotter.training.identifier.probe import fit_heads
from carspotter.training.identifier.shards import load_shards
from carspotter.training.identifier.source import Drawing, Images, Kept, LabelledPhotos
from carspotter.training.identifier.targets import mirrored
from carspotter.training.identifier.teachers import Member, Teacher, open_teachers
from carspotter.training.recipe import Phase, Recipe


class IdentifierTask:
    """Learn the classes of a taxonomy from labelled photos; `holdout` is never learnt from."""

    def __init__(self, recipe: Recipe, run: Path | None = None) -> None:
        """Open the photos of a recipe; `run` is the folder where shards of too many are cut, by its name if None."""
        self.recipe = recipe
        run = run or Path("runs") / recipe.name
        found = load_shards(recipe) if recipe.data.shards else data.load_labels(recipe, run)
        self.taxonomy: Taxonomy = found.nodes.taxonomy
        self.photos, self.holdout, self.words = found.photos, found.holdout, found.words
        self.fingerprint = data.fingerprint(recipe, self.photos, self.holdout, self.taxonomy.classes)
        self._check()
        self.device = torch.device("cpu")
        self.members = torch.from_numpy(found.nodes.members)
        self.parents = torch.from_numpy(self.taxonomy.index("make").astype(np.int64))
        self.levels = {level: torch.from_numpy(found.nodes.level(level)) for level in ("make", "model")}
        self.teacher: Teacher | None = None
        """What all epochs follow: other runs, or the still network with fitted heads; `build_model` opens it."""
        counts = self.photos.counts(len(self.members))
        # At least 1: a class without a photo would have the logarithm of 0 as its prior.
        self.frequency = torch.from_numpy(counts.clip(1) / counts.clip(1).sum()).float()
        self.balanced = losses.balanced_weights(torch.from_numpy(counts))
        flips = recipe.augment.flip > 0
        self.mirror = {name: torch.from_numpy(mirrored(known)) for name, known in self.words.items() if flips}

    def _check(self) -> None:
        """Refuse what would only show after hours."""
        if not (self.holdout.targets < len(self.taxonomy)).any():
            raise RecipeError(
                "data: no photo of a known class is held out, by which the best epoch could be chosen; label some down "
                "to their class, with two photos or groups of one class at least"
            )
        for name, known in self.words.items():
            # A head with one word would always be right and teach nothing.
            if len(known) < 2:
                raise RecipeError(f"model.heads: column {name!r} of the labels has {len(known)} words; two are needed")
            if name == SUBJECT and CAR not in known:
                raise RecipeError(f"model.heads: the words of {name!r} are {', '.join(known)}; one must be {CAR!r}")
            # The export names its outputs by the heads: two of one name would be one.
            if name in TASK_OUTPUTS["identifier"]:
                raise RecipeError(f"model.heads: {name!r} is what every identifier answers; call the column otherwise")

    def move(self, device: torch.device) -> None:
        """Keep what every step reads on the device that learns; the photos, too, where that is worth it."""
        self.device = device
        self.photos.move(device)
        self.members, self.parents, self.frequency, self.balanced = (
            each.to(device) for each in (self.members, self.parents, self.frequency, self.balanced)
        )

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Return the further heads, each with its words."""
        return self.words

    def seen(self) -> Hashes | None:
        """Return hashes of the crops that are learnt from or chosen by, so that they are found in anybody's test.

        None for a stream: a list of a part of them would pass for the whole.
        """
        if not isinstance(self.photos, Kept):
            return None
        return np.concatenate([hashes_of(part.images) for part in (self.photos.some(), self.holdout)])

    def build_model(self, *, blank: bool = False) -> Identifier:
        """Make the network with its first weights; a `blank` one with any weights."""
        heads = {name: len(known) for name, known in self.words.items()}
        model = build_identifier(self.recipe, self.taxonomy, heads, blank=blank)
        if blank:
            return model
        # A checkpoint that fills a blank network needs none of what follows.
        teachers = open_teachers(self.recipe, self.taxonomy)
        if self.recipe.train.probe:
            teachers += self._probe(model)
        if teachers:
            self.teacher = Teacher(teachers, len(self.taxonomy)).to(self.device)
        return model

    def _probe(self, model: Identifier) -> list[Member]:
        """Fit the heads before the first epoch; return the still network as a teacher, where it is to be one."""
        settings, still = self.recipe.train, []
        model.to(self.device)
        # The head as it started, which `keep` holds the fitted one to: it must not forget makes without photos.
        first = copy.deepcopy(model.head).requires_grad_(False)
        if settings.distill and settings.teacher_side:
            # A copy for another size: what the still network sees there, the learning one may follow.
            still = [Member(network=copy.deepcopy(model), side=settings.teacher_side)]
            self._fit_heads(still[0].network, first, settings.teacher_side, settings.probe_decay)
        self._fit_heads(model, first, self.recipe.input.height, settings.probe_decay)
        return still

    def _fit_heads(self, model: Identifier, first: nn.Linear, side: int, decay: float) -> None:
        settings = self.recipe.train
        photos = self.photos.some()

        def loss(features: Tensor, logits: Tensor, extras: Mapping[str, Tensor], chosen: Tensor) -> Tensor:
            batch = self._labels(photos, chosen)
            # The features of further heads come after those of the classes, and are cut off.
            said = losses.kept(logits, first(features[:, : first.in_features]), self.parents)
            # Further heads read the same still features, so that they are fitted in the same passes.
            of_heads = [head_loss(answer, batch, name) for name, answer in extras.items()]
            loss = self._of_photos(logits, batch["target"]) + settings.keep * said
            return torch.stack([loss.mean(), *of_heads]).sum()

        fit_heads(
            model,
            torch.from_numpy(photos.images),
            loss,
            epochs=settings.probe,
            side=side,
            rate=settings.probe_lr,
            decay=decay,
            seed=self.recipe.seed,
        )

    def finish(self, model: nn.Module) -> None:
        """Fit the heads once more where what is kept was blended: they learnt on other features than these."""
        settings = self.recipe.train
        if settings.blend < 1 and settings.probe:
            identifier = cast(Identifier, model)
            before = copy.deepcopy(identifier.head).requires_grad_(False)
            self._fit_heads(identifier, before, self.recipe.input.height, settings.refit_decay)

    def _labels(self, photos: LabelledPhotos, chosen: Tensor) -> Batch:
        """Return the labels of photos as a batch without pixels."""
        batch = {"target": torch.from_numpy(photos.targets)[chosen], "share": torch.ones(len(chosen))}
        batch["partner"] = torch.arange(len(chosen))
        extras = {HEAD + name: torch.from_numpy(values)[chosen] for name, values in photos.extras.items()}
        return {name: values.to(self.device) for name, values in (batch | extras).items()}

    def steps(self, phase: Phase) -> int:  # noqa: ARG002  # Task has it: a finder's scenes depend on the phase
        """Count the batches of an epoch."""
        return max(1, len(self.photos) // self.recipe.train.batch)

    def batches(self, phase: Phase, epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield augmented batches, the same for the same seed and epoch: a resumed run sees what it would have seen.

        Each process changes and mixes its own part of the photos.
        """
        power = self.recipe.train.balance
        # Power 1 draws all classes alike, 0 leaves them as they are.
        weights = self.frequency.cpu().pow(-power) if power else None
        drawing = Drawing(batch=self.recipe.train.batch, seed=seed, epoch=epoch, part=part, weights=weights)
        # A generator of its own for each process: the order must be the same for all, the changes must not.
        generator = torch.Generator().manual_seed(drawing.number * 1009 + part[0])
        settings = self.recipe.augment
        for drawn in self.photos.draw(drawing):
            # On the device that learns: a GPU changes photos hundreds of times as fast as a core of the CPU.
            images = drawn.pixels.to(self.device)
            pixels, flipped = data.augment(images, (phase.height, phase.width), settings, generator)
            mixed = mix(pixels, settings, generator)
            batch = {"pixels": mixed.pixels, "target": drawn.targets, "partner": mixed.partner, "share": mixed.share}
            for name, values in drawn.extras.items():
                batch[HEAD + name] = self._extra(name, values, flipped)
            yield batch

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute the loss of a batch: of the classes, of the teachers, of the further heads."""
        settings = self.recipe.train
        logits, extras = model(batch["pixels"])
        logits = logits.float()
        loss, share = self._of_photos(logits, batch["target"]), batch["share"]
        if bool((share < 1).any()):
            # A mixed photo is its own label and its partner's, in the parts of its pixels (Zhang et al. 2018).
            loss = share * loss + (1 - share) * self._of_photos(logits, batch["target"][batch["partner"]])
        if self.teacher is not None:
            loss = loss.lerp(self._followed(self.teacher, logits, batch), settings.distill)
        heads = [settings.heads_weight * head_loss(answer.float(), batch, name) for name, answer in extras.items()]
        return torch.stack([loss.mean(), *heads]).sum()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return top-1 (the primary figure), top-5, make and loss on the held-out photos.

        A photo that is labelled with several classes counts as right when its answer is any of them, for top-1 and
        top-5 only photos labelled with one.
        """
        return self._figures(*predict(cast(Identifier, model), self.holdout.images))

    def _figures(self, logits: Tensor, extras: Mapping[str, Tensor]) -> dict[str, float]:
        targets = torch.from_numpy(self.holdout.targets)
        # Targets from the number of classes on are sets: no single answer is right there.
        single = targets < logits.shape[1]
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = (best == targets[:, None])[single]
        # The make of the best sum, as it is answered in use, not that of the best class.
        make = torch.from_numpy(self.taxonomy.sum_to("make", logits.softmax(1).numpy())).argmax(1)
        truth = self.levels["make"][targets]
        figures = {
            "top1": hits[:, 0].float().mean().item(),
            "top5": hits.any(1).float().mean().item(),
            "make": (make == truth)[truth >= 0].float().mean().item(),
            "held-out loss": -losses.node_log_probability(logits, self.members.cpu()[targets]).mean().item(),
        }
        for name, values in self.holdout.extras.items():
            known = torch.from_numpy(values)
            figures[HEAD + name] = (extras[name].argmax(1) == known)[known >= 0].float().mean().item()
        return figures

    def export_module(self, model: nn.Module) -> nn.Module:
        """Wrap the network for export: uint8 pixels (n, h, w, 3) to logits, a unit-length embedding, each head's."""
        return ExportedIdentifier(cast(Identifier, model))

    def calibrate(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, float]]:
        """Fit temperatures and choose a threshold a level on the held-out photos of which something is known."""
        answered, extras = predict(cast(Identifier, model), self.holdout.images)
        figures = self._figures(answered, extras)
        members = self.members.cpu().numpy()
        # A photo that may be any class says nothing about the temperature.
        known = np.asarray(members[self.holdout.targets].sum(axis=1) < members.shape[1])
        held = self.holdout.take(known)
        logits = answered.double().numpy()[known]
        weights = stands_for(held.targets, self.photos.counts(len(members)))
        calibration, error = calibrate(
            logits, held.targets, self.taxonomy, members=members, sources=held.sources, weights=weights
        )
        calibration |= calibrate_heads(extras, self.holdout.extras, self.words)
        return calibration, {**figures, "ECE": error}

    def _of_photos(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return each photo's loss (n,) by its label."""
        settings, members = self.recipe.train, self.members[target]
        if settings.logit_adjustment:
            prior = self.frequency[: logits.shape[1]]
            # Only while learning: with the prior added here, the network's own logits need none (Menon et al. 2021).
            logits = logits + settings.logit_adjustment * (prior / prior.sum()).log()
        loss = losses.hierarchical_cross_entropy(
            logits, members, self.parents, smoothing=settings.label_smoothing, weight=settings.hierarchy
        )
        if settings.class_weights == "balanced":
            loss = loss * self.balanced[target]
        elif settings.class_weights:
            weights = self.frequency.pow(-settings.class_weights)[target]
            # By the batch's own mean, so that rare classes change the direction of a step and not its length.
            loss = loss * weights / weights.mean()
        return loss * ~members.all(dim=1)  # of a photo that may be any class there is nothing to learn

    def _followed(self, teacher: Teacher, logits: Tensor, batch: Batch) -> Tensor:
        """Return each photo's loss (n,) against what the teacher says of the same changed, mixed pixels."""
        soft = teacher(batch["pixels"])
        # A teacher of vehicles has nothing to say of a photo that may show none.
        known = ~self.members[batch["target"]].all(dim=1)
        return losses.distillation(logits, soft * known[:, None], temperature=self.recipe.train.temperature)

    def _extra(self, name: str, values: Tensor, flipped: Tensor) -> Tensor:
        if name not in self.mirror:
            return values
        # clamp_min: -1 (unknown) must not index the last word before `where` leaves it out.
        return torch.where(flipped & (values >= 0), self.mirror[name][values.clamp_min(0)], values)


class ExportedIdentifier(nn.Module):
    """Take pixels as a photo has them; answer logits (n, c), the embedding (n, d) at length 1, each head's logits."""

    def __init__(self, model: Identifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        details = self.model.details(image.permute(0, 3, 1, 2).float())
        logits, extras = self.model.answer(details)
        # Unit length in the graph, so that a dot product is a cosine for every user of the file.
        return logits, nn.functional.normalize(details[:, : self.model.width], dim=1), *extras.values()


def predict(model: Identifier, images: Images, *, batch: int = 32) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network over photos (n, h, w, 3) as they stand; return logits (n, n_classes), and those of each head."""
    model.eval()
    device = next(model.parameters()).device
    outputs: list[Tensor] = []
    extras: dict[str, list[Tensor]] = {name: [] for name in model.head_names.values()}
    with torch.inference_mode():
        for chosen in torch.from_numpy(images).split(batch):
            pixels = chosen.to(device).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            logits, answers = model.answer(model.details(pixels))
            # Batch by batch to the CPU: only one batch of activations is on the device at a time.
            outputs.append(logits.float().cpu())
            for name, answer in answers.items():
                extras[name].append(answer.float().cpu())
    return torch.cat(outputs), {name: torch.cat(parts) for name, parts in extras.items()}
