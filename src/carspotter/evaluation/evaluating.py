"""Run an identifier over labelled photos; write its prediction table and the report on it.

Photos come from a labels CSV, as training reads it, or from a project's shards. They pass through `pixels` and the
runtime as in serving. What is computed from the table is the business of `evaluation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carspotter import storage
from carspotter.cores import cores
from carspotter.crops import crop_of
from carspotter.csv_rows import box_of, names_of, read_csv, year_of
from carspotter.dataset.manifest import load_classes, load_manifest
from carspotter.dataset.reader import read_shards
from carspotter.errors import EvaluationError, ImageError, StorageError, TaxonomyError, suggestion
from carspotter.evaluation.metrics import SEEN
from carspotter.evaluation.mistakes import sample_mistakes, write_review
from carspotter.evaluation.pictures import read_log
from carspotter.evaluation.predictions import UNLABELLED, Predictions
from carspotter.evaluation.report import write_report
from carspotter.geometry import SIDES, BoundingBox
from carspotter.pixels import Preprocessing, decode, network_input
from carspotter.recognition.identifier import Identification, Identifier
from carspotter.records import split_name
from carspotter.runtime.blur import Blur
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.seen import Hashes, are_seen, from_bytes, hashes_of
from carspotter.taxonomy import LEVELS, Level, Taxon, Taxonomy

Pixels = npt.NDArray[np.uint8]

TABLE, REPORT, REVIEW = "predictions.parquet", "report.html", "review.csv"
BATCH = 16
REVIEWED = 200
"""Mistakes that are drawn for people to judge: the share of undecidable ones is then known to about 7 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPhoto:
    """A photo that is to be judged: its name, how to read it, and what is known of it."""

    name: str
    read: Callable[[], bytes]
    taxon: Taxon | None
    box: BoundingBox | None = None
    label: Taxon | None = None
    """What the label says, where it says more than the photo's class; None: no more than `taxon`."""
    is_class: bool = True
    """Whether the taxon is the photo's class; else no more than the taxon is known, and it is judged at its levels."""
    about: Mapping[str, str] = field(default_factory=dict)
    cut_for: Preprocessing | None = None
    """The input that the photo is a crop for, where it is one, as in shards."""


def from_labels(labels: Path, *, split: str = "", classes: Path | None = None) -> list[LabelledPhoto]:
    """Read the photos of a labels CSV: path, class_id (a row of `classes`) or make, model, …; split, box, ad_id, view.

    A column `source` (or `market`) names where each comes from, to be judged apart. Raises EvaluationError for a file
    that cannot be read, or none of whose rows has the split, a class_id that `classes` lacks and a year that is none.
    """
    rows = _rows(labels, "path")
    rows = [row for row in rows if not split or split_name(row.get("split")) == split_name(split)]
    if not rows:
        raise EvaluationError(f"{labels}: no row with split {split!r}")
    taxa = {row["class_id"]: _taxon(row, str(classes)) for row in _rows(classes, "class_id")} if classes else {}
    names = _names(rows, labels)
    photos = []
    for name, row in zip(names, rows, strict=True):
        path, where = labels.parent / row["path"], f"{labels}: {row['path']}"
        class_id = (row.get("class_id") or "") if classes else ""
        if class_id and class_id not in taxa:
            raise EvaluationError(f"{where}: class_id {class_id!r} is not in {classes}; {suggestion(class_id, taxa)}")
        of_class = taxa.get(class_id)
        photos.append(
            LabelledPhoto(
                name=name,
                read=lambda path=path: storage.read(path),  # type: ignore[misc]
                taxon=of_class or _taxon(row, where),
                label=_label_of(row, of_class, where),
                box=box_of(row, error=EvaluationError, where=where),
                is_class=bool(row.get("class_id")) or not classes,
                about={
                    "path": row["path"],
                    "ad_id": row.get("ad_id") or row.get("group") or "",
                    "source": row.get("source") or row.get("market") or "",
                    "viewpoint": row.get("viewpoint") or row.get("view") or "",
                    "box": " ".join(row[side] for side in SIDES) if row.get("x2") else "",
                },
            )
        )
    return photos


def from_shards(folder: str, *, split: str = "test") -> list[LabelledPhoto]:
    """Read the crops of a project's shards. Raises DatasetError, and EvaluationError for a split without samples."""
    photos = []
    classes, cut_for = load_classes(folder).classes, load_manifest(folder).cut_for
    for sample in read_shards(folder, split=split or None):
        said, box, number = sample.metadata, sample.box, sample.class_index
        photos.append(
            LabelledPhoto(
                name=str(said.get("photo_id") or sample.key),
                read=lambda data=sample.image: data,  # type: ignore[misc]
                taxon=classes[number] if number is not None else None,
                box=box,
                cut_for=cut_for,
                about={
                    "path": str(said.get("path") or ""),
                    "ad_id": str(said.get("ad_id") or ""),
                    "viewpoint": str(said.get("viewpoint") or ""),
                    "box": " ".join(f"{side:.1f}" for side in (box.x1, box.y1, box.x2, box.y2)) if box else "",
                },
            )
        )
    if not photos:
        raise EvaluationError(f"{folder} has no sample of split {split!r}")
    return photos


