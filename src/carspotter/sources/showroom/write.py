"""Write a showroom to a folder, and read it as a source of listings.

In: `ShowroomSettings` and a folder. Out: photos below `photos/<ad>/`, `cars.csv` as a dealer exports it, and the truth
of each photo and ad as `truth.json` and `truth.csv`; `read` yields what `cars.csv` says, never the truth. Drawing runs
in spawned processes, goes on where it stopped, and gives the same bytes whatever their number.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from carspotter.cores import cores
from carspotter.errors import SourceError
from carspotter.sources.ad import Ad, listing_row, photo_row
from carspotter.sources.showroom.listings import AdPlan, PhotoPlan, ShowroomSettings, plan, view_name
from carspotter.sources.showroom.photos import Drawn, draw_photo

SOURCE = "showroom"
_FORMAT = 1
_COLUMNS = ("ad_id", "make", "model", "submodel", "images", "year", "body", "price", "currency", "title")
_PHOTO_COLUMNS = (
    "image_id", "path", "ad_id", "kind", "viewpoint", "cars", "x1", "y1", "x2", "y2", "width", "height", "make",
    "model", "generation", "year", "flaw", "relation", "of", "change",
)  # fmt: skip

Progress = Callable[[int, int], None]
"""Called with how many ads are drawn and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowroomSummary:
    """Say what a showroom holds: ads, photos, and how many photos and ads have each planted flaw."""

    ads: int
    photos: int
    drawn: int  # ads that this call drew; the others were there
    flaws: Mapping[str, int]


def draw(
    settings: ShowroomSettings, folder: str | Path, *, workers: int | None = None, progress: Progress | None = None
) -> ShowroomSummary:
    """Draw a showroom into a folder; ads that are there are not drawn again, and the truth is written last.

    `workers` processes draw (default: one a core, one only for few ads). Raises SourceError when the folder holds
    another showroom or other photos, or cannot be written.
    """
    root = Path(folder)
    ads = plan(settings)
    try:
        _claim(settings, root)
        missing = [ad for ad in ads if not _is_drawn(ad, root)]
        _draw_ads(
            missing,
            root,
            workers,
            lambda done: progress(len(ads) - len(missing) + done, len(ads)) if progress else None,
        )
        truth = _write_truth(settings, ads, root)
    except OSError as error:
        raise SourceError(
            f"showroom {root}: cannot be written: {error}; free some space or name another folder"
        ) from error
    return ShowroomSummary(ads=len(ads), photos=len(truth["photos"]), drawn=len(missing), flaws=truth["counts"])


def read(settings: ShowroomSettings, folder: str | Path) -> Iterator[Ad]:
    """Yield the ads of a drawn showroom as `cars.csv` lists them, with the absolute paths of their photos.

    Raises SourceError where the folder holds no complete showroom of these settings.
    """
    root = Path(folder).absolute()
    written = truth(root)["settings"]
    if written != asdict(settings):
        raise SourceError(
            f"showroom {root}: was drawn with {_say(written)}, not {_say(asdict(settings))}; draw another"
        )
    with (root / "cars.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            images = [image.strip() for image in row.pop("images").split(",") if image.strip()]
            ad_id = row.pop("ad_id")
            photos = (photo_row(ad_id, str(_photo_path(root, image)), index) for index, image in enumerate(images))
            yield Ad(listing_row(ad_id=ad_id, source=SOURCE, **row), tuple(photos))


def truth(folder: str | Path) -> dict[str, Any]:
    """Read the truth of a drawn showroom: `settings`, `ads`, `photos`, `counts` of planted flaws.

    Raises SourceError where there is none, or one of another format.
    """
    path = Path(folder) / "truth.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(
            f"showroom {folder}: has no truth.json: it is not drawn, or not to the end; draw it first"
        ) from error
    except ValueError as error:
        raise SourceError(f"showroom {folder}: truth.json is damaged ({error}); delete it and draw again") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise SourceError(
            f"showroom {folder}: truth.json is not of format {_FORMAT}; draw it again into an empty folder"
        )
    return content


# ---- drawing


