"""A dataset goes to other tools and comes back: each file is opened by the tool that it is for."""

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from carspotter.dataset.exchange import Form, file_name_of, read_labels
from carspotter.errors import DatasetError, ProjectError
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.review.decisions import DecisionStore
from carspotter.review.exchange import export_dataset, import_labels
from commands import call
from tiny_project import make_project


@pytest.fixture
def project(tiny_built: Path, tmp_path: Path) -> Project:
    return Project.open(Path(shutil.copytree(tiny_built, tmp_path / "project")))


def labels_of(project: Project) -> dict[str, str]:
    with project.catalog() as catalog:
        rows = catalog.rows("SELECT photo_id, class_name FROM samples WHERE status = 'ok'")
    return {row["photo_id"]: row["class_name"] for row in rows}


def test_coco_is_opened_by_pycocotools(project: Project, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    export_dataset(project, tmp_path / "out", "coco")
    with redirect_stdout(io.StringIO()):
        opened = COCO(str(tmp_path / "out" / "labels.json"))
    names = {category["id"]: category["name"] for category in opened.loadCats(opened.getCatIds())}
    found = {}
    for image in opened.loadImgs(opened.getImgIds()):
        (annotation,) = opened.loadAnns(opened.getAnnIds(imgIds=image["id"]))
        found[image["photo_id"]] = names[annotation["category_id"]]
        with Image.open(tmp_path / "out" / "data" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
    assert found == labels_of(project)


def test_hugging_face_datasets_loads_the_splits(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    stats = export_dataset(project, tmp_path / "out", "huggingface")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == stats["split"]
    assert {row["photo_id"]: row["label"] for part in loaded.values() for row in part} == labels_of(project)
    assert loaded["train"][0]["image"].size == (400, 300)


def test_label_studio_takes_interface_and_tasks(project: Project, tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="Label Studio's SDK is not installed")
    export_dataset(project, tmp_path / "out", "label-studio")
    opened = interface.LabelInterface((tmp_path / "out" / "interface.xml").read_text(encoding="utf-8"))
    opened.validate()
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    assert all(opened.validate_prediction(task["predictions"][0]) for task in tasks)


def annotated(out: Path, form: str, change: dict[str, str | None]) -> Path:
    """Do in a form's file what a person does in its tool: give photos another label, or take it away."""
    if form == "huggingface":
        rows = [json.loads(line) for path in out.rglob("metadata.jsonl") for line in path.read_text().splitlines()]
        lines = [json.dumps({**row, "label": change.get(row["photo_id"], row["label"])}) for row in rows]
        (out / "changed.jsonl").write_text("\n".join(lines))
        return out / "changed.jsonl"
    path = out / ("labels.json" if form == "coco" else "tasks.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    if form == "coco":
        number = {category["name"]: category["id"] for category in content["categories"]}
        photo = {image["id"]: image.pop("photo_id") for image in content["images"]}  # FiftyOne keeps no such key
        for annotation in content["annotations"]:
            label = change.get(photo[annotation["image_id"]], "")
            annotation["category_id"] = number[label] if label else annotation["category_id"]
        gone = {image for image, name in photo.items() if change.get(name, "") is None}
        content["annotations"] = [each for each in content["annotations"] if each["image_id"] not in gone]
    else:
        for task in content:
            (prediction,) = task.pop("predictions")
            label = change.get(task["data"]["photo_id"], prediction["result"][0]["value"]["rectanglelabels"][0])
            prediction["result"][0]["value"]["rectanglelabels"] = [label]
            relation = {"type": "relation", "from_id": "vehicle", "to_id": "vehicle", "direction": "right"}
            result = [*(prediction["result"] if label else ()), relation]
            task["annotations"] = [{"result": result, "was_cancelled": False}]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", get_args(Form))
def test_corrected_labels_come_back_and_the_next_build_obeys(project: Project, tmp_path: Path, form: str) -> None:
    before = labels_of(project)
    one, other, *_ = sorted(name for name, label in before.items() if label == "Audi A4")
    export_dataset(project, tmp_path / "out", form)  # type: ignore[arg-type]
    path = annotated(tmp_path / "out", form, {one: "Volkswagen Golf", other: None})
    stats = import_labels(project, path, person="Ann")
    assert stats == {"relabelled": 1, "dropped": 1, "unchanged": len(before) - 2}
    lines = len((project.labels / "decisions.jsonl").read_text().splitlines())
    import_labels(project, path, person="Ann")
    assert len((project.labels / "decisions.jsonl").read_text().splitlines()) == lines == 2, "once is enough"
    build(project, workers=0, until="split")
    after = labels_of(project)
    assert after[one] == "Volkswagen Golf"
    assert other not in after


def test_the_newest_import_holds_and_so_does_one_that_was_taken_back_before(project: Project, tmp_path: Path) -> None:
    photo, store = min(labels_of(project)), DecisionStore(project.labels / "decisions.jsonl")

    def imported(label: str) -> dict[str, int]:
        (tmp_path / "labels.csv").write_text(f"photo_id,label\n{photo},{label}\n", encoding="utf-8")
        return dict(import_labels(project, tmp_path / "labels.csv", person="Ann"))

    for label in ("Toyota Corolla", "Toyota Yaris", "Toyota Corolla"):
        assert imported(label) == {"relabelled": 1}
        assert store.settled("class")["class", "photo", photo].said == label
    assert imported("Toyota Corolla") == {"unchanged": 1}
    store.take_back(store.decisions()[-1].id, by="Ann")
    assert imported("Toyota Corolla") == {"relabelled": 1}


def test_a_model_that_no_ad_of_the_project_has_may_be_seen(project: Project, tmp_path: Path) -> None:
    photo = min(labels_of(project))
    (tmp_path / "labels.csv").write_text(f"photo_id,label\n{photo},Toyota Corolla\n", encoding="utf-8")
    assert import_labels(project, tmp_path / "labels.csv", person="Ann") == {"relabelled": 1}


def test_an_unknown_label_is_named_and_nothing_is_noted(project: Project, tmp_path: Path) -> None:
    one, other = sorted(labels_of(project))[:2]
    (tmp_path / "labels.csv").write_text(f"photo_id,label\n{one},BMW 3 Series\n{other},Audi A44\n", encoding="utf-8")
    with pytest.raises(ProjectError, match=r"knows no 'Audi A44'; did you mean 'Audi A4'.*Nothing was imported"):
        import_labels(project, tmp_path / "labels.csv", person="Ann")
    assert not (project.labels / "decisions.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "{}", "neither COCO"),
        ("a.json", "{", "no file of labels"),
        ("a.json", '[{"annotations": [{}]}]', "no file of labels"),
        ("a.json", '{"images": [{}], "annotations": [], "categories": []}', "no file of labels"),
        ("a.csv", "photo_id\n1\n", "column 'label' is missing"),
        ("a.csv", "label\nAudi A4\n", "without photo_id and file_name"),
        ("a.csv", "photo_id,label\n1,Audi A4\n1,Audi A3\n", "1 is called 'Audi A4' and 'Audi A3'"),
        ("a.jsonl", '{"photo_id": "a", "label": 3}', r"a.jsonl: the label of a is 3; it must be the name of a class"),
        ("a.jsonl", '{"photo_id": "a", "label": 0}', r"a.jsonl: the label of a is 0; it must be the name of a class"),
        (
            "a.json",
            '[{"data": {"photo_id": "a"}, "annotations": [{"result": [{"value": {"choices": [3]}}]}]}]',
            "a.json: the label of a is 3",
        ),
        ("a.csv", "\xff\xfe", "cannot be read|column 'label'"),
    ],
)
def test_what_is_no_file_of_labels_is_refused_in_words(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=says):
        read_labels(tmp_path / name)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_labels(tmp_path / "nothere.json")


def test_a_photo_on_its_side_is_written_upright(project: Project, tmp_path: Path) -> None:
    with project.catalog() as catalog:
        row = catalog.rows("SELECT photo_id, path FROM samples s JOIN files f USING (photo_id) WHERE s.status = 'ok'")[
            0
        ]
    path = project.folder / row["path"]
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # a quarter turn
        picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    export_dataset(project, tmp_path / "out", "coco")
    target = tmp_path / "out" / "data" / file_name_of(row["photo_id"], ".jpg")
    with Image.open(target) as picture:
        assert picture.size == (400, 300)
        assert picture.getexif().get(0x0112, 1) == 1


def test_the_commands_say_what_to_do_next(project: Project, tmp_path: Path) -> None:
    words = ("export-dataset", project.folder, "--to", "coco", "--out", tmp_path / "out")
    done = call(*words)
    assert (done.code, "COCODetectionDataset" in done.out) == (0, True)
    again = call(*words)
    assert (again.code, "holds something already" in again.err) == (1, True)
    back = call("import-labels", project.folder, tmp_path / "out" / "labels.json", "--person", "Ann")
    assert (back.code, "unchanged. Next: carspotter build" in back.out) == (0, True)


def test_a_project_without_a_dataset_says_what_to_run(tmp_path: Path) -> None:
    project = Project.open(make_project(tmp_path / "new"))
    with pytest.raises(ProjectError, match="no dataset yet; run: carspotter build"):
        export_dataset(project, tmp_path / "out", "coco")
