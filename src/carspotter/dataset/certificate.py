"""Count what stands in more than one split, by samples and the raw facts of their photos.

It looks at the finished samples anew, from ads, bytes and perceptual hashes as they stand in the catalogue, and shares
no reasoning with `split`, whose work it judges. It moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from carspotter.dataset.columns import Columns, Numbers, Texts, distinct, texts
from carspotter.errors import DatasetError
from carspotter.hashes import count_bits, may_repeat
from carspotter.records import SPLITS

_HASH_BITS = 64
_BANDS = 4
_BAND_BITS = _HASH_BITS // _BANDS
MAX_DISTANCE = _BANDS - 1
"""Of two hashes that differ in at most three bits one of four bands is equal, so that no pair is missed."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Offender:
    """What stands in two splits: `kind` is "ad", "exact" or "near", `what` the ad, digest or hashes."""

    kind: str
    what: str
    splits: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.what} in {' and '.join(self.splits)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCertificate:
    """Count ads, exact and near-duplicates across splits; `photos` and `groups` are what was looked at."""

    ads: int
    exact: int
    near: int
    photos: int
    groups: int
    offenders: tuple[Offender, ...] = ()

    def __str__(self) -> str:
        across = f"{_count(self.ads)} ads, {_count(self.exact)} exact, {_count(self.near)} near-duplicates across"
        return (
            f"leak certificate: {across} {' / '.join(SPLITS)} "
            f"({_count(self.photos)} photos, {_count(self.groups)} groups)"
        )

    @property
    def is_clean(self) -> bool:
        """Return whether nothing is in two splits."""
        return not (self.ads or self.exact or self.near)

    def check(self) -> LeakCertificate:
        """Return the certificate when it is clean; raise DatasetError that names the first offenders when not."""
        if self.is_clean:
            return self
        shown = "; ".join(str(offender) for offender in self.offenders[:_SHOWN])
        rest = len(self.offenders) - _SHOWN
        more = f" and {_count(rest)} more" if rest > 0 else ""
        raise DatasetError(f"{self}: {shown}{more}; it must be 0 of each: split again without the last samples")


def certificate(samples: Columns, *, ads: Columns, exact: Columns, near: Columns, distance: int = 0) -> LeakCertificate:
    """Count what is in more than one split, from raw columns; a photo is where its ad is.

    `samples` has photo_id and split, and group_id and status if known (only "ok" counts). `ads` has photo_id and
    ad_id, `exact` photo_id and sha256, `near` photo_id and phash or group_id: of samples or of all photos, whose ads
    then must not be in two splits. `distance` is the bits, 0..3, by which a phash may differ to be near. Raises
    DatasetError for a sample whose ad is not given.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance is {distance}; it must lie in 0..{MAX_DISTANCE}")
    photo_id, split, n_groups = _samples(samples)
    owners = _Owners.of(ads)
    owner = owners.find(photo_id)
    lost = np.flatnonzero(owner == "")
    if len(lost):
        raise DatasetError(f"leak certificate: photo {str(photo_id[lost[0]])!r} has no ad; give `ads` of all samples")
    # From the raw columns alone: groups and ties of the split are what is to be checked.
    where = _Stands.of(photo_id, owner, split)
    offenders = [Offender(kind="ad", what=key, splits=both) for key, both in _across(owner, split)]
    # Each kind is counted by how much longer the list became.
    n_ads = len(offenders)
    offenders += [Offender(kind="exact", what=key, splits=both) for key, both in where.keys(exact, "sha256", owners)]
    n_exact = len(offenders) - n_ads
    name = "phash" if "phash" in near else "group_id"
    found = where.hashes(near, owners, distance) if distance else where.keys(near, name, owners)
    offenders += [Offender(kind="near", what=key, splits=both) for key, both in found]
    return LeakCertificate(
        ads=n_ads,
        exact=n_exact,
        near=len(offenders) - n_ads - n_exact,
        photos=len(photo_id),
        groups=n_groups,
        offenders=tuple(offenders),
    )


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _samples(samples: Columns) -> tuple[Texts, Texts, int]:
    """Return photo_id and split of the samples that count, and how many groups they form."""
    split = texts(samples["split"])
    counts = split != ""
    if "status" in samples:
        counts &= texts(samples["status"]) == "ok"
    n_groups = len(set(texts(samples["group_id"])[counts])) if "group_id" in samples else 0
    return texts(samples["photo_id"])[counts], split[counts], n_groups


def _across(keys: Texts, split: Texts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each key that has more than one split, with its splits."""
    # What stands once stands in one split.
    again = may_repeat(keys)
    keys, split = keys[again], split[again]
    if not len(keys):
        return
    names, number = distinct(split)
    # One number for each (key, split) pair: those that occur, sorted, so that a key's splits stand side by side.
    words, key = distinct(keys)
    pairs = np.unique(key * len(names) + number)
    # How many splits each key has: more than one is a leak.
    of_key, starts, counts = np.unique(pairs // len(names), return_index=True, return_counts=True)
    for at in np.flatnonzero(counts > 1).tolist():
        mine = pairs[starts[at] : starts[at] + counts[at]] % len(names)
        yield str(words[of_key[at]]), tuple(names[mine].tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owners:
    """The ad of each photo, photos sorted."""

    photo_id: Texts
    ad_id: Texts

    @classmethod
    def of(cls, ads: Columns) -> _Owners:
        ids = texts(ads["photo_id"])
        order = np.argsort(ids, kind="stable")  # of what is sorted already, one pass
        return cls(photo_id=ids[order], ad_id=texts(ads["ad_id"])[order])

    def find(self, photo_id: Texts) -> Texts:
        """Return the ad of each photo, "" where it is not known."""
        return _look_up(self.photo_id, self.ad_id, photo_id)


def _look_up(keys: Texts, values: Texts, wanted: Texts) -> Texts:
    if not len(keys):
        return np.full(len(wanted), "", object)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stands:
    """The splits of samples and of ads, sorted; an ad that was split wrongly comes more than once."""

    photo_id: Texts
    photo_split: Texts
    ad_id: Texts
    split: Texts

    @classmethod
    def of(cls, photo_id: Texts, owner: Texts, split: Texts) -> _Stands:
        by_photo = np.argsort(photo_id, kind="stable")
        photo_id, photo_split = photo_id[by_photo], split[by_photo]
        # By ad, then by split: equal pairs stand side by side. Numbers sort faster than texts.
        order = np.lexsort((distinct(split)[1], distinct(owner)[1]))
        owner, split = owner[order], split[order]
        # An ad that stands in one split is kept once; one that was torn apart stays once for each split.
        new = np.ones(len(owner), bool)
        new[1:] = (owner[1:] != owner[:-1]) | (split[1:] != split[:-1])
        return cls(photo_id=photo_id, photo_split=photo_split, ad_id=owner[new], split=split[new])

    def keys(self, columns: Columns, name: str, owners: _Owners) -> list[tuple[str, tuple[str, ...]]]:
        """Return the values of a column whose photos are in more than one split."""
        words = texts(columns[name])
        row, split = self._places(texts(columns["photo_id"]), words != "", owners)
        return list(_across(words[row], split))

    def hashes(self, columns: Columns, owners: _Owners, distance: int) -> list[tuple[str, tuple[str, ...]]]:
        """Return the pairs of perceptual hashes that are near and in different splits."""
        # A photo without a hash is near to none.
        given = columns["phash"]
        if isinstance(given, np.ndarray) and given.dtype.kind == "u" and not np.ma.isMaskedArray(given):
            present, raw = np.ones(len(given), bool), given.astype(np.uint64)
        else:
            present = np.array([value is not None and value is not np.ma.masked for value in given], bool)
            values = [int(value) if known else 0 for value, known in zip(given, present, strict=True)]
            raw = np.array(values, np.uint64)
        row, split = self._places(texts(columns["photo_id"]), present, owners)
        names, number = distinct(split)
        # One row for each hash and split: copies within a split are no leak, and pairs grow with the square.
        rows = np.unique(np.stack([raw[row], number.astype(np.uint64)], axis=1), axis=0)
        found = set(_near_pairs(rows[:, 0], rows[:, 1], distance))
        pairs = [(rows[one], rows[two]) for one, two in sorted(found)]
        return [(f"{a[0]:016x} ~ {b[0]:016x}", (str(names[int(a[1])]), str(names[int(b[1])]))) for a, b in pairs]

    def _places(self, photo_id: Texts, counts: npt.NDArray[np.bool_], owners: _Owners) -> tuple[Numbers, Texts]:
        """Return rows and where they stand: a sample in its split, another photo in every split that has its ad."""
        rows = np.flatnonzero(counts)
        # What is a sample itself stands where it was put.
        own = _look_up(self.photo_id, self.photo_split, photo_id[rows])
        is_sample = own != ""
        others = rows[~is_sample]
        # Any other photo (a copy, an unusable one) stands wherever samples of its ad stand: entries start..stop.
        owner = owners.find(photo_id[others])
        start = np.searchsorted(self.ad_id, owner, side="left")
        stop = np.searchsorted(self.ad_id, owner, side="right")
        # An ad has at most as many entries as there are splits, so that entry 0, 1, 2 are taken in turn.
        found = [np.flatnonzero(start + step < stop) for step in range(len(SPLITS))]
        entry = np.concatenate([start[places] + step for step, places in enumerate(found)])
        at = np.concatenate([rows[is_sample], others[np.concatenate(found)]])
        return at, np.concatenate([own[is_sample], self.split[entry]])


def _near_pairs(
    hashes: npt.NDArray[np.uint64], split: npt.NDArray[np.uint64], distance: int
) -> Iterator[tuple[int, int]]:
    """Yield the rows, smaller first, of hashes within a distance of each other in different splits."""
    for band in range(_BANDS):
        # Hashes that agree in this quarter of their bits become neighbours.
        part = (hashes >> np.uint64(band * _BAND_BITS)) & np.uint64((1 << _BAND_BITS) - 1)
        order = np.argsort(part, kind="stable")
        part = part[order]
        at = np.arange(len(order))
        step = 1
        # Rows of one band value stand side by side: pair each with its next, its second next, … while the value lasts.
        while len(at := at[at + step < len(order)]) and len(at := at[part[at] == part[at + step]]):
            one, two = order[at], order[at + step]
            near = count_bits(hashes[one] ^ hashes[two]) <= distance
            hit = near & (split[one] != split[two])
            for a, b in zip(one[hit].tolist(), two[hit].tolist(), strict=True):
                yield (a, b) if a < b else (b, a)
            step += 1
