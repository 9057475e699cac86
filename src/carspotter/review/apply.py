"""Turn what people decided of labels and words into rows of `reviews` and corrections for the next build.

The label of a photo is that of its ad, unless a person said something else of the photo. Of words, the row that a
person wrote into `labels/words.csv` holds, then what a review decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.labels.corrections import Corrections, words_key
from carspotter.review.decisions import RELABEL, UNDECIDABLE, Decision, DecisionStore, Target

Row = dict[str, Any]

WORDS_FILE = "words.csv"
DROPPED = "dropped"

PHOTO_LABELS = """SELECT p.photo_id, CASE WHEN r.photo_id IS NULL THEN w.status ELSE r.status END AS status,
CASE WHEN r.name IS NULL THEN w.name ELSE r.name END AS name,
CASE WHEN r.name IS NULL THEN w.make ELSE r.make END AS make,
CASE WHEN r.name IS NULL THEN w.model ELSE r.model END AS model,
CASE WHEN r.name IS NULL THEN w.generation ELSE r.generation END AS generation,
CASE WHEN r.name IS NULL THEN w.year ELSE r.year END AS year,
CASE WHEN r.photo_id IS NULL THEN w.said_by ELSE r.said_by END AS said_by
FROM listing_photos p LEFT JOIN labels w ON w.ad_id = p.ad_id LEFT JOIN reviews r ON r.photo_id = p.photo_id"""
"""The label of each photo: that of its ad, unless a person said something else of the photo."""


def decided(settled: Mapping[Target, Decision], photo_id: str | None, ad_id: str | None) -> Decision | None:
    """Return what was decided of a photo's class, else of its ad's; without a photo, of the ad alone."""
    of_photo = settled.get(("class", "photo", photo_id)) if photo_id else None
    return of_photo or settled.get(("class", "ad", ad_id or ""))


def decided_alone(store: DecisionStore) -> set[str]:
    """Return the photos whose class was ever decided apart from their ad: what they are called, the ad may not be."""
    said = store.decisions("class", taken_back=True)
    return {each.photo_id for each in said if each.photo_id and each.says != UNDECIDABLE}


def review_rows(catalog: Catalog, store: DecisionStore) -> list[Row]:
    """Return a row of the table `reviews` for each photo whose label a decision changes, its own or its ad's."""
    # A label that nobody can judge from its photo stays as it is, be it what was decided of its ad.
    settled = {target: each for target, each in store.settled("class").items() if each.says != UNDECIDABLE}
    if not settled:
        return []
    rows = []
    for photo in catalog.rows("SELECT photo_id, ad_id FROM listing_photos ORDER BY photo_id"):
        decision = decided(settled, photo["photo_id"], photo["ad_id"])
        if decision is None or decision.says == "keep":
            continue
        row: Row = {"photo_id": photo["photo_id"], "said_by": decision.by, "status": OK}
        if decision.says == RELABEL and decision.becomes is not None:
            row |= {"name": decision.becomes.name(), **decision.becomes.to_dict()}
        else:
            row |= {"status": DROPPED, "message": "a person said that it shows no vehicle of its class"}
        rows.append(row)
    return rows


def written_words(labels: Path, store: DecisionStore) -> Corrections:
    """Return what `labels/words.csv` says. Raises LabelError that names file and line.

    A row that an older version copied from a review is passed over where the store knows a decision of its words, be
    it one that was taken back.
    """
    written = Corrections.read(labels / WORDS_FILE)
    known = {words_key(each.words) for each in store.decisions("words", taken_back=True) if each.words is not None}
    return Corrections({key: taxon for key, taxon in written.taxa.items() if key not in written.copied & known})


def corrections(labels: Path, store: DecisionStore) -> Corrections:
    """Return what people said that words mean, in the file and in reviews; the file's rows win."""
    said = {words_key(each.words): each.becomes for each in store.settled("words").values() if each.words is not None}
    taxa = {key: taxon for key, taxon in said.items() if taxon is not None and any(key)}
    return Corrections({**taxa, **written_words(labels, store).taxa})


def decision_texts(labels: Path, store: DecisionStore) -> list[str]:
    """Return the part of people's decisions that `resolve` depends on: where it changed, the step is done again."""
    words = labels / WORDS_FILE
    texts = [words.read_text(encoding="utf-8-sig", errors="replace")] if words.exists() else []
    settled = [*store.settled("class").values(), *store.settled("words").values()]
    said = sorted(json.dumps(decision.to_dict(), sort_keys=True) for decision in settled)
    return [*texts, *([" ".join(said)] if said else [])]
