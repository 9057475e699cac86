"""Labelled photos in the formats of other tools: COCO, Label Studio, and Hugging Face's image folders; and back.

In: rows of photos with a label and a box. Out: the files that each tool opens, as texts; and, from what a tool saved,
the label of each photo. It copies no photo and knows no project. FiftyOne opens the COCO form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from carspotter.csv_rows import parse_csv
from carspotter.errors import DatasetError
from carspotter.geometry import BoundingBox

Form = Literal["coco", "label-studio", "huggingface"]

_MOST_LETTERS = 100  # of a file's name, below what any file system takes


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPhoto:
    """A photo as other tools see it: its file's name, its size and its vehicle's box in upright pixels, its label."""

    photo_id: str
    ad_id: str
    file_name: str
    width: int
    height: int
    box: BoundingBox
    label: str
    split: str
    viewpoint: str


def file_name_of(photo_id: str, suffix: str) -> str:
    """Return a file name from which the photo is known again: readable, unique, and taken by any tool's URLs."""
    digest = blake2b(photo_id.encode(errors="replace"), digest_size=6).hexdigest()
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in photo_id)
    return f"{plain[:_MOST_LETTERS]}-{digest}{suffix}"


def written(form: Form, photos: Sequence[LabelledPhoto]) -> dict[str, str]:
    """Return the text of each file of a form, by its path; photos lie in `data/`, or in a folder of their split."""
    writers: dict[Form, Callable[[Sequence[LabelledPhoto]], dict[str, str]]] = {
        "coco": _coco,
        "label-studio": _label_studio,
        "huggingface": _hugging_face,
    }
    return writers[form](photos)


def folder_of(form: Form, photo: LabelledPhoto) -> str:
    """Return the folder in which a form wants a photo's file."""
    return photo.split if form == "huggingface" else "data"


def _labels(photos: Iterable[LabelledPhoto]) -> list[str]:
    return sorted({photo.label for photo in photos})


