"""What people decided about sellers' words in a review, written into `labels/words.csv` beside what stands there.

Rows that a person wrote by hand stay and win. Rows that a review wrote are known by their note and are made anew from
the decisions each time, so that a decision that was taken back disappears and a killed review leaves nothing undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carspotter import storage
from carspotter.errors import LabelError
from carspotter.labels.corrections import BECOMES, NOTES, WORDS, rows_of, to_csv, words_key
from carspotter.labels.decisions import Entry

NOTE = "review: "
"""How the note of a row begins that a review wrote."""


def write_decided_words(path: Path, entries: Iterable[Entry]) -> bool:
    """Make the rows of a review in `words.csv` say what the entries say; return whether the file changed.

    Raises LabelError for a file that cannot be understood, StorageError when it cannot be written.
    """
    text = _text(path)
    columns = ["make", "model", "submodel"]
    rows: list[dict[str, str]] = []
    if text:
        needed, known = (*WORDS, *BECOMES[:2]), (*WORDS, *BECOMES, *NOTES)
        rows = [row for _, row in rows_of(text, str(path), needed=needed, known=known)]
        columns = list(rows[0]) if rows else columns
    by_hand = [row for row in rows if not row.get("message", "").startswith(NOTE)]
    taken = {words_key((row["make"], row["model"], row["submodel"])) for row in by_hand if row.get("becomes_make")}
    fresh = [row for entry in entries if (row := _row(entry, taken)) is not None]
    if not fresh and len(by_hand) == len(rows):
        return False
    columns += [name for name in (*WORDS, *BECOMES, *NOTES) if name not in columns]
    written = to_csv([*by_hand, *fresh], columns)
    if written == text:
        return False
    storage.write(path, written.encode("utf-8-sig"))
    return True


def _row(entry: Entry, taken: set[tuple[str, str, str]]) -> dict[str, str] | None:
    if entry.words is None or entry.becomes is None or words_key(entry.words) in taken:
        return None
    parts = entry.becomes.to_dict()
    becomes = {name: str(parts.get(name.removeprefix("becomes_"), "")) for name in BECOMES}
    said = {name: word or "" for name, word in zip(WORDS, entry.words, strict=True)}
    return {**said, **becomes, "ads": "", "message": f"{NOTE}{entry.by} {entry.at[:10]}"}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} cannot be read: {error}; save it as CSV in UTF-8") from error
