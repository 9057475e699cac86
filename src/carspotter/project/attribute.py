"""Train an attribute of one's own: labelled photos in; a bundle, its prediction tables and a report out.

A head reads what a network says of each photo, or of each vehicle: the shipped ones, one of timm, one that was trained
for it here, or HOG. The validation part chooses; the figures are of the test part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter import storage
from carspotter.errors import DatasetError, ImageError, StorageError, suggestion
from carspotter.evaluation.evaluating import LabelledPhoto, write_evaluation
from carspotter.evaluation.metrics import Evaluation, evaluate
from carspotter.evaluation.predictions import Predictions
from carspotter.pixels import DecodedPhoto
from carspotter.project.attribute_network import Base, bases_of
from carspotter.project.attribute_photos import CHUNK, AttributeSettings, Photos
from carspotter.project.attribute_photos import opened as read_opened
from carspotter.project.attribute_rows import read_labels
from carspotter.recognition.finder import Finder
from carspotter.recognition.view import see
from carspotter.records import KINDS
from carspotter.runtime.attribute import KIND
from carspotter.runtime.blur import Blurrer
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.attribute.head import FittedHead, choose_gate, fit_head
from carspotter.training.attribute.labels import MERGED, Labelled, check_labels, deal_out, unreadable
from carspotter.training.attribute.task import mirror_of
from carspotter.training.baselines import FitSettings, View

VALIDATION = "validation.parquet"
SHOWN = 5


@dataclass(slots=True, kw_only=True)
class Trained:
    """What came of it: the judge's figures of the test part, and lines for people, in order."""

    bundle: ModelBundle | None
    figures: Evaluation | None
    lines: list[str] = field(default_factory=list)


Say = Callable[[str], None]


def train_attribute(source: Path, out: Path, settings: AttributeSettings, say: Say) -> Trained:
    """Learn an attribute and write it to the folder `out`. `say` hears what is done, a line at a time.

    Raises DatasetError for labels that nothing can be learnt from, TrainingError, RecipeError, MissingExtraError.
    """
    _check_out(out)
    rows = read_labels(source, settings.task)
    if settings.merge_sides:
        rows = [replace(row, label=MERGED.get(row.label, row.label)) for row in rows]
    counts = check_labels(rows, settings.task)
    _check_kinds(counts, settings.task)
    say(f"{settings.task}: {_counted(counts)}")
    photos, left_out = look(rows, of_photo=settings.task == KIND)
    for line in [*left_out[:SHOWN], *([f"{len(left_out) - SHOWN} more"] if len(left_out) > SHOWN else [])]:
        say(f"left out: {line}")
    check_labels(photos.rows, settings.task)
    photos = replace(photos, rows=tuple(deal_out(photos.rows, settings.seed)))
    _check_parts(photos, settings.task, say)
    return _learn(photos, out, settings, say)


def look(rows: Sequence[Labelled], *, of_photo: bool) -> tuple[Photos, list[str]]:
    """Open each photo, and find the vehicle of those without a box; return them, and why others are left out."""
    bundle = shipped("finder")
    finder = None if of_photo else Finder(bundle, bundle.open_session())
    kept: list[Labelled] = []
    left_out: list[str] = []
    size = shipped("identifier").preprocessing
    for start in range(0, len(rows), CHUNK):
        opened: list[tuple[Labelled, DecodedPhoto]] = []
        for row in rows[start : start + CHUNK]:
            try:
                opened.append((row, read_opened(row, size)))
            except (ImageError, StorageError) as error:
                left_out.append(f"{row.path}: {unreadable(error)}" if isinstance(error, ImageError) else str(error))
        lacking = [photo for row, photo in opened if row.box is None] if finder else []
        views = iter(see(lacking, finder, least=0.0, selects=["largest"] * len(lacking)) if finder else [])
        for row, _ in opened:
            if finder is None or row.box is not None:
                kept.append(row)
                continue
            view = next(views)
            if view.vehicles:
                kept.append(replace(row, box=view.box(view.vehicles[0])))
            else:
                left_out.append(f"{row.path}: no vehicle found")
    return Photos(rows=tuple(kept), words=tuple(sorted({row.label for row in kept})), of_photo=of_photo), left_out


def _learn(photos: Photos, out: Path, settings: AttributeSettings, say: Say) -> Trained:
    swap = mirror_of(photos.words)
    fit = FitSettings(mirror=True)
    # Mirrored copies cost a second look; they are for labels that change sides.
    mirrors = swap is not None and bool((swap != np.arange(len(swap))).any())
    tried = []
    learning = ~photos.part("test")
    chosen = photos.part("validation")[learning]
    for base in bases_of(photos, settings, out, say):
        began = time.monotonic()
        vectors = _described(photos, base, mirrored=False)
        views: list[View] = [(vectors[learning], photos.targets[learning])]
        if mirrors and swap is not None:
            views.append((_described(photos, base, mirrored=True)[learning], swap[photos.targets[learning]]))
        head = fit_head(views, len(photos.words), chosen, fit)
        say(
            f"{base.name}: macro-F1 {head.macro_f1:.3f} on {int(chosen.sum())} validation photos, "
            f"{time.monotonic() - began:.1f} s"
        )
        tried.append((head, base, vectors))
    head, base, vectors = max(tried, key=lambda each: each[0].macro_f1)
    return _write(photos, out, settings, (head, base, vectors))


def _described(photos: Photos, base: Base, *, mirrored: bool) -> npt.NDArray[np.float32]:
    # Copied where mirrored: engines take no negative strides.
    crops = photos.crops(base.preprocessing)
    return np.concatenate(
        [base.describe(np.ascontiguousarray(each[:, :, ::-1]) if mirrored else each) for each in crops]
    )


