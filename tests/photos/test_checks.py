"""Checks: a photo's scores, the flags that settings make of them, and the status."""

import pytest
from PIL import Image, ImageDraw, ImageEnhance

from carspotter.errors import ImageError
from carspotter.photos.checks import FLAGS, CheckSettings, check, judge
from carspotter.pixels import DecodedPhoto, decode
from photo_drawings import blurred, jpeg, picture

SETTINGS = CheckSettings()


def opened(data: bytes) -> DecodedPhoto | ImageError:
    try:
        return decode(data, min_side=200)
    except ImageError as error:
        return error


def checked(data: bytes, settings: CheckSettings = SETTINGS) -> dict:
    return check(data, opened(data), settings)


def placeholder() -> Image.Image:
    image = Image.new("RGB", (400, 300), (225, 228, 232))
    ImageDraw.Draw(image).text((120, 140), "photo coming soon", fill=(150, 150, 150))
    return image


BAD = {
    "dark": ImageEnhance.Brightness(picture(1)).enhance(0.1),
    "bright": Image.blend(picture(1), Image.new("RGB", (400, 300), (255, 255, 255)), 0.95),
    "blurred": blurred(picture(1)),
    "placeholder": placeholder(),
    "too-small": picture(1).resize((100, 75)),
}


@pytest.mark.parametrize("seed", range(5))
def test_a_good_photo_passes(seed: int) -> None:
    row = checked(jpeg(picture(seed)))
    assert (row["status"], row["flags"]) == ("ok", [])
    assert (row["width"], row["height"], row["format"]) == (400, 300, "JPEG")
    assert all(0 <= row[name] <= 1 for name in ("brightness", "contrast", "plainness"))


@pytest.mark.parametrize("flag", FLAGS)
def test_a_bad_photo_has_its_flag(flag: str) -> None:
    row = checked(jpeg(BAD[flag]))
    assert row["status"] == flag
    assert flag in row["flags"]


def test_every_flag_has_its_test() -> None:
    assert set(BAD) == set(FLAGS)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", "empty"), (b"<html>not found</html>", "unsupported-format"), (jpeg(picture(1))[:4000], "truncated")],
)
def test_what_cannot_be_read_says_why_and_has_no_scores(data: bytes, status: str) -> None:
    row = checked(data)
    assert row["status"] == status
    assert row["message"]
    assert "brightness" not in row
    assert ("sha256" in row) == bool(data)


def test_a_flag_that_does_not_drop_is_told_all_the_same() -> None:
    row = checked(jpeg(BAD["dark"]), CheckSettings(drop=("too-small",)))
    assert row["status"] == "ok"
    assert "dark" in row["flags"]


def test_stored_scores_are_judged_anew_without_the_photo() -> None:
    row = checked(jpeg(picture(1)))
    assert judge(row, SETTINGS) == ([], "ok")
    assert judge(row, CheckSettings(min_side=301)) == (["too-small"], "too-small")
    assert judge(row, CheckSettings(blurred=row["sharpness"] + 1)) == (["blurred"], "blurred")


def test_sharpness_does_not_depend_on_the_resolution() -> None:
    large = picture(2, (1600, 1200))
    sizes = [large, large.resize((800, 600), Image.Resampling.BOX), large.resize((400, 300), Image.Resampling.BOX)]
    values = [checked(jpeg(image, 95))["sharpness"] for image in sizes]
    assert max(values) < 1.3 * min(values)


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"drop names 'blured'; did you mean 'blurred'\?"):
        CheckSettings(drop=("blured",))
