"""Train an attribute of one's own: labelled photos in; a bundle, its prediction tables and a report out.

A head reads what a network says of each photo, or of each vehicle: the shipped ones, one of timm, one that was trained
for it here, or HOG. The validation part chooses; the figures are of the test part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carspotter import storage
from carspotter.errors import DatasetError, suggestion
from carspotter.evaluation.evaluating import LabelledPhoto, write_evaluation
from carspotter.evaluation.metrics import Evaluation, evaluate
from carspotter.evaluation.predictions import Predictions
from carspotter.project_training.attribute_look import Answers, Look, Looker, Vectors, key_of, turned
from carspotter.project_training.attribute_network import Base, bases_of, run_of
from carspotter.project_training.attribute_photos import CHUNK, AttributeSettings, Photos
from carspotter.project_training.attribute_rows import embedded, read_labels
from carspotter.project_training.attribute_training import log_of, sizes_of, trained_base
from carspotter.records import KINDS
from carspotter.runtime.attribute import KIND
from carspotter.runtime.blur import Blurrer
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.attribute.head import FittedHead, choose_gate, fit_head
from carspotter.training.attribute.labels import (
    GROUP,
    MERGED,
    Labelled,
    check_labels,
    deal_out,
    without_odd_names,
    without_repeats,
)
from carspotter.training.identifier.targets import mirror_of
from carspotter.training.linear import FitSettings, View

if TYPE_CHECKING:
    from carspotter.progress import Watch

VALIDATION = "validation.parquet"
SHOWN = 5


@dataclass(slots=True, kw_only=True)
class Trained:
    """What came of it: the judge's figures of the test part, and lines for people, in order."""

    bundle: ModelBundle | None
    figures: Evaluation | None
    lines: list[str] = field(default_factory=list)


def train_attribute(source: Path, out: Path, settings: AttributeSettings, watch: Watch) -> Trained:
    """Learn an attribute and write it to the folder `out`. `watch` hears what is done, and how far it is.

    Raises DatasetError for labels that nothing can be learnt from, TrainingError, RecipeError, MissingExtraError.
    """
    _check_out(out)
    rows = read_labels(source, settings.task)
    if settings.merge_sides:
        rows = [replace(row, label=MERGED.get(row.label, row.label)) for row in rows]
    counts = check_labels(rows, settings.task)
    _check_kinds(counts, settings.task)
    watch.say(f"{settings.task}: {_counted(counts)}")
    seen = _look(source, rows, out, settings=settings, watch=watch)
    # Once more: what cannot be read may have been all photos of a label.
    _check_kinds(check_labels(seen.photos.rows, settings.task), settings.task)
    seen.photos = replace(seen.photos, rows=tuple(deal_out(seen.photos.rows, settings.seed)))
    _check_parts(seen.photos, settings.task, watch)
    return _learn(seen, out, settings, watch)


def _look(source: Path, rows: Sequence[Labelled], out: Path, *, settings: AttributeSettings, watch: Watch) -> Look:
    """Look at each photo once; say what is left out and why."""
    of_photo = settings.task == KIND
    rows, torn = without_repeats([replace(row, box=None) for row in rows] if of_photo else rows)
    rows, odd = without_odd_names(rows)
    watch.start("look", "see each photo once")
    bases, answers = bases_of(settings, out, of_photo=of_photo), Answers(run_of(out))
    _remember(answers, bases, source, rows)
    looker = Looker(
        bases=bases,
        answers=answers,
        of_photo=of_photo,
        mirrors=_turns(tuple(sorted({row.label for row in rows}))),
        kept=sizes_of(settings, out),
        watch=watch,
    )
    found = looker.look(rows)
    watch.end("look", {"text": f"{len(found.photos.rows)} of {len(rows)} photos can be learnt from"})
    left_out = torn + odd + found.left_out
    for line in [*left_out[:SHOWN], *([f"{len(left_out) - SHOWN} more"] if len(left_out) > SHOWN else [])]:
        watch.say(f"left out: {line}")
    if left_out and not found.photos.rows:
        raise DatasetError(f"{settings.task}: none of {len(rows)} photos can be learnt from; {left_out[0]}")
    return found


def _remember(answers: Answers, bases: Sequence[Base], source: Path, rows: Sequence[Labelled]) -> None:
    """Take over what a project's build has asked the shipped identifier already."""
    boxes = {row.box for row in rows if row.box}
    for base in bases if boxes else ():
        if base.bundle is not None and base.bundle.folder == shipped("identifier").folder:
            for digest, box, vector in embedded(source, base.bundle):
                if box in boxes:
                    answers.put(base.version, key_of(digest, box), vector)


