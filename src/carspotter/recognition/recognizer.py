"""Photos in (paths, URLs, bytes, arrays), predictions out: decode, find, select, crop, identify.

A photo that cannot be read is a prediction with an error, never an exception. It sees photos through `view`; the
probabilities and the abstention are `identifier`'s.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carspotter.cores import cores
from carspotter.crops import decode_side
from carspotter.errors import suggestion
from carspotter.pixels import MAX_PIXELS
from carspotter.recognition.attributes import SHOWN, Attributes
from carspotter.recognition.candidates import CERTAIN_BOX, MAX_ENLARGEMENT, Candidate, candidates_in
from carspotter.recognition.candidates import why_no_vehicle as why_no_vehicle
from carspotter.recognition.finder import Finder, Finding
from carspotter.recognition.identifier import DEFAULT_TOP, NO_CAR, Identification, Identifier
from carspotter.recognition.loading import Loaded, Photo, load, milliseconds_since
from carspotter.recognition.locate import SELECTIONS, Selection, gate_of
from carspotter.recognition.readers import Readers, open_readers
from carspotter.recognition.view import View, see
from carspotter.records import Prediction, Vehicle
from carspotter.runtime.bundle import ModelBundle, Task, shipped
from carspotter.runtime.session import Arithmetic, Device, Engine
from carspotter.taxonomy import LEVELS

if TYPE_CHECKING:
    from carspotter.recognition.detector import Detector


CROPS_AT_ONCE = 16
"""Crops in one run of the identifier: as many as a batch of photos has with one vehicle each."""


class Recognizer:
    """Answer what a photo shows; safe to call from several threads, since sessions are."""

    def __init__(
        self,
        finder: Finder,
        identifier: Identifier,
        *,
        detector: Detector | None = None,
        readers: Readers | None = None,
        select: Selection = "largest",
        threads: int | None = None,
        with_hashes: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Join a finder and an identifier; `threads` bounds a batch's decoding threads (default: cores, at most 4).

        `readers` say attributes of one's own. `with_hashes` adds each photo's perceptual hashes, by which copies are
        known, and its brightness and sharpness.
        Photos over `max_pixels` are not decoded. Raises ValueError for an unknown `select`, BundleError for a
        calibration outside of 0..1.
        """
        if select not in SELECTIONS:
            raise ValueError(f"select {select!r} is unknown; {suggestion(select, SELECTIONS)}")
        self.finder = finder
        self.identifier = identifier
        self.detector = detector
        self.select = select
        self.with_hashes = with_hashes
        self.max_pixels = max_pixels
        self.readers = readers or Readers()
        self.bundles = {"finder": finder.bundle.name, "identifier": identifier.bundle.name, **self.readers.bundles}
        self.attributes = Attributes(identifier.bundle, self.readers.own_bundles)
        # What the identifier sees of a vehicle is not looked at once more for a head on the same network.
        self._behind = {name for name, each in self.readers.own.items() if each.reads_from(identifier.bundle)}
        self._threads = threads or min(4, cores())
        self._side = decode_side(identifier.preprocessing, finder.bundle.preprocessing)
        self._gate = gate_of(self.readers.kind.bundle if self.readers.kind else finder.bundle)
        self._bars = {
            "gate": self._gate,
            "certain_box": finder.bundle.share("certain_box", CERTAIN_BOX),
            "smallest": min(identifier.preprocessing.width, identifier.preprocessing.height) / MAX_ENLARGEMENT,
        }

    @classmethod
    def open(
        cls,
        *,
        finder: str | Path | None = None,
        identifier: str | Path | None = None,
        attributes: Sequence[str | Path] = (),
        precision: Arithmetic = "float32",
        engine: Engine = "auto",
        device: Device = "cpu",
        threads: int | None = None,
        max_concurrency: int = 1,
        select: Selection = "largest",
        threshold: float | None = None,
        top: int = DEFAULT_TOP,
        detector: str | None = None,
        with_hashes: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Recognizer:
        """Open bundle folders, or the bundles that ship with the package; `precision` is what they calculate in.

        `max_concurrency` is the number of threads that will ask it, each with `threads` of its own. `threshold` (0..1)
        replaces the calibrated one at all levels; `top` is the number of candidates per level; `detector` is the path
        of a foreign one, `attributes` are folders of bundles for the task `attribute`. Raises BundleError,
        DetectorError or MissingExtraError.
        """
        how: dict[str, Any] = {"threads": threads, "device": device, "precision": precision}
        how["max_concurrency"] = max_concurrency
        bundles = {"finder": _bundle("finder", finder)}
        # Side by side: an engine opens a network without the GIL, and the other bundle is read meanwhile.
        with ThreadPoolExecutor(1, thread_name_prefix="open") as pool:
            opening = pool.submit(bundles["finder"].open_session, engine, **how)
            bundles["identifier"] = _bundle("identifier", identifier)
            sessions = {"identifier": bundles["identifier"].open_session(engine, **how), "finder": opening.result()}
        return cls(
            Finder(bundles["finder"], sessions["finder"]),
            Identifier(bundles["identifier"], sessions["identifier"], threshold=threshold, top=top),
            detector=_detector(detector, engine, threads) if detector else None,
            readers=open_readers(
                attributes, engine=engine, opened=[(bundles[task], sessions[task]) for task in bundles], **how
            ),
            select=select,
            threads=threads,
            with_hashes=with_hashes,
            max_pixels=max_pixels,
        )

    def recognize(self, photo: Photo) -> Prediction:
        """Recognize one photo: a path, a URL, the bytes of a file, or an upright sRGB array (h, w, 3) uint8."""
        return self._answer([self._load(photo)])[0]

    def recognize_together(
        self, photos: Sequence[Photo], selects: Sequence[Selection] | None = None
    ) -> list[Prediction]:
        """Recognize a few photos in the calling thread, in one run of each network, each with its own selection.

        Raises ValueError for an unknown selection, or one list longer than the other.
        """
        wanted = [self.select] * len(photos) if selects is None else list(selects)
        for how in wanted:
            if how not in SELECTIONS:
                raise ValueError(f"select {how!r} is unknown; {suggestion(how, SELECTIONS)}")
        if len(wanted) != len(photos):
            raise ValueError(f"{len(photos)} photos and {len(wanted)} selections; each photo has one")
        return self._answer([self._load(photo) for photo in photos], wanted)

    def recognize_batch(self, photos: Iterable[Photo], batch_size: int = 16) -> Generator[Prediction, None, None]:
        """Recognize many photos, in order and lazily; one batch is decoded while the networks see the one before.

        At most two batches of photos are held at once; close the generator to stop early. The `milliseconds` of a
        network are the batch's, divided by its photos. Raises ValueError for a `batch_size` below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: must be at least 1")
        source = iter(photos)
        window: deque[Future[Loaded]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            try:
                while True:
                    # Two batches: Pillow lets go of the GIL, so the second is decoded while the networks see the first.
                    ahead = islice(source, 2 * batch_size - len(window))
                    window.extend(pool.submit(self._load, photo) for photo in ahead)
                    if not window:
                        return
                    yield from self._answer([window.popleft().result() for _ in range(min(batch_size, len(window)))])
            finally:
                for future in window:
                    future.cancel()

    def _load(self, photo: Photo) -> Loaded:
        return load(photo, self._side, max_pixels=self.max_pixels, with_hashes=self.with_hashes)

    def _answer(self, batch: Sequence[Loaded], selects: Sequence[Selection] | None = None) -> list[Prediction]:
        photos = [loaded.decoded for loaded in batch if loaded.decoded is not None]
        hows = [how for how, loaded in zip(selects or [self.select] * len(batch), batch, strict=True) if loaded.decoded]
        start = time.perf_counter()
        views = see(photos, self.finder, least=self._gate, selects=hows, detector=self.detector, readers=self.readers)
        find_ms = milliseconds_since(start) / max(1, len(photos))
        start = time.perf_counter()
        candidates = [candidates_in(view, **self._bars) for view in views]
        vehicles = self._identify(views, candidates)
        identify_ms = milliseconds_since(start) / max(1, len(photos))
        found = iter(zip((view.finding for view in views), vehicles, strict=True))
        return [self._prediction(loaded, found, find=find_ms, identify=identify_ms) for loaded in batch]

    def _identify(self, views: Sequence[View], candidates: Sequence[Sequence[Candidate]]) -> list[tuple[Vehicle, ...]]:
        wanted = [
            (view, candidate)
            for view, found in zip(views, candidates, strict=True)
            for candidate in found
            if candidate.refusal is None
        ]
        found = self._identifications(wanted)
        answers = iter(zip(found, self._readings(wanted, found), strict=True))
        return [
            tuple(self._vehicle(view, c, *(next(answers) if c.refusal is None else (None, {}))) for c in here)
            for view, here in zip(views, candidates, strict=True)
        ]

    def _readings(
        self, wanted: Sequence[tuple[View, Candidate]], found: Sequence[Identification]
    ) -> list[dict[str, NDArray[np.float64]]]:
        """Return the probabilities (k,) of each reader's words for each vehicle, by the reader's name."""
        said: list[dict[str, NDArray[np.float64]]] = [{} for _ in wanted]
        for start in range(0, len(wanted), CROPS_AT_ONCE) if self.readers.own else ():
            part = wanted[start : start + CROPS_AT_ONCE]
            photos, boxes = [view.photo for view, _ in part], [candidate.detection for _, candidate in part]
            for name, reader in self.readers.own.items():
                if name in self._behind:
                    rows = reader.of_embeddings(np.stack([each.embedding for each in found[start : start + len(part)]]))
                else:
                    rows = reader.of_boxes(photos, boxes)
                for place, row in enumerate(rows, start):
                    said[place][name] = row
        return said

    def _identifications(self, wanted: Sequence[tuple[View, Candidate]]) -> list[Identification]:
        """Run the crops through the identifier, some at a time: a car park with `all` must not fill the memory."""
        target = self.identifier.preprocessing
        results: list[Identification] = []
        for start in range(0, len(wanted), CROPS_AT_ONCE):
            part = wanted[start : start + CROPS_AT_ONCE]
            crops = np.empty((len(part), target.height, target.width, 3), dtype=np.uint8)
            for crop, (view, candidate) in zip(crops, part, strict=True):
                crop[:] = view.crop(candidate.detection, target)
            results += self.identifier.identify(crops)
        return results

    def _vehicle(
        self,
        view: View,
        candidate: Candidate,
        identification: Identification | None,
        said: Mapping[str, NDArray[np.float64]],
    ) -> Vehicle:
        detection = candidate.detection
        found = Vehicle(
            box=view.box(detection),
            score=detection.score,
            viewpoint=detection.viewpoint,
            answer=None,
            levels=dict.fromkeys(LEVELS, ()),
            undecided=candidate.refusal,
        )
        if identification is None:
            return found
        if identification.undecided == NO_CAR:  # whatever it is, a car's name, colour or body would be a wrong one
            return replace(found, undecided=NO_CAR)
        seen: dict[str, NDArray[Any]] = dict(identification.attributes)
        seen |= {name: row for name, row in said.items() if name in SHOWN}
        looks = {name: self.attributes.say(name, seen) for name in SHOWN}
        return replace(
            found,
            answer=identification.answer,
            levels=identification.levels,
            undecided=identification.undecided,
            colour=looks["colour"],
            body=looks["body"],
            own={name: self.readers.own[name].say(row) for name, row in said.items() if name not in SHOWN},
            probabilities=tuple(identification.probabilities.tolist()),
            attributes={name: tuple(values.tolist()) for name, values in seen.items()},
            embedding=tuple(identification.embedding.tolist()),
            evidence=identification.evidence,
            called=identification.called,
        )

    def _prediction(
        self, loaded: Loaded, found: Iterator[tuple[Finding, tuple[Vehicle, ...]]], *, find: float, identify: float
    ) -> Prediction:
        milliseconds = {"decode": loaded.milliseconds}
        if loaded.decoded is None:
            return Prediction(photo=loaded.name, error=loaded.error, bundles=self.bundles, milliseconds=milliseconds)
        finding, vehicles = next(found)
        return Prediction(
            photo=loaded.name,
            width=loaded.decoded.width,
            height=loaded.decoded.height,
            kind=finding.kind,
            vehicles=vehicles,
            bundles=self.bundles,
            milliseconds={**milliseconds, "find": find, "identify": identify},
            hashes=loaded.hashes,
            quality=loaded.quality,
        )


def _bundle(task: Task, folder: str | Path | None) -> ModelBundle:
    return shipped(task) if folder is None else ModelBundle.load(Path(folder))


def _detector(name: str, engine: Engine, threads: int | None) -> Detector:
    from carspotter.recognition.detector import open_detector  # rarely used, so not loaded by everyone

    return open_detector(name, engine=engine, threads=threads)
