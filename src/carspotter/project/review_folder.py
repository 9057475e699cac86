"""A desk for a plain folder of photos, without a project: the same decisions, beside the photos in `decisions.jsonl`.

Only kind and viewpoint can be asked, since nothing is known of the photos. A photo's id is its path below the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.errors import LabelError, ProjectError
from carspotter.labels.decisions import DECISIONS, DecisionStore, Entry, Task, check_person
from carspotter.labels.decisions import now as time_now
from carspotter.project.review_desk import BATCH, Work
from carspotter.project.review_queue import Item, Wish
from carspotter.thumbnails import screen_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp")
_TASKS: tuple[Task, ...] = ("kind", "viewpoint")


class FolderDesk:
    """Give one person the photos of a folder to decide about, in an order that the seed says."""

    def __init__(self, folder: str | Path, *, person: str, seed: int = 0) -> None:
        """List the photos, at any depth; raises ProjectError where there is none, LabelError for a wrong name."""
        self.folder, self.person = Path(folder), check_person(person)
        if not self.folder.is_dir():
            raise ProjectError(f"{folder} is no folder; name a project, or a folder of photos")
        names = [Path(name).relative_to(self.folder).as_posix() for name in storage.list_files(self.folder, SUFFIXES)]
        if not names:
            raise ProjectError(f"{folder} holds no photo; allowed are {', '.join(SUFFIXES)}")
        self._names = dict.fromkeys(sorted(names, key=lambda name: _place(seed, name)))
        self.store = DecisionStore(self.folder / DECISIONS)

    def wish(self, queue: str, task: str | None = None) -> Wish:
        """Name a queue; raises ProjectError for one that a folder does not have."""
        wish = Wish(queue=queue, task=task)  # type: ignore[arg-type]  # it checks
        if wish.asks not in _TASKS:
            raise ProjectError(f"a folder can be asked for {', '.join(_TASKS)}, not {wish.asks}; make a project of it")
        return wish

    def work(self, wish: Wish, *, limit: int = BATCH) -> Work:
        """Return the next photos of which nobody decided this."""
        decided = {entry.thing for entry in self.store.entries(wish.asks)}
        items = [Item(task=wish.asks, photo_id=name) for name in self._names]
        open_ = [item for item in items if item.thing not in decided]
        said = self.store.entries(wish.asks, by=self.person)[-BATCH:]
        return Work(items=tuple(open_[:limit]), total=len(items), done=len(items) - len(open_), last=tuple(said))

    def decide(self, content: Mapping[str, Any]) -> Entry:
        """Put a decision on the disk and return it; see `ReviewDesk.decide`."""
        entry = Entry.from_dict({**content, "by": self.person, "at": time_now(), "given": None})
        if entry.task not in _TASKS or entry.photo_id not in self._names:
            raise LabelError(f"{entry.task} of {entry.photo_id!r}: this folder has no such photo")
        self.store.append(entry)
        return entry

    def undo(self, entry_id: str) -> tuple[Entry, Item]:
        """Take a decision of this person back; return it, and what it was about."""
        entry = self.store.take_back(entry_id, by=self.person)
        return entry, Item(task=entry.task, photo_id=entry.photo_id)

    def picture(self, photo_id: str) -> bytes:
        """Return a photo of the folder as a JPEG for the screen; see `ReviewDesk.picture`."""
        if photo_id not in self._names:
            raise LabelError(f"photo {photo_id!r} is not in {self.folder}")
        return screen_picture(storage.read(self.folder / photo_id))

    def taxa(self) -> list[dict[str, Any]]:
        """Return nothing: a folder has no classes."""
        return []

    def close(self) -> None:
        """Let nothing go."""


def _place(seed: int, name: str) -> str:
    return hashlib.md5(f"{seed}:{name}".encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
