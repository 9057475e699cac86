"""Read a project's decisions, and import the rows of a `labels/reviewed.csv` into them once.

Older versions kept decisions in that file, and `labels/doubts.csv` may still be filled in with a spreadsheet and saved
under that name. Where a project is opened for a build or a review, each row becomes a decision and the file is renamed
to `reviewed.csv.imported`. What somebody decided in a review stands above a row, which is then reported and left out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from carspotter.csv_rows import read_text, set_aside, set_filled_aside
from carspotter.errors import LabelError, suggestion
from carspotter.labels.corrections import rows_of, taxon_of
from carspotter.labels.doubts import COLUMNS, NEEDED
from carspotter.labels.known import Known
from carspotter.review.decisions import DECISIONS, RELABEL, UNDECIDABLE, Decision, DecisionStore, Target, votes

log = logging.getLogger("carspotter.review")

REVIEWED = "reviewed.csv"
ACTIONS = ("keep", RELABEL, "drop")
_ID = "c5f-"
"""How the id of an imported decision begins: a later file may decide otherwise, except against a review."""


def open_decisions(labels: Path) -> DecisionStore:
    """Open the decisions of a project's folder `labels`, a `reviewed.csv` beside them imported.

    Raises LabelError that names file and line, and then imports nothing; StorageError where it cannot be written.
    """
    store, path = DecisionStore(labels / DECISIONS), labels / REVIEWED
    if path.exists():
        _import(path, store)
    return store


def _import(path: Path, store: DecisionStore) -> None:
    fresh, differing = read_reviewed(path), []
    said = votes(each for each in store.decisions("class") if each.says != UNDECIDABLE)
    for target, decision in fresh.items():
        known = said.get(target, {})
        reviewed = [each for each in known.values() if not each.id.startswith(_ID)]
        if reviewed:  # a review stands above the file
            differing += [target[-1]] * (decision.said not in {each.said for each in reviewed})
        elif decision.by not in known or known[decision.by].said != decision.said:
            store.append(decision)
    kept = set_aside(path, "imported")
    if differing:
        log.warning(
            "%s: %d rows say otherwise than a review did, which holds: %s; decide them again with carspotter review",
            kept,
            len(differing),
            ", ".join(differing[:5]),
        )


def keep_filled(path: Path, store: DecisionStore) -> list[str]:
    """Set a `doubts.csv` aside in which somebody decided what the store does not hold; return warnings.

    It was saved in its place and not as `reviewed.csv`, and another is about to be written there. Raises StorageError.
    """
    if not path.exists():
        return []
    held = {(each.target, each.says, each.becomes) for each in store.decisions("class", taken_back=True)}
    try:
        said = {(target, each.says, each.becomes) for target, each in read_reviewed(path).items()}
    except LabelError:  # somebody worked in it, whatever is wrong
        return [set_filled_aside(path, belongs=REVIEWED)]
    return [] if said <= held else [set_filled_aside(path, belongs=REVIEWED)]


def read_reviewed(path: Path) -> dict[Target, Decision]:
    """Read a reviewed file, with commas or semicolons; rows in which nothing is decided are passed over.

    Raises LabelError that names file and line.
    """
    text = read_text(path, error=LabelError)
    try:
        stamp = path.stat().st_mtime
    except OSError as error:  # another process has imported it meanwhile
        raise LabelError(f"{path} cannot be read: {error}") from error
    names = Known.bundled()
    found: dict[Target, tuple[int, Decision]] = {}
    for number, row in rows_of(text, str(path), needed=NEEDED, known=COLUMNS):
        if not row["decision"]:
            continue
        where = f"{path} line {number}"
        decision = _decision(row, where, stamp, names)
        first, known = found.setdefault(decision.target, (number, decision))
        if (known.says, known.becomes) != (decision.says, decision.becomes):
            raise LabelError(f"{where}: {decision.target[-1]} was decided otherwise in line {first}; keep one line")
    return {target: decision for target, (_, decision) in found.items()}


def _decision(row: Mapping[str, str], where: str, stamp: float, names: Known) -> Decision:
    says = row["decision"].lower()
    if says not in ACTIONS:
        raise LabelError(f"{where}: decision is {row['decision']!r}; {suggestion(says, ACTIONS)}")
    if not row["photo_id"] and not row["ad_id"]:
        raise LabelError(f"{where}: photo_id and ad_id are empty; one of them must say what was decided of")
    becomes = taxon_of(row, where) if says == RELABEL else None
    if becomes is None and says == RELABEL:
        raise LabelError(f"{where}: relabel needs becomes_make, and becomes_model as far as known; or write drop")
    becomes = becomes and names.spelled(becomes)
    if becomes is not None and becomes.name() == row.get("given"):
        raise LabelError(f"{where}: {becomes.name()!r} is relabelled as itself; write keep, or another class")
    # The same row of the same file has the same id: a second reading, after a crash or beside another process, adds
    # nothing.
    content = repr((stamp, row["photo_id"], row["ad_id"], says, becomes))
    try:
        return Decision(
            task="class",
            says=says,
            becomes=becomes,
            photo_id=row["photo_id"] or None,
            ad_id=row["ad_id"] or None,
            given=row.get("given") or None,
            by=row.get("said_by") or REVIEWED,
            id=_ID + hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:32],
            at=datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
    except LabelError as error:  # not a possible name
        raise LabelError(f"{where}: {error}") from error
