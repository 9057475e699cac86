"""The queues of a plain folder of photos, without a project: decisions stand beside the photos in `decisions.jsonl`.

Only kind and viewpoint can be asked, since nothing is known of the photos. A photo's id is its path below the folder.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.errors import ProjectError
from carspotter.headers import SUFFIXES
from carspotter.project.folder import Project
from carspotter.review.decisions import DECISIONS, Decision, DecisionStore, Task
from carspotter.review.queue import Item, QueueName, QueueQuery

log = logging.getLogger("carspotter.review")


class FolderQueues:
    """The photos of a folder, at any depth, in an order that the seed says."""

    tasks: Mapping[QueueName, tuple[Task, ...]] = {
        "random": ("kind", "viewpoint"),
        "kind": ("kind",),
        "viewpoint": ("viewpoint",),
    }
    project: Project | None = None

    def __init__(self, folder: Path) -> None:
        """List the photos; raises ProjectError where there is none."""
        self.folder, self.name = folder, _as_text(folder.resolve().name)
        if not folder.is_dir():
            raise ProjectError(f"{folder} is no folder; name a project, or a folder of photos")
        paths = storage.list_files(folder, SUFFIXES)
        self._names = dict.fromkeys(_in_text(folder, [Path(path).relative_to(folder).as_posix() for path in paths]))
        if not self._names:
            raise ProjectError(
                f"{folder} is no project and holds no photo ({', '.join(SUFFIXES)}); "
                "make a project with carspotter init FOLDER --from TABLE_OR_PHOTOS, or name another folder"
            )
        self.store = DecisionStore(folder / DECISIONS)

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def items(self, query: QueueQuery) -> list[Item]:
        """Return the items of a queue in their order, decided ones among them."""
        names = sorted(self._names, key=lambda name: random_place(query.seed, name))
        most = query.most if query.queue == "random" else query.count
        return [Item(task=query.asks, photo_id=name, path=name) for name in names[:most]]

    def find(self, decision: Decision) -> Item | None:
        """Return the item that a decision is about, or None where the folder has no such photo or task."""
        name = decision.photo_id
        if name is None or name not in self._names or decision.task not in self.tasks["random"]:
            return None
        return Item(task=decision.task, photo_id=name, path=name)

    def with_albums(self, items: Sequence[Item]) -> list[Item]:
        """Return items as they are: a folder has no ads."""
        return list(items)

    def taxa(self) -> list[dict[str, Any]]:
        """Return nothing: a folder has no classes."""
        return []


def _in_text(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the names that a page can be told, and say which others there are."""
    found = [name for name in names if _as_text(name) == name]
    odd = sorted(set(names).difference(found))
    if odd:
        words = "%s: %d photos are left out, since their names are no UTF-8: %s%s; rename them"
        log.warning(words, _as_text(str(folder)), len(odd), ascii(odd[0]), ", …" if odd[1:] else "")
    return found


def _as_text(name: str) -> str:
    """Return a file's name as text: its bytes may be of another encoding, which Python keeps as half characters."""
    return name.encode(errors="replace").decode()


def random_place(seed: int, name: str) -> str:
    """Return where a name stands in a random order: one that depends on the seed and the name alone."""
    return hashlib.md5(f"{seed}:{name}".encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
