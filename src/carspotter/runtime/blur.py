"""Find number plates and people's faces on a photo, and hide them so that no filter brings them back.

In: upright pixels. Out: a copy in which each find is a few flat blocks. Two small networks look at the photo at several
sizes; both answer as CenterNet does (Zhou et al. 2019): a map of centres, and a size and an offset for each. What they
find and miss stands in docs/privacy.md. It opens no photo and writes none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from math import ceil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from carspotter.geometry import BoundingBox, suppress
from carspotter.pixels import Pixels, Preprocessing, check_pixels, network_input
from carspotter.runtime.session import Session, open_session

Kind = Literal["plate", "face"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Blur = Callable[[Pixels], Pixels]
"""What takes an upright photo (h, w, 3) and returns a copy without plates and faces."""

BLOCKS = 3
"""Flat blocks along the longer side of what is hidden: letters and features are several times as many."""
STRIDE = 4  # pixels of the network's input for each place of its answer
_MULTIPLE = 32  # both networks halve their input five times
_SAME = 0.3  # overlap (IoU) above which two finds are one
_ALOFT = 0.2  # of the photo's height, from above


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a kind is looked for: sizes of the photo's longer side in pixels, least score, margin as a part of a side.

    Finds below `sure` count only where no other reaches it; those with their middle in the upper fifth of the photo
    need `aloft`.
    """

    sides: tuple[int, ...]
    score: float
    margin: float
    sure: float = 0.0
    aloft: float = 0.0


# Beside a sure plate what is unsure is a grille or a lamp; high up are signs, and marks that sites print on photos.
LOOKS: Mapping[Kind, Look] = {
    "plate": Look(sides=(256, 384, 512, 1024), score=0.3, margin=0.25, sure=0.5, aloft=0.6),
    "face": Look(sides=(384, 960), score=0.35, margin=0.15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A plate or a face: its box in pixels of the photo, and how sure the network is, 0 to 1."""

    kind: Kind
    box: BoundingBox
    score: float


class Blurrer:
    """Both networks, opened; may be used from several threads."""

    def __init__(self, sessions: Mapping[Kind, Session]) -> None:
        """Take an open network for each kind that is looked for."""
        self._sessions = sessions

    @classmethod
    def open(cls, *, threads: int | None = None, folder: Path | None = None) -> Blurrer:
        """Open the networks that ship, or those of a folder; raises BundleError where one is missing."""
        parent = folder or Path(str(resources.files("carspotter") / "models" / "blur"))
        return cls({kind: open_session(parent / f"{kind}s.onnx", threads=threads) for kind in KINDS})

    def find(self, pixels: Pixels) -> tuple[Find, ...]:
        """Return the plates and the faces on an upright sRGB photo (h, w, 3), the surest of each kind first."""
        check_pixels(pixels)
        return tuple(find for kind in KINDS if kind in self._sessions for find in self._found(pixels, kind))

    def blur(self, pixels: Pixels) -> Pixels:
        """Return a copy of an upright sRGB photo (h, w, 3) with its plates and faces hidden."""
        return without(pixels, self.find(pixels))

    def _found(self, pixels: Pixels, kind: Kind) -> list[Find]:
        look, longest = LOOKS[kind], max(pixels.shape[:2])
        # Every size up to the photo's own, and the smallest in any case: what is enlarged shows nothing new.
        sides = [side for side in look.sides if side <= longest] or [look.sides[0]]
        rows = np.concatenate([_rows(self._sessions[kind], pixels, side, look.score) for side in sides])
        height, width = pixels.shape[:2]
        kept = likely(rows[suppress(rows[:, :4], rows[:, 4], _SAME)], look, height)
        return [
            Find(kind=kind, box=BoundingBox(*map(float, row[:4])).clip(width, height), score=float(row[4]))
            for row in kept
        ]


def likely(rows: NDArray[np.float64], look: Look, height: int) -> NDArray[np.float64]:
    """Return those of the corners and scores (n, 5) on a photo `height` pixels high that are worth hiding."""
    scores = rows[:, 4]
    is_aloft = (rows[:, 1] + rows[:, 3]) / 2 < _ALOFT * height
    rows = rows[~is_aloft | (scores >= look.aloft)]
    is_sure = rows[:, 4] >= look.sure
    return rows[is_sure] if is_sure.any() else rows


def without(pixels: Pixels, finds: Iterable[Find]) -> Pixels:
    """Return a copy of pixels (h, w, 3) with these finds hidden, and a margin around each."""
    return hide(pixels, (find.box.pad(LOOKS[find.kind].margin) for find in finds))


def hide(pixels: Pixels, boxes: Iterable[BoundingBox]) -> Pixels:
    """Return a copy of pixels (h, w, 3) in which each box is at most `BLOCKS` x `BLOCKS` blocks of its mean colours."""
    hidden = pixels.copy()
    height, width = pixels.shape[:2]
    for box in boxes:
        inside = box.clip(width, height)
        x1, y1, x2, y2 = int(inside.x1), int(inside.y1), ceil(inside.x2), ceil(inside.y2)
        block = max(1, ceil(max(x2 - x1, y2 - y1) / BLOCKS))
        for top in range(y1, y2, block):
            for left in range(x1, x2, block):
                part = (slice(top, min(top + block, y2)), slice(left, min(left + block, x2)))
                hidden[part] = pixels[part].mean((0, 1)).round().astype(np.uint8)
    return hidden


def _rows(session: Session, pixels: Pixels, side: int, least: float) -> NDArray[np.float64]:
    """Return corners in pixels of the photo and scores (n, 5) of what a network finds at one size of the photo."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    fit = Preprocessing(width=max(1, round(width * scale)), height=max(1, round(height * scale)))
    small = network_input(pixels, fit)
    # Padded at the right and below: the networks halve their input, and places stay where they are.
    room = [(0, -length % _MULTIPLE) for length in small.shape[:2]]
    answers = session.run(np.pad(small, [*room, (0, 0)])[None])
    across, down = width / fit.width, height / fit.height
    found: NDArray[np.float64] = _decoded(answers, least) * np.array([across, down, across, down, 1.0])
    return found


def _decoded(answers: Mapping[str, NDArray[Any]], least: float) -> NDArray[np.float64]:
    """Return corners in pixels of the input and scores (n, 5) of the centres that are surer than their neighbours."""
    heat = answers["heat"][0, 0].astype(np.float64)
    around = np.pad(heat, 1)
    rows, columns = heat.shape
    best = np.max([around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)
    y, x = np.nonzero((heat >= least) & (heat == best))
    # Height before width and y before x, as the network of faces has them; sizes are logarithms.
    tall, wide = np.exp(answers["size"][0][:, y, x].astype(np.float64)) * STRIDE
    down, right = answers["offset"][0][:, y, x].astype(np.float64)
    middle_x, middle_y = (x + right + 0.5) * STRIDE, (y + down + 0.5) * STRIDE
    corners = (middle_x - wide / 2, middle_y - tall / 2, middle_x + wide / 2, middle_y + tall / 2)
    return np.stack([*corners, heat[y, x]], axis=1)
