"""The embeddings of a project's samples in; labels to be doubted, on a page and in a CSV file, out.

It ranks doubts and outliers and writes the page and the CSV file for a person; what that person decides is read by
`reviews` at the next build. It changes no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from carspotter.errors import ProjectError
from carspotter.labels.doubts_page import Review, decided_rows, write_csv, write_page
from carspotter.labels.noise import Doubts, find_doubts, out_of_fold
from carspotter.labels.outliers import find_outliers
from carspotter.project.build import Build
from carspotter.project.products import class_taxa, embedded
from carspotter.project.reviews import REVIEWED, all_decisions
from carspotter.recognition.fusion import fuse
from carspotter.recognition.probes import fit_probe
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.thumbnails import thumbnail_of

Row = dict[str, Any]

STRENGTH = 0.1
"""L2 penalty of the probe that judges labels: a stronger one follows wrong labels less (docs/doubts.md)."""
LEAST_PHOTOS = 20


def find(build: Build) -> Mapping[str, Any]:
    """Rank the labels that other photos of the project speak against, and write them for review.

    Every photo is judged by a probe that did not learn from its ad. Raises ProjectError for too few samples.
    """
    samples = build.catalog.columns(f"{embedded(build)} ORDER BY s.photo_id")
    names = sorted({str(name) for name in samples["class_name"]})
    if len(names) < 2 or len(samples["photo_id"]) < LEAST_PHOTOS:
        raise ProjectError(
            f"{build.project.folder}: {len(samples['photo_id'])} samples of {len(names)} classes; doubts need two "
            f"classes and {LEAST_PHOTOS} samples: build the project first"
        )
    number = {name: index for index, name in enumerate(names)}
    classes = np.array([number[str(name)] for name in samples["class_name"]], np.int64)
    x, ads = np.asarray(samples["embedding"], np.float32), np.asarray(samples["ad_id"], dtype=str)
    build.watch.advance(0, 3)
    probabilities = out_of_fold(x, classes, ads, len(names), fit=_fit)
    build.watch.advance(1, 3)
    taxa = class_taxa(build)
    together = partial(fuse, taxonomy=Taxonomy(tuple(taxa[name] for name in names)))
    doubts = find_doubts(probabilities, classes, names, ads=ads, fuse=together)
    reviews = [*_label_reviews(doubts, samples, taxa), *_outlier_reviews(x, classes, samples)]
    build.watch.advance(2, 3)
    return _write(build, reviews, doubts)


def _fit(x: Any, y: Any, n_classes: int) -> Any:
    return fit_probe(x, y, n_classes, strength=STRENGTH).logits


def _label_reviews(doubts: Doubts, samples: Mapping[str, Any], taxa: Mapping[str, Taxon]) -> list[Review]:
    """Return the flagged ads, each shown by one of its photos: a seller is wrong about the ad, not about a photo."""
    assert doubts.ads is not None
    first: dict[str, str] = {}
    for photo, ad in zip(samples["photo_id"], samples["ad_id"], strict=True):
        first.setdefault(str(ad), str(photo))
    return [
        Review(
            photo_id=first[row["ad_id"]], ad_id=row["ad_id"], is_ad=True, given=row["given"], score=row["quality"],
            suggested=taxa.get(row["suggested"]), given_probability=row["given_probability"],
            suggested_probability=row["suggested_probability"],
        )
        for row in doubts.ads.rows()
        if row["flagged"]
    ]  # fmt: skip


def _outlier_reviews(x: Any, classes: Any, samples: Mapping[str, Any]) -> list[Review]:
    found = find_outliers(x, classes)
    return [
        Review(
            photo_id=str(samples["photo_id"][position]), ad_id=str(samples["ad_id"][position]),
            given=str(samples["class_name"][position]), score=float(score), why=str(reason),
        )
        for position, score, reason, flagged in zip(
            found.position, found.score, found.reason, found.flagged, strict=True
        )
        if flagged
    ]  # fmt: skip


def _write(build: Build, reviews: Sequence[Review], doubts: Doubts) -> Mapping[str, Any]:
    folder = build.project.labels
    open_ = all_decisions(folder).pending(reviews)
    page = folder / "doubts.html"
    write_csv(folder / "doubts.csv", open_)
    files = {
        row["photo_id"]: row
        for row in build.catalog.rows(
            "SELECT f.photo_id, f.path, v.x1, v.y1, v.x2, v.y2 FROM files f LEFT JOIN findings v USING (photo_id) "
            "SEMI JOIN samples s ON s.photo_id = f.photo_id"
        )
    }
    write_page(
        page, open_, title=build.project.settings.name or build.project.folder.name,
        thumbnail=partial(_picture, build, files), pairs=doubts.pair_rows(), judged=len(doubts),
        decided=decided_rows(folder / REVIEWED),
    )  # fmt: skip
    build.watch.advance(3, 3)
    n_ads = sum(review.is_ad for review in open_)
    said = f"{n_ads} ads with a doubtful label, {len(open_) - n_ads} outliers; look at {page}"
    return {"ads": n_ads, "outliers": len(open_) - n_ads, "reviewed": len(reviews) - len(open_), "text": said}


def _picture(build: Build, files: Mapping[str, Row], photo_id: str) -> str | None:
    return thumbnail_of(build.project.folder, files.get(photo_id, {}))
