"""Labels of an attribute: a CSV `photo,label` or folders, one a label, in; rows with their parts out.

Photos of one group (an ad, a file that stands there twice) are never torn apart: a group learns, chooses or is judged.
It opens no photo.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from carspotter import storage
from carspotter.csv_rows import box_of, csv_text, read_csv
from carspotter.errors import DatasetError, StorageError, suggestion
from carspotter.geometry import SIDES, BoundingBox
from carspotter.headers import SUFFIXES
from carspotter.records import SPLITS, split_name

COLUMNS = ("path", "label", "split", "group", *SIDES)
GROUP = "group "
"""Begins the name of a group that was given; others are files that belong to nobody."""
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
MERGED = {"front-left": "front-side", "front-right": "front-side", "left": "side", "right": "side"}
MERGED |= {"back-left": "back-side", "back-right": "back-side"}
"""Five sides of eight: left and right are one, so that a mirrored photo keeps its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A photo with its label; `group` names what it belongs to, `split` its part, "" until it is dealt out.

    `digest` is the SHA-256 of the file, "" until it is read.
    """

    path: Path
    label: str
    group: str = ""
    split: str = ""
    box: BoundingBox | None = None
    digest: str = ""


def read_table(path: Path, column: str) -> list[Labelled]:
    """Read a CSV: `photo` (or `path`), the attribute's column or `label`; `ad_id` or `group`, `split` and a box may be.

    Rows with an empty label are left out. Raises DatasetError for a column that is not there, or an impossible value.
    """
    rows = read_csv(path, (), error=DatasetError)
    names = list(rows[0][1])
    photo = next((name for name in ("photo", "path") if name in names), None)
    if photo is None:
        raise DatasetError(f"{path}: no column photo or path; it has {', '.join(names)}")
    label = next((name for name in (column, "label") if name in names), None)
    if label is None:
        raise DatasetError(f"{path}: no column {column!r}, and none called label; {suggestion(column, names)}")
    group = next((name for name in ("group", "ad_id") if name in names), None)
    found = [
        Labelled(
            path=path.parent / row[photo],
            label=row[label],
            group=row[group] if group else "",
            split=_split(row.get("split", ""), f"{path} line {line}"),
            box=box_of(row, error=DatasetError, where=f"{path} line {line}"),
        )
        for line, row in rows
        if row[label]
    ]
    if not found:
        raise DatasetError(f"{path}: column {label!r} is empty in all {len(rows)} rows; label some first")
    return found


def read_folders(folder: Path) -> list[Labelled]:
    """Read folders, one a label, with the photos below each. Raises DatasetError where there is no such folder."""
    labels = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    found = [
        Labelled(path=path, label=label.name)
        for label in labels
        for path in sorted(label.rglob("*"))
        if path.is_file() and path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise DatasetError(f"{folder}: no folder in it holds a photo; make one folder a label, with its photos inside")
    return found


def write_table(path: Path, rows: Iterable[Labelled]) -> None:
    """Write rows as `read_table` and a recipe read them, with absolute paths."""
    cells = (
        {"path": row.path.resolve(), "label": row.label, "split": row.split, "group": row.group}
        | dict(zip(SIDES, row.box.to_list() if row.box else (), strict=False))
        for row in rows
    )
    storage.write(path, csv_text(cells, COLUMNS).encode())


def check_labels(rows: Sequence[Labelled], name: str) -> dict[str, int]:
    """Return the photos of each label, most first. Raises DatasetError for fewer than two labels with two photos."""
    counts = dict(Counter(row.label for row in rows).most_common())
    if len(counts) < 2:
        only = f"all {len(rows)} photos say {next(iter(counts))!r}" if counts else "no photo has a label"
        raise DatasetError(f"{name}: {only}; at least two labels with three photos each are needed")
    if sum(n >= 3 for n in counts.values()) < 2:
        raise DatasetError(f"{name}: {_listed(counts)}; at least two labels with three photos each are needed")
    return counts


def without_repeats(rows: Sequence[Labelled]) -> tuple[list[Labelled], list[str]]:
    """Keep one row of a photo and box that stand twice; of those with two labels keep none, and say which.

    Nobody knows which of two labels is meant, and one photo must not be counted twice.
    """
    labels: dict[tuple[Path, BoundingBox | None], set[str]] = defaultdict(set)
    first: dict[tuple[Path, BoundingBox | None], Labelled] = {}
    for row in rows:
        labels[row.path, row.box].add(row.label)
        first.setdefault((row.path, row.box), row)
    torn = {key: " and ".join(sorted(said)) for key, said in labels.items() if len(said) > 1}
    return (
        [row for key, row in first.items() if key not in torn],
        [f"{path}: labelled {said}; keep one" for (path, _), said in torn.items()],
    )


def without_odd_names(rows: Sequence[Labelled]) -> tuple[list[Labelled], list[str]]:
    """Keep the photos whose paths are text, as tables and reports must be; say which others there are."""
    # Bytes that are no UTF-8 are half characters in Python's paths, which come out changed.
    odd = {row.path for row in rows if (name := str(row.path.resolve())).encode(errors="replace").decode() != name}
    return (
        [row for row in rows if row.path not in odd],
        [f"{str(path)!a}: its name is no UTF-8; rename it" for path in sorted(odd)],
    )


def deal_out(rows: Sequence[Labelled], seed: int = 0) -> list[Labelled]:
    """Give each row a part: the one that it, or another of its group, has already, else by shares, label by label.

    A label's groups go to `train`, `test` and `validation` in turn until each has one, and then where most is lacking.
    """
    groups = _groups(rows)
    of_group: dict[str, list[Labelled]] = defaultdict(list)
    for row, group in zip(rows, groups, strict=True):
        of_group[group].append(row)
    parts: dict[str, str] = {}
    by_label: dict[str, list[str]] = defaultdict(list)
    for group, members in of_group.items():
        given = [row.split for row in members if row.split]
        # Of several parts the last: what is to be judged must not be learnt from.
        if given:
            parts[group] = max(given, key=SPLITS.index)
        by_label[Counter(row.label for row in members).most_common(1)[0][0]].append(group)
    has_parts = len(parts) == len(of_group)
    for label in sorted(by_label):
        _deal(sorted(by_label[label], key=lambda group: _hash(seed, group)), parts, of_group, done=has_parts)
    return [replace(row, group=group, split=parts[group]) for row, group in zip(rows, groups, strict=True)]


def _deal(
    order: Sequence[str], parts: dict[str, str], of_group: Mapping[str, Sequence[Labelled]], *, done: bool
) -> None:
    if done:
        return
    have = Counter[str]()
    for group in order:
        if group in parts:
            have[parts[group]] += len(of_group[group])
    total = sum(len(of_group[group]) for group in order)
    for group in order:
        if group not in parts:
            empty = [part for part in ("train", "test", "validation") if not have[part]]
            part = empty[0] if empty else max(SHARES, key=lambda each: SHARES[each] * total - have[each])
            parts[group] = part
            have[part] += len(of_group[group])


def _groups(rows: Sequence[Labelled]) -> list[str]:
    """Return a name for each row's group: what it says, and one name for files of equal content."""
    owner: dict[str, str] = {}
    first: dict[str, str] = {}
    keys = []
    for row in rows:
        own = f"{GROUP}{row.group}" if row.group else f"file {row.path}"
        try:
            content = row.digest or hashlib.sha256(row.path.read_bytes()).hexdigest()
        except OSError:
            content = own  # reported where it is opened
        other = first.setdefault(content, own)
        owner.setdefault(own, own)
        # Two groups that share a file are one.
        a, b = _root(owner, own), _root(owner, other)
        owner[max(a, b)] = min(a, b)
        keys.append(own)
    return [_root(owner, key) for key in keys]


def _root(owner: Mapping[str, str], key: str) -> str:
    while owner[key] != key:
        key = owner[key]
    return key


def _hash(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed} {group}".encode(errors="surrogateescape")).hexdigest()


def _split(word: str, where: str) -> str:
    part = split_name(word) or ""
    if part and part not in SPLITS:
        raise DatasetError(f"{where}: split is {word!r}; allowed: {', '.join(SPLITS)}, or nothing")
    return part


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {n}" for label, n in counts.items())


def unreadable(error: Exception) -> str:
    """Return in a line why a photo is left out."""
    return str(error) if isinstance(error, StorageError) else str(error).splitlines()[0]
