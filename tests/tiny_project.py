"""A small project on a disk: coloured cars on grey noise, in a CSV with a few flaws, looked at by tiny bundles."""

import atexit
import csv
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carspotter.project.folder import Project
from tiny_bundles import BACKGROUNDS, draw_photo, tiny_finder, tiny_identifier

# Two makes and three models that the bundled list knows, each of a colour that the tiny networks tell apart.
MODELS = {"red": ("VW", "Golf"), "green": ("audi", "A4 Avant"), "blue": ("BMW", "320d")}
NAMES = {"red": "Volkswagen Golf", "green": "Audi A4", "blue": "BMW 3 Series"}
ADS_PER_MODEL = 5
PHOTOS_PER_AD = 3

SETTINGS = """
name = "tiny"

[[sources]]
kind = "table"
path = "cars.csv"
photos = "pictures"
name = "cars"

[check]
drop = ["too-small"]

[locate]
finder = "bundles/finder"
identifier = "bundles/identifier"

[classes]
min_photos = 4

[shards]
format = ["webdataset", "tfrecord"]
per_shard = 8
"""

# Looking for plates and faces in drawn cars is half of a build's work; project/test_blurred.py tests that it is done.
UNBLURRED = "\n[share]\nblur = false\n"


def make_project(folder: Path, *, settings: str = SETTINGS + UNBLURRED) -> Path:
    """Write settings, bundles, photos and the table of a project into a folder, and return it."""
    shutil.copytree(_drawn(ADS_PER_MODEL), folder, dirs_exist_ok=True)
    (folder / "carspotter.toml").write_text(settings, encoding="utf-8")
    return folder


@functools.cache
def _drawn(ads_per_model: int) -> Path:
    """Write bundles, photos and the table once a process: each project is a copy."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-project-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_finder(folder / "bundles" / "finder")
    tiny_identifier(folder / "bundles" / "identifier")
    rows = [row for number, color in enumerate(MODELS) for row in _ads(folder, color, number, ads_per_model)]
    rows += _flawed(folder)
    write_table(folder, rows)
    return folder


def write_table(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """Write the table of a project: rows of ad_id, make, model, submodel, photos."""
    with (folder / "cars.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ad_id", "make", "model", "submodel", "photos"), *rows])


def _ads(folder: Path, color: str, number: int, count: int) -> list[tuple[str, ...]]:
    rows = []
    for ad in range(count):
        ad_id = str(1000 + 100 * number + ad)
        names = [f"{ad_id}_{k}.jpg" for k in range(PHOTOS_PER_AD)]
        for k, name in enumerate(names):
            save_photo(folder / "pictures" / name, color, seed=int(ad_id) * 10 + k)
        rows.append((ad_id, *MODELS[color], "", ", ".join(names)))
    return rows


def save_photo(path: Path, color: str | None, *, seed: int) -> None:
    """Draw a car of a colour at a random place on noise of its own; without a colour, a dark interior."""
    random = np.random.default_rng(seed)
    x, y = int(random.integers(20, 120)), int(random.integers(20, 90))
    cars = [(color, (x, y, x + 200, y + 140))] if color else []
    pixels = draw_photo((400, 300), cars, background=BACKGROUNDS["exterior" if color else "interior"])
    # Grey shapes make photos that no hash confuses; they leave the colour's lead of 64 as it is.
    coarse = Image.fromarray(random.integers(0, 60, (8, 10), dtype=np.uint8)).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    noisy = np.clip(pixels.astype(int) + (np.asarray(coarse, dtype=int) - 30)[..., None], 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.astype(np.uint8)).save(path, quality=92)


def _flawed(folder: Path) -> list[tuple[str, ...]]:
    """Write an ad with bad photos, one with a copy, one that nobody understands, one without an id, a twice used id."""
    pictures = folder / "pictures"
    whole = (pictures / "1000_0.jpg").read_bytes()
    (pictures / "9000_broken.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    (pictures / "9000_text.jpg").write_bytes(b"<html>gone</html>")
    save_photo(pictures / "9000_inside.jpg", None, seed=1)
    save_photo(pictures / "9002_0.jpg", "red", seed=2)
    (pictures / "9001_copy.jpg").write_bytes((pictures / "1101_0.jpg").read_bytes())
    return [
        ("9000", "VW", "Golf", "", "9000_broken.jpg, 9000_text.jpg, , 9000_inside.jpg, 9000_absent.jpg"),
        ("9001", "audi", "a4", "", "9001_copy.jpg"),
        ("9002", "Qqzzx", "Vbnmk", "", "9002_0.jpg"),
        ("", "VW", "Polo", "", "1000_1.jpg"),
        ("1000", "BMW", "X5", "", "1000_2.jpg"),
    ]


TABLES = (
    "listings",
    "listing_photos",
    "checks",
    "findings",
    "embeddings",
    "duplicates",
    "labels",
    "classes",
    "samples",
    "predictions",
)


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Give all rows of a project, without what differs between two builds: when a photo was asked for."""
    with Project.open(folder).catalog() as catalog:
        found = {name: catalog.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}
        found["files"] = catalog.rows("SELECT * EXCLUDE (stage_version, message, modified) FROM files ORDER BY ALL")
    return {name: [plain(row) for row in rows] for name, rows in found.items()}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Give the vectors of a row as lists, so that rows can be compared."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
