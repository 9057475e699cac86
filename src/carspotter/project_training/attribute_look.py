"""Look at labelled photos: each file is read and decoded once, and each network sees each photo once.

In: labelled rows and the networks that describe them; out: the rows that can be learnt from with their boxes, a vector
a photo and network, and crops where a network is to be trained. What was answered is kept in the run's folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from carspotter import storage
from carspotter.cores import cores
from carspotter.crops import cut, decode_side, read_photo
from carspotter.errors import ImageError, StorageError
from carspotter.geometry import BoundingBox
from carspotter.pixels import DecodedPhoto, Preprocessing
from carspotter.progress import Quiet, Watch
from carspotter.project_training.attribute_network import Base
from carspotter.project_training.attribute_photos import CHUNK, Photos
from carspotter.recognition.finder import Finder
from carspotter.recognition.view import see
from carspotter.runtime.bundle import shipped
from carspotter.runtime.manifest import sha256
from carspotter.training.attribute.labels import Labelled, unreadable

Vectors = npt.NDArray[np.float32]
Crops = npt.NDArray[np.uint8]

Opened = tuple[Labelled, DecodedPhoto | None]
"""A row with its photo, None where all that is asked of it is known."""

_TRIED = Preprocessing(width=8, height=8)
NEW = 400
"""New answers that are worth a file before the end."""
NO_BOX = np.full(4, np.nan, np.float32)


class Answers:
    """What networks said of photos, a vector for a key, by the network's version; in files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, Vectors]] = {}
        self._used: dict[str, dict[str, Vectors]] = {}
        self._new = 0

    def get(self, version: str, key: str) -> Vectors | None:
        """Return what a network said of a photo, in this run or an earlier one; None where it was not asked."""
        if version not in self._known:
            self._known[version] = self._read(version)
        found = self._used.get(version, {}).get(key, self._known[version].get(key))
        if found is not None:
            self.put(version, key, found)
        return found

    def put(self, version: str, key: str, vector: Vectors) -> None:
        """Remember what a network said."""
        self._new += key not in self._known.get(version, {}) and key not in self._used.get(version, {})
        self._used.setdefault(version, {})[key] = vector

    def keep(self) -> None:
        """Write all that is known once much of it is new: a kill loses little, and little is written twice."""
        if self._new >= max(NEW, sum(map(len, self._known.values())) // 4):
            self._write({version: self._read(version) | used for version, used in self._used.items()})
            self._known, self._new = {}, 0

    def save(self) -> None:
        """Write what was used; photos that are no longer labelled are forgotten."""
        self._write(self._used)

    def _write(self, answers: Mapping[str, Mapping[str, Vectors]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for version, known in answers.items():
            with storage.replacing(self._path(version)) as temporary, temporary.open("wb") as file:
                np.savez(file, keys=np.array(list(known)), vectors=np.stack(list(known.values())))

    def _path(self, version: str) -> Path:
        return self.folder / f"features-{sha256(version.encode())[:12]}.npz"

    def _read(self, version: str) -> dict[str, Vectors]:
        try:
            with np.load(self._path(version)) as content:
                return dict(zip(content["keys"].tolist(), content["vectors"], strict=True))
        except (OSError, ValueError, KeyError, BadZipFile):  # none yet, or cut off: they are asked again
            return {}


@dataclass(slots=True, kw_only=True)
class Look:
    """What came of it: `vectors` and, where labels change sides, `mirrored` (n, d) by the base's name."""

    photos: Photos
    bases: Sequence[Base]
    vectors: Mapping[str, Vectors]
    mirrored: Mapping[str, Vectors]
    crops: tuple[Crops, ...]
    """Of each size that was asked for (n, h, w, 3)."""
    left_out: list[str]


@dataclass(slots=True, kw_only=True)
class Looker:
    """Look at rows, `CHUNK` at a time; `kept` are sizes that crops are kept in, `mirrors` asks for both views."""

    bases: Sequence[Base]
    answers: Answers
    of_photo: bool
    mirrors: bool
    kept: tuple[Preprocessing, ...] = ()
    watch: Watch = field(default_factory=Quiet)
    left_out: list[str] = field(default_factory=list)
    _finder: Finder | None = None
    _boxes: str = field(default_factory=lambda: f"box {shipped('finder').version}")

    def look(self, rows: Sequence[Labelled]) -> Look:
        """Look at all rows; those that cannot be learnt from are named in `left_out`."""
        found: list[Labelled] = []
        self.answers.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            crops = [self._crops(size, len(rows), files) for size in self.kept]
            for part in self._parts(rows):
                for row, photo in part:
                    for size, kept in zip(self.kept, crops, strict=True):
                        assert photo is not None
                        kept[len(found)] = cut(photo, size, row.box)
                    found.append(row)
        self.answers.save()
        words = tuple(sorted({row.label for row in found}))
        return Look(
            photos=Photos(rows=tuple(found), words=words, of_photo=self.of_photo),
            bases=self.bases,
            vectors={base.name: self._vectors(base, found) for base in self.bases},
            mirrored={base.name: self._turned(base, found) for base in self.bases if self.mirrors},
            crops=tuple(kept[: len(found)] for kept in crops),
            left_out=self.left_out,
        )

    def _crops(self, size: Preprocessing, n: int, files: ExitStack) -> Crops:
        """Make room for crops of a size. On disk: they may not fit into memory, and bytes are fetched once."""
        file = files.enter_context(tempfile.TemporaryFile(dir=self.answers.folder))  # noqa: SIM115  # closed by `files`
        return np.memmap(file, np.uint8, "w+", shape=(max(1, n), size.height, size.width, 3))

    def _parts(self, rows: Sequence[Labelled]) -> Iterator[list[Opened]]:
        side = decode_side(shipped("identifier").preprocessing)

        def opened(row: Labelled) -> Opened | str:
            try:
                data = storage.read(row.path)
                row = replace(row, digest=sha256(data))
                if self._is_known(row):
                    return row, None
                photo = read_photo(data, side)
                cut(photo, _TRIED, row.box)  # a box beside the photo is an error here, where it costs one row
                return row, photo
            except (ImageError, StorageError) as error:
                return f"{row.path}: {unreadable(error)}" if isinstance(error, ImageError) else str(error)

        with ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(rows), CHUNK):
                found = list(pool.map(opened, rows[start : start + CHUNK]))
                self.left_out += [each for each in found if isinstance(each, str)]
                part = self._boxed([each for each in found if not isinstance(each, str)])
                self._describe(part)
                self.answers.keep()
                yield part
                self.watch.advance(min(start + CHUNK, len(rows)), len(rows))

    def _is_known(self, row: Labelled) -> bool:
        if self.kept:
            return False
        if self._lacks_box(row):
            box = self.answers.get(self._boxes, row.digest)
            if box is None:
                return False
            row = _boxed(row, box)
            if row.box is None:
                return True
        asked = [version for base in self.bases for version in _asked(base, self.mirrors)]
        return all(self.answers.get(version, key_of(row.digest, row.box)) is not None for version in asked)

    def _lacks_box(self, row: Labelled) -> bool:
        return row.box is None and not self.of_photo

    def _boxed(self, opened: Sequence[Opened]) -> list[Opened]:
        """Find the vehicle of rows without a box, and leave out those without a vehicle."""
        lacking = [(row, photo) for row, photo in opened if photo is not None and self._lacks_box(row)]
        self._find([one for one in lacking if self.answers.get(self._boxes, one[0].digest) is None])
        found = []
        for row, photo in opened:
            if self._lacks_box(row):
                box = self.answers.get(self._boxes, row.digest)
                assert box is not None
                row = _boxed(row, box)  # the row with its box takes its place
            if self._lacks_box(row):
                self.left_out.append(f"{row.path}: no vehicle found")
            else:
                found.append((row, photo))
        return found

    def _find(self, lacking: Sequence[tuple[Labelled, DecodedPhoto]]) -> None:
        if not lacking:
            return
        bundle = shipped("finder")
        if self._finder is None:
            session = next((base.session for base in self.bases if base.session and base.bundle == bundle), None)
            self._finder = Finder(bundle, session or bundle.open_session())
        views = see([photo for _, photo in lacking], self._finder, least=0.0, selects=["largest"] * len(lacking))
        for (row, _), view in zip(lacking, views, strict=True):
            box = np.array(view.box(view.vehicles[0]).to_list(), np.float32) if view.vehicles else NO_BOX
            self.answers.put(self._boxes, row.digest, box)

    def _describe(self, part: Sequence[Opened]) -> None:
        for base in self.bases:
            for version in _asked(base, self.mirrors):
                lacking = [
                    (row, photo)
                    for row, photo in part
                    if photo is not None and self.answers.get(version, key_of(row.digest, row.box)) is None
                ]
                if not lacking:
                    continue
                crops = np.stack([cut(photo, base.preprocessing, row.box) for row, photo in lacking])
                said = base.describe(crops if version == base.version else turned(crops))
                for (row, _), vector in zip(lacking, said, strict=True):
                    self.answers.put(version, key_of(row.digest, row.box), vector)

    def _vectors(self, base: Base, rows: Sequence[Labelled], version: str = "") -> Vectors:
        found = [self.answers.get(version or base.version, key_of(row.digest, row.box)) for row in rows]
        return np.stack([vector for vector in found if vector is not None]) if found else np.empty((0, 1), np.float32)

    def _turned(self, base: Base, rows: Sequence[Labelled]) -> Vectors:
        if base.order is not None:
            return self._vectors(base, rows)[:, base.order]
        return self._vectors(base, rows, _mirrored(base))


def key_of(digest: str, box: BoundingBox | None) -> str:
    """Return what names the picture that a network saw: the file's content, and the box of the vehicle."""
    return digest + (" " + " ".join(f"{side:.6g}" for side in box.to_list()) if box else "")


def turned(crops: Crops) -> Crops:
    """Mirror crops (n, h, w, 3); copied, since engines take no negative strides."""
    return np.ascontiguousarray(crops[:, :, ::-1])


def _asked(base: Base, mirrors: bool) -> tuple[str, ...]:
    return (base.version, _mirrored(base)) if mirrors and base.order is None else (base.version,)


def _mirrored(base: Base) -> str:
    return f"{base.version} mirrored"


def _boxed(row: Labelled, box: Vectors) -> Labelled:
    return row if np.isnan(box).any() else replace(row, box=BoundingBox(*(float(side) for side in box)))
