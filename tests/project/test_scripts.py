"""Names in other scripts go the whole way: from a table to classes, pages, files for other tools and drawn pictures."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import pytest

from carspotter.dataset.manifest import load_manifest
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.runtime.bundle import ModelBundle
from commands import call
from tiny_bundles import tiny_finder, tiny_identifier
from tiny_project import SETTINGS, UNBLURRED, save_photo

NAME = "ავტო 汽车 🚗 é"
CARS = {"red": ("奇瑞", "瑞虎 8"), "green": ("ტოიოტა", "კამრი é"), "blue": ("تويوتا", "كامري 🚗")}
IDS = {"red": "广告-", "green": "განცხადება é-", "blue": "إعلان 🚗-"}
CLASSES = {f"{make} {model}" for make, model in CARS.values()}


def apart(text: str) -> str:
    """Write accents as macOS does, apart from their letters."""
    return unicodedata.normalize("NFD", text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a project twice: with sellers' words, and with what a person wrote into words.csv."""
    folder = tmp_path_factory.mktemp("scripts") / NAME
    folder.mkdir()
    tiny_finder(folder / "bundles" / "finder")
    tiny_identifier(folder / "bundles" / "identifier")
    settings = (SETTINGS + UNBLURRED).replace('"tiny"', f'"{NAME}"').replace('"cars"', '"表 🚗"')
    settings = settings.replace('"pictures"', '"ფოტო 照片"').replace('"cars.csv"', '"სია 表.csv"')
    (folder / "carspotter.toml").write_text(settings, encoding="utf-8")
    rows = [_ad(folder, color, number) for color in CARS for number in range(5)]
    with (folder / "სია 表.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ad_id", "make", "model", "photos"), *rows])
    build(Project.open(folder), until="resolve", workers=0)
    _write_words(folder)
    build(Project.open(folder), workers=0)
    return folder


def _ad(folder: Path, color: str, number: int) -> tuple[str, ...]:
    ad_id = f"{IDS[color]}{number}"
    names = [f"{ad_id} صورة {k}.jpg" for k in range(3)]
    for k, name in enumerate(names):
        save_photo(folder / "ფოტო 照片" / name, color, seed=[*CARS].index(color) * 100 + number * 10 + k)
    make, model = CARS[color]
    # Every second ad was typed on a system that writes accents apart: same words, same files.
    write = apart if number % 2 else str
    return write(ad_id), write(make), write(model), json.dumps([write(name) for name in names], ensure_ascii=False)


def _write_words(folder: Path) -> None:
    with (folder / "labels" / "unresolved.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["make"], row["model"]) for row in rows} == set(CARS.values())
    with (folder / "labels" / "words.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(row | {"becomes_make": row["make"], "becomes_model": row["model"]} for row in rows)


def run(*arguments: str) -> str:
    done = call(*arguments)
    assert done.code == 0, done.err
    return done.out + done.err


def test_every_photo_is_of_its_class(project: Path) -> None:
    with Project.open(project).catalog() as catalog:
        rows = catalog.rows("SELECT ad_id, class_name FROM samples WHERE status = 'ok'")
    of_ad = {row["ad_id"].rstrip("0123456789"): row["class_name"] for row in rows}
    assert len(rows) == 45
    assert of_ad == {IDS[color]: f"{make} {model}" for color, (make, model) in CARS.items()}


def test_page_bundle_and_shards_have_the_names(project: Path) -> None:
    page = (project / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in (NAME, *CLASSES))
    taxonomy = ModelBundle.load(project / "models" / "learned").taxonomy
    assert taxonomy is not None
    assert {taxon.name() for taxon in taxonomy.classes} == CLASSES
    assert set(load_manifest(str(project / "shards")).classes) == CLASSES


@pytest.mark.parametrize("form", ["coco", "label-studio", "huggingface"])
def test_other_tools_get_the_names(form: str, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "出力 გატანა"
    said = run("export-dataset", str(project), "--to", form, "--out", str(out))
    assert f"import-labels '{project}' FILE" in said.replace("\n", "")
    text = "".join(path.read_text(encoding="utf-8") for path in out.rglob("*.json*"))
    assert all(name in text for name in CLASSES)
    assert all(path.name.isascii() for path in out.rglob("*.jpg"))


def test_identify_says_and_draws_the_name(project: Path, tmp_path: Path) -> None:
    photo = project / "ფოტო 照片" / "广告-0 صورة 0.jpg"
    bundles = ["--finder", str(project / "bundles" / "finder"), "--identifier", str(project / "models" / "learned")]
    said = json.loads(run("identify", str(photo), *bundles, "--json", "--draw", str(tmp_path / "画 🚗")))
    assert said["vehicles"][0]["answer"]["name"] == "奇瑞 瑞虎 8"
    assert Path(said["photo"]) == photo
    assert Path(said["drawn"]) == tmp_path / "画 🚗" / "广告-0 صورة 0.jpg"
    assert Path(said["drawn"]).is_file()


def test_advice_can_be_pasted_into_a_shell(project: Path) -> None:
    assert f"carspotter doubts '{project}'" in run("status", str(project)).replace("\n", "")