def predict(
    bundle: ModelBundle, photos: Iterable[LabelledPhoto], *, engine: str = "auto"
) -> tuple[Predictions, dict[str, str]]:
    """Run an identifier over labelled photos; return its table, and of photos that cannot be read the reason.

    Raises BundleError for a bundle that is no identifier, EvaluationError where no photo can be read.
    """
    identifier = Identifier(bundle, bundle.open_session(engine))
    assert bundle.taxonomy is not None
    kept: list[LabelledPhoto] = []
    answers: list[Identification] = []
    unread: dict[str, str] = {}
    hashes: list[Hashes] = []
    for part, crops in _crops(bundle, photos, unread):
        kept += part
        if bundle.seen:
            hashes.append(hashes_of(crops))
        answers += identifier.identify(crops)
    if not kept:
        raise EvaluationError(
            f"none of {len(unread)} photos can be read; {next(iter(unread.values()), 'there is none')}"
        )
    truth, levels = truths([photo.taxon for photo in kept], bundle.taxonomy)
    truth = np.where([photo.is_class for photo in kept], truth, UNLABELLED)
    about = [
        {**photo.about, **_said(photo.label or photo.taxon, answer)}
        for photo, answer in zip(kept, answers, strict=True)
    ]
    if bundle.seen:
        seen = are_seen(np.concatenate(hashes), from_bytes(bundle.seen))
        about = [{**said, SEEN: "yes" if each else "no"} for said, each in zip(about, seen.tolist(), strict=True)]
    table = Predictions(
        name=bundle.name,
        taxonomy=bundle.taxonomy,
        photos=np.array([photo.name for photo in kept]),
        probabilities=np.stack([answer.probabilities for answer in answers]).astype(np.float32),
        truth=truth,
        levels=levels,
        about={name: np.array([said.get(name, "") for said in about]) for name in sorted(about[0])},
    )
    return table, unread


def _said(taxon: Taxon | None, found: Identification) -> dict[str, str]:
    """Return what the label says down to each level, "" where it does not, and what was answered."""
    said = {f"label_{level}": _label(taxon, level) for level in LEVELS}
    answer = found.answer
    return said | {"answer_level": answer.level if answer else "", "answer": answer.name if answer else ""}


def _label(taxon: Taxon | None, level: Level) -> str:
    return taxon.up_to(level).name(level) if taxon and getattr(taxon, level) is not None else ""


def _label_of(row: Mapping[str, str], of_class: Taxon | None, where: str) -> Taxon | None:
    """Return what a row and its class say together: of a class without a year the row may know it."""
    known = of_class.to_dict() if of_class else {}
    return _taxon({**row, **{part: str(value) for part, value in known.items()}}, where)


def truths(
    taxa: Sequence[Taxon | None], taxonomy: Taxonomy
) -> tuple[npt.NDArray[np.int64], dict[Level, npt.NDArray[np.int64]]]:
    """Return the class of each taxon (n,), and its number at each level (n,), -1 where the taxonomy lacks it.

    A taxon of which only the make is known has a truth at that level alone; one that may be of several classes has no
    class.
    """
    classes = {taxon: _class_of(taxon, taxonomy.classes) for taxon in set(taxa) if taxon}
    numbers = {level: {name: n for n, name in enumerate(taxonomy.names(level))} for level in LEVELS}
    truth = [classes[taxon] if taxon else UNLABELLED for taxon in taxa]
    levels = {
        level: np.array(
            [
                numbers[level].get(taxon.name(level), UNLABELLED) if taxon and _knows(taxon, level) else UNLABELLED
                for taxon in taxa
            ],
            np.int64,
        )
        for level in LEVELS
    }
    return np.array(truth, np.int64), levels


