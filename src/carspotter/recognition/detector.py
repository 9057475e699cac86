"""Detect vehicles by a detector that is not ours: an ONNX or OpenVINO file.

Two forms of answers are read: rows of SSD, and plain `boxes` and `scores`. Such a detector knows neither the kind of a
photo nor viewpoints, and its input's colours and range stand nowhere in the file: see `InputForm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import DetectorError
from carspotter.geometry import are_boxes, suppress
from carspotter.pixels import Preprocessing, network_input
from carspotter.recognition.finder import MAX_DETECTIONS, photo_box
from carspotter.records import Detection
from carspotter.runtime.form import TensorSpec
from carspotter.runtime.session import Session, open_session

DEFAULT_SCORE = 0.5
"""Least score of a foreign detection; what the demos of the Open Model Zoo use."""

SAME_VEHICLE = 0.5
"""Two boxes that overlap more (IoU) are one vehicle; the usual value of Pascal VOC."""

_MAX_CANDIDATES = 200
"""Best boxes that are compared with each other, so that a photo on which all anchors fire costs 200 x 200 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputForm:
    """What a detector's input holds: the order of colours, and what 0..255 is divided by."""

    colors: Literal["rgb", "bgr"] = "rgb"
    divisor: float = 1.0


_ZOO_INPUT = InputForm(colors="bgr", divisor=1.0)
_PLAIN_INPUT = InputForm(colors="rgb", divisor=255.0)

_RELATIVE_LIMIT = 1.5
"""Corners up to here are relative, with room for boxes that reach out of the photo: in pixels they would be no box."""

_FORMS = "(1, 1, n, 7) as SSD answers it, or `boxes` (n, 4) with `scores` (n,)"

AnswerForm = Literal["ssd", "boxes"]


