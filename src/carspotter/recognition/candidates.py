"""Which vehicles of a photo are listed, which of them are identified, and in words why the others are not.

It sees what `view` found, and runs no network.
"""

from __future__ import annotations

from dataclasses import dataclass

from carspotter.pixels import DecodedPhoto
from carspotter.recognition.view import View
from carspotter.records import Detection, Prediction

CERTAIN_BOX = 0.8
"""A vehicle with this score is identified though the photo failed the gate: a close-up of a front is a `detail` by its
kind and still shows grille and badge. Chosen by hand; the finder's calibration may set `certain_box`."""

MAX_ENLARGEMENT = 224 / 48
"""A crop that must be enlarged more than this to fill the identifier's input is not identified: at 224 px, a vehicle
whose shorter side has less than 48 px of the decoded photo. People cannot tell makes there either. Chosen by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A vehicle that may be answered: its detection in decoded pixels and, where it is not identified, why."""

    detection: Detection
    refusal: str | None


_NO_VEHICLE = {
    "interior": "an interior: no whole vehicle to identify",
    "detail": "a detail: no whole vehicle to identify",
    "exterior": "no vehicle found",
    "other": "no vehicle found",
}


def candidates_in(view: View, *, gate: float, certain_box: float, smallest: float) -> list[Candidate]:
    """Decide which vehicles of a photo are listed and which of them are identified.

    Exterior and detail photos list their vehicles. Interiors and photos of other things list none, whatever the
    boxes: the car seen through a windscreen is not for sale. Identified is a vehicle whose photo passes the gate,
    or whose own box is so certain that the kind does not matter, and whose shorter side has `smallest` decoded pixels.
    """
    if not view.passes and view.finding.kind.name not in ("exterior", "detail"):
        return []
    return [
        Candidate(
            detection=each,
            refusal=_gate_refusal(each, view, gate=gate, certain_box=certain_box)
            or _size_refusal(each, view.photo, smallest),
        )
        for each in view.vehicles
    ]


def _gate_refusal(detection: Detection, view: View, *, gate: float, certain_box: float) -> str | None:
    finding = view.finding
    if view.passes or detection.score >= certain_box:
        return None
    if finding.kind.name == "detail":
        return _NO_VEHICLE["detail"]
    return f"not surely a photo of a vehicle's outside: {finding.kind_probabilities[0]:.2f} is below {gate:.2f}"


def _size_refusal(detection: Detection, photo: DecodedPhoto, smallest: float) -> str | None:
    side = min(detection.box.width, detection.box.height)
    if side >= smallest:
        return None
    # People count in the photo they gave, not in the one we decoded smaller.
    given, needed = side / photo.scale, smallest / photo.scale
    return f"too small to identify: its shorter side has {given:.0f} px of this photo, {needed:.0f} are needed"


def why_no_vehicle(prediction: Prediction) -> str | None:
    """Return in words why a readable photo lists no vehicle; None where it lists one, or could not be read."""
    if prediction.vehicles or prediction.error is not None or prediction.kind is None:
        return None
    return _NO_VEHICLE[prediction.kind.name]
