"""The review's session as a widget in Jupyter: the same queues, and decisions in the same file.

It trains nothing; `carspotter.notebook` is where people import it from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from carspotter.errors import CarspotterError, LabelError, MissingExtraError
from carspotter.project.folder import Project
from carspotter.review.session import ReviewSession, user_name

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise MissingExtraError("anywidget", "notebook") from error

AHEAD = 12
"""Items that the page holds; the kernel may be busy with one decision while people make the next."""


class Labeller(anywidget.AnyWidget):
    """Label kind, viewpoint or class of photos by keyboard in a notebook; each decision is on the disk at once.

    `decisions` are those that hold, of everybody. Call `close()` when done, or leave it to the kernel's end.
    """

    _esm = Path(__file__).parent / "page" / "labeller.js"
    task = traitlets.Unicode("kind").tag(sync=True)
    items: traitlets.List[Any] = traitlets.List().tag(sync=True)
    total = traitlets.Int(0).tag(sync=True)
    done = traitlets.Int(0).tag(sync=True)
    last: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        project_or_folder: Project | str | Path,
        task: Literal["kind", "viewpoint", "class"] = "kind",
        *,
        person: str | None = None,
        queue: str | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        """Open a project, or a folder of photos (kind and viewpoint alone); `person` is by default the user.

        `queue` is one that asks for the task: by default "kind", "viewpoint", or "uncertain" for class. Raises
        ProjectError, LabelError or CatalogError.
        """
        super().__init__(task=task)
        self._session = ReviewSession(project_or_folder, person=person or user_name(), count=count, seed=seed)
        self._query = self._session.query(queue or ("uncertain" if task == "class" else task), task)
        self._tell()
        self.on_msg(self._hear)

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """Return the decisions of this task that hold, as they stand in the file."""
        return [decision.to_dict() for decision in self._session.store.settled(self._query.asks).values()]

    def close(self) -> None:
        """Take the widget away and close the project."""
        super().close()
        self._session.close()

    def _tell(self) -> None:
        work = self._session.work(self._query, limit=AHEAD)
        with self.hold_sync():
            self.items = [item.to_dict() for item in work.items]
            self.total, self.done = work.total, work.done
            self.last = [decision.id for decision in work.last]

    def _hear(self, _: object, content: Any, __: object) -> None:
        """Do what the page asks; the page gets a message about what is wrong."""
        try:
            self._do(content if isinstance(content, Mapping) else {})
        except CarspotterError as error:
            asked = content if isinstance(content, Mapping) else {}
            about = {"of": asked.get("type"), "photo": asked.get("photo"), "id": asked.get("id")}
            self.send({"type": "error", "text": str(error), **about})

    def _do(self, content: Mapping[str, Any]) -> None:
        wanted = content.get("type")
        if wanted == "picture":
            photo, small = str(content.get("photo")), content.get("small") is True
            told = {"type": "picture", "photo": photo, "small": small}
            self.send(told, buffers=[self._session.picture(photo, small=small)])
        elif wanted == "decide":
            self._session.decide({name: value for name, value in content.items() if name != "type"})
            self._tell()
        elif wanted == "undo":
            _, item = self._session.undo(str(content.get("id")))
            self._tell()
            self.send({"type": "undone", "item": item.to_dict()})
        elif wanted == "taxa":
            self.send({"type": "taxa", "taxa": self._session.taxa()})
        else:
            raise LabelError(f"message {wanted!r}; it must be picture, decide, undo or taxa")
