"""Write labels and taxonomy for one identifier of two markets: Stanford Cars, and used-car advertisements.

In: both data sets. The advertisements are built as a carspotter project in `--out` (gate, boxes, duplicates, sellers'
words). Out: `labels.csv` (path, split, source, group, class_id or make, box), `stanford.csv` with
its Stanford rows, for a teacher that knows no other, and `classes.csv`. Groups are ads tied by
duplicates; a fifth of them is split `ads-test`. A model of at least `--min-photos` photographs to learn from is a
class; another one is its make's class for the rest, or, where Stanford has models that it may be, known by make alone.

    python benchmarks/prepare_joint_data.py --stanford DATA/stanford-cars --ads DATA/used-car-ads --out runs/joint
"""

import argparse
import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from carspotter.project.folder import Project, create
from carspotter.project.pipeline import build

Row = dict[str, Any]

SETTINGS = """
name = "two markets"

[[sources]]
kind = "table"
name = "ads"
path = "{ads}/photos.csv"
columns = {{ ad_id = "ad_id", make = "make", model = "model", photos = "path", viewpoint = "view" }}
photos = "{ads}"
[sources.words.viewpoint]
{views}

[[sources]]
kind = "table"
name = "leads"
path = "{ads}/main.csv"
columns = {{ ad_id = "path", make = "make", model = "model", year = "year", photos = "path" }}
photos = "{ads}"

[locate]
gate = {gate}

[classes]
level = "make"
min_photos = 1
"""
VIEWS = {
    "front": "front", "back": "back", "profile-on-left": "left", "profile-on-right": "right",
    "angle-front-on-left": "front-left", "angle-front-on-right": "front-right", "angle-back-on-left": "back-right",
    "angle-back-on-right": "back-left",
}  # fmt: skip
LOCATED = """SELECT p.photo_id, p.ad_id, f.path, v.x1, v.y1, v.x2, v.y2, w.make, w.model, d.group_id, p.viewpoint
FROM listing_photos p JOIN files f USING (photo_id) JOIN findings v USING (photo_id) JOIN labels w ON w.ad_id = p.ad_id
LEFT JOIN duplicates d ON d.photo_id = p.photo_id
WHERE w.make IS NOT NULL AND v.passed AND v.x1 IS NOT NULL ORDER BY p.photo_id"""
FIELDS = ("path", "split", "source", "group", "class_id", "make", "x1", "y1", "x2", "y2", "body", "view")
TEST_SHARE = 5  # every fifth group by hash


