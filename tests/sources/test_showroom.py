"""The showroom that ships: the truth fits the pixels, every planted flaw really is one, and it unpacks whole or not."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carspotter.errors import ImageError, SourceError
from carspotter.geometry import BoundingBox
from carspotter.pixels import decode
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.sources.showroom import PACK, pictures, truth, unpack
from carspotter.sources.table import TableSettings, read

BROKEN = {"truncated": "truncated", "empty": "empty", "html": "unsupported-format", "missing": None}
"""Flaws of files, and the code of the error that reading each gives."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("showroom")
    unpack(folder)
    return folder


@pytest.fixture(scope="module")
def photos(shown: Path) -> list[dict[str, Any]]:
    return list(truth(shown)["photos"])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_small_and_shows_each_flaw_more_than_once(shown: Path, photos: list[dict[str, Any]]) -> None:
    assert PACK.stat().st_size < 6_000_000
    assert len(truth(shown)["ads"]) == 100
    assert 450 < len(photos) < 550
    counts = truth(shown)["counts"]
    flaws = {*BROKEN, "small", "dark", "blurred", "placeholder", "exact duplicate", "near duplicate", "several cars"}
    assert set(counts) == flaws | {"spelling", "make-only", "nonsense", "wrong-label"}
    assert min(counts.values()) >= 2
    assert Counter(row["kind"] for row in photos).keys() == set(KINDS)
    assert {row["viewpoint"] for row in photos} == {*VIEWPOINTS, None}
    assert len({row["change"] for row in photos}) == 6


def test_each_photo_has_its_file_and_its_truth(shown: Path, photos: list[dict[str, Any]]) -> None:
    assert {row["path"] for row in photos if row["flaw"] != "missing"} == {
        name for name in files(shown) if name.startswith("photos/")
    }
    with (shown / "truth.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == [row["image_id"] for row in photos]


def test_the_table_says_what_sellers_say_and_never_the_truth(shown: Path, photos: list[dict[str, Any]]) -> None:
    ads = list(read(TableSettings(path=str(shown / "cars.csv"), photos=str(shown / "photos"))))
    told = truth(shown)["ads"]
    named = [(ad.listing.get("make"), row["said_make"]) for ad, row in zip(ads, told, strict=True)]
    assert all(one == other or (one, other) == (None, "-") for one, other in named), "a dash is nothing said"
    urls = [photo["url"] for ad in ads for photo in ad.photos]
    assert urls == [str(shown / row["path"]) for row in photos]
    assert not any(photo.get(name) for ad in ads for photo in ad.photos for name in ("viewpoint", "kind"))
    wrong = [row for row in told if row["wording"] == "wrong-label"]
    assert all(row["said_make"] != row["make"] for row in wrong)


def test_each_photo_is_what_its_truth_says(shown: Path, photos: list[dict[str, Any]]) -> None:
    for row in photos:
        path, flaw = shown / row["path"], row["flaw"]
        assert path.suffix == (".jpg" if flaw in BROKEN else ".webp")
        if flaw == "missing":
            assert not path.exists()
        elif flaw in BROKEN:
            with pytest.raises(ImageError) as error:
                decode(path.read_bytes())
            assert error.value.code == BROKEN[flaw], row
            assert flaw != "truncated" or path.read_bytes().startswith(b"\xff\xd8\xff"), "a JPEG that was cut off"
        else:
            pixels = decode(path.read_bytes()).pixels
            assert pixels.shape[:2] == (row["height"], row["width"])
            assert (pixels.mean() < 0.1 * 255) == (flaw == "dark"), row
            assert (min(pixels.shape[:2]) < 120) == (flaw == "small"), row


def test_boxes_lie_on_their_photo(photos: list[dict[str, Any]]) -> None:
    for row in photos:
        for x1, y1, x2, y2 in row["boxes"]:
            assert 0 <= x1 < x2 <= row["width"]
            assert 0 <= y1 < y2 <= row["height"]
        if row["kind"] == "exterior":
            assert row["cars"] == len(row["boxes"]) >= 1


def test_copies_are_what_they_say(shown: Path, photos: list[dict[str, Any]]) -> None:
    by_id = {row["image_id"]: row for row in photos}
    for copy in (row for row in photos if row["relation"]):
        one, other = ((shown / row["path"]).read_bytes() for row in (by_id[copy["of"]], copy))
        assert (one == other) == (copy["relation"] == "exact")
        small = [
            np.asarray(Image.fromarray(decode(data).pixels).resize((32, 24)).convert("L"), float)
            for data in (one, other)
        ]
        assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.85, copy


def test_pictures_are_sound_and_show_a_car_in_its_box() -> None:
    found = list(pictures())
    assert len(found) > 250
    assert len({data for data, _ in found}) == len(found)
    for data, box in found[:20]:
        height, width = decode(data).pixels.shape[:2]
        assert box == box.clip(width, height)
        assert box.area > 0.1 * BoundingBox(0, 0, width, height).area


# ---- unpacking


def test_unpacking_goes_on_where_it_stopped(shown: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shown, tmp_path / "copy"))
    (copy / "truth.json").unlink()
    with pytest.raises(SourceError, match=r"has no truth\.json"):
        truth(copy)
    (copy / "photos/100001/1.webp").unlink()
    (copy / "photos/100002/1.webp").write_bytes(b"half")
    unpack(copy)
    assert files(copy) == files(shown)


def test_nothing_is_mixed_with_other_photos(shown: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(SourceError, match="has photos of its own; name an empty folder"):
        unpack(tmp_path)
    (tmp_path / "cars.csv").write_text("ad_id\n")
    with pytest.raises(SourceError, match=r"its cars\.csv lists other ads; name an empty folder"):
        unpack(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"photos", "cars.csv"}


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"cannot be written: .*; free some space or name another folder"):
        unpack(tmp_path / "file" / "showroom")


def test_a_damaged_truth_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(SourceError, match=r"truth\.json is damaged"):
        truth(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(SourceError, match="not of format 1"):
        truth(tmp_path)