def _coco(photos: Sequence[LabelledPhoto]) -> dict[str, str]:
    """Write `labels.json` of COCO's object detection (cocodataset.org/#format-data); ids count from 1."""
    number = {label: index for index, label in enumerate(_labels(photos), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, photo in enumerate(photos, 1):
        box = photo.box
        size = {"width": photo.width, "height": photo.height}
        about = {"photo_id": photo.photo_id, "ad_id": photo.ad_id, "split": photo.split}
        images.append({"id": index, "file_name": photo.file_name, **size, **about})
        annotations.append(
            {
                "id": index,
                "image_id": index,
                "category_id": number[photo.label],
                # x, y, width, height: COCO's order.
                "bbox": [round(value, 2) for value in (box.x1, box.y1, box.width, box.height)],
                "area": round(box.area, 2),
                "iscrowd": 0,
                "viewpoint": photo.viewpoint,
            }
        )
    categories = [{"id": index, "name": label, "supercategory": "vehicle"} for label, index in number.items()]
    head = {"info": {"description": "carspotter"}, "licenses": [], "categories": categories}
    return {"labels.json": _json({**head, "images": images, "annotations": annotations})}


def _label_studio(photos: Sequence[LabelledPhoto]) -> dict[str, str]:
    """Write tasks with their labels as predictions, and the labelling interface; photos are read as local files."""
    tasks = []
    for photo in photos:
        box, width, height = photo.box, photo.width, photo.height
        value = {
            # Label Studio counts in per cent of the image.
            "x": 100 * box.x1 / width,
            "y": 100 * box.y1 / height,
            "width": 100 * box.width / width,
            "height": 100 * box.height / height,
            "rotation": 0,
            "rectanglelabels": [photo.label],
        }
        result: dict[str, Any] = {"id": "vehicle", "type": "rectanglelabels", "value": value}
        result |= {"from_name": "label", "to_name": "image"}
        result |= {"original_width": width, "original_height": height, "image_rotation": 0}
        data = {
            "image": f"/data/local-files/?d={quote(f'data/{photo.file_name}')}",
            "photo_id": photo.photo_id,
            "ad_id": photo.ad_id,
        }
        tasks.append({"data": data, "predictions": [{"model_version": "carspotter", "result": [result]}]})
    labels = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in _labels(photos))
    interface = (
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{labels}  </RectangleLabels>\n</View>\n"
    )
    return {"tasks.json": _json(tasks), "interface.xml": interface}


def _hugging_face(photos: Sequence[LabelledPhoto]) -> dict[str, str]:
    """Write a `metadata.jsonl` beside the photos of each split, as `datasets.load_dataset("imagefolder")` reads it."""
    lines: dict[str, list[str]] = {}
    for photo in photos:
        box = photo.box
        row = {
            "file_name": photo.file_name,
            "label": photo.label,
            "photo_id": photo.photo_id,
            "ad_id": photo.ad_id,
            "viewpoint": photo.viewpoint,
            "objects": {"bbox": [[box.x1, box.y1, box.width, box.height]], "categories": [photo.label]},
        }
        lines.setdefault(photo.split, []).append(json.dumps(row, ensure_ascii=False))
    return {f"{split}/metadata.jsonl": "\n".join(rows) + "\n" for split, rows in lines.items()}


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


# ---- and back


def read_labels(path: Path) -> dict[str, str | None]:
    """Return the label of each photo, by its id or its file's name; None where its box was taken away.

    The file is COCO's JSON, Label Studio's JSON, a `metadata.jsonl`, or a CSV with `label` and `photo_id` or
    `file_name`. Raises DatasetError for any other, and for a photo with two labels.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}; give the file that the tool saved") from error
    try:
        if path.suffix.casefold() == ".jsonl":
            return _joined(path, (_of_row(path, json.loads(line)) for line in text.splitlines() if line.strip()))
        if path.suffix.casefold() == ".json":
            return _joined(path, _of_json(path, json.loads(text)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise DatasetError(f"{path} is no file of labels as COCO or Label Studio write it ({fault})") from error
    rows = parse_csv(text, ("label",), error=DatasetError, where=str(path))
    return _joined(path, (_of_row(path, row) for _, row in rows))


Pairs = Iterable[tuple[str, str | None]]


def _joined(path: Path, pairs: Pairs) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for photo, label in pairs:
        if label is not None and not isinstance(label, str):
            raise DatasetError(f"{path}: the label of {photo} is {label!r}; it must be the name of a class, in quotes")
        if found.setdefault(photo, label) != label:
            raise DatasetError(f"{path}: {photo} is called {found[photo]!r} and {label!r}; keep one of both")
    return found


def _of_row(path: Path, row: Mapping[str, Any]) -> tuple[str, str | None]:
    photo, file_name = row.get("photo_id"), row.get("file_name")
    if not photo and not file_name:
        raise DatasetError(f"{path}: a row without photo_id and file_name; one of them must say which photo is meant")
    label = row.get("label")
    return str(photo) if photo else _base(str(file_name)), None if label == "" else label


def _of_json(path: Path, content: Any) -> Pairs:
    if isinstance(content, list):
        return [pair for task in content for pair in _of_task(task)]
    if isinstance(content, Mapping) and "images" in content and "annotations" in content:
        return _of_coco(content)
    raise DatasetError(f"{path} is neither COCO's JSON (images, annotations) nor Label Studio's (a list of tasks)")


def _of_coco(content: Mapping[str, Any]) -> Pairs:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    labels: dict[Any, list[str]] = {}
    for annotation in content["annotations"]:
        labels.setdefault(annotation["image_id"], []).append(names[annotation["category_id"]])
    for image in content["images"]:
        photo = str(image.get("photo_id") or _base(str(image["file_name"])))
        for label in labels.get(image["id"], [None]):
            yield photo, label


def _of_task(task: Mapping[str, Any]) -> Pairs:
    """Yield what the newest annotation of a task says; a task that nobody has done says nothing."""
    done = [each for each in task.get("annotations", ()) if not each.get("was_cancelled")]
    if not done:
        return
    data = task["data"]
    place = urlsplit(str(data.get("image", "")))
    photo = str(data.get("photo_id") or _base(parse_qs(place.query).get("d", [unquote(place.path)])[0]))
    values = [result.get("value", {}) for result in done[-1]["result"]]  # a relation of two boxes has none
    labels = [word for value in values for word in value.get("rectanglelabels") or value.get("choices") or ()]
    for label in labels or [None]:
        yield photo, label


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name
