"""What draws the showroom: the same settings draw the same bytes, what ships is drawn by it, boxes fit to the pixel."""

import json
import zipfile
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest

from carspotter.sources.showroom import PACK
from tools.showroom import photos as drawing
from tools.showroom.garage import MODELS
from tools.showroom.listings import ShowroomSettings, plan
from tools.showroom.pack import pack

SETTINGS = ShowroomSettings(ads=3, seed=3, views=2, flaws=2.0)


def test_the_same_settings_draw_the_same_bytes() -> None:
    first = pack(SETTINGS)
    assert first == pack(SETTINGS)
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert json.loads(archive.read("truth.json"))["settings"] == asdict(SETTINGS)


def test_what_ships_is_what_is_planned() -> None:
    ads = plan(ShowroomSettings())
    with zipfile.ZipFile(PACK) as archive:
        truth = json.loads(archive.read("truth.json"))
    assert truth["settings"] == asdict(ShowroomSettings())
    assert [row["path"] for row in truth["photos"]] == [f"photos/{photo.file}" for ad in ads for photo in ad.photos]
    assert [(row["make"], row["said_make"]) for row in truth["ads"]] == [(ad.sold.make, ad.make) for ad in ads]


@pytest.mark.parametrize("view", range(8))
def test_a_box_encloses_the_drawn_car_exactly(view: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
