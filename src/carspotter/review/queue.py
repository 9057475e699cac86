"""What a person may be asked, in words that a screen understands: the queues, a query for one, and its items.

It reads nothing: `project_queues` and `folder_queues` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from carspotter.errors import ProjectError, suggestion
from carspotter.labels.corrections import Words, words_key
from carspotter.review.decisions import Target, Task
from carspotter.taxonomy import Taxon

Box = tuple[float, float, float, float]

QueueName = Literal["random", "uncertain", "kind", "viewpoint", "doubts", "unresolved"]
QUEUES: tuple[QueueName, ...] = get_args(QueueName)
TASKS_OF: Mapping[QueueName, tuple[Task, ...]] = {
    "random": ("kind", "viewpoint", "class"),
    "uncertain": ("class", "kind", "viewpoint"),
    "kind": ("kind",),
    "viewpoint": ("viewpoint",),
    "doubts": ("class",),
    "unresolved": ("words",),
}
"""What each queue may ask; the first is what it asks by default."""

GATE = 200
"""Photos of a random sample by default: 95 % of them right is then known to ± 3 %."""
MOST = 5000
"""Items of any other queue by default, which is a week's work for one person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One photo of an ad, for a look beside the one that is asked about; `box` is relative to the upright photo."""

    photo_id: str
    path: str
    size: tuple[int, int]
    box: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One target to decide: `photo_id` is what is shown, `is_ad` says that the answer is about its whole ad.

    `album` are all photos of its ad. `box` is relative to the upright photo. `given` is its label,
    `is_reviewed` says that a person said so before;
    `suggested` is what it may be instead. `machine` is what finder and learned bundle say.
    """

    task: Task
    photo_id: str | None = None
    ad_id: str | None = None
    is_ad: bool = False
    path: str | None = None
    size: tuple[int, int] | None = None
    box: Box | None = None
    album: tuple[Shot, ...] = ()
    given: Taxon | None = None
    is_reviewed: bool = False
    suggested: Taxon | None = None
    seller: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    words: Words | None = None
    why: str | None = None

    @property
    def target(self) -> Target:
        """Return what its decision is about, as `Decision.target` does."""
        if self.words is not None:
            return (self.task, *words_key(self.words))
        return (self.task, "ad", self.ad_id or "") if self.is_ad else (self.task, "photo", self.photo_id or "")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values for a screen, without the place of its file."""
        return {
            "key": "\x1f".join(self.target),
            "task": self.task,
            "photo": self.photo_id,
            "ad": self.ad_id,
            "is_ad": self.is_ad,
            "size": self.size,
            "box": self.box,
            "seller": self.seller,
            "why": self.why,
            "given": None if self.given is None else self.given.name(),
            "suggested": None if self.suggested is None else self.suggested.to_dict(),
            "suggested_name": None if self.suggested is None else self.suggested.name(),
            "album": [{"photo": shot.photo_id, "size": shot.size, "box": shot.box} for shot in self.album],
            "machine": dict(self.machine),
            "words": None if self.words is None else list(self.words),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueQuery:
    """Which queue is wanted: its name, what it asks, how many items, and the seed of its order.

    Raises ProjectError for a queue or task that there is not.
    """

    queue: QueueName = "kind"
    task: Task | None = None
    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise ProjectError(
                f"queue {self.queue!r} is unknown; {suggestion(str(self.queue), QUEUES, limit=len(QUEUES))}"
            )
        tasks = TASKS_OF[self.queue]
        if self.task is not None and self.task not in tasks:
            raise ProjectError(f"queue {self.queue} does not ask for {self.task!r}; it may ask for {', '.join(tasks)}")

    @property
    def asks(self) -> Task:
        """Return what it asks."""
        return self.task or TASKS_OF[self.queue][0]

    @property
    def most(self) -> int:
        """Return how many items it has at most."""
        return self.count or (GATE if self.queue == "random" else MOST)
