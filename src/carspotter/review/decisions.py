"""What people decide in a review, one JSON line each in `labels/decisions.jsonl`: appended at once, never changed.

    {"id": "5f0c…", "at": "2025-03-01T09:30:12Z", "by": "Ann", "task": "kind", "photo": "4711/9f2c", "says": "detail"}
    {"takes_back": "5f0c…", "at": "…", "by": "Ann"}

A line is on the disk before `append` returns, several processes may append to one file, and a line that a crash tore
is passed over. It applies nothing: `review.apply` and `finder-rows` do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

from carspotter.errors import LabelError, StorageError, TaxonomyError, suggestion
from carspotter.labels.corrections import Words, words_key
from carspotter.records import KINDS, UNKNOWN_VIEWPOINT, VIEWPOINTS
from carspotter.storage_errors import refusal
from carspotter.taxonomy import Taxon

DECISIONS = "decisions.jsonl"

Task = Literal["kind", "viewpoint", "class", "words"]
TASKS: tuple[Task, ...] = get_args(Task)

RELABEL = "relabel"
NO_VEHICLE_WORDS = "nothing"
UNDECIDABLE = "undecidable"
SAYS: Mapping[Task, tuple[str, ...]] = {
    "kind": KINDS,
    "viewpoint": (*VIEWPOINTS, UNKNOWN_VIEWPOINT),
    "class": ("keep", RELABEL, "drop", UNDECIDABLE),
    "words": (RELABEL, NO_VEHICLE_WORDS),
}
"""What may be said in each task. `relabel` comes with the taxon that it becomes, `undecidable` leaves a label alone."""

MAX_NAME = 80
"""Characters of a person's name, and more than any needs."""
_ID = re.compile(r"[0-9a-f-]{8,40}")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Target = tuple[str, ...]
"""What a decision is about: task and photo, task and ad, or words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision: of a photo, of a whole ad (then `photo_id` is None), or of words.

    `given` is the label that was on the screen; `shown` says that what the machine says was there too. Raises
    LabelError for what may not be said.
    """

    task: Task
    says: str
    by: str
    photo_id: str | None = None
    ad_id: str | None = None
    words: Words | None = None
    becomes: Taxon | None = None
    given: str | None = None
    shown: bool = False
    id: str = field(default_factory=lambda: uuid4().hex)
    at: str = field(default_factory=lambda: now())

    def __post_init__(self) -> None:
        if self.task not in SAYS:
            raise LabelError(f"decision: task {self.task!r}; {suggestion(str(self.task), TASKS)}")
        if self.says not in SAYS[self.task]:
            raise LabelError(f"decision: {self.task} {self.says!r}; {suggestion(str(self.says), SAYS[self.task])}")
        if not _ID.fullmatch(self.id):
            raise LabelError(f"decision: id {self.id!r}; it must be 8 to 40 of the letters 0-9, a-f and -")
        check_person(self.by)
        about = [self.words] if self.task == "words" else [self.photo_id, self.ad_id]
        if not any(about):
            needed = "words" if self.task == "words" else "a photo or an ad"
            raise LabelError(f"decision: {self.task} of nothing; it needs {needed}")
        if (self.says == RELABEL) != (self.becomes is not None):
            raise LabelError(f"decision: {self.says} with taxon {self.becomes}; relabel needs one, others take none")
        if self.task == "words" and self.becomes is not None and self.becomes.model is None:
            raise LabelError(f"decision: words become {self.becomes.make!r}; make and model must be given")

    @property
    def target(self) -> Target:
        """Return what it is about; two decisions about one target are about the same."""
        if self.words is not None:
            return (self.task, *words_key(self.words))
        return (self.task, "photo", self.photo_id) if self.photo_id else (self.task, "ad", self.ad_id or "")

    @property
    def said(self) -> str:
        """Return what was said in words that compare: of a class the name that the label has after it."""
        if self.becomes is not None:
            return self.becomes.name()
        return self.given if self.given and self.says == "keep" else self.says

    def to_dict(self) -> dict[str, Any]:
        """Return the line as JSON values."""
        taxon = None if self.becomes is None else self.becomes.to_dict()
        content = {
            "id": self.id,
            "at": self.at,
            "by": self.by,
            "task": self.task,
            "photo": self.photo_id,
            "ad": self.ad_id,
            "words": None if self.words is None else list(self.words),
            "says": self.says,
            "becomes": taxon,
            "given": self.given,
            "shown": self.shown or None,
        }
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Decision:
        """Read what `to_dict` wrote; keys that it does not know are passed over. Raises LabelError."""
        texts = {name: content.get(name) for name in ("task", "says", "by", "photo", "ad", "given", "id", "at")}
        for name, value in texts.items():
            if not isinstance(value, str) and not (value is None and name in ("photo", "ad", "given")):
                raise LabelError(f"decision: {name} is {value!r}; it must be a text")
        return cls(
            task=content["task"],
            says=content["says"],
            by=content["by"],
            id=content["id"],
            at=content["at"],
            photo_id=content.get("photo"),
            ad_id=content.get("ad"),
            given=content.get("given"),
            shown=content.get("shown") is True,
            words=_words(content.get("words")),
            becomes=_taxon(content.get("becomes")),
        )


