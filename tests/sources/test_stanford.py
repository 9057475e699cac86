"""Stanford Cars from its official files, here written anew in the same structure with a few rows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from carspotter.errors import SourceError
from carspotter.sources.makes import read_name
from carspotter.sources.stanford import StanfordSettings, is_devkit, read

scipy_io = pytest.importorskip("scipy.io")

NAMES = ("AM General Hummer SUV 2000", "Acura TL Type-S 2008", "Ram C/V Cargo Van Minivan 2012")
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def structs(rows, fields):
    """Return a MATLAB struct array, 1 x n, as the official files have it."""
    array = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for index, row in enumerate(rows):
        array[0, index] = tuple(
            value if isinstance(value, str) else np.array([[value]], dtype=np.uint16) for value in row
        )
    return array


def write_devkit(folder, train, test=(), names=NAMES):
    cells = np.array([list(names)], dtype=object)
    scipy_io.savemat(folder / "cars_meta.mat", {"class_names": cells})
    fields = (*BOX, "class", "fname")
    scipy_io.savemat(folder / "cars_train_annos.mat", {"annotations": structs(train, fields)})
    if test:
        scipy_io.savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": structs(test, fields)})


def ads(path, **settings):
    return list(read(StanfordSettings(path=str(path), **settings)))


@pytest.mark.parametrize("inner", ["", "devkit"])
def test_train_and_test(tmp_path, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    train = [(39, 116, 569, 375, 2, "00001.jpg"), (1, 2, 3, 4, 1, "00002.jpg"), (1, 2, 3, 4, 9, "00003.jpg")]
    write_devkit(tmp_path / inner, train, [(5, 6, 7, 8, 3, "00001.jpg")])
    found = ads(tmp_path)
    assert [ad.listing["ad_id"] for ad in found] == ["train/00001", "train/00002", "train/00003", "test/00001"]
    listing = found[0].listing
    assert json.loads(listing.pop("attributes")) == {"class_id": 2, "split": "train", "box": [39, 116, 569, 375]}
    assert listing == {
        "ad_id": "train/00001",
        "source": "stanford-cars",
        "make": "Acura",
        "model": "TL Type-S",
        "year": 2008,
        "title": "Acura TL Type-S 2008",
        "status": "ok",
    }
    assert found[0].photos[0]["url"] == str(tmp_path / "cars_train" / "00001.jpg")
    assert found[3].photos[0]["url"] == str(tmp_path / "cars_test" / "00001.jpg")
    assert [ad.photos[0]["split"] for ad in found] == ["train", "train", "train", "test"]
    assert is_devkit(tmp_path)
    assert not is_devkit(tmp_path / "cars_train")
    assert (found[1].listing["make"], found[1].listing["body"]) == ("AM General", "SUV")
    assert found[2].listing["message"] == "class 9 is not among the 3 class names"
    assert (found[3].listing["make"], found[3].listing["body"]) == ("Dodge", "Minivan")


def test_one_row_and_other_photos(tmp_path):
    write_devkit(tmp_path, [(1, 2, 3, 4, 1, "00001.jpg")], names=NAMES[:1])
    (ad,) = ads(tmp_path, photos="else", name="sc")
    assert ad.photos[0]["url"] == str(tmp_path / "else" / "cars_train" / "00001.jpg")
    assert ad.listing["source"] == "sc"


def test_the_joint_file(tmp_path):
    rows = [("car_ims/000001.jpg", 112, 7, 853, 717, 1, 0), ("car_ims/000002.jpg", 1, 2, 3, 4, 2, 1)]
    annotations = structs(rows, ("relative_im_path", *BOX, "class", "test"))
    cells = np.array([list(NAMES)], dtype=object)
    scipy_io.savemat(tmp_path / "cars_annos.mat", {"annotations": annotations, "class_names": cells})
    found = ads(tmp_path)
    assert [ad.listing["ad_id"] for ad in found] == ["train/000001", "test/000002"]
    assert found[0].photos[0]["url"] == str(tmp_path / "car_ims" / "000001.jpg")
    assert json.loads(found[1].listing["attributes"])["split"] == "test"


def refusal(path):
    with pytest.raises(SourceError) as caught:
        ads(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(tmp_path):
    assert "has neither cars_annos.mat nor cars_meta.mat" in refusal(tmp_path)
    write_devkit(tmp_path, [(1, 2, 3, 4, 1, "00001.jpg")])
    good = (tmp_path / "cars_train_annos.mat").read_bytes()
    unlabelled = structs([(1, 2, 3, 4, "00001.jpg")], (*BOX, "fname"))
    scipy_io.savemat(tmp_path / "cars_train_annos.mat", {"annotations": unlabelled})
    assert "lacks class; is it the official file with labels?" in refusal(tmp_path)
    scipy_io.savemat(tmp_path / "cars_train_annos.mat", {"other": 1})
    assert "lacks fname, class" in refusal(tmp_path)
    for data in (b"", b"no matlab", good[:-100], good[:130]):
        (tmp_path / "cars_train_annos.mat").write_bytes(data)
        assert "is no MATLAB file that can be read" in refusal(tmp_path)


def test_all_names_of_the_taxonomy():
    recipe = Path(__file__).parents[2] / "recipes" / "stanford-cars.csv"
    with recipe.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 196
    for row in rows:
        name = read_name(row["class_name"].replace("Ram C/V", "Dodge Ram C/V"))
        assert (name.make or "").casefold() == row["make"].casefold()
        assert name.year == row["year"]
        assert f"{name.make} {name.model} {name.year}".endswith(row["class_name"])
        assert name.body in (None, row["body"])