def _turns(words: tuple[str, ...]) -> bool:
    """Return whether a mirrored photo may have another label; where none has, a second view is not worth its cost."""
    swap = mirror_of(words)
    return swap is not None and bool((swap != np.arange(len(swap))).any())


def _learn(seen: Look, out: Path, settings: AttributeSettings, watch: Watch) -> Trained:
    photos, tried = seen.photos, []
    learning = ~photos.part("test")
    chosen = photos.part("validation")[learning]
    targets, swap = photos.targets, mirror_of(photos.words)
    for base, vectors, mirrored in _described(seen, out, settings, watch):
        views: list[View] = [(vectors[learning], targets[learning])]
        if mirrored is not None and swap is not None:
            views.append((mirrored[learning], swap[targets[learning]]))
        head = fit_head(views, len(photos.words), chosen, FitSettings())
        watch.say(f"{base.name}: macro-F1 {head.macro_f1:.3f} on {int(chosen.sum())} validation photos")
        tried.append((head, base, vectors))
    return _write(photos, out, settings, max(tried, key=lambda each: each[0].macro_f1))


def _described(
    seen: Look, out: Path, settings: AttributeSettings, watch: Watch
) -> Iterator[tuple[Base, Vectors, Vectors | None]]:
    """Yield each base with what it says of the photos, and of their mirrored copies where labels change sides."""
    if seen.crops:
        base, crops = trained_base(seen.photos, seen.crops, settings, out, watch=watch), seen.crops[0]
        parts = [crops[start : start + CHUNK] for start in range(0, len(crops), CHUNK)]
        views = [[base.describe(np.ascontiguousarray(part)) for part in parts]]
        if _turns(seen.photos.words):
            views.append([base.describe(turned(part)) for part in parts])
        yield base, np.concatenate(views[0]), np.concatenate(views[1]) if len(views) > 1 else None
    for base in seen.bases:
        yield base, seen.vectors[base.name], seen.mirrored.get(base.name) if _turns(seen.photos.words) else None


def _write(
    photos: Photos, out: Path, settings: AttributeSettings, found: tuple[FittedHead, Base, npt.NDArray[np.float32]]
) -> Trained:
    head, base, vectors = found
    fitted, test, chosen = head.fitted, photos.part("test"), photos.part("validation")
    weights, bias = fitted.classifier.weights, np.maximum(fitted.classifier.bias, -1e4)
    own = Head(weights=weights.astype(np.float16).astype(np.float32), bias=bias)
    answered = softmax(own.logits(vectors[test]).astype(np.float64) / fitted.temperature)
    name = f"{settings.task}.{settings.how}" + (f".{settings.backbone}" if settings.backbone else "")
    _table(photos, chosen, head.held, name=name, task=settings.task).save(out / VALIDATION)
    result = Trained(bundle=None, figures=None)
    if test.any():
        table = _table(photos, test, answered, name=name, task=settings.task)
        result.figures = evaluate(table)
        judged = [_judged(row, photos.of_photo) for row, is_test in zip(photos.rows, test, strict=True) if is_test]
        learnt = Counter(row.label for row in photos.rows if row.split == "train")
        write_evaluation(out, table, judged, log=log_of(settings, out), learnt=learnt, blur=Blurrer.open().blur)
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


def _table(
    photos: Photos, mask: npt.NDArray[np.bool_], probabilities: npt.NDArray[Any], *, name: str, task: str
) -> Predictions:
    rows = [row for row, is_in in zip(photos.rows, mask, strict=True) if is_in]
    return Predictions(
        name=name,
        # Labels side by side, none above another: the judge's names are flat.
        taxonomy=Taxonomy(classes=tuple(Taxon(make=word) for word in photos.words)),
        photos=np.array([_name(row) for row in rows], dtype=str),
        probabilities=probabilities.astype(np.float32),
        truth=photos.targets[mask],
        about={
            "path": np.array([str(row.path) for row in rows], dtype=str),
            # Of what a source or a CSV says belongs together; a photo alone has no group.
            "group": np.array([row.group.removeprefix(GROUP) if row.group.startswith(GROUP) else "" for row in rows]),
            "box": np.array([_corners(row) for row in rows], dtype=str),
        },
        attribute=task,
    )


def _name(row: Labelled) -> str:
    return f"{row.path} {_corners(row)}".strip()


def _corners(row: Labelled) -> str:
    return " ".join(f"{side:.1f}" for side in row.box.to_list()) if row.box else ""


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


def _check_parts(photos: Photos, task: str, watch: Watch) -> None:
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
            watch.say(f"{task} {word!r}: {n} photos, none in {' and '.join(missing)}; label more of it")
