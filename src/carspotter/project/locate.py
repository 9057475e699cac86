"""Photos on disk in; what their check, the finder and the identifier say of them out, from one decode of each file.

Checking, locating and embedding look at the same pixels, and decoding is dear, so one row stage does whatever of the
three a photo still lacks. What each of them says is the business of `photos` and `recognition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter import storage, storage_errors
from carspotter.catalog.tables import ERROR, OK
from carspotter.crops import decode_side, read_photo
from carspotter.errors import BundleError, CarspotterError, ImageError, StorageError, suggestion
from carspotter.geometry import SIDES
from carspotter.photos.checks import CheckSettings, check
from carspotter.pixels import DecodedPhoto
from carspotter.recognition.attributes import SHOWN
from carspotter.recognition.finder import Finder
from carspotter.recognition.identifier import Identifier
from carspotter.recognition.locate import Selection, gate_of
from carspotter.recognition.readers import VIEWPOINT, Readers, open_readers
from carspotter.recognition.view import View, see
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.attribute import KIND, name_of
from carspotter.runtime.bundle import ModelBundle, Task, shipped
from carspotter.runtime.seen import are_seen, from_bytes, hashes_of
from carspotter.runtime.session import ARITHMETICS

Row = dict[str, Any]

CHECK_VERSION = "1"
"""Grows when the scores of a check mean something else; thresholds are applied to stored scores."""
LOCATE_VERSION = "1"
EMBED_VERSION = "4"  # 2: with colour and body; 3: with what the network says of its own models; 4: with `seen`

LEAST_SAID = 1e-3
"""Smaller probabilities of the network's own models are stored as 0: they tell nothing, and zeros take no room."""

PARTS = ("checks", "findings", "embeddings")
"""The tables that a look fills."""

