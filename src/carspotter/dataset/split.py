"""Deal photos out to splits, so that no ad and no duplicate is in two.

A **group** is a connected component of ads and ties, a tie being a duplicate group that photos share; all photos of
the catalogue tie, used or not. Groups are dealt out class by class. What stands in a split stays there when listings
are added; an ad that would tie two splits is left out. It opens no catalogue and does not judge its own work:
`certificate` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from carspotter.dataset.columns import NONE, Columns, Numbers, Texts, Truths, distinct, filled, numbered, texts
from carspotter.errors import DatasetError, MissingExtraError, suggestion
from carspotter.records import SPLITS

# Fractions written as decimals add up to 1 within some units of the last place.
_ROUNDING = 1e-6
# With fewer groups a class cannot stand in each of three splits.
_GROUPS_FOR_ALL = len(SPLITS)


Given = Literal["auto", "given", "new"]


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
    the kept one becomes the sample) and `given` (the part that a source puts the photo in, or None; it counts more
    than `previous`. An ad, or ads with a common tie, that are given several parts stay in test before validation
    before train; what was given another part is a "bridge"). `previous` has photo_id, ad_id and split of the last
    samples, whatever their status; they never move. The rows are those with a class; status is "ok", "duplicate"
    (another copy is the sample, no split) or "bridge" (the ad's duplicates tie two splits; the split is where the ad
    stood before, if anywhere).
    The order of rows decides nothing. Raises DatasetError for missing columns, a photo given twice, or a `previous`
    that has one ad in two splits.
    """
    settings = settings or SplitSettings()
    table = _Table.read(photos, ties)
    graph = _Graph.of(table, len(ties))
    given = _given(table, photos, settings)
    # What a source says stands above where an ad stood before.
    last = np.where(given.ad == NONE, _previous_splits(previous, table.ads), given.ad)
    # First the ads that stand somewhere: those that new photos now tie across splits lose their place.
    old, lost = _untie(graph, last)
    # Then the new ones: who is tied to an old ad goes where it is; who ties two splits goes nowhere.
    held, bridging = _follow(graph, old)
    blocked = lost | bridging
    # Blocked ads tie nothing any more, so that the groups of the others are small and can be dealt out.
    groups = _components(graph, ~blocked[graph.ad])
    usable = table.usable & ~blocked[table.ad] & ~given.astray
    copy_of = _copies(table, usable, _were_samples(previous, table.photo_id))
    chosen = usable & (copy_of == NONE)
    placed = _deal(table, groups, chosen, held=held, settings=settings)
    # A bridge has no samples; the table says where it stood, so that it can come back there.
    placed = np.where(lost, last, placed)
    return _rows(table, groups, placed, bridges=blocked[table.ad] | given.astray, copy_of=copy_of)