class Detector(Protocol):
    """Find vehicles on a photo."""

    def detect(self, pixels: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return the vehicles on an upright sRGB photo (h, w, 3), best first, boxes in its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDetector:
    """A network that was not made for carspotter, read by its input's and outputs' forms; implements `Detector`."""

    session: Session
    preprocessing: Preprocessing
    input_form: InputForm
    answer_form: AnswerForm
    score: float = DEFAULT_SCORE

    def detect(self, pixels: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return the vehicles on an upright sRGB photo (h, w, 3), best first, boxes in its pixels.

        Raises DetectorError when the answer has another shape than the network promised, ImageError for no photo.
        """
        batch = prepare(network_input(pixels, self.preprocessing), self.session.input_form, self.input_form)
        boxes, scores = self._rows(self.session.run(batch))
        height, width = pixels.shape[:2]
        detections = []
        for index in choose(boxes, scores, score=self.score):
            box = photo_box(boxes[index], (width, height), self.preprocessing)
            if box is not None:
                detections.append(Detection(box=box, score=float(np.clip(scores[index], 0, 1))))
        return tuple(detections[:MAX_DETECTIONS])

    def _rows(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return relative boxes (n, 4) and scores (n,)."""
        if self.answer_form == "ssd":
            return _ssd_rows(next(iter(outputs.values())))
        return _plain_rows(outputs, self.preprocessing)


def choose(
    boxes: NDArray[Any], scores: NDArray[Any], *, score: float = DEFAULT_SCORE, iou: float = SAME_VEHICLE
) -> NDArray[np.intp]:
    """Return the indices of the vehicles among boxes (a, 4) with scores (a,), best first.

    They score at least `score`, have finite corners in the right order, and overlap no better one by more than `iou`.
    Overlap does not change when an axis is stretched, so relative boxes do as well as pixels.
    """
    # By score first: thousands of anchors become tens before boxes are compared by pairs.
    candidates = np.flatnonzero(scores >= score)
    boxes = boxes.astype(np.float64)  # a stray corner of 1e30 has an area that float32 cannot hold
    candidates = candidates[are_boxes(boxes[candidates])]
    # Bounded, since suppression compares all pairs; stable, so that equals come out alike on every engine.
    best = candidates[np.argsort(-scores[candidates], kind="stable")[:_MAX_CANDIDATES]]
    return np.asarray(best[suppress(boxes[best], scores[best], iou)], dtype=np.intp)


def open_detector(
    source: str | Path,
    *,
    engine: str = "auto",
    threads: int | None = None,
    score: float = DEFAULT_SCORE,
    input_form: InputForm | None = None,
) -> Detector:
    """Open a detector by the path of its file (.onnx, or .xml with its .bin).

    `input_form` replaces what is assumed of a file's input: 0..255 BGR for an answer of SSD rows, as in the Open Model
    Zoo, else 0..1 RGB, as in torchvision; uint8 inputs take 0..255 RGB. Raises DetectorError when there is no such
    file, or the form of the input or that of the answer is unknown, and what `runtime.session` raises.
    """
    if not Path(source).is_file():
        raise DetectorError(f"no detector {str(source)!r}: it is no file; give the path of an .onnx or .xml file")
    session = open_session(Path(source), engine, threads=threads)
    return make_detector(session, str(source), score=score, input_form=input_form)


def make_detector(
    session: Session, name: str, *, score: float = DEFAULT_SCORE, input_form: InputForm | None = None
) -> ForeignDetector:
    """Make a detector of an open session; `name` begins the messages. Raises DetectorError for an unknown form."""
    answer_form = _answer_form(session.output_forms, name)
    if input_form is None:
        input_form = _ZOO_INPUT if answer_form == "ssd" else _PLAIN_INPUT
        if session.input_form.dtype == "uint8":
            input_form = InputForm(colors="rgb", divisor=1.0)
    return ForeignDetector(
        session=session,
        preprocessing=_preprocessing(session.input_form, name),
        input_form=input_form,
        answer_form=answer_form,
        score=score,
    )


def prepare(pixels: NDArray[np.uint8], form: TensorSpec, input_form: InputForm) -> NDArray[Any]:
    """Return a batch of one, of the network's type and layout, from RGB pixels (h, w, 3) of its size."""
    # OpenCV's order, which networks of its time were trained in.
    channels = pixels[..., ::-1] if input_form.colors == "bgr" else pixels
    values: NDArray[Any] = channels.astype(form.dtype)
    if input_form.divisor != 1:
        values = (values / input_form.divisor).astype(form.dtype)
    if _is_channels_first(form):
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[np.newaxis])


def _preprocessing(form: TensorSpec, name: str) -> Preprocessing:
    if len(form.shape) == 4 and form.shape[0] in (None, 1) and form.dtype in ("float32", "float16", "uint8"):
        height, width = form.shape[2:] if _is_channels_first(form) else form.shape[1:3]
        if height and width and (_is_channels_first(form) or form.shape[3] == 3):
            return Preprocessing(width=width, height=height, fit="squash")
    raise DetectorError(
        f"detector {name}: its input {form} is none that can be fed; allowed: float or uint8 of "
        "(1, 3, height, width) or (1, height, width, 3) with fixed height and width; export it with fixed sizes"
    )


def _is_channels_first(form: TensorSpec) -> bool:
    return form.shape[1] == 3


def _answer_form(forms: tuple[TensorSpec, ...], name: str) -> AnswerForm:
    by_name = {form.name: form for form in forms}
    if {"boxes", "scores"} <= by_name.keys() and by_name["boxes"].shape[-1:] in ((4,), (None,)):
        return "boxes"
    if len(forms) == 1 and forms[0].shape[-1:] == (7,) and len(forms[0].shape) >= 2:
        return "ssd"
    answers = "; ".join(map(str, forms))
    raise DetectorError(f"detector {name}: its answer is of an unknown form: {answers}; allowed: {_FORMS}")


def _ssd_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return relative boxes and scores of rows of image, label, score, x1, y1, x2, y2."""
    table = rows.reshape(-1, 7).astype(np.float64)
    ends = np.flatnonzero(table[:, 0] < 0)  # image -1 ends the list; what follows is left from an earlier run
    table = table[: ends[0]] if ends.size else table
    return table[:, 3:], table[:, 2]


def _plain_rows(outputs: Mapping[str, NDArray[Any]], preprocessing: Preprocessing) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return relative boxes and scores; `boxes` are (n, 4) or (1, n, 4), relative or in pixels of the input."""
    boxes, scores = outputs["boxes"].astype(np.float64), outputs["scores"].astype(np.float64).reshape(-1)
    if boxes.shape[-1] != 4 or boxes.size != 4 * scores.size:
        raise DetectorError(
            f"detector answered boxes {boxes.shape} with scores {outputs['scores'].shape}; allowed: {_FORMS}"
        )
    boxes = boxes.reshape(-1, 4)
    # Pixels or shares is not said by the file: a corner far above 1 can only be pixels.
    if boxes.size and np.nanmax(np.abs(boxes)) > _RELATIVE_LIMIT:
        boxes = boxes / [preprocessing.width, preprocessing.height, preprocessing.width, preprocessing.height]
    return boxes, scores
