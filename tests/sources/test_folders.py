"""Trees of folders as sources: ads by leading numbers, flat class folders, loose photos, local and remote."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter import storage
from carspotter.catalog import catalog
from carspotter.errors import SourceError
from carspotter.headers import SUFFIXES
from carspotter.project import folder as project_folder
from carspotter.review.folder_queues import FolderQueues
from carspotter.review.queue import QueueQuery
from carspotter.sources import showroom
from carspotter.sources.folders import OWN, SETTINGS, FolderSettings, read
from carspotter.sources.listing import parse_year
from carspotter.sources.makes import LONG_MAKES, CarName, read_name, split_make


@pytest.mark.parametrize(
    ("text", "make", "model", "year"),
    [
        ("mercedes-benz-v_2016", "Mercedes-Benz", "v", "2016"),
        ("land-rover-range-rover-sport_2012", "Land Rover", "range-rover-sport", "2012"),
        ("alfa-romeo-mito_2010", "Alfa Romeo", "mito", "2010"),
        ("audi-a4_2008", "audi", "a4", "2008"),
        ("audi-a4-2008", "audi", "a4", "2008"),
        ("audi-a4", "audi", "a4", None),
        ("audi_2010", "audi", None, "2010"),
        ("audi-a4_9999", "audi", "a4", "9999"),
        ("peugeot-2008", "peugeot", "2008", None),
        ("peugeot-2008_2015", "peugeot", "2008", "2015"),
        ("bmw-320", "bmw", "320", None),
        ("AM General Hummer SUV 2000", "AM General", "Hummer SUV", "2000"),
        ("Rolls-Royce Ghost Sedan 2012", "Rolls-Royce", "Ghost Sedan", "2012"),
        ("lynk-&-co-01_2021", "Lynk & Co", "01", "2021"),
        ("Škoda Octavia", "Škoda", "Octavia", None),
        ("VW", "VW", None, None),
        ("0001", None, None, None),
        ("", None, None, None),
    ],
)
def test_names(text, make, model, year):
    name = read_name(text)
    assert (name.make, name.model, name.year) == (make, model, year)


def test_bodies():
    assert read_name("Dodge Ram Pickup 3500 Crew Cab 2010").body == "Crew Cab"
    assert read_name("Ram C/V Cargo Van Minivan 2012").body == "Minivan"
    assert read_name("Chevrolet Express Van 2007").body == "Van"
    assert read_name("Audi TTS").body is None


@given(st.sampled_from(LONG_MAKES), st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,6})?", fullmatch=True))
def test_long_makes_are_found(make, model):
    assert split_make(f"{make} {model}".replace(" ", "-").casefold()) == (make, model)


@given(st.text(max_size=30))
def test_any_name_is_read(text):
    name = read_name(text)
    assert isinstance(name, CarName)
    assert name.year is None or len(name.year) == 4 or parse_year(name.year)


def tree(root, *names):
    for name in names:
        storage.write(f"{root}/{name}", b"data")
    return str(root)


def ads(root, **settings):
    return {ad.listing["ad_id"]: ad for ad in read(FolderSettings(path=str(root), **settings))}


NAMES = (
    "mercedes-benz-v_2016/12_0_x.jpg",
    "mercedes-benz-v_2016/12_10.jpg",
    "mercedes-benz-v_2016/12_2_y.JPG",
    "mercedes-benz-v_2016/1_0.jpg",
    "deep/er/audi-a4_1850/7_0_20200101.png",
    "audi-a4_2008/IMG_1234.jpg",
    "audi-a4_2008/20240131_154500.jpg",
    "loose.jpg",
    "audi-a4_2008/notes.txt",
    ".git/x_0.jpg",
    "0001/a.jpg",
)


def test_a_tree(tmp_path):
    found = ads(tree(tmp_path / "cars", *NAMES))
    assert sorted(found) == [
        "0001/a.jpg",
        "1",
        "12",
        "7",
        "audi-a4_2008/20240131_154500.jpg",
        "audi-a4_2008/IMG_1234.jpg",
        "loose.jpg",
    ]
    van = found["12"]
    assert van.listing == {
        "ad_id": "12",
        "source": "folder:cars",
        "make": "Mercedes-Benz",
        "model": "v",
        "year": 2016,
        "attributes": '{"folder": "mercedes-benz-v_2016"}',
        "status": "ok",
    }
    assert [(photo["position"], Path(photo["url"]).name) for photo in van.photos] == [
        (0, "12_0_x.jpg"),
        (2, "12_2_y.JPG"),
        (10, "12_10.jpg"),
    ]
    assert van.photos[0]["url"] == str(tmp_path / "cars" / "mercedes-benz-v_2016" / "12_0_x.jpg")
    assert found["7"].listing["message"] == "year '1850' is none"
    assert "make" not in found["loose.jpg"].listing
    assert "make" not in found["0001/a.jpg"].listing


def test_every_name_that_photos_have_is_taken(tmp_path):
    names = [f"audi-a4_2008/{number}_0{suffix}" for number, suffix in enumerate(SUFFIXES)]
    assert {".jpe", ".jfif", ".heif", ".tif"} < set(SUFFIXES)
    urls = [photo["url"] for ad in ads(tree(tmp_path, *names)).values() for photo in ad.photos]
    assert sorted(urls) == sorted(str(tmp_path / name) for name in names)
    folder = FolderQueues(tmp_path)
    assert {item.photo_id for item in folder.items(QueueQuery(queue="kind", count=99))} == set(names)


def test_a_flat_tree(tmp_path):
    root = tree(tmp_path, "Audi TTS Coupe 2012/00001.jpg", "Audi TTS Coupe 2012/00002.jpg", "BMW X5/a.jpg")
    found = ads(root, name="mine", kind="exterior")
    assert len(found) == 3
    ad = found["Audi TTS Coupe 2012/00001.jpg"]
    assert (ad.listing["make"], ad.listing["model"], ad.listing["body"]) == ("Audi", "TTS Coupe", "Coupe")
    assert (ad.listing["source"], ad.photos[0]["kind"]) == ("mine", "exterior")


def test_what_is_an_ad(tmp_path):
    root = tree(tmp_path, "a/1_0.jpg", "a/1_1.jpg", "a/x.jpg", "b/1_0.jpg")
    assert list(ads(root)) == ["1", "a/x.jpg"]  # the "1" of b comes as a second ad of this id
    assert len(list(read(FolderSettings(path=root)))) == 3
    assert list(ads(root, ads="folder-number")) == ["a/1", "a/x.jpg", "b/1"]
    assert list(ads(root, ads="folder")) == ["a", "b"]
    assert list(ads(root, ads="photo")) == ["a/1_0.jpg", "a/1_1.jpg", "a/x.jpg", "b/1_0.jpg"]


def refusal(path, **settings):
    with pytest.raises((SourceError, ValueError)) as caught:
        ads(path, **settings)
    return str(caught.value)


def test_refusals(tmp_path):
    numbers = tree(tmp_path / "n", *(f"{make}/{number}_0.jpg" for make in "ab" for number in range(5)))
    assert "5 of 5 leading numbers stand in several folders" in refusal(numbers)
    assert "set ads = 'folder-number'" in refusal(numbers)
    assert len(ads(numbers, ads="folder-number")) == 10
    assert "no such file or folder" in refusal(tmp_path / "none")
    assert "has no photos; allowed suffixes: .jpg" in refusal(tree(tmp_path / "t", "a/b.txt"))
    assert "did you mean 'folder'?" in refusal(tmp_path, ads="foldr")
    assert "kind is 'inside'" in refusal(tmp_path, kind="inside")
    message = refusal("webdav://anna:s3cret@h/cars")
    assert "give it in the environment" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("root", ["memory://trees/cars one", "memory://trees/cars one/", "memory://e"])
def test_a_remote_tree(root):
    tree(root.rstrip("/"), "audi-a4_2008/7_0.jpg", "audi-a4_2008/7_1.jpg", "bmw-x5/a b.jpg")
    found = ads(root)
    assert sorted(found) == ["7", "bmw-x5/a b.jpg"]
    assert found["7"].listing["source"] == f"folder:{root.rstrip('/').rpartition('/')[2]}"
    assert all(storage.read(photo["url"]) == b"data" for ad in found.values() for photo in ad.photos)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_utf8(tmp_path):
    folder = tmp_path / "audi-a4_2008"
    folder.mkdir()
    (folder / os.fsdecode(b"1_0_\xff.jpg")).write_bytes(b"data")
    (ad,) = ads(tmp_path).values()
    ad.photos[0]["url"].encode()
    assert storage.read(ad.photos[0]["url"]) == b"data"


def test_parts_at_the_top_are_no_classes(tmp_path):
    for name in ("train/audi-a4/1.jpg", "val/audi-a4/2.jpg", "test/bmw-x5/3.jpg", "test/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {ad.listing["ad_id"]: (ad.photos[0].get("split"), ad.listing.get("make")) for ad in read(folder(tmp_path))}
    assert found == {
        "train/audi-a4/1.jpg": ("train", "audi"),
        "val/audi-a4/2.jpg": ("validation", "audi"),
        "test/bmw-x5/3.jpg": ("test", "bmw"),
        "test/4.jpg": ("test", None),
    }


def test_what_a_project_wrote_is_no_source(tmp_path):
    for name in ("audi-a4/1.jpg", "photos/audi/009.jpg", "quarantine/x.jpg", "cars/photos/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(list(read(folder(tmp_path)))) == 4
    (tmp_path / "carspotter.toml").touch()
    assert [ad.listing["ad_id"] for ad in read(folder(tmp_path))] == ["audi-a4/1.jpg", "cars/photos/2.jpg"]
    with pytest.raises(SourceError, match="only photos that its project wrote"):
        list(read(folder(tmp_path / "photos")))


def folder(path):
    return FolderSettings(path=str(path))


def test_the_folders_that_are_no_source_are_those_that_a_project_has(tmp_path: Path) -> None:
    # A stage may not import the project, so that its list is held to the project's here.
    project = project_folder.create(tmp_path / "project", 'name = "cars"')
    names = [name for name, member in vars(project_folder.Project).items() if isinstance(member, property)]
    paths = {getattr(project, name) for name in names}
    folders = {path.name for path in paths if path.parent == project.folder and not path.suffix}
    assert {*folders, catalog.FOLDER, showroom.FOLDER} == set(OWN)
    assert project_folder.SETTINGS == SETTINGS
