"""Write labels and classes for the identifier, from all markets: one softmax, one spelling a make, no copy in both.

In: the data sets, the networks that teach (makes, colours, boxes). Out: `labels.csv` (path, split, class_id or make and
model, source, group, box, year, colour, body, subject) and `classes.csv`. Sellers' words are resolved by carspotter's
own resolver. Photographs of one vehicle, and copies of one picture, are one group; a fifth of the groups is the split
`test`. A model with at least `--min-photos` photographs to learn from is a class, and each make for all its others.

    python benchmarks/prepare_identifier_data.py --data PHOTOS --weights WEIGHTS --out runs/identifier
"""

import argparse
import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from carspotter.hashes import phash
from carspotter.labels.resolve import Resolver
from carspotter.photos.near import pairs_within
from carspotter.pixels import decode
from prepare_subjects import OTHER, subjects
from pseudo_label import Look, yolox_look

STANFORD = Path(__file__).parent.parent / "recipes" / "stanford-cars.csv"
BODIES = {
    "sedan": "sedan",
    "suv": "suv",
    "suv, crossover": "suv",
    "coupe": "coupe",
    "convertible": "convertible",
    "hatchback": "hatchback",
    "wagon": "wagon",
    "van": "van",
    "minivan": "minivan",
    "minivan and microvan": "minivan",
    "pickup": "pickup",
    "crew cab": "pickup",
    "regular cab": "pickup",
    "extended cab": "pickup",
    "quad cab": "pickup",
    "club cab": "pickup",
    "supercab": "pickup",
}
SAME_BITS = 4
"""Bits of the perceptual hash within which two photographs are one picture."""
TEST_SHARE = 5  # every fifth group by hash
LEAST_SCORE, LEAST_AREA = 0.3, 0.1
"""Of a vehicle in an advertisement's photograph: the detector's score, and its part of the photograph."""
KNOWN = ("exact", "alias", "pattern", "prefix", "inside", "seller", "sound", "fuzzy")


@dataclass(slots=True, kw_only=True)
class Row:
    """A photograph of one vehicle and what is known of it; words are already resolved."""

    path: str
    source: str
    group: str
    split: str = "train"
    class_id: str = ""
    make: str = ""
    model: str = ""
    generation: str = ""
    year: str = ""
    x1: str = ""
    y1: str = ""
    x2: str = ""
    y2: str = ""
    colour: str = ""
    body: str = ""
    subject: str = "car"