def _claim(settings: ShowroomSettings, root: Path) -> None:
    """Note in the folder which showroom it holds, or check that it is this one."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "showroom.json"
    wanted = asdict(settings)
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        if found != wanted:
            raise SourceError(f"showroom {root}: holds one of {_say(found)}, not {_say(wanted)}; name an empty folder")
    elif any((root / name).exists() for name in ("photos", "cars.csv")):
        raise SourceError(f"showroom {root}: has photos of its own; name an empty folder, so that nothing is mixed")
    else:
        _write(path, json.dumps(wanted))


def _draw_ads(ads: list[AdPlan], root: Path, workers: int | None, done: Callable[[int], None]) -> None:
    """Draw ads in this process or in several; which one draws an ad changes nothing in it."""
    if workers is not None and workers < 1:
        raise SourceError(f"showroom: workers is {workers}; it must be at least 1")
    count = workers or (cores() if len(ads) > _FEW else 1)
    if count == 1:
        for number, ad in enumerate(ads, 1):
            _draw_ad(ad, root)
            done(number)
        return
    # Spawned, not forked: a fork copies the threads' locks of whatever engine the caller has open.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_draw_ad, ad, root) for ad in ads]
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            done(number)


_FEW = 6  # ads that are drawn sooner than a second process has started


def _draw_ad(ad: AdPlan, root: Path) -> None:
    """Draw the photos of one ad, then its part of the truth, which says that they are complete."""
    rows = []
    for photo in ad.photos:
        drawn = draw_photo(photo)
        if drawn.data is not None:
            _write(_photo_path(root, photo.image_id), drawn.data)
        rows.append(_photo_truth(ad, photo, drawn))
    _write(_part(root, ad), json.dumps(rows))


def _is_drawn(ad: AdPlan, root: Path) -> bool:
    if not _part(root, ad).exists():
        return False
    return all(photo.flaw == "missing" or _photo_path(root, photo.image_id).exists() for photo in ad.photos)


def _photo_path(root: Path, image_id: str) -> Path:
    return root / "photos" / f"{image_id}.jpg"


def _part(root: Path, ad: AdPlan) -> Path:
    return root / "parts" / f"{ad.ad_id}.json"


def _write(path: Path, data: bytes | str) -> None:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data if isinstance(data, bytes) else data.encode())
    temporary.replace(path)


# ---- tables


def _photo_truth(ad: AdPlan, photo: PhotoPlan, drawn: Drawn) -> dict[str, Any]:
    sold = ad.sold
    return {
        "image_id": photo.image_id, "path": f"photos/{photo.image_id}.jpg", "ad_id": ad.ad_id, "kind": photo.kind,
        "viewpoint": view_name(photo), "cars": len(drawn.boxes), "boxes": [list(box) for box in drawn.boxes],
        "width": drawn.size[0], "height": drawn.size[1], "make": sold.make, "model": sold.model,
        "generation": sold.generation, "year": ad.look.year, "flaw": photo.flaw, "relation": photo.relation,
        "of": photo.of, "change": photo.change,
    }  # fmt: skip


def _ad_truth(ad: AdPlan) -> dict[str, Any]:
    return {
        "ad_id": ad.ad_id, "make": ad.sold.make, "model": ad.sold.model, "generation": ad.sold.generation,
        "year": ad.look.year, "body": ad.sold.style, "paint": ad.look.paint, "place": ad.look.setting.place,
        "wording": ad.wording, "said_make": ad.make, "said_model": ad.model, "said_submodel": ad.submodel,
        "relists": ad.relists,
    }  # fmt: skip


def _write_truth(settings: ShowroomSettings, ads: list[AdPlan], root: Path) -> dict[str, Any]:
    photos = [row for ad in ads for row in json.loads(_part(root, ad).read_text(encoding="utf-8"))]
    counts = Counter(row["flaw"] for row in photos if row["flaw"])
    counts.update(f"{row['relation']} duplicate" for row in photos if row["relation"])
    counts.update("several cars" for row in photos if row["cars"] > 1)
    counts.update(ad.wording for ad in ads if ad.wording != "plain")
    content = {
        "format": _FORMAT, "settings": asdict(settings), "counts": dict(sorted(counts.items())),
        "ads": [_ad_truth(ad) for ad in ads], "photos": photos,
    }  # fmt: skip
    _write(root / "cars.csv", _table(_COLUMNS, [_csv_row(ad) for ad in ads]))
    _write(root / "truth.csv", _table(_PHOTO_COLUMNS, [_flat(row) for row in photos]))
    _write(root / "truth.json", json.dumps(content, indent=1, ensure_ascii=False))
    return content


def _csv_row(ad: AdPlan) -> dict[str, Any]:
    images = ", ".join(photo.image_id for photo in ad.photos)
    return {
        "ad_id": ad.ad_id, "make": ad.make, "model": ad.model, "submodel": ad.submodel, "images": images,
        "year": ad.look.year, "body": ad.sold.style, "price": ad.price, "currency": "EUR", "title": ad.title,
    }  # fmt: skip


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a photo's truth with the main car's box in four columns."""
    box = row["boxes"][0] if row["boxes"] else [None] * 4
    flat = {name: row[name] for name in _PHOTO_COLUMNS if name in row}
    return flat | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _say(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "an unknown kind"
