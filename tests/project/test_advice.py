"""What to do next in a project: each loss is named with its photos and a remedy that works when it is followed."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from carspotter.catalog.funnel import Funnel, FunnelStage, funnel
from carspotter.photos.fetch import LASTING
from carspotter.project.advice import _FETCH, Advice, _outside, advise
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from commands import call
from tiny_project import make_project


def advice_of(folder: Path) -> list[Advice]:
    project = Project.open(folder)
    with project.catalog() as catalog:
        return list(advise(project, catalog, funnel(catalog)))


def the(advices: list[Advice], words: str) -> Advice:
    (found,) = [advice for advice in advices if words in advice.text]
    return found


def set_classes(folder: Path, key: str, value: int) -> None:
    settings = folder / "carspotter.toml"
    text = re.sub(rf"(?m)^{key} = .*$", "", settings.read_text())
    settings.write_text(text.replace("[classes]\n", f"[classes]\n{key} = {value}\n"))


def test_the_largest_loss_comes_first_and_the_way_on_last(tiny_built: Path) -> None:
    lost = [advice.photos for advice in advice_of(tiny_built)]
    n_lost = sum(map(bool, lost))
    assert n_lost >= 2
    assert lost == sorted(lost, reverse=True)
    assert not any(lost[n_lost:])
    assert "doubts" in advice_of(tiny_built)[n_lost].text


def test_too_few_photos_name_limits_that_help(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    set_classes(copy, "min_photos", 1000)
    build(Project.open(copy), until="split", workers=0)
    told = the(advice_of(copy), "too few photos for a class")
    assert "`min_photos` is 1000" in told.text
    found = re.search(
        r"with min_photos = (\d+) and min_ads = (\d+) in \[classes\] there would be (\d+) more", told.text
    )
    assert found, told.text
    photos, ads, more = (int(number) for number in found.groups())
    set_classes(copy, "min_photos", photos)
    set_classes(copy, "min_ads", ads)
    assert build(Project.open(copy), workers=0, until="classes")["classes"]["classes"] == more


def test_a_split_that_was_dealt_out_for_other_classes_is_told_and_dealt_anew(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    with Project.open(copy).catalog() as catalog:
        before = catalog.columns("SELECT * EXCLUDE stage_version FROM samples")
        classes, parts = before["class_name"], before["split"]
        first = min(filter(None, classes))
        moved = ["train" if name == first else part for name, part in zip(classes, parts, strict=True)]
        catalog.replace("samples", {**before, "split": moved})
    told = the(advice_of(copy), "no photo in one of the splits")
    assert f"1 class has no photo in one of the splits, such as {first} in test" in told.text
    command = re.search(r"`carspotter (split .+? --anew)`", told.text)
    assert command, told.text
    done = call(*shlex.split(command[1]))
    assert done.code == 0, done.err
    assert not [advice for advice in advice_of(copy) if "no photo in one of the splits" in advice.text]
    with Project.open(copy).catalog() as catalog:
        dealt = catalog.rows("SELECT DISTINCT split FROM samples WHERE class_name = ? AND status = 'ok'", first)
    assert {row["split"] for row in dealt} == {"train", "validation", "test"}


def test_words_that_name_nothing_are_quoted(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    table = copy / "cars.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("audi,A4 Avant", "Zorblax,Qux"), encoding="utf-8")
    build(Project.open(copy), until="split", workers=0)
    told = the(advice_of(copy), "labels/words.csv")
    assert "most often 'Zorblax Qux' (5)" in told.text
    assert told.photos == 16, "those of the nameless ad as well"


def test_a_server_that_wants_a_password_names_the_variable(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    with Project.open(copy).catalog() as catalog, catalog.writer():
        photo = catalog.rows("SELECT photo_id FROM files WHERE status = 'ok' ORDER BY photo_id LIMIT 1")[0]["photo_id"]
        row = {"photo_id": photo, "status": "forbidden", "message": "HTTP 401"}
        catalog.append("files", [row], version="1.x")
    told = the(advice_of(copy), "CARSPOTTER_WEBDAV_PASSWORD")
    assert (told.photos, "HTTP 401" in told.text) == (1, True)


def test_an_empty_file_of_a_server_is_not_called_a_page(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    with Project.open(copy).catalog() as catalog, catalog.writer():
        photo = catalog.rows("SELECT photo_id FROM files WHERE status = 'ok' ORDER BY photo_id LIMIT 1")[0]["photo_id"]
        row = {"photo_id": photo, "status": "not-a-photo", "message": "the answer is empty (0 bytes)"}
        catalog.append("files", [row], version="1.x")
    told = the(advice_of(copy), "empty (0 bytes)")
    assert "a page" not in told.text
    assert "--again not-a-photo" in told.text


def test_what_a_build_leaves_alone_is_asked_for_by_its_status(tiny_built: Path, tmp_path: Path) -> None:
    for status in set(LASTING) - {"ok"}:
        assert f"`carspotter fetch {{project}} --again {status}`" in _FETCH[status]
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    with Project.open(copy).catalog() as catalog, catalog.writer():
        photo = catalog.rows("SELECT photo_id FROM files WHERE status = 'ok' ORDER BY photo_id LIMIT 1")[0]["photo_id"]
        catalog.append("files", [{"photo_id": photo, "status": "quarantined", "message": "torn"}], version="1.x")
    assert f"`carspotter fetch {copy} --again quarantined`" in the(advice_of(copy), "quarantined (torn)").text


def test_a_build_that_was_not_finished_says_so(tmp_path: Path) -> None:
    copy = make_project(tmp_path / "new")
    build(Project.open(copy), workers=0, until="fetch")
    assert "wait for a step: run `carspotter build" in advice_of(copy)[0].text


def test_a_dataset_of_a_size_is_worth_a_training_until_there_is_one(tiny_built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_built, tmp_path / "copy"))
    project = Project.open(copy)

    def told(**splits: int) -> list[str]:
        with project.catalog() as catalog:
            found = replace(funnel(catalog), splits=splits)
            return [advice.text for advice in advise(project, catalog, found)]

    large = {"train": 600, "validation": 60, "test": 60}
    assert told(**large)[-2:] == [
        f"ask what was learned: `carspotter identify PHOTO --identifier {copy}`",
        f"train a network of your own on these photos: `carspotter train {copy}`",
    ]
    for small in ({**large, "train": 100}, {**large, "validation": 0}):
        assert "carspotter train" not in "".join(told(**small))
    shutil.copytree(project.learned, project.trained)
    assert "carspotter train" not in "".join(told(**large))


def test_one_photo_is_told_of_in_the_singular() -> None:
    stages = (FunnelStage(name="check", passed=1, stopped={}), FunnelStage(name="locate", passed=0, stopped={}))
    found = Funnel(listings={"ok": 1}, photos=1, stages=stages, splits={})
    (told,) = _outside({"detail": 1}, found, "cars")
    assert told.text.startswith("1 photo shows no whole vehicle (1 detail): ")
