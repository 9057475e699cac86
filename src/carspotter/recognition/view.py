"""Look at decoded photos: what kind each is, whether it passes the gate, which vehicles are asked for.

A view gives the crop of each of its vehicles. Recognizing, building and exporting look at photos through it; code that
has a box already, as training and evaluation do, cuts by the same `crops`. It names no vehicle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carspotter.crops import cut, to_original
from carspotter.geometry import BoundingBox
from carspotter.pixels import DecodedPhoto, Pixels, Preprocessing
from carspotter.recognition.finder import Finder, Finding
from carspotter.recognition.locate import Selection, gate, select, transfer_viewpoints
from carspotter.records import Detection

if TYPE_CHECKING:
    from carspotter.recognition.detector import Detector
    from carspotter.recognition.readers import Readers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What is seen of one photo; `vehicles` are those asked for, in order, in pixels of the decoded photo."""

    photo: DecodedPhoto
    finding: Finding
    passes: bool
    vehicles: tuple[Detection, ...]

    def box(self, vehicle: Detection) -> BoundingBox:
        """Return a vehicle's box in pixels of the upright original."""
        return to_original(self.photo, vehicle.box)

    def crop(self, vehicle: Detection, target: Preprocessing) -> Pixels:
        """Return what a network with this input sees of a vehicle, (height, width, 3)."""
        return cut(self.photo, target, self.box(vehicle))


def see(
    photos: Sequence[DecodedPhoto],
    finder: Finder,
    *,
    least: float,
    selects: Sequence[Selection],
    detector: Detector | None = None,
    readers: Readers | None = None,
) -> list[View]:
    """Look at photos, in one run of the finder; `least` is the gate, `selects` says which vehicles of each are wanted.

    The boxes are those of a foreign `detector` where there is one; `readers` may know kinds and sides better. Raises
    ValueError for an unknown selection.
    """
    if not photos:
        return []
    findings = finder.find([photo.pixels for photo in photos])
    if detector is not None:
        # A foreign detector knows neither kinds nor sides: those stay the finder's, the boxes become the detector's.
        foreign = [detector.detect(photo.pixels) for photo in photos]
        findings = [
            replace(finding, detections=transfer_viewpoints(detections, finding.detections))
            for finding, detections in zip(findings, foreign, strict=True)
        ]
    if readers is not None:
        findings = readers.see_kinds(photos, findings)
    views = [_view(*one, least=least) for one in zip(photos, findings, selects, strict=True)]
    if readers is None or readers.viewpoint is None:
        return views
    return [replace(view, vehicles=readers.see_sides(view.photo, view.vehicles)) for view in views]


def _view(photo: DecodedPhoto, finding: Finding, how: Selection, *, least: float) -> View:
    height, width = photo.pixels.shape[:2]
    inside = [replace(each, box=each.box.clip(width, height)) for each in finding.detections]
    return View(
        photo=photo,
        finding=finding,
        passes=gate(finding.kind_probabilities, least),
        vehicles=select(inside, how, width, height),
    )