def check_person(name: object) -> str:
    """Return a person's name; raises LabelError unless it is a line of 1 to 80 characters."""
    if not isinstance(name, str) or not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise LabelError(f"person {name!r}: a name is one line of 1 to {MAX_NAME} characters")
    return name


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class DecisionStore:
    """The file of decisions: append to it, take back, and ask what holds. Threads may share one.

    Lines that other processes append are seen by the next question. Raises LabelError for a line that is JSON but no
    decision, StorageError when the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is made by the first decision."""
        self.path = Path(path)
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._taken_back: set[str] = set()
        self._read = self._line = 0

    def append(self, decision: Decision) -> None:
        """Write a decision to the disk; one whose id is known already was sent twice and changes nothing."""
        with self._lock:
            self._catch_up()
            if decision.id not in self._decisions:
                self._write(decision.to_dict())

    def take_back(self, entry_id: str, *, by: str) -> Decision:
        """Undo a decision of this person and return it; raises LabelError where there is no such one."""
        with self._lock:
            self._catch_up()
            decision = self._decisions.get(entry_id)
            if decision is None or decision.by != by:
                raise LabelError(f"decision {entry_id!r}: {by} made none of this id")
            if entry_id not in self._taken_back:
                self._write({"takes_back": entry_id, "at": now(), "by": by})
            return decision

    def decisions(self, task: Task | None = None, *, by: str | None = None, taken_back: bool = False) -> list[Decision]:
        """Return the decisions, oldest first; of one task or person where it is named.

        Those that were taken back are left out unless `taken_back`.
        """
        with self._lock:
            self._catch_up()
            gone = set() if taken_back else self._taken_back
            return [
                each
                for each in self._decisions.values()
                if each.id not in gone and task in (None, each.task) and by in (None, each.by)
            ]

    def settled(self, task: Task) -> dict[Target, Decision]:
        """Return the decision that holds of each target: what most people said, in a tie the newest.

        A person's newest word counts, as it does in `votes`. "undecidable" is a word only where nobody could tell.
        """
        said = self.decisions(task)
        told = [decision for decision in said if decision.says != UNDECIDABLE]
        return {target: _most(list(of.values())) for part in (said, told) for target, of in votes(part).items()}

    def _write(self, content: Mapping[str, Any]) -> None:
        line = _encode(content)
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, line)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {refusal(error)}; the decision was not saved"
            ) from error
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what was appended since the last time, up to the last whole line.

        A last line without an end counts where it is all there: an editor may have left the end out. It is read again
        next time, which its id makes harmless.
        """
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            if size < self._read:  # another file took its place
                self._forget()
            if size == self._read:
                return
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}") from error
        lines = data.split(b"\n")
        for number, line in enumerate(lines, self._line + 1):
            self._take(line, number)
        self._read += data.rfind(b"\n") + 1
        self._line += len(lines) - 1

    def _take(self, line: bytes, number: int) -> None:
        try:
            content = json.loads(line) if line.strip() else None
        except ValueError:  # a crash tore the line; nobody was promised that it is saved
            content = None
        if content is None:
            return
        try:
            if not isinstance(content, dict):
                raise LabelError(f"decision: {str(content)[:40]!r} is no JSON object")
            if "takes_back" in content:
                self._taken_back.add(str(content["takes_back"]))
                return
            decision = Decision.from_dict(content)
        except (LabelError, TaxonomyError) as error:
            raise LabelError(f"{self.path} line {number}: {error}; remove or mend the line") from error
        self._decisions.setdefault(decision.id, decision)


def votes(decisions: Iterable[Decision]) -> dict[Target, dict[str, Decision]]:
    """Return for each target the newest decision of each person; `decisions` come oldest first."""
    found: dict[Target, dict[str, Decision]] = {}
    for decision in decisions:
        people = found.setdefault(decision.target, {})
        people.pop(decision.by, None)  # so that the order of people is that of their newest word
        people[decision.by] = decision
    return found


def _most(decisions: list[Decision]) -> Decision:
    count = Counter(decision.said for decision in decisions)
    return max(enumerate(decisions), key=lambda numbered: (count[numbered[1].said], numbered[0]))[1]


def _encode(content: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(content, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # an id made of a file name that is no UTF-8
        return (json.dumps(content) + "\n").encode()


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write and wait until it is on the disk."""
    is_new = not path.exists()
    file = os.open(path, _APPEND, 0o666)
    try:
        # A torn line, left by a full disk or a power failure, is ended first: ours must not become a part of it.
        # A line that another process is writing may look torn, too; then an empty line stands between the two.
        whole = (b"" if _ends_line(path) else b"\n") + line
        if os.write(file, whole) != len(whole):
            raise OSError(28, "No space left on device")
        os.fsync(file)
    finally:
        os.close(file)
    if is_new and hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _words(value: Any) -> Words | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(word is None or isinstance(word, str) for word in value)
    ):
        raise LabelError(f"decision: words are {value!r}; they must be make, model and submodel, each a text or null")
    return value[0], value[1], value[2]


def _taxon(value: Any) -> Taxon | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise LabelError(f"decision: becomes is {value!r}; it must be an object with make, and model as far as known")
    try:
        return Taxon.from_dict(value)
    except TaxonomyError as error:
        raise LabelError(f"decision: becomes: {error}") from error
