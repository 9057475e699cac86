"""A build and the service decide alike whether a photo shows a whole vehicle, whatever gate the finder brings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from carspotter.photos.checks import CheckSettings
from carspotter.project.locate import LocateSettings, LocateStage
from carspotter.recognition.recognizer import Recognizer
from tiny_bundles import draw_photo


@pytest.mark.parametrize(("gate", "passes"), [(None, True), (0.34, True), (0.995, False)])
def test_build_and_service_decide_alike(
    gate: float | None, passes: bool, bundles: dict[str, Path], tmp_path: Path
) -> None:
    finder = tmp_path / "finder"
    shutil.copytree(bundles["finder"], finder)
    stats = json.loads((finder / "bundle.json").read_text(encoding="utf-8"))
    stats["calibration"] = {"score": 0.4, "certain_box": 1.0} | ({} if gate is None else {"gate": gate})
    (finder / "bundle.json").write_text(json.dumps(stats), encoding="utf-8")
    photo = tmp_path / "photo.png"
    Image.fromarray(draw_photo((400, 300), [("red", (50, 80, 300, 260))])).save(photo)

    locate = LocateSettings(finder=str(finder), identifier=str(bundles["identifier"]))
    look = LocateStage(folder=str(tmp_path), check=CheckSettings(), locate=locate, parts=("findings",))
    look.setup()
    (row,) = look.process([{"photo_id": "1", "path": photo.name, "lacks": ["findings"]}])["findings"]
    recognizer = Recognizer.open(finder=finder, identifier=bundles["identifier"], engine="onnxruntime", threads=1)
    (vehicle,) = recognizer.recognize(photo).vehicles
    assert row["passed"] is passes
    assert (vehicle.undecided is None) is passes
