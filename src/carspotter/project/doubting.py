"""The embeddings of a project's samples in; labels to be doubted out, in `labels/doubts.csv`.

It ranks doubts and outliers for a person, who decides them in `carspotter review --queue doubts`. It changes no label.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from carspotter.errors import ProjectError, typed
from carspotter.labels.doubts import LABEL, Doubt, write_doubts
from carspotter.labels.noise import Doubts, find_doubts, out_of_fold
from carspotter.labels.outliers import find_outliers
from carspotter.project.build import Build
from carspotter.project.classes import class_taxa
from carspotter.project.intake import warned
from carspotter.project.learn import embedded
from carspotter.recognition.fusion import fuse
from carspotter.recognition.probes import fit_probe
from carspotter.review.apply import decided, decided_alone
from carspotter.review.decisions import DecisionStore
from carspotter.review.imported import keep_filled, open_decisions
from carspotter.taxonomy import Taxon, Taxonomy

STRENGTH = 0.1
"""L2 penalty of the probe that judges labels: a stronger one follows wrong labels less (docs/labels.md)."""
LEAST_PHOTOS = 20
PAIRS = 50
"""Pairs of mixed-up classes that are told, the surest first."""


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
    store = open_decisions(build.project.labels)
    of_labels = _doubtful_labels(doubts, samples, taxa, decided_alone(store))
    asked = {each.photo_id for each in of_labels if not each.is_ad}
    found = [*of_labels, *(each for each in _outliers(x, classes, samples) if each.photo_id not in asked)]
    build.watch.advance(2, 3)
    return _write(build, found, doubts, store)


def _fit(x: Any, y: Any, n_classes: int) -> Any:
    return fit_probe(x, y, n_classes, strength=STRENGTH).logits


def _doubtful_labels(
    doubts: Doubts, samples: Mapping[str, Any], taxa: Mapping[str, Taxon], alone: Collection[str]
) -> list[Doubt]:
    """Return the flagged labels, each shown by a photo that has it.

    A seller is wrong about the ad, not about a photo: so the whole ad is asked about, but where somebody gave a photo
    of it a label of its own. Those photos are in `alone`; they speak of themselves.
    """
    assert doubts.ads is not None
    first: dict[tuple[str, str], str] = {}
    of_ad: dict[str, str] = {}
    columns = (map(str, samples[name]) for name in ("photo_id", "ad_id", "class_name"))
    for photo, ad, name in sorted(zip(*columns, strict=True), key=lambda row: row[0] in alone):
        first.setdefault((ad, name), photo)
        if photo not in alone:
            of_ad.setdefault(ad, name)
    return [
        Doubt(
            photo_id=first[row["ad_id"], row["given"]],
            ad_id=row["ad_id"],
            is_ad=of_ad.get(row["ad_id"]) == row["given"],
            given=row["given"],
            score=row["quality"],
            suggested=taxa.get(row["suggested"]),
            given_probability=row["given_probability"],
            suggested_probability=row["suggested_probability"],
        )
        for row in doubts.ads.rows()
        if row["flagged"]
    ]


def _outliers(x: Any, classes: Any, samples: Mapping[str, Any]) -> list[Doubt]:
    found = find_outliers(x, classes)
    return [
        Doubt(
            photo_id=str(samples["photo_id"][position]),
            ad_id=str(samples["ad_id"][position]),
            given=str(samples["class_name"][position]),
            score=float(score),
            why=str(reason),
        )
        for position, score, reason, flagged in zip(
            found.position, found.score, found.reason, found.flagged, strict=True
        )
        if flagged
    ]


def _write(build: Build, found: Sequence[Doubt], doubts: Doubts, store: DecisionStore) -> Mapping[str, Any]:
    folder, settled = build.project.labels, store.settled("class")
    open_ = [each for each in found if decided(settled, None if each.is_ad else each.photo_id, each.ad_id) is None]
    warnings = keep_filled(folder / "doubts.csv", store)
    write_doubts(folder / "doubts.csv", open_)
    build.watch.advance(3, 3)
    of_labels = [doubt for doubt in open_ if doubt.why == LABEL]
    n_ads = len({doubt.ad_id for doubt in of_labels})
    n_outliers = len(open_) - len(of_labels)
    pairs = list(doubts.pair_rows())[:PAIRS]
    stats = f"{n_ads} ads with a doubtful label, {n_outliers} outliers"
    if pairs:
        stats += "; mixed up by sellers: " + ", ".join(_in_words(pair) for pair in pairs[:3])
    if open_:
        stats += f"; next: carspotter review {typed(build.project.folder)} --queue doubts"
    counts = {"ads": n_ads, "outliers": n_outliers, "reviewed": len(found) - len(open_)}
    return {**counts, "pairs": pairs, "text": stats, **warned(warnings)}


def _in_words(pair: Mapping[str, Any]) -> str:
    return f"{pair['true']} listed as {pair['given']} ({pair['share']:.0%}, {pair['low']:.0%} to {pair['high']:.0%})"
