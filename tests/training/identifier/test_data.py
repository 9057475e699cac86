"""The identifier's photos: reading, holding out, augmenting."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from carspotter.errors import RecipeError
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.identifier import data
from carspotter.training.identifier.holdout import split_holdout, take_fraction
from carspotter.training.identifier.source import LabelledPhotos, batches_of
from carspotter.training.identifier.targets import Nodes
from carspotter.training.recipe import AugmentSettings, DataSettings, InputSettings
from carspotter.training.recipe_file import load_recipe

NODES = Nodes(
    Taxonomy(
        classes=(
            Taxon(make="Audi", model="A3"),
            Taxon(make="Audi", model="A4"),
            Taxon(make="BMW", model="X1"),
            Taxon(make="BMW", model="X3", year=2012),
        )
    ),
    {"1": 0, "2": 1, "3": 2, "4": 3},
)
STILL = AugmentSettings(min_area=1, zoom_out=0, aspect=0, rotate=0, flip=0, color=0, gray=0, erase=0)


@pytest.fixture(scope="module")
def photos(drawn_data: Path) -> LabelledPhotos:
    labels = drawn_data / "photos" / "labels.csv"
    rows = data.labelled_rows(DataSettings(labels="labels.csv", split="train"), labels)
    return data.load_photos(rows, labels, NODES, InputSettings(width=64, height=48))


def load(labels: Path, size: InputSettings | None = None) -> LabelledPhotos:
    rows = data.labelled_rows(DataSettings(labels="labels.csv"), labels)
    return data.load_photos(rows, labels, NODES, size or InputSettings())


def test_photos_of_the_split_in_order(photos: LabelledPhotos) -> None:
    assert photos.images.shape == (56, 48, 64, 3)
    assert photos.paths[:2] == ("8.png", "9.png")
    assert photos.targets[:5].tolist() == [0, 1, 2, 3, 0]
    red, blue = photos.images[0].reshape(-1, 3).max(0)[[0, 2]]
    assert red > 200 > blue


def test_a_box_is_cropped(drawn_data: Path, tmp_path: Path) -> None:
    photo = (drawn_data / "photos" / "8.png").resolve()
    (tmp_path / "labels.csv").write_text(f"path,class_id,x1,y1,x2,y2\n{photo},1,0,0,48,36\n{photo},1,,,,\n")
    size = InputSettings(width=48, height=36)
    both = load(tmp_path / "labels.csv", size).images
    from carspotter.pixels import decode

    assert np.array_equal(both[0], decode(photo.read_bytes()).pixels[:36, :48])
    assert not np.array_equal(both[0], both[1])


def test_holdout_has_every_class_and_does_not_move(photos: LabelledPhotos) -> None:
    learnt, held = split_holdout(photos, 0.25)
    assert set(learnt.paths).isdisjoint(held.paths)
    assert len(learnt) + len(held) == len(photos)
    assert np.bincount(held.targets).tolist() == [4, 4, 4, 4]
    fewer = photos.take(np.arange(len(photos)) % 8 != 0)
    assert set(split_holdout(fewer, 0.25)[1].paths) & set(learnt.paths) <= set(learnt.paths)
    again = split_holdout(photos, 0.25)[1]
    assert again.paths == held.paths


def test_a_group_is_held_out_as_a_whole_and_never_all_of_a_class(photos: LabelledPhotos) -> None:
    grouped = dataclasses.replace(photos, groups=tuple(str(i // 8) for i in range(len(photos))))
    learnt, held = split_holdout(grouped, 0.2)
    assert set(learnt.groups).isdisjoint(held.groups)
    assert len(set(held.groups)) == 1  # each group has photos of all classes, so that one is enough for all
    alone = dataclasses.replace(photos, groups=("one",) * len(photos))
    assert len(split_holdout(alone, 0.2)[1]) == 0


def test_fractions_are_nested(photos: LabelledPhotos) -> None:
    some, more = (set(take_fraction(photos, part).paths) for part in (0.25, 0.5))
    assert some < more
    assert np.bincount(take_fraction(photos, 0.5).targets).tolist() == [7, 7, 7, 7]


def test_a_still_augmentation_is_the_photo_itself(photos: LabelledPhotos) -> None:
    batch = torch.from_numpy(photos.images[:4])
    out, flipped = data.augment(batch, (48, 64), STILL, torch.Generator().manual_seed(0))
    assert not flipped.any()
    assert out.shape == (4, 3, 48, 64)
    assert torch.allclose(out, batch.permute(0, 3, 1, 2).float(), atol=1e-3)


def test_a_flip_mirrors(photos: LabelledPhotos) -> None:
    batch = torch.from_numpy(photos.images[:4])
    flipping = dataclasses.replace(STILL, flip=1.0)
    out, flipped = data.augment(batch, (48, 64), flipping, torch.Generator().manual_seed(0))
    assert flipped.all()
    assert torch.allclose(out.flip(3), batch.permute(0, 3, 1, 2).float(), atol=1e-3)


def test_augmentation_keeps_range_and_follows_its_seed(photos: LabelledPhotos) -> None:
    batch = torch.from_numpy(photos.images[:16])
    settings = AugmentSettings(randaugment=2)
    outs = [data.augment(batch, (32, 40), settings, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert outs[0].shape == (16, 3, 32, 40)
    assert outs[0].min() >= 0
    assert outs[0].max() <= 255
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_batches_cover_each_photo_once() -> None:
    seen = torch.cat(list(batches_of(20, 5, torch.Generator().manual_seed(0))))
    assert sorted(seen.tolist()) == list(range(20))
    assert [len(batch) for batch in batches_of(7, 5, torch.Generator())] == [5]
    assert [len(batch) for batch in batches_of(3, 5, torch.Generator())] == [3]


def test_photos_are_drawn_by_weight() -> None:
    weights = torch.tensor([1.0] * 10 + [0.0] * 90)
    seen = torch.cat(list(batches_of(100, 5, torch.Generator().manual_seed(0), weights=weights)))
    assert len(seen) == 100
    assert seen.max() < 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,make\nx.png,Lada\n", "no class is a 'Lada'"),
        ("path,class_id\nx.png,9\n", "class_id '9' is not in the taxonomy"),
        ("path,make,year\nx.png,BMW,12\n", "a row of the labels: year is '12'; it must be a year such as 2012"),
        ("path,class\nx.png,1\n", "lacks the column 'class_id'"),
        ("path,class_id\n", "has no row"),
        (None, "cannot be read"),
    ],
)
def test_bad_labels(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        load(path)


def test_an_unreadable_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,class_id\nnone.png,1\n")
    with pytest.raises(RecipeError, match=r"none\.png"):
        load(tmp_path / "labels.csv")


def test_fingerprint_follows_settings_and_labels(drawn_data: Path, photos: LabelledPhotos) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    same = load_recipe(drawn_data / "recipe.toml", ["claim=words", "train.threads=2"])
    other = load_recipe(drawn_data / "recipe.toml", ["train.lr=1"])
    marks = [data.fingerprint(each, photos, photos) for each in (recipe, same, other)]
    assert marks[0] == marks[1] != marks[2]
    fewer = photos.take(np.arange(56) > 0)
    assert data.fingerprint(recipe, fewer, photos) != marks[0]
    # What the best epoch is chosen by counts too, and which part of a photo is shown.
    assert data.fingerprint(recipe, photos, fewer) != marks[0]
    cut = dataclasses.replace(photos, boxes=("0 0 48 36", *photos.boxes[1:]))
    assert data.fingerprint(recipe, cut, photos) != marks[0]
