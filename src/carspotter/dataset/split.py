"""Deal photos out to splits, so that no ad and no duplicate is in two.

A **group** is a connected component of ads and ties, a tie being a duplicate group that photos share; all photos of
the catalogue tie, used or not. Groups are dealt out class by class. What stands in a split stays there when listings
are added; an ad that would tie two splits is left out. It opens no catalogue and does not judge its own work:
`certificate` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from carspotter.dataset.columns import NONE, Columns, Numbers, Truths
from carspotter.dataset.dealing import deal
from carspotter.dataset.split_table import Given, Table, given_parts, previous_splits, were_samples
from carspotter.dataset.ties import Graph, components, follow, untie
from carspotter.errors import suggestion
from carspotter.records import SPLITS

# Fractions written as decimals add up to 1 within some units of the last place.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSettings:
    """Which share of each class's photos goes where."""

    split: Given = "auto"
    """The parts that sources give photos: keep them and deal out the rest (auto), the same and an error where there
    is none (given), or ignore them (new)."""
    train: float = 0.70
    """Share of photos to learn from."""
    validation: float = 0.15
    """Share of photos to choose and calibrate by."""
    test: float = 0.15
    """Share of photos to measure on."""
    seed: int = 0
    """Chooses among splits that are equally good."""

    def __post_init__(self) -> None:
        if self.split not in get_args(Given):
            raise ValueError(f"split is {self.split!r}; {suggestion(str(self.split), get_args(Given))}")
        for name, share in zip(SPLITS, self.shares, strict=True):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it must lie in 0..1")
        if self.train == 0:
            raise ValueError("train is 0; it must be more, or nothing can be learned")
        if abs(sum(self.shares) - 1) > _ROUNDING:
            raise ValueError(f"train, validation and test add up to {sum(self.shares):g}; they must add up to 1")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Return the three shares in the order of `SPLITS`."""
        return self.train, self.validation, self.test


def split(
    photos: Columns,
    *,
    previous: Columns | None = None,
    settings: SplitSettings | None = None,
    ties: Sequence[str] = ("group_id",),
) -> dict[str, list[Any]]:
    """Deal groups of ads out to the splits; return the columns of table `samples`, by photo_id.

    `photos` has all photos of the catalogue, equally long columns: photo_id, ad_id, class_name (None: not usable, it
    only ties), the columns named in `ties` (None: ties nothing) and, if wanted, `kept` (of a group's usable photos
    the kept one becomes the sample), `tying` (False: of its copies one is the sample, but they tie no ads) and `given`
    (the part that a source puts the photo in, or None; it counts more than `previous`. An ad, or ads with a common
    tie, that are given several parts stay in test before validation before train; what was given another part is a
    "bridge"). `previous` has photo_id, ad_id and split of the last samples, whatever their status; they never move.
    The rows are those with a class; status is "ok", "duplicate" (another copy is the sample, no split) or "bridge"
    (the ad's duplicates tie two splits; the split is where the ad stood before, if anywhere).
    The order of rows decides nothing. Raises DatasetError for missing columns, a photo given twice, or a `previous`
    that has one ad in two splits.
    """
    settings = settings or SplitSettings()
    table = Table.read(photos, ties)
    graph = Graph.of(table.ad, table.tie, len(table.ads))
    given = given_parts(table, photos, settings.split)
    # What a source says stands above where an ad stood before.
    last = np.where(given.ad == NONE, previous_splits(previous, table.ads), given.ad)
    # First the ads that stand somewhere: those that new photos now tie across splits lose their place.
    old, lost = untie(graph, last)
    # Then the new ones: who is tied to an old ad goes where it is; who ties two splits goes nowhere.
    held, bridging = follow(graph, old)
    blocked = lost | bridging
    # Blocked ads tie nothing any more, so that the groups of the others are small and can be dealt out.
    groups = components(graph, ~blocked[graph.ad])
    usable = table.usable & ~blocked[table.ad] & ~given.astray
    copy_of = _copies(table, usable, were_samples(previous, table.photo_id))
    chosen = usable & (copy_of == NONE)
    placed = deal(table, groups, chosen, held=held, shares=settings.shares, seed=settings.seed)
    # A bridge has no samples; the table says where it stood, so that it can come back there.
    placed = np.where(lost, last, placed)
    return _rows(table, groups, placed, bridges=blocked[table.ad] | given.astray, copy_of=copy_of)


def _copies(table: Table, usable: Truths, sampled: Truths) -> Numbers:
    """Return for each photo the copy that is used as the sample instead of it, or NONE.

    One usable photo of each tie is the sample: one that was a sample before, else the kept one, else the first. Only
    the first column of ties says that photos are copies.
    """
    copy_of = np.full(len(table.photo_id), NONE, np.intp)
    rows = np.flatnonzero(usable & (table.copy != NONE))
    tie = table.copy[rows]
    # By tie, then the best candidate first: the last key is the first to sort by.
    order = np.lexsort((rows, ~table.kept[rows], ~sampled[rows], tie))
    rows, tie = rows[order], tie[order]
    is_first = np.diff(tie, prepend=NONE) != 0
    # The running count of firsts is the number of the tie that each row belongs to.
    leader = rows[np.flatnonzero(is_first)][np.cumsum(is_first) - 1]
    copy_of[rows[~is_first]] = leader[~is_first]
    return copy_of


def _rows(table: Table, groups: Numbers, placed: Numbers, *, bridges: Truths, copy_of: Numbers) -> dict[str, list[Any]]:
    rows = np.flatnonzero(table.usable)
    ad = table.ad[rows]
    is_bridge, is_copy = bridges[rows], copy_of[rows] != NONE
    status = np.where(is_bridge, "bridge", np.where(is_copy, "duplicate", "ok"))
    message = np.full(len(rows), None, object)
    message[is_bridge] = (
        "its ad or the ad's duplicates tie two splits; it is left out so that nothing moves and nothing leaks"
    )
    copies = np.flatnonzero(is_copy)
    for at, source in zip(copies.tolist(), table.photo_id[copy_of[rows[copies]]].tolist(), strict=True):
        message[at] = f"a copy of {source}"
    names = np.array([*SPLITS, None], object)[np.where(is_copy, NONE, placed[ad])]
    group = table.ads[groups[ad]]
    group[is_bridge] = None  # it was left out of the graph, so that its number there says nothing
    return {
        "photo_id": table.photo_id[rows].tolist(),
        "ad_id": table.ads[ad].tolist(),
        "class_name": table.classes[table.class_[rows]].tolist(),
        "group_id": group.tolist(),
        "split": names.tolist(),
        "status": status.tolist(),
        "message": message.tolist(),
    }
