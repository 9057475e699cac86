"""Choose which photos are held out, and which part is learnt from, by hashes of names: seeds and order do not count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from carspotter.training.identifier.source import Ints, LabelledPhotos

Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


def hashes(names: Iterable[str]) -> Hashes:
    """Return a number of each name (n,): a shuffle that depends on the names alone."""
    # Eight bytes in place of a name: of ten million photos they take 80 MB.
    found = (hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8] for name in names)
    return np.fromiter((int.from_bytes(each, "big") for each in found), np.uint64)


def held_out(targets: Ints, groups: Hashes, part: float) -> Bools:
    """Mark what is held out (n,): of each target the groups with the smallest hashes.

    It depends on the groups alone, so that it is the same for every seed. No group is in both; each target with more
    than one group keeps at least one to learn from, and gives one where none of its groups is held out already.
    """
    # In the order of their hashes: new photos do not move the old ones about.
    names, group = np.unique(groups, return_inverse=True)
    held = np.zeros(len(names), bool)
    for photos in _by_target(targets):
        members = np.unique(group[photos])
        # The only group of a class is learnt from: a class that was never learnt could only be answered wrong.
        if len(members) > 1:
            count = min(max(1, round(part * len(members))), len(members) - 1)
            # A group with photos of several classes may be held out already, on behalf of another class.
            free = members[~held[members]]
            held[free[: max(0, count - int(held[members].sum()))]] = True
    return held[group]


def part_of(targets: Ints, names: Hashes, part: float) -> Bools:
    """Mark a part of each target's photos (n,), at least one, those with the largest hashes: for data curves."""
    kept = np.zeros(len(targets), bool)
    for photos in _by_target(targets):
        kept[photos[np.argsort(names[photos])[::-1][: max(1, round(part * len(photos)))]]] = True
    return kept


def split_holdout(photos: LabelledPhotos, part: float) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Return what is learnt from and what is held out (`held_out`)."""
    chosen = held_out(photos.targets, hashes(photos.groups or photos.paths), part)
    return photos.take(~chosen), photos.take(chosen)


def take_fraction(photos: LabelledPhotos, part: float) -> LabelledPhotos:
    """Keep a part of each target's photos (`part_of`)."""
    return photos.take(part_of(photos.targets, part_hashes(photos.paths), part))


def part_hashes(names: Iterable[str]) -> Hashes:
    """Return the numbers by which `part_of` chooses: of other words, since it must not follow what is held out."""
    return hashes(f"part {name}" for name in names)


def _by_target(targets: Ints) -> Iterator[Ints]:
    """Yield the places of each target's photos, targets in order."""
    order = np.argsort(targets, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(targets[order])) + 1) if len(order) else ()
