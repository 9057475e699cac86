"""Attributes of one's own: what bundles for the task `attribute` say of photos and vehicles.

A reader's word is calibrated, and left unsaid where it is not sure enough. `kind` replaces the finder's, and with it
the gate; `viewpoint` replaces the finder's where its words are those of `VIEWPOINTS`; `colour` and `body` replace the
identifier's; any other is added to the vehicle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carspotter.crops import cut, to_original
from carspotter.errors import BundleError
from carspotter.pixels import DecodedPhoto
from carspotter.recognition.finder import Finding
from carspotter.records import KINDS, VIEWPOINTS, Attribute, Detection, Kind
from carspotter.runtime.attribute import KIND, features, name_of, word_probabilities
from carspotter.runtime.bundle import READS, ModelBundle
from carspotter.runtime.session import Session

DEFAULT_THRESHOLD = 0.5
"""Used where a bundle's calibration names none: a word that is less likely than all others together is not said."""
VIEWPOINT = "viewpoint"


class Reader:
    """Say one attribute of a photo or a vehicle."""

    def __init__(self, bundle: ModelBundle, session: Session) -> None:
        """Take a bundle for the task `attribute` and a session on its network. Raises BundleError for another task."""
        self.name = name_of(bundle)
        self.bundle, self.words = bundle, bundle.attributes[self.name]
        self.threshold = bundle.share(self.name, DEFAULT_THRESHOLD)
        self._session = session

    def reads_from(self, identifier: ModelBundle) -> bool:
        """Return whether an identifier's embedding of a vehicle is what this one reads: the same network and crop."""
        bundle = self.bundle
        alike = bundle.reads == READS[0] and bundle.preprocessing == identifier.preprocessing
        return alike and bundle.has_network_of(identifier)

    def of_embeddings(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of each word (n, k) for embeddings (n, d) of the network that it reads."""
        return word_probabilities(self.bundle, embeddings)

    def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability of each word (n, k) for crops (n, H, W, 3) in the bundle's input size."""
        if not len(crops):
            return np.zeros((0, len(self.words)))
        return word_probabilities(self.bundle, features(self.bundle.reads, self._session.run(crops)))

    def of_boxes(self, photos: Sequence[DecodedPhoto], detections: Sequence[Detection]) -> NDArray[np.float64]:
        """Return the probabilities (n, k) of the vehicle in each photo's box, in pixels of the decoded photo."""
        size = self.bundle.preprocessing
        pairs = zip(photos, detections, strict=True)
        crops = [cut(photo, size, to_original(photo, each.box)) for photo, each in pairs]
        return self.probabilities(np.stack(crops)) if crops else self.probabilities(np.zeros((0,), np.uint8))

    def say(self, probabilities: NDArray[np.floating]) -> Attribute | None:
        """Return the likeliest word of probabilities (k,), None where it is not sure enough."""
        best = int(np.argmax(probabilities))
        if probabilities[best] < self.threshold:
            return None
        return Attribute(name=self.words[best], probability=float(probabilities[best]))


class Readers:
    """The attributes of one's own that are asked of each photo; at most one of a name."""

    def __init__(self, readers: Iterable[Reader] = ()) -> None:
        """Take readers. Raises BundleError for two of one name."""
        self.by_name: dict[str, Reader] = {}
        for reader in readers:
            if reader.name in self.by_name:
                other = self.by_name[reader.name].bundle.name
                raise BundleError(f"bundles {other} and {reader.bundle.name} both say {reader.name!r}; leave one out")
            self.by_name[reader.name] = reader
        self.kind = self.by_name.get(KIND)
        side = self.by_name.get(VIEWPOINT)
        self.viewpoint = side if side and set(side.words) <= set(VIEWPOINTS) else None
        self.own = {name: each for name, each in self.by_name.items() if each not in (self.kind, self.viewpoint)}

    @property
    def own_bundles(self) -> list[ModelBundle]:
        """Return the bundles, in the order in which they were given."""
        return [reader.bundle for reader in self.by_name.values()]

    @property
    def bundles(self) -> dict[str, str]:
        """Return the name of each bundle by its attribute."""
        return {f"attribute {name}": reader.bundle.name for name, reader in self.by_name.items()}

    def see_kinds(self, photos: Sequence[DecodedPhoto], findings: Sequence[Finding]) -> list[Finding]:
        """Replace what the finder said of each photo's kind, where a reader knows better."""
        if self.kind is None or not photos:
            return list(findings)
        size = self.kind.bundle.preprocessing
        # The whole photo, not a crop: what kind of photo it is shows in what surrounds a vehicle.
        said = self.kind.probabilities(np.stack([cut(photo, size) for photo in photos]))
        return [self._kind(finding, row) for finding, row in zip(findings, said, strict=True)]

    def see_sides(self, photo: DecodedPhoto, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Replace what the finder said of each vehicle's viewpoint; None where the reader is not sure."""
        if self.viewpoint is None or not detections:
            return tuple(detections)
        # A side that the reader is not sure of is none, not the finder's: two networks would answer in one column.
        said = self.viewpoint.of_boxes([photo] * len(detections), detections)
        return tuple(
            replace(
                each, viewpoints=_placed(row, self.viewpoint.words, VIEWPOINTS) if self.viewpoint.say(row) else None
            )
            for each, row in zip(detections, said, strict=True)
        )

    def _kind(self, finding: Finding, said: NDArray[np.float64]) -> Finding:
        assert self.kind is not None
        # In the order of `KINDS`, whose first is the one that the gate compares.
        known = _placed(said, self.kind.words, KINDS)
        best = int(np.argmax(known))
        return replace(finding, kind=Kind(name=KINDS[best], probability=known[best]), kind_probabilities=known)


def open_readers(
    folders: Iterable[str | Path],
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
    max_concurrency: int = 1,
    opened: Iterable[tuple[ModelBundle, Session]] = (),
) -> Readers:
    """Open bundles for the task `attribute`; a network that is among those `opened` is not opened twice.

    Raises BundleError.
    """
    known, readers = list(opened), []
    for bundle in [ModelBundle.load(folder) for folder in folders]:
        # A head on the shipped identifier costs no second network: the one that is open answers its embedding.
        session = next((session for other, session in known if bundle.has_network_of(other)), None)
        if session is None:
            session = bundle.open_session(
                engine, threads=threads, device=device, precision=precision, max_concurrency=max_concurrency
            )
            known.append((bundle, session))
        bundle.check_session(session)
        readers.append(Reader(bundle, session))
    return Readers(readers)


def _placed(said: NDArray[np.float64], words: Sequence[str], places: Sequence[str]) -> tuple[float, ...]:
    """Return probabilities of `places`, 0 for those that the words lack."""
    known = dict(zip(words, said.tolist(), strict=True))
    return tuple(known.get(place, 0.0) for place in places)
