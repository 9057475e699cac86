"""How well does each way of older projects tell the viewpoint? Stanford Cars with `view` in, one table out.

Five sides, left and right merged, so that a mirrored photo keeps its class; `other` and `top` are left out. Views exist
for the training split alone: of each view the fifth of the photos with the smallest hash of their path is reported on,
and of the rest 15 % choose settings and the ensemble's weights. The photos are the given box plus 16 px, squashed.

    CARSPOTTER_WEIGHTS=… python benchmarks/viewpoint_baselines.py ../shared/data/stanford-cars --save runs/viewpoint
        [--only NAME …]   run these alone; the table and the ensemble take the others from --save
"""

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from carspotter.evaluation.compare import ensemble, fit_weights
from carspotter.evaluation.metrics import macro_f1
from carspotter.evaluation.predictions import Predictions
from carspotter.runtime.calibration import fit_temperature, softmax
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.attribute.task import SmallCnn
from carspotter.training.baselines import Baseline, HogSettings, fit_features, fit_hog
from carspotter.training.features import Embed, Images, embed_with
from carspotter.training.identifier.data import augment, load_photos
from carspotter.training.identifier.holdout import split_holdout
from carspotter.training.identifier.model import Identifier, load_backbone, parameter_groups
from carspotter.training.identifier.source import LabelledPhotos
from carspotter.training.identifier.targets import Nodes
from carspotter.training.identifier.task import predict
from carspotter.training.linear import FitSettings, Floats
from carspotter.training.recipe import AugmentSettings, InputSettings, ModelSettings, TrainSettings
from measure import parser, report

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Answer = Callable[[Images], Doubles]
"""Takes photos (n, h, w, 3) and gives probabilities (n, views)."""

