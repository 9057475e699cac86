"""What leaves the house shows no plate unless somebody says so: reports, exports, shards, drawings."""

from __future__ import annotations

import io
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import carspotter.runtime.blur as blurring
from carspotter.dataset.cutting import CROPS, Cutting
from carspotter.pixels import Preprocessing
from carspotter.project.folder import Project
from carspotter.runtime.blur import Blurrer
from carspotter.thumbnails import thumbnail_of
from commands import call
from plate_drawings import drawn_plate
from tiny_bundles import tiny_finder, tiny_identifier
from tiny_project import SETTINGS

PLATE = (slice(206, 220), slice(206, 288))  # of `drawn_plate`, inside the plate's edges


def contrast(pixels: Any) -> float:
    """Return how much the letters of the plate stand out; some 80 where they can be read."""
    return float(np.asarray(pixels.convert("L"), float)[PLATE].std())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "car.png"
    Image.fromarray(drawn_plate()).save(path)
    return path


def test_a_drawing_is_blurred_when_asked(photo: Path, tmp_path: Path) -> None:
    tiny_finder(tmp_path / "finder")
    tiny_identifier(tmp_path / "identifier")
    bundles = ("--finder", tmp_path / "finder", "--identifier", tmp_path / "identifier")
    for more, is_hidden in (([], False), (["--blur"], True)):
        out = tmp_path / f"{is_hidden}.png"
        result = call("identify", photo, *bundles, "--draw", out, *more)
        assert result.code == 0, result.err
        with Image.open(out) as picture:
            assert (contrast(picture) < 20) == is_hidden
    refused = call("identify", photo, *bundles, "--blur")
    assert refused.code == 2
    assert "--draw" in refused.err


def test_a_thumbnail_is_blurred_before_it_is_made_small(photo: Path) -> None:
    shown = {}
    for blur in (None, Blurrer.open(threads=1).blur):
        uri = thumbnail_of(photo.parent, {"path": photo.name}, height=320, blur=blur)
        assert uri is not None
        with Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))) as picture:
            shown[blur is None] = contrast(picture)
    assert shown[False] < 20 < shown[True]


@pytest.mark.parametrize("blur", [True, False])
def test_shards_are_blurred_when_asked(blur: bool, photo: Path) -> None:
    target = Preprocessing(width=480, height=320)
    stage = Cutting(folder=str(photo.parent), target=target, keep=False, form="png", quality=90, blur=blur)
    stage.setup()
    row = {"number": 0, "path": photo.name, "x1": 0, "y1": 0, "x2": 480, "y2": 320}
    (crop,) = stage.process([row])[CROPS]
    with Image.open(io.BytesIO(crop["image"])) as picture:
        assert (contrast(picture) < 20) == blur


def test_without_the_networks_nothing_goes_out(
    tiny_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_built, tmp_path / "project"))
    (folder / "carspotter.toml").write_text(SETTINGS, encoding="utf-8")
    project = Project.open(folder)
    assert project.settings.share.blur
    assert not project.settings.shards.blur
    unhidden = (folder / "report.html").read_bytes()
    assert call("report", folder).code == 0
    before = (folder / "report.html").read_bytes()
    assert before != unhidden
    monkeypatch.setattr(blurring, "KINDS", ("plate", "face", "tattoo"))
    refused = call("report", folder)
    assert (refused.code, "tattoos.onnx" in refused.err) == (1, True)
    assert (folder / "report.html").read_bytes() == before
    export = ("export-dataset", folder, "--to", "coco", "--out")
    refused = call(*export, tmp_path / "a")
    assert (refused.code, "tattoos.onnx" in refused.err) == (1, True)
    assert not (tmp_path / "a").exists()
    assert call(*export, tmp_path / "b", "--no-blur").code == 0
    assert any((tmp_path / "b" / "data").iterdir())
