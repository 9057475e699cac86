"""The showroom: the same settings draw the same bytes, the truth fits the pixels, every planted flaw really is one."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carspotter.errors import ImageError, SourceError
from carspotter.pixels import decode
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.sources.showroom import ShowroomSettings, draw, read, truth
from carspotter.sources.showroom.garage import MODELS
from carspotter.sources.showroom.listings import plan

SETTINGS = ShowroomSettings(ads=5, seed=3, views=2, flaws=2.0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("showroom")
    draw(SETTINGS, folder, workers=1)
    return folder


def photos(folder: Path) -> list[dict[str, Any]]:
    return list(truth(folder)["photos"])


def test_the_same_settings_draw_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw(SETTINGS, tmp_path / "again", workers=2)
    first = {path.relative_to(drawn): path.read_bytes() for path in drawn.rglob("*") if path.is_file()}
    again = {
        path.relative_to(tmp_path / "again"): path.read_bytes()
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    }
    assert first == again


def test_drawing_goes_on_where_it_stopped(drawn: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(drawn, tmp_path / "copy"))
    before = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for lost in ("truth.json", "cars.csv", "parts/100002.json"):
        (copy / lost).unlink()
    with pytest.raises(SourceError, match=r"has no truth.json: it is not drawn"):
        truth(copy)
    assert draw(SETTINGS, copy, workers=1).drawn == 1
    assert {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_another_showroom_is_not_mixed_in(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="name an empty folder"):
        draw(ShowroomSettings(ads=6), drawn)
    (tmp_path / "photos").mkdir()
    with pytest.raises(SourceError, match="has photos of its own"):
        draw(SETTINGS, tmp_path)


def test_each_photo_has_its_truth_in_known_words(drawn: Path) -> None:
    rows = photos(drawn)
    assert {row["kind"] for row in rows} <= set(KINDS)
    assert {row["viewpoint"] for row in rows} <= {*VIEWPOINTS, None}
    files = {
        path.relative_to(drawn / "photos").with_suffix("").as_posix() for path in (drawn / "photos").rglob("*.jpg")
    }
    assert files == {row["image_id"] for row in rows if row["flaw"] != "missing"}
    with (drawn / "truth.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == [row["image_id"] for row in rows]


def test_read_yields_what_the_table_says_and_never_the_truth(drawn: Path) -> None:
    ads = list(read(SETTINGS, drawn))
    assert len(ads) == SETTINGS.ads
    told = truth(drawn)["ads"]
    assert [ad.listing.get("make") for ad in ads] == [row["said_make"] or None for row in told]
    urls = [photo["url"] for ad in ads for photo in ad.photos]
    assert [Path(url).relative_to(drawn / "photos").with_suffix("").as_posix() for url in urls] == [
        row["image_id"] for row in photos(drawn)
    ]
    assert not {"viewpoint", "kind"} & {name for ad in ads for photo in ad.photos for name in photo}


def test_boxes_lie_on_their_photo(drawn: Path) -> None:
    for row in photos(drawn):
        for x1, y1, x2, y2 in row["boxes"]:
            assert 0 <= x1 < x2 <= row["width"]
            assert 0 <= y1 < y2 <= row["height"]
        if row["kind"] == "exterior":
            assert row["cars"] == len(row["boxes"]) >= 1


@pytest.mark.parametrize("view", range(8))
def test_a_box_encloses_the_drawn_car_exactly(view: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from carspotter.sources.showroom import photos as drawing

    seen = (photo for ad in plan(ShowroomSettings(ads=60, seed=5)) for photo in ad.photos if photo.scene == "car")
    photo = next(photo for photo in seen if photo.viewpoint == view)
    image, ((x1, y1, x2, y2),) = drawing.draw_image(photo)
    monkeypatch.setattr(drawing, "_lay", lambda picture, layer: None)
    empty, _ = drawing.draw_image(photo)  # the same place and shadow without the car
    differs = (np.asarray(image) != np.asarray(empty)).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert differs.sum() > 0.08 * differs.size
    # Outside of the box nothing differs; inside, a pixel that the car covers by a quarter may have the place's colour.
    assert (np.array([x1, y1, -x2, -y2]) <= found * [1, 1, -1, -1]).all()
    assert np.abs(found - [x1, y1, x2, y2]).max() <= 1


def plans_of(flaw: str | None, *, relation: str | None = None) -> list[Any]:
    """Give planned photos of a larger showroom, which costs nothing before they are drawn."""
    ads = plan(ShowroomSettings(ads=120, seed=5, flaws=2.0))
    return [photo for ad in ads for photo in ad.photos if photo.flaw == flaw and photo.relation == relation]


@pytest.mark.parametrize(
    ("flaw", "code"), [("truncated", "truncated"), ("empty", "empty"), ("html", "unsupported-format")]
)
def test_a_broken_file_cannot_be_read(flaw: str, code: str) -> None:
    from carspotter.sources.showroom.photos import draw_photo

    data = draw_photo(plans_of(flaw)[0]).data
    assert data is not None
    with pytest.raises(ImageError) as error:
        decode(data)
    assert error.value.code == code


def test_a_missing_file_is_none() -> None:
    from carspotter.sources.showroom.photos import draw_photo

    assert draw_photo(plans_of("missing")[0]).data is None


def test_dark_and_small_photos_are(drawn: Path) -> None:
    from carspotter.sources.showroom.photos import draw_photo

    dark = decode(draw_photo(plans_of("dark")[0]).data or b"").pixels
    assert dark.mean() < 0.1 * 255
    small = draw_photo(plans_of("small")[0])
    assert min(small.size) < 120


@pytest.mark.parametrize("relation", ["exact", "near"])
def test_copies_are_what_they_say(relation: str) -> None:
    from carspotter.sources.showroom.photos import draw_photo

    ads = plan(ShowroomSettings(ads=120, seed=5))
    by_id = {photo.image_id: photo for ad in ads for photo in ad.photos}
    copy = next(photo for photo in by_id.values() if photo.relation == relation and not photo.flaw)
    one, other = draw_photo(by_id[copy.of or ""]).data, draw_photo(copy).data
    assert one
    assert other
    assert (one == other) == (relation == "exact")
    if relation == "near":
        small = [
            np.asarray(Image.fromarray(decode(data).pixels).resize((32, 24)).convert("L"), float)
            for data in (one, other)
        ]
        assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.85


def test_flaws_can_be_left_out() -> None:
    ads = plan(ShowroomSettings(ads=60, flaws=0))
    assert all(photo.flaw is None and photo.relation is None for ad in ads for photo in ad.photos)
    assert {ad.wording for ad in ads} <= {"plain", "spelling"}  # how sellers write is no flaw


def test_every_model_is_sold_somewhere() -> None:
    ads = plan(ShowroomSettings(ads=400))
    assert {ad.sold.name for ad in ads} == {model.name for model in MODELS}
    assert len({model.make for model in MODELS}) >= 8


def test_more_ads_leave_the_first_ones_as_they_are() -> None:
    assert plan(ShowroomSettings(ads=40))[:20] == plan(ShowroomSettings(ads=20))


@pytest.mark.parametrize("value", [("ads", 0), ("views", 9), ("flaws", -1), ("seed", -1)])
def test_impossible_settings_are_refused(value: tuple[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{value[0]} is"):
        ShowroomSettings(**{value[0]: value[1]})


def test_a_damaged_truth_says_what_to_do(drawn: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(drawn, tmp_path / "copy"))
    (copy / "truth.json").write_text("{")
    with pytest.raises(SourceError, match=r"truth\.json is damaged"):
        truth(copy)
    (copy / "truth.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(SourceError, match="not of format 1"):
        truth(copy)
