"""One way from a photo to a crop: identify, serve, build, evaluate, train, shards and export see the same bytes."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carspotter.cli.export_photos import _Cutter
from carspotter.dataset.reader import read_webdataset
from carspotter.dataset.shards import ShardSettings, write
from carspotter.evaluation.evaluating import LabelledPhoto, predict
from carspotter.geometry import BoundingBox
from carspotter.photos.checks import CheckSettings
from carspotter.pixels import Pixels, decode
from carspotter.project.locate import PARTS, LocateSettings, LocateStage
from carspotter.recognition.identifier import Identification, Identifier
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle
from serving.conftest import Running
from tiny_bundles import draw_photo

SIDES = ("x1", "y1", "x2", "y2")


def file_of(size: tuple[int, int], car: tuple[int, int, int, int], form: str, turn: int = 1) -> bytes:
    exif, buffer = Image.Exif(), BytesIO()
    exif[0x0112] = turn
    Image.fromarray(draw_photo(size, [("red", car)])).save(buffer, form, exif=exif.tobytes())
    return buffer.getvalue()


PHOTOS = {
    "large.jpg": file_of((1601, 1203), (201, 303, 1207, 1001), "JPEG"),  # decoded at a half, sides rounded up
    "large.png": file_of((1601, 1203), (201, 303, 1207, 1001), "PNG"),  # shrunk by us
    "small.jpg": file_of((320, 240), (51, 60, 251, 200), "JPEG"),
    "turned.jpg": file_of((1200, 1600), (151, 403, 1002, 1100), "JPEG", turn=6),
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """What identifiers were given, in order; they answer as ever."""
    crops: list[Pixels] = []
    identify = Identifier.identify

    def recording(self: Identifier, given: Pixels) -> list[Identification]:
        crops.extend(np.array(given))
        return identify(self, given)

    monkeypatch.setattr(Identifier, "identify", recording)
    return crops


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_cut_the_same_everywhere(
    name: str, seen: list[Pixels], service: Running, bundles: dict[str, Path], tmp_path: Path
) -> None:
    data = PHOTOS[name]
    (tmp_path / name).write_bytes(data)
    bundle = ModelBundle.load(bundles["identifier"])
    crops, vectors = {}, {}

    recognizer = Recognizer.open(**bundles, engine="onnxruntime", threads=1)  # type: ignore[arg-type]
    (vehicle,) = recognizer.recognize(tmp_path / name).vehicles
    crops["identify"], vectors["identify"] = seen.pop(), np.array(vehicle.embedding)

    if name == "large.png":  # without a loss of its own, so that its pixels as an array are the same photo
        recognizer.recognize(decode(data).pixels)
        crops["array"] = seen.pop()

    assert service.http.post("/v1/photos", content=data, headers={"Content-Type": "image/jpeg"}).status_code == 200
    crops["serve"] = seen.pop()

    locate = LocateSettings(**{task: str(folder) for task, folder in bundles.items()})
    look = LocateStage(folder=str(tmp_path), check=CheckSettings(), locate=locate)
    look.setup()
    tables = look.process([{"photo_id": "1", "path": name, "lacks": list(PARTS)}])
    crops["build"], vectors["build"] = seen.pop(), np.asarray(tables["embeddings"][0]["embedding"], np.float64)
    box = BoundingBox(*(float(np.float32(tables["findings"][0][side])) for side in SIDES))  # as the catalogue has it

    photo = LabelledPhoto(name=name, read=lambda: data, taxon=None, box=box)
    predict(bundle, [photo], engine="onnxruntime")
    crops["evaluate"] = seen.pop()
    crops["export"] = _Cutter(bundle).read([(str(tmp_path / name), box)])[0]
    crops["train"] = trained_on(tmp_path, name, box, bundle)
    crops["shards"] = in_shards(tmp_path, name, box, bundle)

    for user, crop in crops.items():
        np.testing.assert_array_equal(crop, crops["identify"], err_msg=user)
    # One network on one processor, but another batch: the last digits of float16 may differ.
    np.testing.assert_allclose(vectors["build"], vectors["identify"], atol=2e-3)


def trained_on(folder: Path, name: str, box: BoundingBox, bundle: ModelBundle) -> Pixels:
    """Return what training reads of a labels CSV, before it is augmented."""
    data = pytest.importorskip("carspotter.training.identifier.data")
    from carspotter.training.identifier.targets import Nodes
    from carspotter.training.recipe import InputSettings

    assert bundle.taxonomy is not None
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "class_id", *SIDES), (name, "0", *map(repr, box.to_list()))])
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    target = bundle.preprocessing
    size = InputSettings(width=target.width, height=target.height, fit=target.fit, pad=target.pad)
    nodes = Nodes(bundle.taxonomy, {str(index): index for index in range(len(bundle.taxonomy))})
    crop: Pixels = data.load_photos(rows, folder / "labels.csv", nodes, size).images[0]
    return crop


def in_shards(folder: Path, name: str, box: BoundingBox, bundle: ModelBundle) -> Pixels:
    row = {"photo_id": "1", "path": name, "class_name": "a", "class_index": 0, "split": "train"}
    row |= dict(zip(SIDES, box.to_list(), strict=True))
    write([row], ShardSettings(), folder / "shards", root=folder, network=bundle.preprocessing)
    (sample,) = read_webdataset(folder / "shards")
    return decode(sample.image).pixels