def main() -> None:
    """Prepare, and say what there is."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--weights", "--out"):
        options.add_argument(name, type=Path, required=True)
    options.add_argument("--min-photos", type=int, default=8)
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    resolver = Resolver()
    look = yolox_look(str(given.weights / "yolox-nano.coco.onnx"))
    cars = [*other_cars(given.data / "more-cars", resolver), *advertised(given.data / "used-car-ads", resolver, look)]
    part(cars)
    stanford, classes = stanford_cars(given.data / "stanford-cars")
    makes = car_network(given.weights / "car-make.mobilenetv3_small.safetensors", given.out / "car-network", resolver)
    classes += new_classes(cars, {row["make"] for row in classes} | makes, given.min_photos)
    label(cars, classes)
    rows = [*stanford, *cars]
    rows += [Row(**found, subject=OTHER) for found in subjects(given.data, given.out, rows)]
    colour(rows, given.weights / "car-colour.mobilenetv3_small.safetensors")
    for row in rows:
        row.path = os.path.relpath(row.path, given.out)
    write(given.out / "classes.csv", classes, ("class_id", "make", "model", "generation", "year", "body"))
    write(given.out / "labels.csv", [asdict(row) for row in rows], tuple(Row.__slots__))
    print(f"{len(classes)} classes; photographs: {dict(Counter((row.split, row.subject) for row in rows))}")


def other_cars(folder: Path, resolver: Resolver) -> Iterator[Row]:
    """Yield the crops of many markets; a vehicle with several photographs is one group."""
    for row in read(folder / "labels.csv"):
        found = resolved(resolver, row["make"], row["model"])
        generation = row["generation"].split("/")[2].upper() if row["generation"].count("/") >= 2 else ""
        yield Row(
            path=str(folder / row["path"]),
            source=row["market"],
            group=f"{row['source']} {row['ad_id'] or row['path']}",
            year=row["year"],
            make=found[0],
            model=found[1],
            generation=generation if found[1] else "",
        )


def advertised(folder: Path, resolver: Resolver, look: Look) -> Iterator[Row]:
    """Yield the photographs of advertisements on which a whole vehicle was found, by its largest box."""
    views = ("front", "back", "profile", "angle")
    photos = [row for row in read(folder / "photos.csv") if row["view"].startswith(views)]
    for row in [*photos, *read(folder / "main.csv")]:
        box = largest(look, folder / row["path"])
        if box is None:
            continue
        make, model = resolved(resolver, row["make"], row["model"])
        corners = dict(zip(("x1", "y1", "x2", "y2"), (f"{value:.1f}" for value in box), strict=True))
        ad = row.get("ad_id")
        yield Row(
            path=str(folder / row["path"]),
            source="used-car ads" if ad else "lead photographs",
            group=f"ad {ad or row['path']}",
            make=make,
            model=model,
            year=row.get("year") or row["years"],
            body=BODIES.get(row.get("body", "").casefold(), ""),
            **corners,
        )


def resolved(resolver: Resolver, make: str, model: str) -> tuple[str, str]:
    """Return make and model as the resolver spells them; a make that it does not know stays as it is written."""
    found = resolver.resolve(make, model or None)
    return (found.make or make, found.model or "" if found.method in KNOWN else "")


def largest(look: Look, path: Path) -> list[float] | None:
    """Return the box of the vehicle that fills most of a photograph, at least a tenth of it."""
    pixels = decode(path.read_bytes()).pixels
    found = [box for score, *box in look(pixels) if score >= LEAST_SCORE]
    best = max(found, key=area, default=None)
    if best is None or area(best) < LEAST_AREA:
        return None
    height, width = pixels.shape[:2]
    return [min(max(side, 0.0), 1.0) * size for side, size in zip(best, (width, height) * 2, strict=True)]


def area(box: list[float]) -> float:
    """Return the area of a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def part(rows: list[Row]) -> None:
    """Tie groups that share a picture, and put a fifth of them aside."""
    hashes = np.array([phash(decode(Path(row.path).read_bytes()).pixels) for row in rows], np.uint64)
    parent = {row.group: row.group for row in rows}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for one, other in pairs_within(hashes, SAME_BITS)[0].tolist():
        first, second = sorted((root(rows[one].group), root(rows[other].group)))
        parent[second] = first
    for row in rows:
        row.group = root(row.group)
        digest = int(hashlib.sha256(row.group.encode()).hexdigest(), 16)
        row.split = "test" if digest % TEST_SHARE == 0 else "train"


def stanford_cars(folder: Path) -> tuple[list[Row], list[dict[str, str]]]:
    """Return Stanford's photographs with their official split, and its 196 classes."""
    classes = list(read(STANFORD))
    rows = [
        Row(
            path=str(folder / row["path"]),
            source="Stanford Cars",
            group=f"stanford {row['path']}",
            split=row["split"],
            class_id=row["class_id"],
            year=row["year"],
            body=BODIES.get(row["body"].casefold(), ""),
        )
        for row in read(folder / "labels.csv")
    ]
    return rows, classes


