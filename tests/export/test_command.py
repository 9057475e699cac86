"""`carspotter export` as a person uses it: bundles, photos in each form, and the words for what is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carspotter.cli.export_photos import DRAWN, read_inputs
from carspotter.errors import BundleError
from carspotter.runtime.bundle import ModelBundle
from commands import call
from review_project import review_project
from tiny_bundles import COLORS, draw_photo, tiny_finder, tiny_identifier

BOX = (100, 60, 300, 240)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Draw a vehicle of each class, three times."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3 * len(COLORS)):
        color = list(COLORS)[number % len(COLORS)]
        Image.fromarray(draw_photo((400, 300), [(color, BOX)])).save(folder / f"{number:02}.png")
    return folder


def table(folder: Path, *columns: str, box: tuple[object, ...] = BOX) -> Path:
    """Write a CSV of the photos beside them."""
    path = folder / "photos.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, photo in enumerate(sorted(folder.glob("*.png"))):
            writer.writerow([photo.name, *box, number % len(COLORS)][: len(columns)])
    return path


def test_a_bundle_is_exported_and_compared(tmp_path: Path, photos: Path) -> None:
    tiny_identifier(tmp_path / "source")
    listed = table(photos, "path", "x1", "y1", "x2", "y2")
    out = tmp_path / "out"
    words = ["export", tmp_path / "source", "--precision", "float16", "--photos", listed, "--out", out]
    done = call(*words)
    assert done.code == 0, done.err
    assert done.out.strip() == str(out)
    assert "agreement" in done.err
    assert ModelBundle.load(out).precision == "float16"


def test_crops_are_cut_at_their_box(tmp_path: Path, photos: Path) -> None:
    bundle = tiny_identifier(tmp_path / "source")
    inputs = read_inputs(bundle, str(table(photos, "path", "x1", "y1", "x2", "y2")), labels=None, classes=None)
    assert inputs.calibration is not None
    assert (len(inputs.compared), len(inputs.calibration)) == (6, 12)
    middles = {tuple(image[16, 16]) for image in [*inputs.compared, *inputs.calibration]}
    assert middles == set(COLORS.values())
    assert inputs.compared.dtype == np.uint8


def test_a_project_gives_its_photos_and_their_boxes(tmp_path: Path) -> None:
    project = review_project(tmp_path / "project")
    bundle = tiny_identifier(tmp_path / "source")
    inputs = read_inputs(bundle, str(project.folder), labels=None, classes=None)
    with project.catalog() as catalog:
        (row,) = catalog.rows("SELECT count(*) AS n FROM findings WHERE status = 'ok' AND x1 IS NOT NULL")
    assert inputs.calibration is not None
    assert len(inputs.compared) + len(inputs.calibration) >= row["n"] > 0


def test_a_finder_sees_whole_photos(tmp_path: Path, photos: Path) -> None:
    bundle = tiny_finder(tmp_path / "source")
    (photos / "broken.png").write_bytes(b"no picture")
    inputs = read_inputs(bundle, str(photos), labels=None, classes=None)
    assert inputs.calibration is not None
    assert len(inputs.compared) + len(inputs.calibration) == 18, "the broken one is left out"
    assert inputs.compared.shape[1:] == (96, 128, 3)


def test_without_photos_drawn_cars_are_compared_on(tmp_path: Path) -> None:
    inputs = read_inputs(tiny_identifier(tmp_path), None, labels=None, classes=None)
    assert len(inputs.compared) == DRAWN
    assert inputs.calibration is None


def test_wrong_photos_are_named(tmp_path: Path, photos: Path) -> None:
    bundle = tiny_identifier(tmp_path / "source")
    for named, message in (
        (table(photos, "name"), "column 'path' is missing"),
        (photos / "none.csv", "cannot be read"),
        (tmp_path / "source", "no photo in this folder"),
    ):
        with pytest.raises(BundleError, match=message):
            read_inputs(bundle, str(named), labels=None, classes=None)
    odd = table(photos, "path", "x1", "y1", "x2", "y2", box=("left", 1, 2, 3))
    with pytest.raises(BundleError, match=r"line 2: box left, 1, 2, 3: .* give four numbers x1, y1, x2, y2"):
        read_inputs(bundle, str(odd), labels=None, classes=None)


def test_photos_that_cannot_be_read_are_left_out_and_said(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_identifier(tmp_path / "source")
    labels = photos / "photos.csv"
    found = sorted(path.name for path in photos.glob("*.png"))
    labels.write_text("path,make\n" + "".join(f"{name},Opel\n" for name in [*found, "gone.png"]))
    inputs = read_inputs(bundle, None, labels=labels, classes=None)
    assert len(inputs.compared) == len(found) == 18
    assert "left out: gone.png" in capsys.readouterr().err
    labels.write_text("path,make\ngone.png,Opel\n")
    with pytest.raises(BundleError, match=r"none of 1 photos can be read; gone\.png"):
        read_inputs(bundle, None, labels=labels, classes=None)


def test_a_finder_has_no_classes(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(BundleError, match="a finder has none"):
        read_inputs(tiny_finder(tmp_path / "f"), str(photos), labels=table(photos, "path"), classes=None)


def test_what_is_neither_run_nor_bundle_is_named(tmp_path: Path) -> None:
    done = call("export", tmp_path, "--out", tmp_path / "out")
    assert done.code == 1
    assert "is neither a run (recipe.json), a bundle (bundle.json) nor a project (carspotter.toml)" in done.err


def test_int8_without_photos_says_what_to_give(tmp_path: Path) -> None:
    tiny_identifier(tmp_path / "source")
    words = ["export", tmp_path / "source", "--precision", "int8", "--out", tmp_path / "out"]
    done = call(*words)
    assert done.code == 1
    assert "give --photos FOLDER, CSV or PROJECT" in done.err
    assert not (tmp_path / "out").exists()