def _write(
    photos: Photos, out: Path, settings: AttributeSettings, found: tuple[FittedHead, Base, npt.NDArray[np.float32]]
) -> Trained:
    head, base, vectors = found
    fitted, test, chosen = head.fitted, photos.part("test"), photos.part("validation")
    weights, bias = fitted.classifier.weights, np.maximum(fitted.classifier.bias, -1e4)
    own = Head(weights=weights.astype(np.float16).astype(np.float32), bias=bias)
    answered = softmax(own.logits(vectors[test]).astype(np.float64) / fitted.temperature)
    name = f"{settings.task}.{settings.how}" + (f".{settings.backbone}" if settings.backbone else "")
    _table(photos, chosen, head.held, name).save(out / VALIDATION)
    result = Trained(bundle=None, figures=None)
    if test.any():
        table = _table(photos, test, answered, name)
        result.figures = evaluate(table)
        judged = [_judged(row, photos.of_photo) for row, is_test in zip(photos.rows, test, strict=True) if is_test]
        write_evaluation(out, table, judged, blur=Blurrer.open().blur)
    if base.bundle is not None:
        card = _card(photos, settings, head, base=base, figures=result.figures)
        calibration = {"temperature": round(fitted.temperature, 4), settings.task: head.threshold}
        if settings.task == KIND:
            place = photos.words.index("exterior")
            calibration["gate"] = choose_gate(head.held[:, place], photos.targets[chosen] == place)
        network, more = base.bundle.read_network()
        bundle = ModelBundle(
            task="attribute",
            name=name,
            preprocessing=base.preprocessing,
            calibration=calibration,
            card=card,
            attributes={settings.task: photos.words},
            head=own,
            reads=base.reads,
            file=base.bundle.file,
            precision=base.bundle.precision,
        )
        result.bundle = bundle.save(out, network, weights=more)
    return result


def _table(photos: Photos, mask: npt.NDArray[np.bool_], probabilities: npt.NDArray[Any], name: str) -> Predictions:
    rows = [row for row, is_in in zip(photos.rows, mask, strict=True) if is_in]
    return Predictions(
        name=name,
        # Labels side by side, none above another: the judge's names are flat.
        taxonomy=Taxonomy(classes=tuple(Taxon(make=word) for word in photos.words)),
        photos=np.array([_name(row) for row in rows], dtype=str),
        probabilities=probabilities.astype(np.float32),
        truth=photos.targets[mask],
        about={"path": np.array([str(row.path) for row in rows], dtype=str)},
    )


def _name(row: Labelled) -> str:
    box = " ".join(f"{side:.1f}" for side in row.box.to_list()) if row.box else ""
    return f"{row.path} {box}".strip()


def _judged(row: Labelled, of_photo: bool) -> LabelledPhoto:
    return LabelledPhoto(
        name=_name(row),
        read=lambda path=row.path: storage.read(path),  # type: ignore[misc]
        taxon=Taxon(make=row.label),
        box=None if of_photo else row.box,
    )


def _card(
    photos: Photos, settings: AttributeSettings, head: FittedHead, *, base: Base, figures: Evaluation | None
) -> dict[str, Any]:
    counts = check_labels(photos.rows, settings.task)
    judged: dict[str, Any] = {"validation: macro-F1": round(head.macro_f1, 4)}
    if figures is not None:
        judged |= {"test: macro-F1": round(figures.macro_f1.value, 4), "test: accuracy": round(figures.top1.value, 4)}
        judged |= {f"test: F1 of {each.name}": round(each.f1, 4) for each in figures.classes if each.support}
    return {
        "use": f"Says the {settings.task} of a {'photo' if photos.of_photo else 'vehicle'}. {base.card['use']}",
        "licence": f"Head: as the photographs it learnt from. Network, {base.name}: {base.card['licence']}",
        "data": {"labels": _counted(counts), "network": str(base.card["data"])},
        "recipe": {"way": settings.how, "network": base.name, "balance": head.balance, "strength": head.fitted.chosen},
        "figures": judged,
        "retrain": f"carspotter train PROJECT --task {settings.task}",
        **({"notice": base.card["notice"]} if base.card.get("notice") else {}),
    }


def _counted(counts: Mapping[str, int]) -> str:
    rare = min(counts.values())
    said = ", ".join(f"{label} {n}" for label, n in counts.items())
    return f"{said} ({max(counts.values()) / rare:.0f} : 1; rare labels weigh more)" if rare else said


def _check_out(out: Path) -> None:
    manifest = out / "bundle.json"
    if manifest.is_file() and ModelBundle.load(out).task != "attribute":
        raise DatasetError(f"{out} holds another bundle; name another folder with --out")


def _check_kinds(counts: Mapping[str, int], task: str) -> None:
    if task != KIND:
        return
    odd = next((label for label in counts if label not in KINDS), None)
    if odd is not None:
        raise DatasetError(f"kind {odd!r} is none; {suggestion(odd, KINDS)}. Exterior is what passes the gate")
    if "exterior" not in counts:
        raise DatasetError(f"kind: no photo is labelled exterior, of {', '.join(counts)}; that is what passes the gate")


def _check_parts(photos: Photos, task: str, say: Say) -> None:
    for part in ("train", "validation"):
        here = {row.label for row in photos.rows if row.split == part}
        if len(here) < 2:
            found = f"only {next(iter(here))!r}" if here else "no photo"
            raise DatasetError(
                f"{task}: {part} has {found}; label more photos of other ads, or change the column split"
            )
    for word in photos.words:
        missing = [
            p for p in ("train", "validation", "test") if not any(r.split == p and r.label == word for r in photos.rows)
        ]
        if missing:
            n = sum(row.label == word for row in photos.rows)
            say(f"{task} {word!r}: {n} photos, none in {' and '.join(missing)}; label more of it")
