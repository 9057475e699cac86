"""What people call in Jupyter: `Labeller`, the review as a widget, and `show`, which draws one prediction."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter import storage
from carspotter.pixels import check_pixels, decode
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.drawing import draw
from carspotter.records import Prediction, Vehicle
from carspotter.review.notebook import Labeller
from carspotter.thumbnails import SCREEN_QUALITY, data_uri

__all__ = ["Labeller", "Shown", "show"]

WIDEST = 800
"""Pixels of a shown photo's longer side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A drawn prediction; Jupyter displays it."""

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
    parts = [f'<img alt="photo" style="max-width:100%" src="{data_uri(picture, SCREEN_QUALITY)}">', _kind(prediction)]
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
