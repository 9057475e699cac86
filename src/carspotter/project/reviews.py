"""What people decided of photos in; rows of the table `reviews` out, which stand above labels.

They decide in `labels/reviewed.csv`, or in a review, which appends to `labels/decisions.jsonl`; the review wins.

The label of a photo is that of its ad, unless a person said something else of the photo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK
from carspotter.labels.decided_words import write_decided_words
from carspotter.labels.decisions import DECISIONS, RELABEL, DecisionStore, Entry
from carspotter.labels.doubts_page import Action, Decision, Decisions, read_decisions

Row = dict[str, Any]

REVIEWED = "reviewed.csv"
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


def reviewed(catalog: Catalog, decisions: Decisions) -> list[Row]:
    """Return a row of the table `reviews` for each photo of which something was decided, by itself or with its ad."""
    if not len(decisions):
        return []
    rows = []
    for photo in catalog.rows("SELECT photo_id, ad_id FROM listing_photos ORDER BY photo_id"):
        decision = decisions.find(photo["photo_id"], photo["ad_id"])
        if decision is None or decision.action == "keep":
            continue
        row: Row = {"photo_id": photo["photo_id"], "said_by": decision.said_by, "status": OK}
        if decision.action == "relabel" and decision.becomes is not None:
            taxon = decision.becomes
            parts = {"make": taxon.make, "model": taxon.model, "generation": taxon.generation, "year": taxon.year}
            row |= {"name": taxon.name()} | {name: value for name, value in parts.items() if value is not None}
        else:
            row |= {"status": DROPPED, "message": "a person said that it shows no vehicle of its class"}
        rows.append(row)
    return rows


def all_decisions(labels: Path) -> Decisions:
    """Return what was decided of classes in both files of a folder; raises LabelError that names file and line."""
    written = read_decisions(labels / REVIEWED)
    photos, ads = dict(written.of_photos), dict(written.of_ads)
    for entry in DecisionStore(labels / DECISIONS).settled("class").values():
        decision = _decision(entry)
        if decision.photo_id is not None:
            photos[decision.photo_id] = decision
        elif decision.ad_id is not None:
            ads[decision.ad_id] = decision
    return Decisions(of_photos=photos, of_ads=ads)


def _decision(entry: Entry) -> Decision:
    # A label that nobody can judge from its photo stays as it is, and is not asked again: what `keep` does.
    actions: dict[str, Action] = {"keep": "keep", RELABEL: "relabel", "drop": "drop", "undecidable": "keep"}
    return Decision(
        action=actions[entry.says], photo_id=entry.photo_id, ad_id=None if entry.photo_id else entry.ad_id,
        becomes=entry.becomes, said_by=entry.by, where=DECISIONS,
    )  # fmt: skip


def settle_words(labels: Path) -> None:
    """Write what a review decided of words into `words.csv`, where a killed one left it undone."""
    write_decided_words(labels / "words.csv", DecisionStore(labels / DECISIONS).settled("words").values())


def decision_texts(labels: Path) -> list[str]:
    """Return all that `resolve` depends on in the files of a folder: where it changed, the step is done anew."""
    files = [path for path in (labels / "words.csv", labels / REVIEWED) if path.exists()]
    texts = [path.read_text(encoding="utf-8-sig", errors="replace") for path in files]
    settled = DecisionStore(labels / DECISIONS).settled("class").values()
    said = sorted(json.dumps(entry.to_dict(), sort_keys=True) for entry in settled)
    return [*texts, *([" ".join(said)] if said else [])]