NETWORK_BATCH = 16
"""Photos in one run of a network: more gains under 5 % on a CPU and holds more decoded photos in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocateSettings:
    """Which networks look, and how sure the finder must be; raises ValueError, BundleError for unknown values."""

    gate: float | None = None
    """Least probability of `exterior` with which a photo shows a whole vehicle; left out: the finder's own."""
    finder: str = ""
    """Folder of a finder of your own; empty: the one that ships."""
    identifier: str = ""
    """Folder of an identifier of your own; empty: the one that ships."""
    attributes: tuple[str, ...] = ()
    """Folders of bundles of your own that say the kind (which becomes the gate) or the viewpoint."""
    precision: str = "float32"
    """float32 or bfloat16, which is faster on processors with AMX."""

    def __post_init__(self) -> None:
        if self.gate is not None and not 0 <= self.gate <= 1:
            raise ValueError(f"gate is {self.gate}; it must be from 0 to 1")
        if self.precision not in ARITHMETICS:
            raise ValueError(f"precision is {self.precision!r}; {suggestion(self.precision, ARITHMETICS)}")

    def bundle(self, task: Task) -> ModelBundle:
        """Open the bundle for a task; raises BundleError."""
        folder = self.finder if task == "finder" else self.identifier
        return ModelBundle.load(folder) if folder else shipped(task)

    def least(self) -> float:
        """Return the gate that holds, as in serving; raises BundleError."""
        kinds = [bundle for bundle in self.own() if name_of(bundle) == KIND]
        return gate_of(kinds[0] if kinds else self.bundle("finder"), self.gate)

    def own(self) -> list[ModelBundle]:
        """Open the bundles of one's own. Raises BundleError for one that no step of a build reads."""
        found = [ModelBundle.load(folder) for folder in self.attributes]
        for bundle in found:
            if (name := name_of(bundle)) not in (KIND, VIEWPOINT):
                raise BundleError(
                    f"[locate] attributes: bundle {bundle.name} says {name!r}; a build takes {KIND} and {VIEWPOINT}. "
                    "Give the others to carspotter identify or serve with --attribute"
                )
            odd = next((word for word in bundle.attributes[name] if name == VIEWPOINT and word not in VIEWPOINTS), None)
            if odd is not None:
                raise BundleError(
                    f"[locate] attributes: bundle {bundle.name} says the viewpoint {odd!r}; a build takes the eight "
                    f"sides: {', '.join(VIEWPOINTS)}. Train it without --merge-sides"
                )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A row with its bytes and pixels, or the error that stands in their place."""

    row: Row
    data: bytes = b""
    decoded: DecodedPhoto | None = None
    error: CarspotterError | None = None


@dataclass(slots=True, kw_only=True)
class LocateStage:
    """Check, locate and embed photos: the row stage behind `check` and `locate`.

    `folder` is the project's, from which relative paths count; `parts` are the tables to fill.
    """

    folder: str
    check: CheckSettings
    locate: LocateSettings
    parts: tuple[str, ...] = PARTS
    name: str = "locate"
    reads: str = f"SELECT photo_id, path FROM files WHERE status = '{OK}'"
    writes: Mapping[str, str] = field(default_factory=dict)
    _finder: Finder | None = None
    _identifier: Identifier | None = None
    _readers: Readers | None = None
    _side: int = 0
    _least: float = 1.0

    def __post_init__(self) -> None:
        if not self.writes:
            found = versions(self.locate)
            self.writes = {part: found[part] for part in self.parts}

    def setup(self) -> None:
        """Open the networks that are needed, on one thread each: the workers are as many as the cores."""
        finder, identifier = self.locate.bundle("finder"), self.locate.bundle("identifier")
        self._side = decode_side(identifier.preprocessing, finder.preprocessing)
        self._least = self.locate.least()
        if "findings" in self.parts or "embeddings" in self.parts:
            self._finder = Finder(finder, finder.open_session(threads=1, precision=self.locate.precision))
            self._readers = open_readers(
                self.locate.attributes,
                threads=1,
                precision=self.locate.precision,
                opened=[(finder, self._finder.session)],
            )
        if "embeddings" in self.parts:
            session = identifier.open_session(threads=1, precision=self.locate.precision)
            self._identifier = Identifier(identifier, session)

    def process(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Look at photos, some at a time, and return the rows of each table that they lack."""
        found: dict[str, list[Row]] = {part: [] for part in self.parts}
        for start in range(0, len(rows), NETWORK_BATCH):
            photos = [self._open(row) for row in rows[start : start + NETWORK_BATCH]]
            for part, part_rows in self._look(photos).items():
                found[part] += part_rows
        return found

    def _open(self, row: Row) -> _Opened:
        try:
            data = storage.read(Path(self.folder) / row["path"])
        except CarspotterError as error:
            return _Opened(row=row, error=error)
        try:
            return _Opened(row=row, data=data, decoded=read_photo(data, self._side))
        except ImageError as error:
            return _Opened(row=row, data=data, error=error)

    def _look(self, photos: Sequence[_Opened]) -> dict[str, list[Row]]:
        tables: dict[str, list[Row]] = {}
        if "checks" in self.parts:
            tables["checks"] = [_check_row(photo, self.check) for photo in _lacking(photos, "checks")]
        seen = [photo for photo in photos if {"findings", "embeddings"} & set(photo.row["lacks"])]
        if self._finder is None or not seen:
            return tables
        readable = [photo.decoded for photo in seen if photo.decoded is not None]
        hows: list[Selection] = ["largest"] * len(readable)
        views = iter(see(readable, self._finder, least=self._least, selects=hows, readers=self._readers))
        located = [(photo, next(views) if photo.decoded is not None else None) for photo in seen]
        tables["findings"] = [_finding_row(photo, view) for photo, view in located if "findings" in photo.row["lacks"]]
        if self._identifier is not None:
            wanted = [(photo, view) for photo, view in located if "embeddings" in photo.row["lacks"]]
            tables["embeddings"] = _embedding_rows(wanted, self._identifier)
        return tables