# ---- reading columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """All photos sorted by photo_id, their words as numbers; `tie` is (n_ties, n_photos), NONE where there is none."""

    photo_id: Texts
    ads: Texts
    ad: Numbers
    classes: Texts
    class_: Numbers
    tie: Numbers
    kept: Truths

    @property
    def usable(self) -> Truths:
        usable: Truths = self.class_ != NONE
        return usable

    @classmethod
    def read(cls, photos: Columns, ties: Sequence[str]) -> _Table:
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
        kept = photos.get("kept")
        flags = np.zeros(len(ids), bool) if kept is None else np.array([k is True or k == 1 for k in kept], bool)[order]
        return cls(
            photo_id=ids,
            ads=ads,
            ad=ad,
            classes=classes,
            class_=class_,
            kept=flags,
            tie=np.stack(tie) if tie else np.zeros((0, len(ids)), np.intp),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The part that each ad is given (n_ads,), NONE where none is; and the photos that are given another one."""

    ad: Numbers
    astray: Truths


def _given(table: _Table, photos: Columns, settings: SplitSettings) -> _Given:
    names = photos.get("given") if settings.split != "new" else None
    part = np.full(len(table.photo_id), NONE, np.intp)
    if names is not None:
        words, null = filled(names)
        order = _by_name(texts(photos["photo_id"]))
        words, null = words[order], null[order]
        for number, name in enumerate(SPLITS):
            part[~null & (words == name)] = number
    if settings.split == "given" and not (part != NONE).any():
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


def _previous_splits(previous: Columns | None, ads: Texts) -> Numbers:
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


def _were_samples(previous: Columns | None, photo_id: Texts) -> Truths:
    if previous is None or len(previous["photo_id"]) == 0:
        return np.zeros(len(photo_id), bool)
    _, null = filled(previous["split"])
    were: Truths = np.isin(photo_id, texts(previous["photo_id"])[~null])
    return were


# ---- ties


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """Edges between ads and ties, (n_edges,) each."""

    ad: Numbers
    tie: Numbers
    n_ads: int
    n_ties: int

    @classmethod
    def of(cls, table: _Table, n_columns: int) -> _Graph:
        ad = np.tile(table.ad, n_columns)
        tie = table.tie.reshape(-1)
        real = tie != NONE
        n_ties = int(tie.max(initial=NONE)) + 1
        return cls(ad=ad[real], tie=tie[real], n_ads=len(table.ads), n_ties=n_ties)


def _bits(splits: Numbers) -> npt.NDArray[np.uint8]:
    """Return 1 << split, and 0 for NONE."""
    return np.where(splits == NONE, 0, 1 << np.maximum(splits, 0)).astype(np.uint8)


def _untie(graph: _Graph, old: Numbers) -> tuple[Numbers, Truths]:
    """Return the old splits without the ads that now share a tie across splits, and those ads.

    New photos can show two old ads to be one. Test is kept before validation, validation before train: what was
    measured stays comparable, and train has most to lose from.
    """
    # The split with the highest number that any ad of the tie stands in: test before validation before train.
    best = np.full(graph.n_ties, NONE, np.intp)
    np.maximum.at(best, graph.tie, old[graph.ad])
    loses = (old[graph.ad] != NONE) & (old[graph.ad] < best[graph.tie])
    lost = np.zeros(graph.n_ads, bool)
    lost[graph.ad[loses]] = True
    return np.where(lost, NONE, old), lost


def _follow(graph: _Graph, old: Numbers) -> tuple[Numbers, Truths]:
    """Return the split that each ad must have, old or by a tie to one, or NONE; and which ads tie two splits."""
    fresh = old[graph.ad] == NONE
    label = _labels(graph, fresh)
    # A bit for each split that old ads bring into a component of new ones.
    seen = np.zeros(int(label.max(initial=0)) + 1, np.uint8)
    np.bitwise_or.at(seen, label[graph.n_ads + graph.tie[~fresh]], _bits(old[graph.ad[~fresh]]))
    mask = seen[label[: graph.n_ads]]
    # Of the eight sets of splits, those with one member say where the new ads must go.
    one = np.array([NONE, 0, 1, NONE, 2, NONE, NONE, NONE], np.intp)
    held = np.where(old == NONE, one[mask], old)
    several = np.array([bin(bits).count("1") > 1 for bits in range(1 << len(SPLITS))])
    return held, several[mask] & (old == NONE)


def _labels(graph: _Graph, edges: Truths) -> Numbers:
    """Return the component of each ad, then of each tie, over the edges given, (n_ads + n_ties,)."""
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    except ImportError as error:
        raise MissingExtraError("scipy", "data") from error
    # Ads and ties are the two sides of one graph; a component holds all ads that share ties, at any distance.
    size = graph.n_ads + graph.n_ties
    ends = (graph.ad[edges], graph.n_ads + graph.tie[edges])
    matrix = coo_array((np.ones(len(ends[0]), np.uint8), ends), shape=(size, size)).tocsr()
    _, label = connected_components(matrix, directed=False)
    return np.asarray(label, dtype=np.intp)


def _components(graph: _Graph, edges: Truths) -> Numbers:
    """Return for each ad the first ad of its group."""
    label = _labels(graph, edges)[: graph.n_ads]
    # Named by its first ad, not by its number in this graph: another ad elsewhere changes no group's lot.
    first = np.full(int(label.max(initial=0)) + 1, graph.n_ads, np.intp)
    np.minimum.at(first, label, np.arange(graph.n_ads))
    return first[label]


def _copies(table: _Table, usable: Truths, were_samples: Truths) -> Numbers:
    """Return for each photo the copy that is used as the sample instead of it, or NONE.

    One usable photo of each tie is the sample: one that was a sample before, else the kept one, else the first. Only
    the first column of ties says that photos are copies.
    """
    copy_of = np.full(len(table.photo_id), NONE, np.intp)
    if not len(table.tie):
        return copy_of
    rows = np.flatnonzero(usable & (table.tie[0] != NONE))
    tie = table.tie[0, rows]
    # By tie, then the best candidate first: the last key is the first to sort by.
    order = np.lexsort((rows, ~table.kept[rows], ~were_samples[rows], tie))
    rows, tie = rows[order], tie[order]
    is_first = np.diff(tie, prepend=NONE) != 0
    # The running count of firsts is the number of the tie that each row belongs to.
    leader = rows[np.flatnonzero(is_first)][np.cumsum(is_first) - 1]
    copy_of[rows[~is_first]] = leader[~is_first]
    return copy_of


# ---- dealing out


def _deal(table: _Table, groups: Numbers, chosen: Truths, *, held: Numbers, settings: SplitSettings) -> Numbers:
    """Return the split of each ad's group, (n_ads,), NONE for groups without a sample."""
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
        np.bincount(class_, weights=photos, minlength=len(table.classes)).tolist(), n_groups=n_groups, settings=settings
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
        return *rarest, -sum(n for _, n in contents[g]), _draw(settings.seed, str(table.ads[g]))

    for g in sorted(free, key=turn):
        placed[g] = dealer.put(contents[g], dealer.choose(contents[g]))
    return placed[groups]


def _draw(seed: int, group: str) -> bytes:
    """Return a group's lot, the same for the same seed on every machine."""
    return blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()


class _Dealer:
    """What each class still lacks in each split: a share of its photos, and any group at all."""

    def __init__(self, photos: Sequence[float], *, n_groups: Numbers, settings: SplitSettings) -> None:
        self._photos = photos
        self._lacks = [list(settings.shares) for _ in photos]
        self._left = n_groups.tolist()
        in_use = [number for number, share in enumerate(settings.shares) if share > 0]
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


# ---- rows


def _rows(
    table: _Table, groups: Numbers, placed: Numbers, *, bridges: Truths, copy_of: Numbers
) -> dict[str, list[Any]]:
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
