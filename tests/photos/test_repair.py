"""Repair: what is saved, what is not, and that nothing outside is touched."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photo_drawings
from carspotter.photos.repair import intact_rows, quarantine, repair
from carspotter.pixels import decode
from photo_drawings import jpeg, picture


def encoded(form: str, **options: object) -> bytes:
    return photo_drawings.encoded(picture(4), form, **options)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.8, 0.95, 0.999])
def test_a_photo_of_which_most_is_there_is_saved(form: str, share: float) -> None:
    data = encoded(form)
    repaired = repair(data[: int(share * len(data))])
    assert repaired is not None
    assert repaired.what.startswith("written anew")
    pixels = decode(repaired.data).pixels
    assert 0.7 * 300 <= len(pixels) <= 300
    difference = np.abs(pixels.astype(int) - np.asarray(picture(4))[: len(pixels)].astype(int))
    assert difference.mean() < 12  # what JPEG's compression changes, and a damaged row at the end


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6])
def test_a_photo_of_which_too_little_is_there_is_not(form: str, share: float) -> None:
    data = encoded(form)
    assert repair(data[: int(share * len(data))]) is None


@pytest.mark.parametrize("data", [b"", b"<html></html>", b"\xff\xd8\xff", bytes(1000)])
def test_bytes_that_are_no_photo_are_not_saved(data: bytes) -> None:
    assert repair(data) is None


def test_a_turned_photo_is_cut_where_its_bytes_end_and_written_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded("JPEG", exif=exif)
    repaired = repair(data[: int(0.9 * len(data))])
    assert repaired is not None
    height, width = decode(repaired.data).pixels.shape[:2]
    assert height == 400
    assert 210 <= width < 300


def test_intact_rows_end_where_the_plain_area_begins() -> None:
    pixels = np.asarray(picture(1)).copy()
    assert intact_rows(pixels) == 300
    pixels[200:] = 128
    assert intact_rows(pixels) == 200


def test_quarantine_moves_and_notes_why(tmp_path: Path) -> None:
    path = tmp_path / "photos" / "7" / "a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(jpeg(picture(1))[:100])
    photo = {"photo_id": "7/abc", "status": "truncated", "message": "the end is missing"}
    target = quarantine(path, tmp_path / "quarantine", photo=photo)
    assert not path.exists()
    assert target.read_bytes() == jpeg(picture(1))[:100]
    with (tmp_path / "quarantine" / "quarantine.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["photo_id"], row["status"], row["message"]) for row in rows] == [tuple(photo.values())]


def test_names_in_quarantine_are_as_long_as_a_disk_takes(tmp_path: Path) -> None:
    ids = ["Ж" * 300 + end for end in ("/1", "/2")]
    for photo_id in ids:
        path = tmp_path / "a.jpg"
        path.write_bytes(photo_id.encode())
        target = quarantine(path, tmp_path / "quarantine", photo={"photo_id": photo_id})
        assert target.read_bytes() == photo_id.encode()
    assert len(list((tmp_path / "quarantine").glob("*.jpg"))) == 2
