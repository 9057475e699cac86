"""Listings from Stanford Cars (Krause et al., 3dRR-13) in its official files.

In: `StanfordSettings`, a folder with the devkit's `.mat` files and the photos. Out: an ad for each photo, with make,
model, year and body out of the class's name, class and box among the attributes, and the official part, train or test,
as the photo's split. It downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carspotter.errors import MissingExtraError, SourceError
from carspotter.sources.listing import Ad, listing_row, photo_row
from carspotter.sources.makes import read_name

# Of the 196 names this one leaves out whose car it is: Ram became a make of its own in 2010, the van stayed a Dodge's.
_SOLD_AS = {"Ram C/V Cargo Van Minivan 2012": "Dodge Ram C/V Cargo Van Minivan 2012"}
_OFFICIAL = ("cars_annos.mat", "cars_meta.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat")
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


@dataclass(frozen=True, slots=True, kw_only=True)
class StanfordSettings:
    """Where the official files are, and where the photos are if that is another folder (from there).

    Read are `cars_train_annos.mat` and `cars_test_annos_withlabels.mat` with `cars_meta.mat` (photos in `cars_train`
    and `cars_test`), or `cars_annos.mat` (photos in `car_ims`); a `devkit` folder is looked into.
    """

    path: str
    """The folder of the official files."""
    photos: str | None = None
    """The folder of the photos, from there, if it is another one."""
    name: str = "stanford-cars"
    """What the column `source` says."""


def read(settings: StanfordSettings) -> Iterator[Ad]:
    """Yield an ad for each annotated photo; one whose class is unknown is an ad without a make, and says so.

    Raises SourceError where an official file is missing or not of its structure.
    """
    folder = Path(settings.path)
    photos = folder / (settings.photos or "")
    joint = _find(folder, "cars_annos.mat")
    if joint is not None:
        content = _load(joint)
        yield from _ads(joint, content, _class_names(joint, content), photos=photos, split=None, settings=settings)
        return
    meta = _find(folder, "cars_meta.mat")
    parts = {"train": _find(folder, "cars_train_annos.mat"), "test": _find(folder, "cars_test_annos_withlabels.mat")}
    if meta is None or not any(parts.values()):
        raise SourceError(
            f"Stanford Cars: {folder} has neither cars_annos.mat nor cars_meta.mat with cars_train_annos.mat or "
            "cars_test_annos_withlabels.mat"
        )
    names = _class_names(meta, _load(meta))
    for split, path in parts.items():
        if path is not None:
            yield from _ads(path, _load(path), names, photos=photos / f"cars_{split}", split=split, settings=settings)


def is_devkit(folder: str | Path) -> bool:
    """Return whether a folder holds the official files, by their names."""
    return any(_find(Path(folder), name) for name in _OFFICIAL)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / "devkit" / name) if path.is_file()), None)


def _load(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped,unused-ignore]
        from scipy.io.matlab import MatReadError  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError("scipy", "data") from error
    try:
        content: dict[str, Any] = loadmat(path, squeeze_me=True)
    except (MatReadError, OSError, ValueError, TypeError, NotImplementedError, IndexError, KeyError) as error:
        raise SourceError(f"Stanford Cars: {path} is no MATLAB file that can be read: {str(error)[:200]}") from error
    return content


def _class_names(path: Path, content: dict[str, Any]) -> list[str]:
    if "class_names" not in content:
        raise SourceError(f"Stanford Cars: {path} has no class_names; is it the official file?")
    return [str(name) for name in _flat(content["class_names"])]


def _flat(values: Any) -> Any:
    """Return an array of one dimension: `squeeze_me` makes a scalar of a single row."""
    return values.reshape(-1) if hasattr(values, "reshape") else [values]


def _ads(  # one file of annotations
    path: Path,
    content: dict[str, Any],
    names: Sequence[str],
    *,
    photos: Path,
    split: str | None,
    settings: StanfordSettings,
) -> Iterator[Ad]:
    annotations = content.get("annotations")
    fields = getattr(getattr(annotations, "dtype", None), "names", None) or ()
    image = "fname" if split else "relative_im_path"
    missing = [name for name in (image, "class", *_BOX) if name not in fields]
    if annotations is None or missing:
        lacks = ", ".join(missing) or "annotations"
        raise SourceError(f"Stanford Cars: {path} lacks {lacks}; is it the official file with labels?")
    for row in _flat(annotations):
        file = str(row[image]).replace("\\", "/")
        part = split or ("test" if "test" in fields and int(row["test"]) else "train")
        number = int(row["class"])
        attributes = {"class_id": number, "split": part, "box": [int(row[name]) for name in _BOX]}
        yield _ad(f"{part}/{Path(file).stem}", photos / file, names, attributes=attributes, source=settings.name)


def _ad(ad_id: str, photo: Path, names: Sequence[str], *, attributes: dict[str, Any], source: str) -> Ad:
    number = attributes["class_id"]
    is_known = 1 <= number <= len(names)
    name = names[number - 1] if is_known else ""
    car = read_name(_SOLD_AS.get(name, name))
    message = None if is_known else f"class {number} is not among the {len(names)} class names"
    listing = listing_row(
        ad_id=ad_id,
        source=source,
        make=car.make,
        model=car.model,
        year=car.year,
        body=car.body,
        title=name or None,
        attributes=attributes,
        message=message,
    )
    return Ad(listing, (photo_row(ad_id, str(photo.absolute()), 0, kind="exterior", split=attributes["split"]),))
