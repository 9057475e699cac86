"""What an attribute is learnt from, and how: labelled photos in parts, and the settings. It learns nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from carspotter.errors import DatasetError, suggestion
from carspotter.training.attribute.labels import Labelled

How = Literal["head", "fine-tune", "scratch", "features", "hog"]
HOWS: tuple[str, ...] = get_args(How)
CHUNK = 16
"""Photos that are open at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSettings:
    """What is learnt, and how. Raises DatasetError for an unknown way, or a name that cannot be one."""

    task: str
    how: How = "head"
    backbone: str = ""
    """Of timm, for `features` and `fine-tune`; empty: the shipped identifier's."""
    merge_sides: bool = False
    epochs: int = 0
    """Of a network that is trained; 0: as suits the number of photos."""
    minutes: float = 0.0
    """Wall time that a network may learn; 0: as long as its epochs take."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise DatasetError(f"way {self.how!r} is unknown; {suggestion(self.how, HOWS)}")
        if self.how == "features" and not self.backbone:
            raise DatasetError("features needs --backbone NAME, one of timm's, such as resnet50")
        if self.backbone and self.how not in ("features", "fine-tune"):
            raise DatasetError(f"{self.how} takes no --backbone ({self.backbone}); add --how features or fine-tune")
        if (self.epochs or self.minutes) and not self.learns:
            given = "--epochs" if self.epochs else "--minutes"
            raise DatasetError(f"{self.how} has no epochs: leave {given} out, or add --how fine-tune or scratch")

    @property
    def learns(self) -> bool:
        """Return whether a network is trained, and no head alone."""
        return self.how in ("fine-tune", "scratch")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photos:
    """Labelled photos that can be read, in parts; `words` are the labels by number."""

    rows: tuple[Labelled, ...]
    words: tuple[str, ...]
    of_photo: bool

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Return the number of each photo's label (n,)."""
        return np.array([self.words.index(row.label) for row in self.rows], np.int64)

    def part(self, name: str) -> npt.NDArray[np.bool_]:
        """Mark the photos of a part (n,)."""
        return np.array([row.split == name for row in self.rows], bool)
