"""The desk at which one person reviews a project: what to decide next, pictures of it, and decisions in.

In: a project and a person's name. Out: items, pictures for a screen, decisions on the disk. It knows no web page and no
notebook: both show what it says.
"""

from __future__ import annotations

import contextlib
import getpass
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any

from carspotter import storage
from carspotter.catalog.lock import ProjectLock
from carspotter.errors import CatalogError, LabelError
from carspotter.labels.agreement import Agreement, measure_agreement
from carspotter.labels.decisions import (
    DECISIONS,
    RELABEL,
    TASKS,
    DecisionStore,
    Entry,
    Task,
    Thing,
    check_person,
    votes,
)
from carspotter.labels.decisions import now as time_now
from carspotter.labels.known import Known
from carspotter.project.folder import Project
from carspotter.project.review_queue import Item, Wish, find_photo, read_queue
from carspotter.project.reviews import settle_words
from carspotter.thumbnails import screen_picture

BATCH = 60
"""Items that are given out at a time: a minute or two of decisions."""


def user_name() -> str:
    """Return the name of the user, of one without any, as in a container, the number: "user-4321"."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # what is raised depends on the version of Python and on the system
        return f"user-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Hold the next items, how many the queue has, how many of those are decided, and by this person the last ones."""

    items: tuple[Item, ...]
    total: int
    done: int
    last: tuple[Entry, ...] = ()


