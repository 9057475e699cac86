"""A project's dataset out to other tools, and labels that were corrected there back as decisions.

Number plates and faces are hidden unless somebody says otherwise: then each photo is written anew, upright, as a JPEG
without metadata. Else photos are linked where the file system can, copied else; just those that lie on their side by
their EXIF, or have a format that few tools read, are written anew, since boxes count in upright pixels. What comes back
changes nothing but `labels/decisions.jsonl`, as a review does: the next build obeys it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.dataset.crops import encode
from carspotter.dataset.exchange import Form, LabelledPhoto, file_name_of, folder_of, read_labels, written
from carspotter.errors import CarspotterError, ProjectError, suggestion, typed
from carspotter.geometry import BoundingBox
from carspotter.headers import sniff
from carspotter.labels.resolve import Resolver
from carspotter.pixels import decode, is_upright
from carspotter.progress import Quiet, Watch
from carspotter.project.build import Build, Journal
from carspotter.project.classes import class_taxa
from carspotter.project.folder import Project
from carspotter.project.shard import SAMPLED
from carspotter.review.decisions import RELABEL, Decision
from carspotter.review.imported import open_decisions
from carspotter.runtime.blur import Blur, Blurrer
from carspotter.taxonomy import Taxon

Row = Mapping[str, Any]

_READ_BY_ALL = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_QUALITY = 95
_KNOWN = 0.9  # the score of names that stand in the list of models
_NAMED = 5  # unknown labels that an error names

_SIZED = f"SELECT s.*, c.width, c.height FROM ({SAMPLED}) s JOIN checks c USING (photo_id) ORDER BY s.photo_id"


def export_dataset(
    project: Project, out: Path, form: Form, *, blur: bool | None = None, watch: Watch | None = None
) -> Mapping[str, Any]:
    """Write the dataset of a project into a new folder; return how many photos each split has, and what failed.

    `blur` says whether number plates and faces are hidden; None: as the project's settings say. Raises ProjectError
    where there is no dataset yet, or the folder holds something, BundleError where plates and faces cannot be found.
    """
    watch = watch or Quiet()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ProjectError(f"{out} holds something already; name a new folder with --out")
    with project.catalog() as catalog:
        rows = catalog.rows(_SIZED)
    if not rows:
        raise ProjectError(f"{project.folder} has no dataset yet; run: carspotter build {typed(project.folder)}")
    hides = project.settings.share.blur if blur is None else blur
    blurred = Blurrer.open().blur if hides else None
    watch.start("export", f"write {len(rows)} photos for other tools")
    photos, failed = [], Counter[str]()
    for done, row in enumerate(rows, 1):
        try:
            photos.append(_place(project, row, out, form=form, blur=blurred))
        except CarspotterError as error:
            failed[error.code] += 1
        watch.advance(done, len(rows))
    for name, text in written(form, photos).items():
        storage.write(out / name, text.encode())
    splits = dict(Counter(photo.split for photo in photos))
    stats = {"photos": len(photos), "blurred": hides, "split": splits, **({"failed": dict(failed)} if failed else {})}
    watch.end("export", stats)
    return stats


def _place(project: Project, row: Row, out: Path, *, form: Form, blur: Blur | None) -> LabelledPhoto:
    """Put a photo's file into its folder, and return what is said of it."""
    source = project.folder / row["path"]
    data = storage.read(source)
    found = sniff(data)
    keeps = blur is None and found in _READ_BY_ALL and is_upright(data)
    photo = LabelledPhoto(
        photo_id=row["photo_id"],
        ad_id=row["ad_id"],
        file_name=file_name_of(row["photo_id"], _READ_BY_ALL[found] if keeps else ".jpg"),
        width=row["width"],
        height=row["height"],
        box=BoundingBox(row["x1"], row["y1"], row["x2"], row["y2"]),
        label=row["class_name"],
        split=row["split"],
        viewpoint=row["viewpoint"],
    )
    target = out / folder_of(form, photo) / photo.file_name
    if keeps:
        _link(source, target)
    else:
        pixels = decode(data).pixels
        storage.write(target, encode(pixels if blur is None else blur(pixels), "jpeg", _QUALITY))
    return photo


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another disk, or a file system without links
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def import_labels(project: Project, path: Path, *, person: str) -> Mapping[str, Any]:
    """Note the labels that differ from the project's as decisions of a person; return how many of each kind.

    A photo whose label or box was taken away shows no vehicle of its class. Raises DatasetError for a file that holds
    no labels, ProjectError for labels that the project does not know: then nothing is noted.
    """
    labels = read_labels(path)
    with project.catalog() as catalog:
        rows = catalog.rows(_SIZED)
        taxa = class_taxa(Build(project=project, catalog=catalog, journal=Journal(project.folder), watch=Quiet()))
        taxa |= _known_taxa(catalog)
    taxa |= _named(label for label in labels.values() if label is not None and label not in taxa)
    _refuse_unknown(labels, taxa, path)
    store, stats = open_decisions(project.labels), Counter[str]()
    known = {each.photo_id: each.said for each in store.decisions("class", by=person)}  # the newest of each photo
    by_name = {file_name_of(row["photo_id"], ""): row for row in rows} | {row["photo_id"]: row for row in rows}
    for name, label in labels.items():
        row = by_name.get(name) or by_name.get(name.rpartition(".")[0])
        if row is None:
            stats["not in the dataset"] += 1
            continue
        decision = _decision(row, label, taxa=taxa, person=person)
        # The same correction twice is one decision: the file may be imported again.
        if label == row["class_name"] or known.get(row["photo_id"]) == decision.said:
            stats["unchanged"] += 1
            continue
        store.append(decision)
        stats["dropped" if label is None else "relabelled"] += 1
    return dict(stats)


def _decision(row: Row, label: str | None, *, taxa: Mapping[str, Taxon], person: str) -> Decision:
    return Decision(
        task="class",
        says="drop" if label is None else RELABEL,
        by=person,
        photo_id=row["photo_id"],
        becomes=None if label is None else taxa[label],
        given=row["class_name"],
    )


def _known_taxa(catalog: Catalog) -> dict[str, Taxon]:
    """Return every taxon that a seller's words were resolved to: a class that is too small may be the right one."""
    rows = catalog.rows("SELECT DISTINCT name, make, model, generation, year FROM labels WHERE status = 'ok'")
    names = ("make", "model", "generation", "year")
    return {row["name"]: Taxon(**{name: row[name] for name in names}) for row in rows}


def _named(labels: Iterable[str]) -> dict[str, Taxon]:
    """Return the labels that are full names of known models: a person may see a model that no ad of the project has."""
    resolver, named = Resolver(), {}
    for label in set(labels):
        found = resolver.resolve(title=label)
        # A model as somebody wrote it scores less than one that is known.
        if found.status == OK and found.make is not None and found.score >= _KNOWN:
            taxon = Taxon(make=found.make, model=found.model, generation=found.generation, year=found.year)
            named.update({label: taxon} if taxon.name() == label else {})
    return named


def _refuse_unknown(labels: Mapping[str, str | None], taxa: Mapping[str, Taxon], path: Path) -> None:
    unknown = sorted({label for label in labels.values() if label is not None and label not in taxa})
    if unknown:
        named = ", ".join(f"{label!r}" for label in unknown[:_NAMED])
        raise ProjectError(
            f"{path}: the project knows no {named}{', …' if len(unknown) > _NAMED else ''}; "
            f"{suggestion(unknown[0], taxa)}. Nothing was imported"
        )
