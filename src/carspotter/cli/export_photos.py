"""Turn the photos that a person named into inputs to calibrate and to compare on, for `carspotter export`.

A folder, a CSV with the column `path` and perhaps a box, or a project. An identifier gets crops, which the finder cuts
where no box is given; a finder gets whole photos. Without photos it takes cars of the showroom.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carspotter import storage
from carspotter.cli.inputs import tell_left_out
from carspotter.crops import crop_of, cut, decode_side, read_photo
from carspotter.csv_rows import box_of, read_csv
from carspotter.errors import BundleError, ImageError, StorageError
from carspotter.geometry import SIDES, BoundingBox
from carspotter.pixels import DecodedPhoto

if TYPE_CHECKING:
    from carspotter.export.convert import Inputs
    from carspotter.recognition.finder import Finder
    from carspotter.runtime.bundle import ModelBundle

Images = NDArray[np.uint8]
Named = tuple[str, BoundingBox | None]

CALIBRATED, COMPARED = 300, 150
"""Most photos that ranges are taken from, and most that both networks are compared on."""
SHARE_COMPARED = 3
"""Of the photos given every third is only compared on, so that no range has seen it."""
DRAWN = 40
"""Drawn cars that both networks are compared on where no photos are given."""
_OUTSIDES = "SELECT f.path, v.x1, v.y1, v.x2, v.y2 FROM files f JOIN findings v USING (photo_id) WHERE v.passed"


def read_inputs(bundle: ModelBundle, photos: str | None, *, labels: Path | None, classes: Path | None) -> Inputs:
    """Read the photos that a person named, or drawn ones; raises BundleError where none can be read."""
    from carspotter.export.convert import Inputs

    cutter = _Cutter(bundle)
    if photos is None:
        drawn, calibration, said = cutter.drawn(), None, ""
    else:
        named = _shuffled(_listed(photos))
        given = cutter.read(named[: CALIBRATED + COMPARED])
        held = np.arange(len(given)) % SHARE_COMPARED == 0
        if labels is not None:
            held[:] = False
        drawn, calibration = given[held][:COMPARED], given[~held][:CALIBRATED]
        said = f"{len(calibration)} photos of its user"
    if labels is None:
        return Inputs(compared=drawn, calibration=calibration, about=said)
    compared, targets = _labelled(bundle, labels, classes)
    return Inputs(compared=compared, targets=targets, calibration=calibration, about=said)


class _Cutter:
    """Turn photos into inputs of one bundle's network."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle
        self._side = decode_side(bundle.preprocessing)
        self._finder: Finder | None = None

    def read(self, named: list[Named]) -> Images:
        """Return the inputs (n, h, w, 3) of photos; those that cannot be read or show no vehicle are left out."""
        inputs, unread = [], []
        for name, box in named:
            try:
                photo = read_photo(storage.read(name), self._side)
            except (ImageError, StorageError) as error:
                unread.append(f"{name}: {error}")
                continue
            inputs += self.cut(photo, box)
        tell_left_out(unread, len(named))
        if not inputs:
            raise BundleError(f"none of {len(named)} photos can be used; is there a vehicle on them?")
        return np.stack(inputs)

    def cut(self, photo: DecodedPhoto, box: BoundingBox | None) -> list[Images]:
        """Return the input of one photo; none where an identifier needs a vehicle and the photo shows none."""
        from carspotter.recognition.view import see

        target = self.bundle.preprocessing
        if self.bundle.task == "finder" or box is not None:
            return [cut(photo, target, box)]
        view = see([photo], self._opened(), least=0.0, selects=["largest"])[0]
        return [view.crop(vehicle, target) for vehicle in view.vehicles]

    def drawn(self) -> Images:
        """Return inputs of cars of the showroom."""
        from carspotter.sources.showroom import pictures

        inputs: list[Images] = []
        for data, box in islice(pictures(), DRAWN):
            inputs += self.cut(read_photo(data, self._side), box)
        return np.stack(inputs)

    def _opened(self) -> Finder:
        from carspotter.recognition.finder import Finder
        from carspotter.runtime.bundle import shipped

        if self._finder is None:
            bundle = shipped("finder")
            self._finder = Finder(bundle, bundle.open_session())
        return self._finder


def _listed(photos: str) -> list[Named]:
    path = Path(photos)
    if (path / "carspotter.toml").is_file():
        return list(_of_project(path))
    if photos.lower().endswith(".csv"):
        return list(_of_table(path))
    from carspotter.headers import SUFFIXES

    names = storage.list_files(photos, SUFFIXES, recursive=True)
    if not names:
        raise BundleError(f"--photos {photos}: no photo in this folder; looked for {' '.join(SUFFIXES)}")
    return [(name, None) for name in names]


def _of_table(path: Path) -> Iterator[Named]:
    for number, row in read_csv(path, ("path",), error=BundleError, where=f"--photos {path}"):
        yield str(path.parent / row["path"]), box_of(row, error=BundleError, where=f"{path} line {number}")


def _of_project(folder: Path) -> Iterator[Named]:
    from carspotter.project.folder import Project

    project = Project.open(folder)
    with project.catalog() as catalog:
        rows = catalog.rows(_OUTSIDES)
    for row in rows:
        sides = [row[side] for side in SIDES]
        yield project.path(str(row["path"])), None if None in sides else BoundingBox(*sides)


def _shuffled(named: list[Named]) -> list[Named]:
    order = np.random.default_rng(0).permutation(len(named))
    return [named[int(place)] for place in order]


def _labelled(bundle: ModelBundle, labels: Path, classes: Path | None) -> tuple[Images, NDArray[np.int64]]:
    """Return crops of labelled photos and their classes, -1 where the bundle does not know the class."""
    from carspotter.evaluation.evaluating import from_labels, truths

    if bundle.taxonomy is None:
        raise BundleError("--labels are classes, and a finder has none; leave them out")
    crops, taxa, unread = [], [], []
    photos = from_labels(labels, classes=classes)
    for photo in photos:
        try:
            crops.append(crop_of(photo.read(), bundle.preprocessing, photo.box))
        except (ImageError, StorageError) as error:
            unread.append(f"{photo.name}: {error}")
            continue
        taxa.append(photo.taxon if photo.is_class else None)
    tell_left_out(unread, len(photos))
    if not crops:
        raise BundleError(f"{labels}: none of {len(photos)} photos can be read; {unread[0]}")
    truth, _ = truths(taxa, bundle.taxonomy)
    return np.stack(crops), np.asarray(truth, np.int64)