def car_network(weights: Path, out: Path, resolver: Resolver) -> set[str]:
    """Write the car network as a run to start from; return its makes as the resolver spells them.

    Of several spellings of one make, the row of that which is the make's own name stays.
    """
    from safetensors.torch import load_file

    from carspotter.taxonomy import Taxon, Taxonomy
    from carspotter.training.checkpoint import BEST, TAXONOMY, Checkpoint

    labels = weights.with_name("car-make.labels.txt").read_text(encoding="utf-8").splitlines()
    rows: dict[str, int] = {}
    for row, name in enumerate(labels):
        make = resolved(resolver, name, "")[0]
        if make not in rows or make == name:
            rows[make] = row
    values = {name: value.float() for name, value in load_file(weights).items()}
    head = {f"head.{part}": values.pop(f"classifier.{part}")[list(rows.values())] for part in ("weight", "bias")}
    state = {f"backbone.{name}": value for name, value in values.items()} | head
    out.mkdir(exist_ok=True)
    empty = Checkpoint(epoch=0, step=0, model={}, averaged=state, optimizer={}, best=0.0, fingerprint="")
    empty.save(out / BEST)
    Taxonomy(classes=tuple(Taxon(make=make) for make in rows)).save(out / TAXONOMY)
    return set(rows)


def new_classes(rows: list[Row], makes: set[str], least: int) -> list[dict[str, str]]:
    """Return generations and models with enough photographs to learn from, and each make for all its other models."""
    learnt = [row for row in rows if row.split == "train" and row.model]
    models = Counter((row.make, row.model) for row in learnt)
    generations = Counter((row.make, row.model, row.generation) for row in learnt if row.generation)
    names = [
        {"make": make, "model": model, "generation": generation}
        for (make, model, generation), count in sorted(generations.items())
        if count >= least
    ]
    names += [{"make": make, "model": model} for (make, model), count in sorted(models.items()) if count >= least]
    names += [{"make": make} for make in sorted(makes | {row.make for row in rows})]
    return [{"class_id": "/".join(name.values()), **name} for name in names]


def label(rows: list[Row], classes: list[dict[str, str]]) -> None:
    """Give each row its class, or leave make and model where several classes may be meant."""
    ids = {row["class_id"] for row in classes}
    spans: dict[tuple[str, str], list[str]] = defaultdict(list)
    for known in classes:
        if known["class_id"].isdecimal():
            spans[known["make"], known["model"]].append(known["generation"])
    for row in rows:
        model = "/".join((row.make, row.model))
        generation, row.generation = "/".join((model, row.generation)), ""
        if not row.model:
            continue
        if generation in ids:
            row.class_id = generation
        elif any(built(row.year, span) for span in spans[row.make, row.model]):
            row.year = ""  # it may be one of Stanford's classes: make and model are what is known
        else:
            row.class_id = model if model in ids else row.make


def built(year: str, span: str) -> bool:
    """Return whether a car of `year` ("2003", "2000-2005", "") may be of a generation ("1998-2006")."""
    years, built_in = [[int(part) for part in text.split("-") if part] for text in (year, span)]
    if not years or not built_in:
        return True
    return years[0] <= built_in[-1] and years[-1] >= built_in[0]


def colour(rows: list[Row], weights: Path) -> None:
    """Let the colour network name the colour of each vehicle."""
    import timm
    import torch
    from safetensors.torch import load_file

    from carspotter.geometry import BoundingBox
    from carspotter.pixels import Preprocessing, network_input

    words = weights.with_name("car-colour.labels.txt").read_text(encoding="utf-8").split()
    network = timm.create_model("tf_mobilenetv3_small_100", num_classes=len(words)).eval()
    network.load_state_dict(load_file(weights), strict=False)
    cars = [row for row in rows if row.subject == "car"]
    for start in range(0, len(cars), 32):
        crops = []
        for row in cars[start : start + 32]:
            box = BoundingBox(*(float(value) for value in (row.x1, row.y1, row.x2, row.y2))) if row.x2 else None
            size = Preprocessing(width=224, height=224, pad=0.04)
            crops.append(network_input(decode(Path(row.path).read_bytes()).pixels, size, box))
        with torch.inference_mode():
            best = network((torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() - 127.5) * 0.00784).argmax(1)
        for row, index in zip(cars[start : start + 32], best.tolist(), strict=True):
            row.colour = words[index]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[dict[str, str]], names: tuple[str, ...]) -> None:
    """Write the named columns as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