def versions(settings: LocateSettings) -> dict[str, str]:
    """Return the version of each table's facts: networks count by their weights, since names may be used again."""
    finder, identifier = settings.bundle("finder").version, settings.bundle("identifier").version
    if settings.precision != "float32":  # other figures in the third digit
        finder, identifier = f"{finder}.{settings.precision}", f"{identifier}.{settings.precision}"
    return {
        "checks": CHECK_VERSION,
        "findings": ".".join([LOCATE_VERSION, finder, *(bundle.version for bundle in settings.own())]),
        "embeddings": f"{EMBED_VERSION}.{finder}.{identifier}",
    }


def _lacking(photos: Sequence[_Opened], table: str) -> list[_Opened]:
    return [photo for photo in photos if table in photo.row["lacks"]]


def _stopped(photo: _Opened) -> Row:
    """Return the row of a photo that cannot be looked at; bytes that are not read now may be at the next build."""
    code: str = photo.error.code if photo.error is not None else OK
    if isinstance(photo.error, StorageError):
        reason = storage_errors.reason(photo.error)
        code = reason if reason == "too-large" else ERROR
    return {"photo_id": photo.row["photo_id"], "status": code, "message": str(photo.error)}


def _check_row(photo: _Opened, settings: CheckSettings) -> Row:
    if photo.decoded is not None:
        seen: DecodedPhoto | ImageError = photo.decoded
    elif isinstance(photo.error, ImageError):
        seen = photo.error
    else:
        return _stopped(photo)  # its bytes could not be read
    return {"photo_id": photo.row["photo_id"], **check(photo.data, seen, settings)}


def _finding_row(photo: _Opened, view: View | None) -> Row:
    if view is None:
        return _stopped(photo)
    finding = view.finding
    row: Row = {
        "photo_id": photo.row["photo_id"],
        "kind": finding.kind.name,
        "kind_probability": finding.kind.probability,
        "exterior": finding.kind_probabilities[KINDS.index("exterior")],
        "passed": view.passes,
        "vehicles": len(finding.detections),
        "status": OK,
    }
    for vehicle in view.vehicles:
        row |= dict(zip(SIDES, view.box(vehicle).to_list(), strict=True))
        side = vehicle.viewpoint
        row |= {"score": vehicle.score, "viewpoint": side.name, "viewpoint_probability": side.probability}
    return row


def _embedding_rows(located: Sequence[tuple[_Opened, View | None]], identifier: Identifier) -> list[Row]:
    rows: list[Row] = []
    crops: list[NDArray[np.uint8]] = []
    for photo, view in located:
        if view is None:
            rows.append(_stopped(photo))
            continue
        rows.append({"photo_id": photo.row["photo_id"], "status": OK if view.vehicles else "no-vehicle"})
        crops += [view.crop(vehicle, identifier.preprocessing) for vehicle in view.vehicles]
    with_vehicle = [row for row in rows if row["status"] == OK]
    for row, described in zip(with_vehicle, _described(crops, identifier), strict=True):
        row |= {"bundle": identifier.bundle.name, **described}
    return rows


def _described(crops: Sequence[NDArray[np.uint8]], identifier: Identifier) -> list[Row]:
    """Return of each crop what the network says: embedding, its own models, colour, body, whether it has seen it."""
    if not crops:
        return []
    described = []
    learnt = _learnt_from(crops, identifier.bundle.seen)
    words = {name: identifier.bundle.attributes[name] for name in SHOWN if name in identifier.bundle.attributes}
    for answer, seen in zip(identifier.identify(np.stack(crops)), learnt, strict=True):
        assert answer.said is not None  # whatever `identify` answers has it
        said = np.where(answer.said < LEAST_SAID, 0, answer.said)
        row: Row = {"embedding": answer.embedding.astype(np.float16), "said": said.astype(np.float16), **seen}
        for name, known in words.items():
            best = int(np.argmax(answer.attributes[name]))
            row |= {name: known[best], f"{name}_probability": float(answer.attributes[name][best])}
        described.append(row)
    return described


def _learnt_from(crops: Sequence[NDArray[np.uint8]], seen: bytes) -> list[Row]:
    """Return for each crop whether the network has learnt from it, nothing where its bundle does not say."""
    if not seen:
        return [{} for _ in crops]
    return [{"seen": bool(each)} for each in are_seen(hashes_of(crops), from_bytes(seen))]