def write_evaluation(
    out: Path,
    predictions: Predictions,
    photos: Sequence[LabelledPhoto],
    *,
    bundle: ModelBundle | None = None,
    other: Predictions | None = None,
    log: Path | None = None,
    learnt: Mapping[str, int] | None = None,
    blur: Blur | None,
) -> Path:
    """Write table, report, figures and a list of mistakes to review into a folder; return the report's path.

    With a `bundle` the gallery shows which pixels decided; with the `log` of its training, how that went by epoch,
    and with `learnt`, how many photos of each class it learnt from.
    `blur` hides what the pictures must not show; None, that they show all, must be said.
    """
    by_name = {photo.name: photo for photo in photos}
    predictions.save(out / TABLE)
    ask = None
    if bundle is not None:
        identifier = Identifier(bundle, bundle.open_session())
        ask = lambda crops: identifier.probabilities(_fitted(bundle, crops)).astype(np.float32)  # noqa: E731
    write_report(
        out,
        predictions,
        pictures=lambda name: _pixels(by_name[name]),
        predict=ask,
        other=other,
        pad=bundle.preprocessing.pad if bundle else 0.0,
        log=read_log(log) if log else (),
        learnt=learnt,
        blur=blur,
    )
    write_review(out / REVIEW, sample_mistakes(predictions, REVIEWED), predictions)
    return out / REPORT


def _class_of(taxon: Taxon, classes: Sequence[Taxon]) -> int:
    """Return the class of a taxon: itself, or the deepest that agrees with it; UNLABELLED where it may be several.

    A label deeper than the classes belongs to its parent's. A body matters only where classes differ in nothing else.
    """
    if taxon in classes:
        return classes.index(taxon)
    agreeing = [each for each in classes if _agrees(each, taxon)]
    # Deepest first: a class that ends at its model holds only what no deeper one does.
    for part in ("year", "generation", "make"):
        found = [each for each in agreeing if getattr(each, part) is not None]
        if found:
            found = [each for each in found if (each.body or "").casefold() == (taxon.body or "").casefold()] or found
            # A generation is told by the label, or by the year; else the photo may be of another one.
            is_known = len(found) == 1 and (part != "generation" or taxon.generation is not None)
            return classes.index(found[0]) if is_known else UNLABELLED
    return UNLABELLED


def _agrees(found: Taxon, taxon: Taxon) -> bool:
    """Return whether a class says no more than a taxon; a generation that the taxon lacks may be that of the class."""
    return (
        (found.make, found.model) == (taxon.make, taxon.model)
        and (found.generation is None or taxon.generation in (None, found.generation))
        and found.year in (None, taxon.year)
    )


def _knows(taxon: Taxon, level: Level) -> bool:
    """Return whether a taxon says what its name at a level needs: beside a year the generation may be missing."""
    needed = LEVELS[: LEVELS.index(level) + 1]
    return all(getattr(taxon, part) is not None for part in needed if part == level or part != "generation")


def _fitted(bundle: ModelBundle, crops: Pixels) -> Pixels:
    return np.stack([network_input(crop, bundle.preprocessing) for crop in crops])


def _crops(
    bundle: ModelBundle, photos: Iterable[LabelledPhoto], unread: dict[str, str]
) -> Iterator[tuple[list[LabelledPhoto], Pixels]]:
    """Yield photos with their network inputs, some at a time; photos that cannot be read go into `unread`."""

    def read(photo: LabelledPhoto) -> Pixels | str:
        try:
            if photo.cut_for == bundle.preprocessing:  # a shard's crop: it is the network's input already
                return decode(photo.read()).pixels
            return crop_of(photo.read(), bundle.preprocessing, photo.box)
        except (ImageError, StorageError) as error:
            return f"{photo.name}: {error}"

    pending = iter(photos)
    with ThreadPoolExecutor(cores()) as pool:
        while part := list(islice(pending, BATCH)):
            inputs = list(pool.map(read, part))
            unread |= {photo.name: said for photo, said in zip(part, inputs, strict=True) if isinstance(said, str)}
            good = [(photo, each) for photo, each in zip(part, inputs, strict=True) if not isinstance(each, str)]
            if good:
                yield [photo for photo, _ in good], np.stack([each for _, each in good])


def _pixels(photo: LabelledPhoto) -> Pixels | None:
    try:
        return decode(photo.read()).pixels
    except (ImageError, StorageError):
        return None


def _rows(path: Path, needed: str) -> list[dict[str, str]]:
    return [row for _, row in read_csv(path, (needed,), error=EvaluationError)]


def _names(rows: Sequence[Mapping[str, str]], labels: Path) -> list[str]:
    """Name each row (`names_of`); raises EvaluationError for a vehicle that stands twice."""
    names = names_of(rows)
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise EvaluationError(f"{labels}: {twice} occurs {names.count(twice)} times; each vehicle is judged once")
    return names


def _taxon(row: Mapping[str, str], where: str) -> Taxon | None:
    """Make the taxon of a row of make, model, generation, year and body; None without a make."""
    if not row.get("make"):
        return None
    model = row.get("model") or None
    year = year_of(row.get("year") or "", error=EvaluationError, where=where, may_span=True)
    try:
        return Taxon(
            make=row["make"],
            model=model,
            generation=(row.get("generation") or None) if model else None,
            year=year if model else None,
            body=row.get("body") or None,
        )
    except TaxonomyError as error:
        raise EvaluationError(f"{where}: {error}") from error
