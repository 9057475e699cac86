"""Deal groups of ads out to the splits, so that each class has its shares.

It does not know why ads are one group, nor what stood where before: some groups come with a split that they keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from carspotter.dataset.columns import NONE, Numbers, Truths
from carspotter.dataset.split_table import Table
from carspotter.records import SPLITS

# With fewer groups a class cannot stand in each of three splits.
_GROUPS_FOR_ALL = len(SPLITS)


def deal(
    table: Table, groups: Numbers, chosen: Truths, *, held: Numbers, shares: Sequence[float], seed: int
) -> Numbers:
    """Return the split of each ad's group, (n_ads,), NONE for groups without a sample.

    `groups` (n_ads,) are numbers of groups, `chosen` (n_photos,) the photos that count, `held` (n_ads,) the split that
    an ad must have, or NONE; `shares` are those of the splits.
    """
    placed = np.full(len(table.ads), NONE, np.intp)
    # One number for each (group, class), to count its photos in one pass.
    pairs = groups[table.ad[chosen]] * max(len(table.classes), 1) + table.class_[chosen]
    pair, photos = np.unique(pairs, return_counts=True)
    group, class_ = pair // max(len(table.classes), 1), pair % max(len(table.classes), 1)
    # All held ads of a group are held to one split: the maximum passes over NONE alone.
    fixed = np.full(len(table.ads), NONE, np.intp)
    np.maximum.at(fixed, groups, held)
    n_groups = np.bincount(class_, minlength=len(table.classes))
    contents: dict[int, list[tuple[int, int]]] = {}
    for g, c, n in zip(group.tolist(), class_.tolist(), photos.tolist(), strict=True):
        contents.setdefault(g, []).append((c, n))
    dealer = _Dealer(
        np.bincount(class_, weights=photos, minlength=len(table.classes)).tolist(), n_groups=n_groups, shares=shares
    )
    free = []
    for g, content in contents.items():
        if fixed[g] == NONE:
            free.append(g)
        else:
            placed[g] = dealer.put(content, int(fixed[g]))

    # Groups of rare classes first, while every split still has room for them; then the large ones, which fit nowhere
    # once all is nearly full; equals by lot.
    def turn(g: int) -> tuple[int, int, int, bytes]:
        rarest = min((int(n_groups[c]), c) for c, _ in contents[g])
        return *rarest, -sum(n for _, n in contents[g]), _draw(seed, str(table.ads[g]))

    for g in sorted(free, key=turn):
        placed[g] = dealer.put(contents[g], dealer.choose(contents[g]))
    return placed[groups]


def _draw(seed: int, group: str) -> bytes:
    """Return a group's lot, the same for the same seed on every machine."""
    return blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()


class _Dealer:
    """What each class still lacks in each split: a share of its photos, and any group at all."""

    def __init__(self, photos: Sequence[float], *, n_groups: Numbers, shares: Sequence[float]) -> None:
        self._photos = photos
        self._lacks = [list(shares) for _ in photos]
        self._left = n_groups.tolist()
        in_use = [number for number, share in enumerate(shares) if share > 0]
        self._empty = [set(in_use) if n >= _GROUPS_FOR_ALL else {0} for n in self._left]
        self._in_use = in_use

    def put(self, content: Sequence[tuple[int, int]], split: int) -> int:
        """Note that a group of (class, photos) is in a split; return the split."""
        for class_, photos in content:
            # In shares of the class, so that a class of ten photos counts as much as one of ten thousand.
            self._lacks[class_][split] -= photos / self._photos[class_]
            self._left[class_] -= 1
            self._empty[class_].discard(split)
        return split

    def choose(self, content: Sequence[tuple[int, int]]) -> int:
        """Return the split that lacks a group's photos most, among those that a class would else stay out of."""
        urgent: set[int] = set()
        for class_, _ in content:
            # No more groups are left than splits without any: each of them must go into one of these.
            if len(self._empty[class_]) >= self._left[class_]:
                urgent |= self._empty[class_]
        if 0 in urgent:  # a class that is not in train cannot be learned at all
            return 0
        return max(sorted(urgent) or self._in_use, key=lambda s: sum(self._lacks[class_][s] for class_, _ in content))
