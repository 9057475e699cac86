"""The steps classes and split on a catalogue written by hand: banners, merges, and sources that give parts later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from carspotter.errors import DatasetError
from carspotter.photos.duplicates import find_duplicates
from carspotter.progress import Quiet
from carspotter.project.build import Build, Journal
from carspotter.project.classes import choose_classes, class_taxa
from carspotter.project.deduplicate import CHECKED
from carspotter.project.folder import Project
from carspotter.project.split import certify, split_dataset

SETTINGS = """
[classes]
min_photos = 1
min_ads = 1

[split]
train = 0.5
validation = 0.25
test = 0.25
"""
MODELS = ("911", "Boxster", "Cayenne")


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Build]:
    (tmp_path / "carspotter.toml").write_text(SETTINGS)
    project = Project.open(tmp_path)
    with project.catalog() as catalog:
        yield Build(project=project, catalog=catalog, journal=Journal(tmp_path), watch=Quiet())


def fill(build: Build, n_ads: int, **pictures: str) -> None:
    """Append ads of Porsche, each with a photo of its own and one of each of `pictures`: its name, its bytes."""
    ads = [f"a{ad:02d}" for ad in range(n_ads)]
    pictures["own"] = "own {}"
    shown = [(ad, name, content.format(ad)) for ad in ads for name, content in pictures.items()]
    photos = [{"photo_id": f"{ad}/{name}", "status": "ok"} for ad, name, _ in shown]
    found = {"passed": True, "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0}
    # A contrast of 0: copies are told by their bytes alone.
    checks = [{"sha256": content, "width": 9, "height": 9, "phash": 0, "contrast": 0.0} for *_, content in shown]
    labels = [(ad, MODELS[number % 3]) for number, ad in enumerate(ads)]
    tables: dict[str, list[dict[str, Any]]] = {
        "listings": [{"ad_id": ad, "status": "ok"} for ad in ads],
        "listing_photos": [photo | {"ad_id": ad} for photo, (ad, *_) in zip(photos, shown, strict=True)],
        "files": photos,
        "checks": [photo | check for photo, check in zip(photos, checks, strict=True)],
        "findings": [photo | found for photo in photos],
        "labels": [
            {"ad_id": ad, "make": "Porsche", "model": model, "name": f"Porsche {model}", "status": "ok"}
            for ad, model in labels
        ],
    }
    for name, rows in tables.items():
        build.catalog.append(name, rows)
    build.catalog.replace("duplicates", find_duplicates(build.catalog.columns(f"{CHECKED} ORDER BY c.photo_id")))
    choose_classes(build)


def samples(build: Build) -> Mapping[str, Mapping[str, Any]]:
    return {row["photo_id"]: row for row in build.catalog.rows("SELECT * FROM samples ORDER BY photo_id")}


def test_of_a_picture_that_many_ads_show_one_copy_is_a_sample(built: Build) -> None:
    fill(built, 30, banner="stock photo")
    split_dataset(built)
    found = samples(built)
    banner = [row for photo, row in found.items() if photo.endswith("banner")]
    assert Counter(row["status"] for row in banner) == {"ok": 1, "duplicate": 29}
    assert {row["split"] for photo, row in found.items() if photo.endswith("own")} == {"train", "validation", "test"}


def test_the_certificate_counts_a_picture_that_ties_no_ads_where_it_is_a_sample(built: Build) -> None:
    fill(built, 30, banner="stock photo")
    split_dataset(built)
    torn = built.catalog.columns("SELECT * FROM samples ORDER BY photo_id")
    split_of = {row["ad_id"]: row["split"] for row in samples(built).values() if row["split"]}
    torn |= {"status": ["ok"] * len(torn["ad_id"]), "split": [split_of[ad] for ad in torn["ad_id"]]}
    with pytest.raises(DatasetError, match=r"exact stock photo in test and train and validation"):
        certify(built, torn).check()


def test_an_unused_photo_moves_with_its_ad(built: Build) -> None:
    fill(built, 12, other="other {}")
    split_dataset(built)
    ad = next(row["ad_id"] for row in samples(built).values() if row["split"] == "train")
    photo = {"photo_id": f"{ad}/own", "ad_id": ad, "status": "ok", "split": "test"}
    built.catalog.append("listing_photos", [photo])  # the source gives a part now
    built.catalog.append("findings", [{"photo_id": f"{ad}/other", "passed": False, "status": "ok"}])
    split_dataset(built)
    found = [samples(built)[f"{ad}/{name}"] for name in ("own", "other")]
    assert [(row["split"], row["status"]) for row in found] == [("test", "ok"), ("test", "absent")]


def test_a_class_that_others_are_merged_into_is_what_its_name_says(built: Build) -> None:
    built.project.labels.mkdir()
    rows = [f"Porsche {model},Porsche" for model in MODELS]
    (built.project.labels / "classes.csv").write_text("\n".join(["taxon,becomes", *rows]))
    fill(built, 6)
    assert {name: taxon.to_dict() for name, taxon in class_taxa(built).items()} == {"Porsche": {"make": "Porsche"}}
