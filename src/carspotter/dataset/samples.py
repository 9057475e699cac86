"""A sample of a dataset: an encoded crop and its row of metadata, as members of a tar and as a `tf.train.Example`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carspotter.dataset.tfrecord import Feature, decode_example, encode_example
from carspotter.errors import DatasetError
from carspotter.geometry import BoundingBox

SUFFIXES: Mapping[str, str] = {"jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "png": "png"}
"""Endings of the member that holds the image → its format."""

_METADATA = "image/metadata"
# The object's label counts from 1, as TensorFlow's object detection keeps 0 for the background.
_FIRST_LABEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample: `image` is the encoded crop, `format` "jpeg" or "webp", `metadata` its row of JSON values.

    Ours has photo_id, class_name, class_index, split, box [x1, y1, x2, y2] in pixels of the crop, width and height of
    the crop, and what else the row had.
    """

    key: str
    image: bytes
    format: str
    metadata: Mapping[str, Any]

    @property
    def box(self) -> BoundingBox | None:
        """Return the vehicle's box in pixels of the crop, or None where the metadata has none."""
        corners = self.metadata.get("box")
        return None if corners is None else BoundingBox.from_list(corners)

    @property
    def class_index(self) -> int | None:
        """Return the number of the class, or None where the metadata has none."""
        value = self.metadata.get("class_index")
        return None if value is None else int(value)


def to_members(sample: Sample) -> list[tuple[str, bytes]]:
    """Return names and contents of a sample's members in a WebDataset tar: image, class index, metadata."""
    suffix = {"jpeg": "jpg"}.get(sample.format, sample.format)
    members = [(f"{sample.key}.cls", str(sample.class_index).encode())] if sample.class_index is not None else []
    return [
        *members,
        (f"{sample.key}.{suffix}", sample.image),
        (f"{sample.key}.json", json.dumps(dict(sample.metadata), sort_keys=True, allow_nan=False).encode()),
    ]


def from_members(key: str, members: Mapping[str, bytes], where: str) -> Sample:
    """Make a sample of a tar's members by their endings; raises DatasetError without an image or for bad JSON."""
    found = [suffix for suffix in members if suffix.casefold() in SUFFIXES]
    if not found:
        raise DatasetError(f"{where}: sample {key!r} has {', '.join(members)} and no image ({', '.join(SUFFIXES)})")
    metadata: dict[str, Any] = {}
    if "cls" in members and members["cls"].strip().isdigit():
        metadata["class_index"] = int(members["cls"])
    if "json" in members:
        metadata |= _parse(members["json"], f"{where}: sample {key!r}")
    return Sample(key=key, image=members[found[0]], format=SUFFIXES[found[0].casefold()], metadata=metadata)


def to_record(sample: Sample) -> bytes:
    """Return a sample as a `tf.train.Example` with the names of TensorFlow's object detection.

    `image/class/label` counts from 0 like `class_index`; `image/object/class/label` from 1. `image/metadata` is JSON.
    """
    values = sample.metadata
    features: dict[str, Feature] = {
        "image/encoded": [sample.image],
        "image/format": [sample.format.encode()],
        "image/key": [sample.key.encode()],
        _METADATA: [json.dumps(dict(values), sort_keys=True, allow_nan=False).encode()],
    }
    sizes = {"image/width": "width", "image/height": "height"}
    features |= {name: [int(values[key])] for name, key in sizes.items() if values.get(key) is not None}
    texts = {"image/source_id": "photo_id", "image/filename": "path", "image/class/text": "class_name"}
    texts |= {"image/object/class/text": "class_name", "image/object/view": "viewpoint", "image/split": "split"}
    features |= {name: [_bytes(values[key])] for name, key in texts.items() if values.get(key) is not None}
    if sample.class_index is not None:
        features["image/class/label"] = [sample.class_index]
        features["image/object/class/label"] = [sample.class_index + _FIRST_LABEL]
    if sample.box is not None and "width" in values and "height" in values:
        relative = sample.box.relative(values["width"], values["height"])
        corners = {"xmin": relative.x1, "ymin": relative.y1, "xmax": relative.x2, "ymax": relative.y2}
        features |= {f"image/object/bbox/{name}": [value] for name, value in corners.items()}
    return encode_example(features)


def from_record(record: bytes, where: str) -> Sample:
    """Make a sample of a `tf.train.Example`, ours or one with the same names; raises DatasetError for any other."""
    features = decode_example(record)
    image = _first(features.get("image/encoded"))
    if not isinstance(image, bytes):
        raise DatasetError(f"{where}: no image/encoded among its features ({', '.join(features) or 'none'})")
    form, key = _first(features.get("image/format")), _first(features.get("image/key"))
    metadata: dict[str, Any] = {}
    names = {"image/source_id": "photo_id", "image/class/text": "class_name", "image/class/label": "class_index"}
    for name, meaning in names.items():
        value = _first(features.get(name))
        if value is not None:
            metadata[meaning] = value.decode(errors="replace") if isinstance(value, bytes) else value
    text = _first(features.get(_METADATA))
    if isinstance(text, bytes):
        metadata |= _parse(text, where)
    return Sample(
        key=key.decode(errors="replace") if isinstance(key, bytes) else str(metadata.get("photo_id", "")),
        image=image,
        format=SUFFIXES.get(form.decode(errors="replace").casefold(), "jpeg") if isinstance(form, bytes) else "jpeg",
        metadata=metadata,
    )


def _bytes(text: object) -> bytes:
    return str(text).encode(errors="surrogateescape")  # a path may be of bytes that are no UTF-8


def _first(values: Sequence[Any] | None) -> Any:
    return values[0] if values else None


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: its metadata is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: its metadata is a {type(value).__name__}; it must be a JSON object")
    return value
