"""The session in which one person reviews a project or a folder: what to decide next, its pictures, decisions in.

In: a place and a person's name. Out: items, pictures for a screen, decisions on the disk. It knows no web page and no
notebook: both show what it says.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

from carspotter import storage
from carspotter.errors import LabelError, ProjectError
from carspotter.labels.known import Known
from carspotter.project.folder import SETTINGS, Project
from carspotter.review.agreement import Agreement, measure_agreement
from carspotter.review.decisions import RELABEL, TASKS, Decision, Target, Task, check_person, now, votes
from carspotter.review.folder_queues import FolderQueues, random_place
from carspotter.review.project_queues import ProjectQueues
from carspotter.review.queue import Item, QueueQuery
from carspotter.thumbnails import screen_picture

BATCH = 60
"""Items that are given out at a time: a minute or two of decisions."""
SMALL = 320
"""Pixels of the longer side of a picture in an album: sharp where two stand side by side on a phone."""


def user_name() -> str:
    """Return the name of the user, of one without any, as in a container, the number: "user-4321"."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # what is raised depends on the version of Python and on the system
        return f"user-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The next items, how many the queue has, how many of those are decided, and by this person the last ones.

    `by_others` is the number of decisions of the task that others made.
    """

    items: tuple[Item, ...]
    total: int
    done: int
    last: tuple[Decision, ...] = ()
    by_others: int = 0


class ReviewSession:
    """Give one person targets to decide, and take the decisions. Threads may share one; `close()` it, or use `with`."""

    def __init__(self, place: Project | str | Path, *, person: str, count: int | None = None, seed: int = 0) -> None:
        """Open a project, or a folder of photos (kind and viewpoint alone); `count` and `seed` are of its queues.

        Raises ProjectError, LabelError, CatalogError.
        """
        self.person = check_person(person)
        self._queues = _queues(place)
        self.project, self.name, self.store = self._queues.project, self._queues.name, self._queues.store
        self.tasks = self._queues.tasks
        self._count, self._seed = count, seed
        self._lock = RLock()
        self._read: dict[QueueQuery, list[Item]] = {}
        self._items: dict[Target, Item] = {}
        self._paths: dict[str, str] = {}

    def __enter__(self) -> ReviewSession:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self.close()

    def close(self) -> None:
        """Close the catalogue; decisions are on the disk already."""
        self._queues.close()

    @property
    def id(self) -> str:
        """Return what tells this review from one of another person or place: two folders may share a name."""
        who = f"{self.person}\n{self._queues.folder.resolve()}"
        return hashlib.sha256(who.encode(errors="surrogateescape")).hexdigest()[:16]

    def query(self, queue: str, task: str | None = None) -> QueueQuery:
        """Name a queue; raises ProjectError for one that there is not."""
        query = QueueQuery(queue=queue, task=task, count=self._count, seed=self._seed)  # type: ignore[arg-type]
        if query.asks not in self.tasks.get(query.queue, ()):
            raise ProjectError(
                f"a folder of photos has no queue {query.queue} that asks for {query.asks}; it has "
                f"{', '.join(self.tasks)}, for kind and viewpoint; make a project of it for more"
            )
        return query

    def work(self, query: QueueQuery, *, limit: int = BATCH, fresh: bool = False) -> Work:
        """Return the next items of a queue; `fresh` reads it from the catalogue again.

        A random sample is everybody's: each person is asked for all of it, so that agreement can be measured. Of the
        other queues nobody is asked what somebody has decided.
        """
        items = self._of(query, fresh=fresh)
        mine = self.person if query.queue == "random" else None
        decided = {decision.target for decision in self.store.decisions(query.asks, by=mine)}
        open_ = [item for item in items if item.target not in decided and (item.words is None or item.given is None)]
        said = self.store.decisions(query.asks, by=self.person)[-BATCH:]
        shown = self._known(self._queues.with_albums(open_[:limit]))
        done, by_others = len(items) - len(open_), self.by_others(query.asks)
        return Work(items=tuple(shown), total=len(items), done=done, last=tuple(said), by_others=by_others)

    def by_others(self, task: Task) -> int:
        """Return how many decisions of a task others made: where it changed, some of what is open may be decided."""
        return sum(decision.by != self.person for decision in self.store.decisions(task))

    def _of(self, query: QueueQuery, *, fresh: bool) -> list[Item]:
        with self._lock:
            if fresh or query not in self._read:
                items = self._known(self._queues.items(query))
                if query.queue in ("kind", "viewpoint"):  # in any order: so two people begin at different photos
                    items.sort(key=lambda item: random_place(query.seed, f"{self.person}:{item.photo_id}"))
                self._read[query] = items
            return self._read[query]

    def _known(self, items: Iterable[Item]) -> list[Item]:
        """Remember items, whose photos may be shown from now on."""
        found = list(items)
        with self._lock:
            for item in found:
                self._items[item.target] = item
                if item.photo_id and item.path:
                    self._paths[item.photo_id] = item.path
                self._paths.update({shot.photo_id: shot.path for shot in item.album})
        return found

    def decide(self, content: Mapping[str, Any]) -> Decision:
        """Put a decision on the disk and return it; `content` is what `Decision.to_dict` writes, but who and when.

        A taxon is spelled as it is known. To keep a label that a person gave is to give it again, or the photo would
        fall back to its ad's. Raises LabelError for what may not be said, a photo that there is not, or a label
        (`given`) that is another one by now; StorageError when not saved.
        """
        decision = Decision.from_dict({**content, "by": self.person, "at": now(), "given": None})
        if decision.becomes is not None:
            decision = replace(decision, becomes=self._names.spelled(decision.becomes))
        item = self._item(decision)
        if decision.task == "class":
            given = item.given
            name = given.name() if given else None
            if content.get("given", name) != name:
                raise LabelError(f"the label is {name} by now, {content['given']} was on the screen; decide again")
            ad_id = item.ad_id if decision.photo_id else decision.ad_id
            decision = replace(decision, given=name, ad_id=ad_id)
            if decision.says == "keep" and item.is_reviewed and given is not None:
                decision = replace(decision, says=RELABEL, becomes=given)
        self.store.append(decision)
        return decision

    @cached_property
    def _names(self) -> Known:
        return Known.bundled()

    def undo(self, decision_id: str) -> tuple[Decision, Item]:
        """Take a decision of this person back; return it, and what it was about. Raises LabelError, StorageError."""
        decision = self.store.take_back(decision_id, by=self.person)
        (item,) = self._known(self._queues.with_albums([self._item(decision)]))
        return decision, item

    def _item(self, decision: Decision) -> Item:
        with self._lock:
            item = self._items.get(decision.target)
            if item is None and decision.words is not None:
                return Item(task="words", words=decision.words)
            if item is None:
                item = self._queues.find(decision)
            if item is None:
                about = decision.photo_id or decision.ad_id
                raise LabelError(f"{decision.task} of {about!r}: {self.name} has no such photo")
            return self._known([item])[0]

    def picture(self, photo_id: str, *, small: bool = False) -> bytes:
        """Return a photo of a queue as a JPEG for the screen, or for an album; upright, without any metadata.

        Raises LabelError for one that is in no queue, ImageError or StorageError for one that cannot be read.
        """
        path = self._paths.get(photo_id)
        if path is None:
            raise LabelError(f"photo {photo_id!r} is in no queue of this review")
        data = storage.read(self._queues.folder / path)
        return screen_picture(data, longest=SMALL) if small else screen_picture(data)

    def taxa(self) -> list[dict[str, Any]]:
        """Return all that a label may become."""
        return self._queues.taxa()

    def agreement(self, task: Task) -> Agreement:
        """Return how far people agree on what more than one of them judged."""
        people = votes(self.store.decisions(task))
        return measure_agreement({target: {by: each.said for by, each in of.items()} for target, of in people.items()})

    def counts(self) -> dict[str, int]:
        """Return how many decisions of each task hold."""
        return {task: len(self.store.settled(task)) for task in TASKS}

    def forget_queues(self) -> None:
        """Read queues again when they are next asked for: a build changed what they are made of."""
        with self._lock:
            self._read.clear()
            self._items.clear()


def _queues(place: Project | str | Path) -> ProjectQueues | FolderQueues:
    if isinstance(place, Project):
        return ProjectQueues(place)
    if (Path(place) / SETTINGS).is_file():
        return ProjectQueues(Project.open(place))
    return FolderQueues(Path(place))