class ReviewDesk:
    """Give one person things to decide, and take the decisions. Threads may share one; `close()` it, or use `with`."""

    def __init__(self, project: Project, *, person: str, count: int | None = None, seed: int = 0) -> None:
        """Open the project's catalogue; `count` and `seed` are of its queues. Raises LabelError, CatalogError."""
        self.project, self.person = project, check_person(person)
        self.store = DecisionStore(project.labels / DECISIONS)
        self._count, self._seed = count, seed
        self._catalog = project.catalog()
        self._lock = RLock()
        self._queues: dict[Wish, list[Item]] = {}
        self._items: dict[Thing, Item] = {}
        self._paths: dict[str, str] = {}

    def __enter__(self) -> ReviewDesk:
        """Return the desk."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the desk."""
        self.close()

    def close(self) -> None:
        """Let the catalogue go; decisions are on the disk already."""
        self._catalog.close()

    def wish(self, queue: str, task: str | None = None) -> Wish:
        """Name a queue; raises ProjectError for one that there is not."""
        return Wish(queue=queue, task=task, count=self._count, seed=self._seed)  # type: ignore[arg-type]  # it checks

    def work(self, wish: Wish, *, limit: int = BATCH, fresh: bool = False) -> Work:
        """Return the next items of a queue; `fresh` reads it anew from the catalogue.

        A random sample is everybody's: each person is asked for all of it, so that agreement can be measured. Of the
        other queues nobody is asked what somebody has decided.
        """
        items = self._queue(wish, fresh=fresh)
        mine = self.person if wish.queue == "random" else None
        decided = {entry.thing for entry in self.store.entries(wish.asks, by=mine)}
        open_ = [item for item in items if item.thing not in decided and (item.words is None or item.given is None)]
        said = self.store.entries(wish.asks, by=self.person)[-BATCH:]
        return Work(items=tuple(open_[:limit]), total=len(items), done=len(items) - len(open_), last=tuple(said))

    def _queue(self, wish: Wish, *, fresh: bool) -> list[Item]:
        with self._lock:
            if fresh or wish not in self._queues:
                kinds = self.store.settled("kind").values()
                exteriors = [entry.photo_id for entry in kinds if entry.photo_id and entry.says == "exterior"]
                items = read_queue(self._catalog, self.project.labels, wish, exteriors=exteriors)
                self._queues[wish] = items
                self._items |= {item.thing: item for item in items}
                self._paths |= {item.photo_id: item.path for item in items if item.photo_id and item.path}
            return self._queues[wish]

    def decide(self, content: Mapping[str, Any]) -> Entry:
        """Put a decision on the disk and return it; `content` is what `Entry.to_dict` writes, without who and when.

        To keep a label that a person gave is to give it again, or the photo would fall back to its ad's. Raises
        LabelError for what may not be said or a photo that the project does not have, StorageError when not saved.
        """
        entry = Entry.from_dict({**content, "by": self.person, "at": time_now(), "given": None})
        item = self.item(entry)
        if entry.task == "class":
            given = item.given
            entry = replace(
                entry, given=given.name() if given else None, ad_id=item.ad_id if entry.photo_id else entry.ad_id
            )
            if entry.says == "keep" and item.is_reviewed and given is not None:
                entry = replace(entry, says=RELABEL, becomes=given)
        self.store.append(entry)
        if entry.task == "words":
            self._settle_words()
        return entry

    def undo(self, entry_id: str) -> tuple[Entry, Item]:
        """Take a decision of this person back; return it, and what it was about. Raises LabelError, StorageError."""
        entry = self.store.take_back(entry_id, by=self.person)
        if entry.task == "words":
            self._settle_words()
        return entry, self.item(entry)

    def _settle_words(self) -> None:
        """Write what was decided of words into `words.csv`; while a build has the project, the next one does it."""
        with self._lock, contextlib.suppress(CatalogError):
            lock = ProjectLock(self.project.folder)
            try:
                settle_words(self.project.labels)
            finally:
                lock.release()

    def item(self, entry: Entry) -> Item:
        """Return what a decision is about; raises LabelError where the project does not have it."""
        with self._lock:
            item = self._items.get(entry.thing)
            if item is None and entry.words is not None:
                return Item(task="words", words=entry.words)
            if item is None:
                photo_id = entry.photo_id or self._a_photo(entry.ad_id or "")
                item = find_photo(self._catalog, photo_id, entry.task) if photo_id else None
                if item is None:
                    raise LabelError(
                        f"{entry.task} of {entry.photo_id or entry.ad_id!r}: this project has no such photo"
                    )
                item = replace(item, is_ad=entry.photo_id is None)
                self._items[item.thing] = item
                if item.photo_id and item.path:
                    self._paths[item.photo_id] = item.path
            return item

    def _a_photo(self, ad_id: str) -> str | None:
        sql = "SELECT p.photo_id FROM listing_photos p JOIN checks c USING (photo_id) WHERE p.ad_id = ? AND c.width > 0"
        rows = self._catalog.rows(f"{sql} ORDER BY p.position, p.photo_id LIMIT 1", ad_id)
        return rows[0]["photo_id"] if rows else None

    def picture(self, photo_id: str) -> bytes:
        """Return a photo of a queue as a JPEG for the screen, upright, without any metadata.

        Raises LabelError for one that is in no queue, ImageError or StorageError for one that cannot be read.
        """
        path = self._paths.get(photo_id)
        if path is None:
            raise LabelError(f"photo {photo_id!r} is in no queue of this review")
        return screen_picture(storage.read(self.project.folder / path))

    def taxa(self) -> list[dict[str, Any]]:
        """Return all that a label may become: the project's own taxa, of most ads first, then known models."""
        rows = self._catalog.rows(
            "SELECT make, model, generation, year, count(*) AS ads FROM labels WHERE status = 'ok' "
            "AND make IS NOT NULL GROUP BY ALL ORDER BY ALL"
        )
        counts: Counter[tuple[Any, ...]] = Counter()
        for row in rows:
            path = (row["make"], row["model"], row["generation"], row["year"])
            for depth in (1, 2, 3, 4):
                if depth == 1 or path[depth - 1] is not None:
                    counts[path[:depth] + (None,) * (4 - depth)] += row["ads"]
        known = [
            (make.name, model, None, None) for make in Known.bundled().makes.values() for model in make.models.values()
        ]
        own = sorted(counts, key=lambda path: (-counts[path], [str(part or "") for part in path]))
        names = ("make", "model", "generation", "year")
        return [
            {
                "taxon": {name: part for name, part in zip(names, path, strict=True) if part is not None},
                "ads": counts[path],
            }
            for path in dict.fromkeys([*own, *sorted(set(known))])
        ]

    def agreement(self, task: Task) -> Agreement:
        """Return how far people agree on what more than one of them judged."""
        people = votes(self.store.entries(task))
        return measure_agreement({thing: {by: e.said for by, e in of.items()} for thing, of in people.items()})

    def counts(self) -> dict[str, int]:
        """Return how many decisions of each task hold."""
        return {task: len(self.store.settled(task)) for task in TASKS}

    def forget_queues(self) -> None:
        """Read queues anew when they are next asked for: a build changed what they are made of."""
        with self._lock:
            self._queues.clear()
            self._items.clear()
