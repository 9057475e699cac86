"""Copies, views and the leading photo of an ad, from the predictions of its photos.

It looks at kinds, boxes, viewpoints and hashes. What the vehicle is, and whether a photo shows another one, is for
`fusion` and `ad`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from carspotter.hashes import BOTH_BITS, MOST_BITS, SAME_BITS, SAME_LOOK
from carspotter.records import UNKNOWN_VIEWPOINT, VIEWPOINTS, Prediction, Vehicle

INTERIOR = "interior"
VIEWS = (*VIEWPOINTS, INTERIOR)
"""What a complete ad shows: the eight sides, and the inside."""

SURE_VIEW = 0.5
"""Least probability of a viewpoint, or of the kind interior, for a view to count as seen. On the choosing half of the
ads F1 is the same from 0 to 0.6 and falls from there."""

# Of 65 interiors held out 17 are told as details, none as anything else (RESULTS.md, Whole ads).
_PERHAPS_INTERIOR = (INTERIOR, "detail")

# What a buyer wants to see first: the front from an angle. Ranks, chosen by hand.
_LEADS: Mapping[str, float] = {
    "front-left": 1.0,
    "front-right": 1.0,
    "front": 0.7,
    "left": 0.6,
    "right": 0.6,
    "back-left": 0.5,
    "back-right": 0.5,
    "back": 0.4,
    UNKNOWN_VIEWPOINT: 0.3,
}
_LARGE = 0.4  # share of the photo that a vehicle covers from which larger is no better; a third to a half is usual
_EDGE = 0.01  # share of a side: a box so near to two edges of the photo is cut off
_CUT = 0.5


def find_copies(predictions: Sequence[Prediction]) -> dict[int, int]:
    """Return for each photo that shows the same picture as a better one the index of that one.

    Copies of copies are copies. The best has most pixels, then the surest box. Photos without hashes are no copies.
    """
    # Each photo begins as its own group. Pairs are compared one by one: an ad has some dozens of photos.
    group = list(range(len(predictions)))
    for one in range(len(predictions)):
        for other in range(one):
            if group[one] != group[other] and _is_copy(predictions[one], predictions[other]):
                old, new = group[one], group[other]
                # Joined groups, not pairs: a copy of a copy may lie too far from the first to be seen as one.
                group = [new if member == old else member for member in group]
    copies: dict[int, int] = {}
    for first in set(group):
        members = [index for index, member in enumerate(group) if member == first]
        # -index: of equal worth the earlier photo, which the seller put first.
        best = max(members, key=lambda index: (_worth(predictions[index]), -index))
        copies |= {index: best for index in members if index != best}
    return copies


def views_of(prediction: Prediction) -> Iterable[str]:
    """Yield the view that a photo shows surely enough: a side of its vehicle, or the interior."""
    if prediction.kind is None or prediction.kind.probability < SURE_VIEW:
        return
    if prediction.kind.name == INTERIOR:
        yield INTERIOR
    elif prediction.kind.name == "exterior" and prediction.vehicles:
        viewpoint = prediction.vehicles[0].viewpoint
        if viewpoint.name != UNKNOWN_VIEWPOINT and viewpoint.probability >= SURE_VIEW:
            yield viewpoint.name


def missing_of(predictions: Iterable[Prediction]) -> tuple[str, ...]:
    """Return the views that no photo shows, in the order of `VIEWS`.

    The interior is missing only where no photo may show it: a dashboard from near is often told as a detail.
    """
    photos = tuple(predictions)
    shown = {view for photo in photos for view in views_of(photo)}
    if any(photo.kind is not None and photo.kind.name in _PERHAPS_INTERIOR for photo in photos):
        shown.add(INTERIOR)
    return tuple(view for view in VIEWS if view not in shown)


def lead_of(predictions: Mapping[int, Prediction]) -> int | None:
    """Return the index of the exterior photo of the ad's own vehicle that should lead; None where there is no photo."""
    worth = {index: lead_worth(prediction) for index, prediction in predictions.items() if prediction.vehicles}
    return max(worth, key=lambda index: (worth[index], -index), default=None)


def _is_copy(one: Prediction, other: Prediction) -> bool:
    if one.hashes is None or other.hashes is None:
        return False
    bits, more = ((left ^ right).bit_count() for left, right in zip(one.hashes, other.hashes, strict=True))
    # The same three bands as `photos.duplicates`, so that an ad and a catalogue agree on what a copy is.
    if bits <= SAME_BITS:
        return True
    if bits > MOST_BITS:
        return False
    return bits + more <= BOTH_BITS or _look_alike(one, other)


def _look_alike(one: Prediction, other: Prediction) -> bool:
    left, right = (photo.vehicles[0].embedding if photo.vehicles else None for photo in (one, other))
    if left is None or right is None:
        return False
    # Embeddings have unit length, so that the sum of products is the cosine.
    return sum(x * y for x, y in zip(left, right, strict=True)) >= SAME_LOOK


def _worth(prediction: Prediction) -> tuple[float, ...]:
    """Rank copies: pixels, then the box; the rest only makes the choice the same whatever the order of the photos."""
    vehicle = prediction.vehicles[0] if prediction.vehicles else None
    pixels = (prediction.width or 0) * (prediction.height or 0)
    if vehicle is None:
        return (pixels, prediction.kind.probability if prediction.kind else 0.0)
    return (pixels, vehicle.score, vehicle.viewpoint.probability, *(vehicle.probabilities or ()))


def lead_worth(prediction: Prediction) -> float:
    """Return how well a photo leads an ad, 0..1: 0 where it shows no outside of a vehicle."""
    if not prediction.vehicles or prediction.kind is None or prediction.kind.name != "exterior":
        return 0.0
    vehicle = prediction.vehicles[0]
    # A product of four: one bad property (cut off, tiny, unsure, from behind) is enough to lose the lead.
    whole = _CUT if _is_cut(vehicle, prediction) else 1.0
    size = min(1.0, vehicle.box.area / _pixels(prediction) / _LARGE)
    # An unsure viewpoint keeps half of its rank: it is likely right, and so are its neighbours.
    side = _LEADS[vehicle.viewpoint.name] * (0.5 + 0.5 * vehicle.viewpoint.probability)
    return side * vehicle.score * size * whole


def _is_cut(vehicle: Vehicle, prediction: Prediction) -> bool:
    """Return whether a vehicle reaches two edges of the photo or more; one it may touch."""
    # 1 stands for an unknown size, with which nothing divides by 0.
    width, height = float(prediction.width or 1), float(prediction.height or 1)
    box = vehicle.box
    room = (box.x1 / width, box.y1 / height, 1 - box.x2 / width, 1 - box.y2 / height)
    # One edge is usual where a car fills the width; two mean a part of a car, such as a corner.
    return sum(share < _EDGE for share in room) >= 2


def _pixels(prediction: Prediction) -> int:
    return max(1, (prediction.width or 1) * (prediction.height or 1))