VIEWS = ("front", "front-side", "side", "back-side", "back")
TAXONOMY = Taxonomy(classes=tuple(Taxon(make="Vehicle", model=view) for view in VIEWS))
PARTS = ("validation", "reported")
REPORTED, VALIDATION = 0.2, 0.15
PIXELS = 128  # photos are kept at this size, 393 MB in all; networks that learn see 112 or less of it
BALANCES = (0.0, 0.5, 1.0)  # how much rare views count: tried for the classifiers on vectors; networks take the middle
BATCH = 32
AUGMENT = AugmentSettings(min_area=0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is learnt from, what settings are chosen on, and what is reported."""

    learnt: LabelledPhotos
    validation: LabelledPhotos
    reported: LabelledPhotos


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An approach's answers for both parts in `PARTS`, the setting that it chose and its seconds."""

    tables: tuple[Predictions, Predictions]
    setting: str
    seconds: float


def main() -> None:
    """Run the approaches that are asked for and print the table of all that are known."""
    given = read_options()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    parts = load_parts(given.data)
    known: dict[str, Outcome] = {}
    for name, approach in APPROACHES.items():
        if given.only is None or name in given.only:
            known[name] = run(name, approach, parts, given.seed)
            write(given.save, known[name])
            print(row(known[name]), file=sys.stderr, flush=True)
        elif (found := read(given.save, name)) is not None:
            known[name] = found
    rows = [row(outcome) for outcome in known.values()]
    members = [outcome for name, outcome in known.items() if name != "majority"]
    if len(members) > 1:
        rows.append(row(join(members)))
    counts = np.bincount(parts.reported.targets).tolist()
    conditions = {"reported on": dict(zip(VIEWS, counts, strict=True)), "learnt from": len(parts.learnt)}
    conditions |= {"chosen on": len(parts.validation), "seed": given.seed}
    report("Viewpoint, five sides, by each approach", rows, as_json=given.json, conditions=conditions)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv: path, split, view, …")
    options.add_argument("--only", nargs="+", choices=tuple(APPROACHES), metavar="NAME", help=", ".join(APPROACHES))
    options.add_argument("--save", type=Path, help="folder for each approach's prediction tables")
    options.add_argument("--seed", type=int, default=0)
    return options.parse_args()


def load_parts(data: Path) -> Parts:
    """Decode the photos with one of the five views and deal them out by the hash of their path."""
    labels = data / "labels.csv"
    with labels.open(newline="", encoding="utf-8") as file:
        rows = [{"path": row["path"], "class_id": row["view"]} for row in csv.DictReader(file) if row["view"] in VIEWS]
    nodes = Nodes(TAXONOMY, {view: index for index, view in enumerate(VIEWS)})
    photos = load_photos(rows, labels, nodes, InputSettings(width=PIXELS, height=PIXELS))
    rest, reported = split_holdout(photos, REPORTED)
    learnt, validation = split_holdout(rest, VALIDATION)
    return Parts(learnt=learnt, validation=validation, reported=reported)


def run(name: str, approach: "Approach", parts: Parts, seed: int) -> Outcome:
    """Run an approach and let it answer for the photos that it did not learn from."""
    started = time.monotonic()
    answer, setting = approach(parts, seed)
    validation, reported = (
        Predictions(
            name=name,
            taxonomy=TAXONOMY,
            photos=np.array(photos.paths),
            probabilities=answer(photos.images).astype(np.float32),
            truth=photos.targets,
        )
        for photos in (parts.validation, parts.reported)
    )
    return Outcome(tables=(validation, reported), setting=setting, seconds=time.monotonic() - started)


def majority(parts: Parts, seed: int) -> tuple[Answer, str]:  # noqa: ARG001  # every approach takes it
    """Answer each view's share of the photos, whatever the photo."""
    share = np.bincount(parts.learnt.targets) / len(parts.learnt)
    return lambda images: np.tile(share, (len(images), 1)), ""


def hog(parts: Parts, seed: int) -> tuple[Answer, str]:
    """Learn a linear classifier on HOG, mirrored copies included."""
    return best_balance(parts, lambda fit: fit_hog(parts.learnt, len(VIEWS), settings=HogSettings(fit=fit), seed=seed))


def features(parts: Parts, seed: int) -> tuple[Answer, str]:
    """Learn on what Lite0 of ImageNet, frozen, sees; mirrored copies included."""
    learn = partial(fit_features, parts.learnt, len(VIEWS), backbone=frozen_lite0(), seed=seed)
    return best_balance(parts, lambda fit: learn(settings=fit))


def best_balance(parts: Parts, learn: Callable[[FitSettings], Baseline]) -> tuple[Answer, str]:
    """Try how much rare views should count; keep what has the best macro-F1 on the validation part."""
    outcomes = []
    for balance in BALANCES:
        baseline = learn(FitSettings(balance=balance, mirror=True))
        answers = baseline.probabilities(parts.validation.images)
        figure = float(f1(confusion(answers, parts.validation.targets)).mean())
        outcomes.append((figure, balance, baseline))
        print(
            f"  balance {balance}: {figure:.4f} on validation, chose {baseline.chosen:g}", file=sys.stderr, flush=True
        )
    _, balance, baseline = max(outcomes, key=lambda outcome: outcome[0])
    return baseline.probabilities, f"balance {balance}, {baseline.chosen:g}"


@cache
def frozen_lite0() -> Embed:
    """Describe photos by Lite0 of ImageNet, each photo once: it is known again by its pixels."""
    embed = embed_with(lite0())
    seen: dict[bytes, Floats] = {}

    def look_up(images: Images) -> Floats:
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        new = [place for place, key in enumerate(keys) if key not in seen]
        if new:
            seen.update(zip([keys[place] for place in new], embed(images[new]), strict=True))
        return np.stack([seen[key] for key in keys])

    return look_up


def lite0() -> Identifier:
    """Make EfficientNet-Lite0 with the weights of ImageNet-1k and a new head."""
    settings = ModelSettings(backbone="tf_efficientnet_lite0", weights="pretrained")
    model = Identifier(load_backbone(settings), len(VIEWS), dropout=settings.dropout)
    nn.init.normal_(model.head.weight, std=0.01)
    return model


def scratch(parts: Parts, seed: int) -> tuple[Answer, str]:
    """Train a small network from nothing."""
    model = Identifier(SmallCnn(), len(VIEWS), dropout=0.2)
    return taught(model, parts, pixels=64, epochs=14, settings=TrainSettings(lr=3e-3, head_lr=1), seed=seed)


def finetuned(parts: Parts, seed: int) -> tuple[Answer, str]:
    """Train Lite0 further from the weights of ImageNet; its first two stages stand still, which saves a third."""
    return taught(lite0(), parts, pixels=112, epochs=3, frozen=2, settings=TrainSettings(lr=1e-3), seed=seed)


def taught(
    model: Identifier, parts: Parts, *, pixels: int, epochs: int, frozen: int = 0, settings: TrainSettings, seed: int
) -> tuple[Answer, str]:
    """Train a network with AdamW, one rise and fall of the learning rate; calibrate it on the validation part."""
    model = model.to(memory_format=torch.channels_last)
    model.freeze(frozen)
    groups = parameter_groups(model, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr)
    n_steps = epochs * (len(parts.learnt) // BATCH)
    peaks = [settings.lr * float(str(group["lr_scale"])) for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, n_steps, pct_start=0.1, cycle_momentum=False)
    started, total = time.monotonic(), 0.0
    model.train()
    for step, (images, targets) in enumerate(drawn_batches(parts.learnt, pixels, n_steps, seed), 1):
        loss = nn.functional.cross_entropy(model(images), targets, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            said = f"  step {step}/{n_steps} loss {total / 100:.4f} {time.monotonic() - started:.0f} s"
            print(said, file=sys.stderr, flush=True)
            total = 0.0
    asked = partial(mean_logits, model, pixels=pixels)
    temperature = fit_temperature(asked(parts.validation.images), parts.validation.targets)
    return lambda images: softmax(asked(images) / temperature), f"{pixels} px, {epochs} epochs"


def drawn_batches(photos: LabelledPhotos, pixels: int, n_steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw augmented batches; a view's photos come as often as the root of their count (Mahajan et al. 2018)."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = torch.from_numpy(photos.images), torch.from_numpy(photos.targets)
    weights = torch.bincount(targets)[targets].double() ** -BALANCES[1]
    for _ in range(n_steps):
        chosen = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        changed, _ = augment(images[chosen], (pixels, pixels), AUGMENT, generator)
        yield changed, targets[chosen]


def mean_logits(model: Identifier, images: Images, *, pixels: int) -> Doubles:
    """Return the mean logits (n, views) of each photo and its mirror image."""
    parts = [
        nn.functional.interpolate(part.permute(0, 3, 1, 2), (pixels, pixels), mode="bilinear", antialias=True)
        for part in torch.from_numpy(images).split(256)
    ]
    plain = torch.cat(parts).permute(0, 2, 3, 1).numpy()
    mirrored = np.ascontiguousarray(plain[:, :, ::-1])
    return np.asarray((predict(model, plain)[0] + predict(model, mirrored)[0]).double().numpy() / 2, np.float64)


def join(members: list[Outcome]) -> Outcome:
    """Average the approaches, with the weights that make the validation part's truth most likely."""
    weights = fit_weights([member.tables[0] for member in members])
    validation, reported = (ensemble([member.tables[part] for member in members], weights) for part in (0, 1))
    said = ", ".join(f"{member.tables[0].name} {share:.2f}" for member, share in zip(members, weights, strict=True))
    return Outcome(tables=(validation, reported), setting=said, seconds=sum(member.seconds for member in members))


def confusion(probabilities: npt.NDArray[Any], truth: Ints) -> Ints:
    """Count photos by truth and answer, (views, views)."""
    cells = truth * len(VIEWS) + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=len(VIEWS) ** 2).reshape(len(VIEWS), len(VIEWS))


def f1(counts: Ints) -> Doubles:
    """Return the F1 of each view, (..., views), from counts (..., views, views)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.asarray(2 * hits / np.maximum(counts.sum(axis=-1) + counts.sum(axis=-2), 1), np.float64)


def row(outcome: Outcome) -> dict[str, Any]:
    """Make a row of the table."""
    table = outcome.tables[1]
    counts = confusion(table.probabilities, table.truth)
    estimate = macro_f1(table.truth, table.probabilities.argmax(axis=1), len(VIEWS))
    return {
        "approach": table.name,
        "macro-F1": round(estimate.value, 4),
        "95 %": f"{estimate.low:.3f}-{estimate.high:.3f}",
        "accuracy": round(float(np.trace(counts) / counts.sum()), 4),
        **{f"F1 {view}": round(float(value), 3) for view, value in zip(VIEWS, f1(counts), strict=True)},
        "chosen": outcome.setting,
        "seconds": round(outcome.seconds),
    }


def read(folder: Path | None, name: str) -> Outcome | None:
    """Read what an earlier run saved, if it did."""
    if folder is None or not (folder / f"{name}.json").exists():
        return None
    validation, reported = (Predictions.load(folder / f"{name}.{part}.parquet") for part in PARTS)
    said = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return Outcome(tables=(validation, reported), setting=said["setting"], seconds=said["seconds"])


def write(folder: Path | None, outcome: Outcome) -> None:
    """Save an approach's tables for later runs, and for `carspotter compare`, where a folder is given."""
    if folder:
        name = outcome.tables[0].name
        for part, table in zip(PARTS, outcome.tables, strict=True):
            table.save(folder / f"{name}.{part}.parquet")
        said = {"setting": outcome.setting, "seconds": outcome.seconds}
        (folder / f"{name}.json").write_text(json.dumps(said) + "\n", encoding="utf-8")


Approach = Callable[[Parts, int], tuple[Answer, str]]
APPROACHES: dict[str, Approach] = {
    "majority": majority,
    "hog": hog,
    "features-linear": features,
    "scratch": scratch,
    "finetuned": finetuned,
}

if __name__ == "__main__":
    main()
