"""Label photos and look at answers in Jupyter: a project, a folder or a prediction in, something to display out.

`Labeller` is the review's desk as a widget: the same queues, and decisions in the same file. `show` draws one
prediction. Neither trains anything.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carspotter import storage
from carspotter.errors import CarspotterError, LabelError, MissingExtraError, ProjectError
from carspotter.pixels import check_pixels, decode
from carspotter.project.folder import SETTINGS, Project
from carspotter.project.review_desk import ReviewDesk, user_name
from carspotter.project.review_folder import FolderDesk
from carspotter.recognition.drawing import draw
from carspotter.recognition.recognizer import why_no_vehicle
from carspotter.records import Prediction, Vehicle

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise MissingExtraError("anywidget", "notebook") from error

AHEAD = 12
"""Items that the page holds; the kernel may be busy with one decision while people make the next."""
WIDEST = 800
"""Pixels of a shown photo's longer side."""


class Labeller(anywidget.AnyWidget):
    """Label kind, viewpoint or class of photos by keyboard in a notebook; each decision is on the disk at once.

    `decisions` are those that hold, of everybody. Call `close()` when done, or leave it to the kernel's end.
    """

    _esm = Path(__file__).with_name("labeller.js")
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
        self._desk = _desk(project_or_folder, person or user_name(), count, seed)
        self._wish = self._desk.wish(queue or ("uncertain" if task == "class" else task), task)
        self._tell()
        self.on_msg(self._hear)

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """Return the decisions of this task that hold, as they stand in the file."""
        return [entry.to_dict() for entry in self._desk.store.settled(self._wish.asks).values()]

    def close(self) -> None:
        """Take the widget away and close the project."""
        super().close()
        self._desk.close()

    def _tell(self) -> None:
        work = self._desk.work(self._wish, limit=AHEAD)
        with self.hold_sync():
            self.items = [item.to_dict() for item in work.items]
            self.total, self.done = work.total, work.done
            self.last = [entry.id for entry in work.last]

    def _hear(self, _: object, content: Any, __: object) -> None:
        """Do what the page asks; what is wrong is told to the page."""
        try:
            self._do(content if isinstance(content, Mapping) else {})
        except CarspotterError as error:
            about = content.get("photo") if isinstance(content, Mapping) else None
            self.send({"type": "error", "text": str(error), "about": about})

    def _do(self, content: Mapping[str, Any]) -> None:
        wanted = content.get("type")
        if wanted == "picture":
            photo = str(content.get("photo"))
            self.send({"type": "picture", "photo": photo}, buffers=[self._desk.picture(photo)])
        elif wanted == "decide":
            self._desk.decide({name: value for name, value in content.items() if name != "type"})
            self._tell()
        elif wanted == "undo":
            _, item = self._desk.undo(str(content.get("id")))
            self._tell()
            self.send({"type": "undone", "item": item.to_dict()})
        elif wanted == "taxa":
            self.send({"type": "taxa", "taxa": self._desk.taxa()})
        else:
            raise LabelError(f"message {wanted!r}; it must be picture, decide, undo or taxa")


def _desk(place: Project | str | Path, person: str, count: int | None, seed: int) -> ReviewDesk | FolderDesk:
    if isinstance(place, Project):
        return ReviewDesk(place, person=person, count=count, seed=seed)
    if (Path(place) / SETTINGS).is_file():
        return ReviewDesk(Project.open(place), person=person, count=count, seed=seed)
    if count is not None:
        raise ProjectError(f"{place} is no project; count is for a project's queues")
    return FolderDesk(place, person=person, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Hold a drawn prediction; Jupyter displays it."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def show(prediction: Prediction, photo: str | Path | bytes | NDArray[np.uint8] | None = None) -> Shown:
    """Show a prediction: the photo with its boxes, candidates as bars, and in words what is undecided.

    `photo` is a path, a URL, bytes or pixels; by default the one that the prediction names. Raises StorageError or
    ImageError for one that cannot be read.
    """
    if prediction.error is not None:
        return Shown(html=_page(f"<p><b>{escape(prediction.error.type)}</b>: {escape(prediction.error.message)}</p>"))
    picture = draw(_pixels(prediction.photo if photo is None else photo), prediction)
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    source = base64.b64encode(buffer.getvalue()).decode()
    parts = [f'<img alt="photo" style="max-width:100%" src="data:image/jpeg;base64,{source}">', _kind(prediction)]
    parts += [_vehicle(vehicle) for vehicle in prediction.vehicles]
    return Shown(html=_page("".join(parts)))


def _pixels(photo: str | Path | bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(photo, np.ndarray):
        check_pixels(photo)
        return photo
    return decode(photo if isinstance(photo, bytes) else storage.read(photo), min_side=WIDEST).pixels


def _page(inner: str) -> str:
    return f'<div style="max-width:{WIDEST}px;font:14px/1.5 system-ui,sans-serif">{inner}</div>'


def _kind(prediction: Prediction) -> str:
    if prediction.kind is None:
        return ""
    reason = why_no_vehicle(prediction)
    words = f"{prediction.kind.name} {prediction.kind.probability:.0%}" + (f"; {reason}" if reason else "")
    return f'<p style="margin:8px 0;opacity:.75">{escape(words)}</p>'


def _vehicle(vehicle: Vehicle) -> str:
    answer = vehicle.answer
    head = (
        f"{answer.name} {answer.probability:.0%}" if answer else f"undecided: {vehicle.undecided or 'not identified'}"
    )
    side = f"seen from {vehicle.viewpoint.name} {vehicle.viewpoint.probability:.0%}"
    side = f"{vehicle.look}, {side}" if vehicle.look else side
    levels = "".join(
        f'<div style="margin-top:6px;opacity:.7">{escape(level)}</div>' + "".join(map(_bar, ranked))
        for level, ranked in vehicle.levels.items()
    )
    return (
        f'<p style="margin:10px 0 0"><b>{escape(head)}</b> <span style="opacity:.75">{escape(side)}</span></p>{levels}'
    )


def _bar(candidate: Any) -> str:
    width = f"{100 * candidate.probability:.1f}%"
    return (
        '<div style="display:grid;grid-template-columns:minmax(0,16em) 1fr 3.5em;gap:8px;align-items:center">'
        f'<span>{escape(candidate.name)}</span><span style="background:rgba(128,128,128,.2);border-radius:4px">'
        f'<span style="display:block;height:9px;border-radius:4px;background:#1769aa;width:{width}"></span></span>'
        f'<span style="text-align:right">{candidate.probability:.0%}</span></div>'
    )
