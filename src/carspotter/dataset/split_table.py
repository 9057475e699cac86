"""Read what a split deals out: photos as columns become numbers, with what sources and the last samples say.

Every refusal of columns is raised here. It deals nothing out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from carspotter.dataset.columns import NONE, Columns, Numbers, Texts, Truths, distinct, filled, numbered, texts
from carspotter.errors import DatasetError
from carspotter.records import SPLITS

Given = Literal["auto", "given", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All photos sorted by photo_id, their words as numbers; `tie` is (n_ties, n_photos), NONE where there is none.

    `copy` (n_photos,) is the first of the ties, also of photos that are not to tie their ads.
    """

    photo_id: Texts
    ads: Texts
    ad: Numbers
    classes: Texts
    class_: Numbers
    tie: Numbers
    copy: Numbers
    kept: Truths

    @property
    def usable(self) -> Truths:
        """Return which photos have a class, (n_photos,)."""
        usable: Truths = self.class_ != NONE
        return usable

    @classmethod
    def read(cls, photos: Columns, ties: Sequence[str]) -> Table:
        """Read columns as `split` describes them. Raises DatasetError for those that it refuses."""
        needed = ("photo_id", "ad_id", "class_name", *ties)
        for name in needed:
            if name not in photos:
                raise DatasetError(f"split: column {name!r} is missing; it needs {', '.join(needed)}")
        lengths = {name: len(photos[name]) for name in photos}
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"split: columns differ in length: {lengths}; they must be equally long")
        ids = texts(photos["photo_id"])
        order = _by_name(ids)
        ids = ids[order]
        twice = np.flatnonzero(ids[1:] == ids[:-1])
        if len(twice):
            raise DatasetError(f"split: photo {str(ids[twice[0]])!r} is given twice; give each photo once")
        ads, ad = distinct(texts(photos["ad_id"])[order])
        classes, class_ = numbered(photos["class_name"], order)
        tie, n_ties = [], 0
        for name in ties:
            names, numbers = numbered(photos[name], order)
            # Numbers go on from column to column: a group and a second kind of tie must not meet in one number.
            tie.append(np.where(numbers == NONE, NONE, numbers + n_ties))
            n_ties += len(names)
        found = np.stack(tie) if tie else np.zeros((0, len(ids)), np.intp)
        return cls(
            photo_id=ids,
            ads=ads,
            ad=ad,
            classes=classes,
            class_=class_,
            kept=_flags(photos, "kept", order, otherwise=False),
            tie=np.where(_flags(photos, "tying", order, otherwise=True), found, NONE),
            copy=found[0] if len(found) else np.full(len(ids), NONE, np.intp),
        )


def _flags(photos: Columns, name: str, order: Numbers, *, otherwise: bool) -> Truths:
    """Return a column of truths, one that is not there as a constant."""
    if (flags := photos.get(name)) is None:
        return np.full(len(order), otherwise)
    return np.array([flag is True or flag == 1 for flag in flags], bool)[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The part that each ad is given (n_ads,), NONE where none is; and the photos that are given another one."""

    ad: Numbers
    astray: Truths


def given_parts(table: Table, photos: Columns, split: Given) -> _Given:
    """Read what sources say. Raises DatasetError where `split` is "given" and they say nothing."""
    names = photos.get("given") if split != "new" else None
    part = np.full(len(table.photo_id), NONE, np.intp)
    if names is not None:
        words, null = filled(names)
        order = _by_name(texts(photos["photo_id"]))
        words, null = words[order], null[order]
        for number, name in enumerate(SPLITS):
            part[~null & (words == name)] = number
    if split == "given" and not (part != NONE).any():
        raise DatasetError(
            'split = "given", but no photo is given a part by its source; name a column `split`, or set split = "auto"'
        )
    # Of several parts the highest number is the ad's: test before validation before train.
    ad = np.full(len(table.ads), NONE, np.intp)
    np.maximum.at(ad, table.ad, part)
    return _Given(ad=ad, astray=(part != NONE) & (part != ad[table.ad]))


def _by_name(ids: Texts) -> Numbers:
    """Return the order of photo ids; a catalogue gives them sorted."""
    return np.arange(len(ids)) if (ids[:-1] <= ids[1:]).all() else np.argsort(ids, kind="stable")


def previous_splits(previous: Columns | None, ads: Texts) -> Numbers:
    """Return each ad's split of the last time, or NONE."""
    old = np.full(len(ads), NONE, np.intp)
    if previous is None or len(previous["ad_id"]) == 0:
        return old
    names, null = filled(previous["split"])
    owners = texts(previous["ad_id"])[~null]
    names = names[~null]
    for name in sorted(set(names)):
        if name not in SPLITS:
            raise DatasetError(f"split: the last samples name a split {str(name)!r}; allowed: {', '.join(SPLITS)}")
    for number, name in enumerate(SPLITS):
        # A pass a split over all ads, in place of a dictionary of millions of names.
        mine = np.isin(ads, owners[names == name])
        both = np.flatnonzero(mine & (old != NONE))
        if len(both):
            ad, other = str(ads[both[0]]), SPLITS[old[both[0]]]
            raise DatasetError(
                f"split: the last samples have ad {ad!r} in {other} and in {name}; drop them and split anew"
            )
        old[mine] = number
    return old


def were_samples(previous: Columns | None, photo_id: Texts) -> Truths:
    """Return which photos were samples the last time, (n_photos,)."""
    if previous is None or len(previous["photo_id"]) == 0:
        return np.zeros(len(photo_id), bool)
    _, null = filled(previous["split"])
    were: Truths = np.isin(photo_id, texts(previous["photo_id"])[~null])
    return were
