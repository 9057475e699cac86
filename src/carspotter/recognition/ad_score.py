"""Predictions of an ad's photos in, a score of the set of photos out: 0 to 100, with each point that is lost explained.

It asks what a buyer asks: are all sides there, are the photos sharp and bright, does the best one come first, is each
of this car and shown once. The weights were chosen by hand; nothing here knows what a photo costs or sells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carspotter.progress import counted
from carspotter.recognition.ad_views import INTERIOR, lead_worth, missing_of
from carspotter.records import Prediction

VIEWS: tuple[tuple[str, frozenset[str], int], ...] = (
    ("the front", frozenset(("front-left", "front", "front-right")), 10),
    ("the back", frozenset(("back-left", "back", "back-right")), 8),
    ("the left side", frozenset(("front-left", "left", "back-left")), 6),
    ("the right side", frozenset(("front-right", "right", "back-right")), 6),
    ("the interior", frozenset((INTERIOR,)), 10),
)
"""What a buyer looks for, the views that show it, and its points: 40 in all."""

ENOUGH = 8
"""Different photos of the car from which on more are no better."""
SHARP, BLURRED = 400.0, 60.0
"""Variance of the Laplacian: 99 of 100 listing photographs reach the first, below the second nothing is left to see."""
DIM, BRIGHT, MARGIN = 0.10, 0.92, 0.15
"""Mean brightness at which nothing can be made out, and how far from it a photo is well lit: 98 of 100 are."""

Ramp = Callable[[Prediction], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePart:
    """One part of a score: `points` of `most`, and in words why some are lost ("" where none is)."""

    name: str
    points: float
    most: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdScore:
    """How good an ad's photos are as a set, 0..100, and what it consists of."""

    parts: tuple[ScorePart, ...]

    @property
    def total(self) -> int:
        """Return the score: the points of all parts."""
        return round(sum(part.points for part in self.parts))

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        parts = [
            {"name": part.name, "points": round(part.points, 1), "most": part.most, "why": part.why or None}
            for part in self.parts
        ]
        return {"total": self.total, "parts": parts}


def score_ad(predictions: Sequence[Prediction], *, copies: Collection[int], others: Collection[int]) -> AdScore:
    """Score the photos of an ad, in the order in which they are shown.

    `copies` are the places of photos that repeat another one, `others` of those that do not show this car: another
    vehicle, something else, or nothing that can be read. A photo that was not measured loses nothing for its sharpness
    and light.
    """
    photos = {place: photo for place, photo in enumerate(predictions) if place not in copies and place not in others}
    parts = (
        _views(photos),
        _number(photos),
        _measured(photos, _sharp, name="sharpness", most=12, fault="blurred"),
        _measured(photos, _lit, name="light", most=10, fault="too dark or too bright"),
        _lead(photos),
        _order(photos),
        _lost("copies", sorted(copies), each=2, one="repeats another photo", many="repeat other photos"),
        _lost("this car", sorted(others), each=3, one="does not show this car", many="do not show this car"),
    )
    # An ad that does not show its car has no copies and no foreign cars, but is no better for it.
    is_shown = any(photo.kind and photo.kind.name == "exterior" and photo.vehicles for photo in photos.values())
    return AdScore(parts=parts if is_shown else (parts[0], *(_none(part) for part in parts[1:])))


def _none(part: ScorePart) -> ScorePart:
    return ScorePart(name=part.name, points=0.0, most=part.most, why="no photo shows the whole car")


def _views(photos: Mapping[int, Prediction]) -> ScorePart:
    absent = frozenset(missing_of(photos.values()))
    missing = [(name, points) for name, views, points in VIEWS if views <= absent]
    most = sum(points for _, _, points in VIEWS)
    why = f"no photo shows {_listed([name for name, _ in missing])}" if missing else ""
    return ScorePart(name="views", points=most - sum(points for _, points in missing), most=most, why=why)


def _number(photos: Mapping[int, Prediction]) -> ScorePart:
    # Linear up to `ENOUGH`: each photo is worth as much as the first, and one beyond it nothing.
    n = min(len(photos), ENOUGH)
    count = counted(len(photos), "different photo")
    return ScorePart(name="number", points=10 * n / ENOUGH, most=10, why="" if n == ENOUGH else f"only {count}")


def _measured(photos: Mapping[int, Prediction], good: Ramp, *, name: str, most: int, fault: str) -> ScorePart:
    shares = {index: good(photo) for index, photo in photos.items()}
    bad = [index for index, share in shares.items() if share < 1]
    # The mean, so that one blurred photo among twenty costs a twentieth.
    points = most * sum(shares.values()) / max(1, len(shares))
    return ScorePart(name=name, points=points, most=most, why=f"{_numbers(bad)} {fault}" if bad else "")


def _sharp(photo: Prediction) -> float:
    if photo.quality is None:
        return 1.0
    # A ramp and no step: two photos that look alike must not differ by all the points.
    return _ramp((photo.quality.sharpness - BLURRED) / (SHARP - BLURRED))


def _lit(photo: Prediction) -> float:
    if photo.quality is None:
        return 1.0
    brightness = photo.quality.brightness
    # The nearer of both ends counts: a photo is too dark or too bright, never both.
    return _ramp(min(brightness - DIM, BRIGHT - brightness) / MARGIN)


def _ramp(value: float) -> float:
    return min(1.0, max(0.0, value))


def _lead(photos: Mapping[int, Prediction]) -> ScorePart:
    """Compare the first photo with the one that would lead best."""
    worth = {index: lead_worth(photo) for index, photo in photos.items()}
    # Of equals the earlier one, so that the order shown is not found fault with.
    best = max(worth, key=lambda index: (worth[index], -index), default=0)
    if not worth or not worth[best]:
        return ScorePart(name="lead photo", points=0.0, most=10, why="no photo shows the whole car")
    first = min(photos)
    # Where photo 0 is a copy or another car, whatever comes next did not lead the ad.
    share = min(1.0, worth[first] / worth[best]) if first == 0 else 0.0
    # A photo that is nearly as good is no fault: the order of sides is a matter of taste.
    is_good = share >= 0.8
    why = "" if is_good else f"photo {best + 1} should come first"
    return ScorePart(name="lead photo", points=10.0 if is_good else 10 * share, most=10, why=why)


def _order(photos: Mapping[int, Prediction]) -> ScorePart:
    """Count the pairs of an outside and another photo of which the outside comes first."""
    outside = [index for index, photo in photos.items() if photo.kind and photo.kind.name == "exterior"]
    inside = [index for index in photos if index not in outside]
    pairs = [(one, other) for one in outside for other in inside]
    # Pairs, as Kendall's tau counts: one interior too early costs little, all of them first cost everything.
    right = sum(one < other for one, other in pairs)
    share = right / len(pairs) if pairs else 1.0
    why = "" if share == 1 else "photos of the inside and of details stand before those of the outside"
    return ScorePart(name="order", points=6 * share, most=6, why=why)


def _lost(name: str, indices: Sequence[int], *, each: int, one: str, many: str) -> ScorePart:
    why = f"{_numbers(indices)} {one if len(indices) == 1 else many}" if indices else ""
    return ScorePart(name=name, points=max(0.0, 6.0 - each * len(indices)), most=6, why=why)


def _numbers(indices: Sequence[int]) -> str:
    named = [str(index + 1) for index in indices[:5]] + (["more"] if len(indices) > 5 else [])
    return f"photo{'' if len(indices) == 1 else 's'} {_listed(named)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
