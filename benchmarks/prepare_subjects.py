"""Make photographs of what has no name: drawings, halves of cars, lorries, motorbikes, people, things, interiors.

In: the data sets and the rows of whole cars. Out: crops as files below `--out`, each with its box, group and split, for
the head `subject` of the identifier. Everything follows from a fixed seed.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from carspotter.pixels import decode
from carspotter.sources.showroom import pictures

OTHER = "other"
HALVES, STYLED = 1200, 500
LEAST_SIDE = 28  # pixels: below, nobody can tell what is seen
TEST_SHARE = 5


class Car(Protocol):
    """A photograph of a whole car; sides of its box are numbers as text, or empty where it fills the photo."""

    path: str
    split: str
    group: str
    x1: str
    y1: str
    x2: str
    y2: str


def subjects(data: Path, out: Path, cars: Sequence[Car]) -> Iterator[dict[str, str]]:
    """Yield path, source, group, split and box of photographs that show no whole car."""
    folder = out / "subjects"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(11)
    chosen = [cars[index] for index in random.permutation(len(cars))[: HALVES + STYLED].tolist()]
    for number, car in enumerate(chosen):
        image = crop(car)
        made, source = (half(image, random), "halves") if number < HALVES else (styled(image, random), "drawings")
        yield saved(made, folder / f"{source}-{number:05}.webp", source, car.group, car.split)
    yield from drawn(folder)
    yield from things(data)


def crop(car: Car) -> Image.Image:
    """Return the vehicle alone."""
    image = Image.fromarray(decode(Path(car.path).read_bytes()).pixels)
    if car.x2:
        image = image.crop((int(float(car.x1)), int(float(car.y1)), int(float(car.x2)) + 1, int(float(car.y2)) + 1))
    return image


def half(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut 35 to 50 % of one side out, or of both, at an edge."""
    width, height = image.size
    cut = random.integers(0, 3)  # 0: across, 1: along, 2: both
    wide = width * random.uniform(0.35, 0.5) if cut != 1 else width
    high = height * random.uniform(0.35, 0.5) if cut != 0 else height
    left, top = (width - wide) * random.integers(0, 2), (height - high) * random.integers(0, 2)
    return image.crop((round(left), round(top), round(left + wide), round(top + high)))


def styled(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Make a drawing of a photograph: a sketch, a poster or a comic."""
    image = image.resize((224, 224))
    edges = ImageOps.invert(image.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES))
    lines = ImageOps.autocontrast(edges, cutoff=2)
    style = random.integers(0, 3)
    if style == 0:
        return lines.convert("RGB")
    flat = ImageOps.posterize(image.filter(ImageFilter.ModeFilter(9)), int(random.integers(2, 4)))
    return flat if style == 1 else ImageChops.multiply(flat, lines.convert("RGB"))


def drawn(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the cars of the showroom, which no camera has seen."""
    for number, (data, box) in enumerate(pictures(), 1):
        name = folder / f"drawn-{number:05}.webp"
        corners = (round(box.x1), round(box.y1), round(box.x2), round(box.y2))
        image = Image.fromarray(decode(data).pixels).crop(corners)
        yield saved(image, name, "drawings", name.stem, "")


def things(data: Path) -> Iterator[dict[str, str]]:
    """Yield motorbikes, lorries, buses and people of streets, everyday things, and interiors."""
    for row in read(data / "scenes" / "boxes.csv"):
        sides = [row[name] for name in ("x1", "y1", "x2", "y2")]
        if row["kind"] in ("", "car") or not sides[0]:
            continue
        if min(float(sides[2]) - float(sides[0]), float(sides[3]) - float(sides[1])) >= LEAST_SIDE:
            yield found(
                data / "scenes" / row["path"], "streets", dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))
            )
    inside = [row["path"] for row in read(data / "used-car-ads" / "photos.csv") if row["view"] == "in"]
    for path in inside:
        yield found(data / "used-car-ads" / path, "interiors")
    for folder, source in (("used-car-ads/interiors", "interiors"), ("not-cars", "things")):
        for path in sorted(path for path in (data / folder).rglob("*") if path.suffix in (".jpg", ".webp", ".png")):
            yield found(path, source)


def found(path: Path, source: str, box: dict[str, str] | None = None) -> dict[str, str]:
    """Return the row of a photograph as it is."""
    group = f"{source} {path.name}"
    return {"path": str(path), "source": source, "group": group, "split": split(group), **(box or {})}


def saved(image: Image.Image, path: Path, source: str, group: str, part: str) -> dict[str, str]:
    """Write a crop and return its row."""
    image.resize((224, 224)).save(path, quality=90)
    return {"path": str(path), "source": source, "group": group, "split": part or split(group)}


def split(group: str) -> str:
    """Put a fifth aside."""
    return "test" if int(hashlib.sha256(group.encode()).hexdigest(), 16) % TEST_SHARE == 0 else "train"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