def main() -> None:
    """Prepare, and say what there is."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--stanford", "--ads", "--out"):
        options.add_argument(name, type=Path, required=True)
    options.add_argument("--min-photos", type=int, default=12)
    options.add_argument("--gate", type=float, default=0.5)
    given = options.parse_args()
    located = locate(given.ads.resolve(), given.out, given.gate)
    stanford = list(read(given.stanford / "labels.csv"))
    classes = list(read(Path(__file__).parent.parent / "recipes" / "stanford-cars.csv"))
    rows = ad_rows(located, given.out)
    classes += new_classes(rows, classes, given.min_photos)
    label(rows, classes)
    rows += stanford_rows(stanford, given.stanford.resolve(), given.out)
    write(given.out / "classes.csv", classes, ("class_id", "make", "model", "generation", "year", "body"))
    write(given.out / "labels.csv", rows, FIELDS)
    write(given.out / "stanford.csv", [row for row in rows if row["source"] == "stanford"], FIELDS)
    print(f"{len(classes)} classes; photos: {dict(Counter(row['split'] for row in rows))}")
    print(f"known by make alone: {sum(not row['class_id'] for row in rows)}")


def locate(ads: Path, out: Path, gate: float) -> list[Row]:
    """Build the advertisements as a project and return its photographs of whole vehicles with make."""
    folder = out / "project"
    if not folder.exists():
        views = "\n".join(f'"{old}" = "{new}"' for old, new in VIEWS.items())
        create(folder, SETTINGS.format(ads=ads, gate=gate, views=views))
    build(Project.open(folder), until="resolve")
    with Project.open(folder).catalog() as catalog:
        return catalog.rows(LOCATED)


def ad_rows(located: list[Row], out: Path) -> list[Row]:
    """Return label rows; one copy of each picture, ads tied by a picture in one group."""
    group = tied((row["ad_id"], row["group_id"]) for row in located)
    seen: set[str] = set()
    rows = []
    for row in located:
        if row["group_id"] is not None and row["group_id"] in seen:
            continue
        seen.add(row["group_id"])
        name = group[row["ad_id"]]
        digest = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        rows.append({
            "path": os.path.relpath(row["path"], out), "split": "ads-test" if digest % TEST_SHARE == 0 else "train",
            "source": "ads", "group": f"ad {name}",
            "make": row["make"], "model": row["model"], "view": row["viewpoint"] or "",
            **{side: round(row[side], 2) for side in ("x1", "y1", "x2", "y2")},
        })  # fmt: skip
    return rows


def tied(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Return for each ad the least ad of those that share pictures with it, however many steps away."""
    parent: dict[str, str] = {}

    def root(ad: str) -> str:
        while parent.setdefault(ad, ad) != ad:
            ad = parent[ad]
        return ad

    first: dict[str, str] = {}
    for ad, picture in pairs:
        one, other = sorted((root(ad), root(first.setdefault(picture, ad) if picture is not None else ad)))
        parent[other] = one
    return {ad: root(ad) for ad in list(parent)}


def new_classes(rows: list[Row], known: list[Row], least: int) -> list[Row]:
    """Return the classes that the ads add: models with enough photographs, and each make for all its other models."""
    spelled = {row["make"].casefold(): row["make"] for row in known}
    for row in rows:
        row["make"] = spelled.setdefault(row["make"].casefold(), row["make"])
    counts = Counter((row["make"], row["model"]) for row in rows if row["split"] == "train" and row["model"])
    names = [{"make": make, "model": model} for (make, model), count in sorted(counts.items()) if count >= least]
    makes = sorted({row["make"] for row in rows if row["split"] == "train"})
    names += [{"make": make} for make in makes]
    return [{"class_id": f"ads-{number}", **name} for number, name in enumerate(names)]


def label(rows: list[Row], classes: list[Row]) -> None:
    """Give each row the class that it is, or none where several of its make may be meant."""
    exact = {(row["make"], row.get("model")): row["class_id"] for row in classes if row["class_id"].startswith("ads-")}
    others = defaultdict(list)
    for row in classes:
        if not row["class_id"].startswith("ads-"):
            others[row["make"]].append(row["model"].casefold())
    for row in rows:
        class_id = exact.get((row["make"], row["model"]))
        if class_id is None and not _may_be(row["model"], others[row["make"]]):
            class_id = exact.get((row["make"], None))
        row["class_id"] = class_id or ""
    rows[:] = [row for row in rows if row["class_id"] or row["make"] in others]


def _may_be(model: str | None, known: list[str]) -> bool:
    """Tell whether a model may be one of those known, which carry their body ("A5" and "A5 Coupe")."""
    return model is None or any(name.split()[0] == model.casefold().split()[0] for name in known)


def stanford_rows(rows: list[Row], folder: Path, out: Path) -> list[Row]:
    """Return Stanford's rows with paths that count from `out`."""
    return [
        {
            "path": os.path.relpath(folder / row["path"], out),
            "split": "stanford-test" if row["split"] == "test" else "train",
            "source": "stanford", "group": f"stanford {row['path']}", "class_id": row["class_id"], "make": row["make"],
            "body": row["body"], "view": "",
        }
        for row in rows
    ]  # fmt: skip


def read(path: Path) -> Iterable[Row]:
    """Yield the rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def write(path: Path, rows: list[Row], names: tuple[str, ...]) -> None:
    """Write the named columns as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
