"""How photos are changed at random while they are learnt: settings, and choices of them by name.

`augment = "light"` in a recipe takes a named choice; a table `[augment]` with `name = "light"` takes it, too, and
overrides single values of it. Changing the pixels is the business of `identifier.data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carspotter.errors import RecipeError, suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How much a batch is changed at random; 0 switches a change off."""

    name: str = ""
    """The named choice (`NAMED`) whose values stand where a recipe says nothing itself; empty: these defaults."""
    min_area: float = 0.5
    """Smallest part of the photo's area that a random crop keeps."""
    zoom_out: float = 0.05
    """A crop may reach this part of the side beyond the photo, as a loose box does."""
    aspect: float = 0.15
    """Largest change of the aspect ratio, as a logarithm."""
    rotate: float = 5.0
    """Largest turn in degrees."""
    flip: float = 0.5
    """Share of photos that are mirrored."""
    color: float = 0.3
    """Largest change of brightness, contrast and saturation, as a part."""
    gray: float = 0.05
    """Share of photos without colour."""
    erase: float = 0.25
    """Share of photos with a rectangle (2 to 20 % of the area) replaced by noise."""
    mixup: float = 0.0
    """Two photos blended: the parameter of the Beta distribution their shares are drawn from."""
    cutmix: float = 0.0
    """A window of one photo pasted into another: likewise."""
    mix: float = 1.0
    """Share of batches that are mixed, where `mixup` or `cutmix` is not 0."""
    randaugment: int = 0
    """RandAugment: changes a photo, out of torchvision's fourteen."""
    randaugment_strength: int = 9
    """How much each of them changes, 0 to 30."""


_LIGHT = {"min_area": 0.75, "zoom_out": 0.08, "aspect": 0.1, "rotate": 4.0, "color": 0.15, "gray": 0.02, "erase": 0.1}
NAMED: Mapping[str, Mapping[str, float]] = {
    "none": dict.fromkeys(("zoom_out", "aspect", "rotate", "flip", "color", "gray", "erase"), 0.0) | {"min_area": 1.0},
    # For few photos and a network that has seen many cars.
    "light": _LIGHT,
    # For many epochs from ImageNet's weights or from none: also mixed photos, as in Wightman et al. (2021).
    "strong": {
        "min_area": 0.25,
        "aspect": 0.25,
        "rotate": 10.0,
        "color": 0.4,
        "gray": 0.1,
        "erase": 0.3,
        "mixup": 0.2,
        "cutmix": 1.0,
    },
    # RandAugment with N = 2, M = 9 (Cubuk et al. 2020). It turns and recolours by itself.
    "randaugment": {"randaugment": 2, "randaugment_strength": 9, "rotate": 0.0, "color": 0.0, "gray": 0.0},
}


def as_table(value: Any) -> Any:
    """Return the setting `augment` as a table: a name alone is a table with that name."""
    return {"name": value} if isinstance(value, str) else value


def filled(value: Any, where: str) -> Any:
    """Return a table of settings with the values of the choice that it names. Raises RecipeError for another name."""
    table = as_table(value)
    name = table.get("name", "") if isinstance(table, dict) else ""
    if not name:
        return table
    if name not in NAMED:
        raise RecipeError(f"{where}: augment: {name!r} is unknown; {suggestion(str(name), NAMED)}")
    return {**NAMED[name], **table}
