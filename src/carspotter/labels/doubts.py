"""Write doubtful labels and outliers to `labels/doubts.csv`, which a review asks first and a spreadsheet may answer.

    photo_id,ad_id,given,decision,becomes_make,becomes_model,becomes_generation,becomes_year,said_by,…

A row without `photo_id` is about its whole ad. It finds no doubts (`noise`, `outliers`) and decides none (`review`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from carspotter import storage
from carspotter.labels.corrections import BECOMES, to_csv
from carspotter.taxonomy import Taxon

NEEDED = ("photo_id", "ad_id", "decision", *BECOMES[:2])
COLUMNS = (
    "photo_id",
    "ad_id",
    "given",
    "decision",
    *BECOMES,
    "said_by",
    "why",
    "given_probability",
    "suggested_probability",
    "score",
    "shown",
)

LABEL = "label"
"""Why a row is there, unless it is an outlier's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A photo, or a whole ad where `is_ad`, whose label or looks are to be doubted.

    `given` is the class's name, `suggested` what it may be instead. `score` is a label's quality (low is doubtful) or
    an outlier's score (high is unlike its class); `why` is "label", "alone" or "small cluster".
    """

    photo_id: str
    given: str
    score: float
    ad_id: str | None = None
    is_ad: bool = False
    suggested: Taxon | None = None
    given_probability: float | None = None
    suggested_probability: float | None = None
    why: str = LABEL

    def cells(self) -> dict[str, str]:
        """Return the row of the CSV file, its decision still empty."""
        part = self.suggested.to_dict() if self.suggested is not None else {}
        becomes = {name: str(part.get(name.removeprefix("becomes_"), "")) for name in BECOMES}
        return {
            "photo_id": "" if self.is_ad else self.photo_id,
            "ad_id": self.ad_id or "",
            "given": self.given,
            "decision": "",
            **becomes,
            "said_by": "",
            "why": self.why,
            "given_probability": _number(self.given_probability),
            "suggested_probability": _number(self.suggested_probability),
            "score": _number(self.score),
            "shown": self.photo_id,
        }


def write_doubts(path: str | Path, doubts: Iterable[Doubt]) -> None:
    """Write doubts as CSV, `decision` empty. Raises StorageError."""
    storage.write(path, to_csv([doubt.cells() for doubt in doubts], COLUMNS).encode("utf-8-sig"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
