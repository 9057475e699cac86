"""What trains the network of plates: drawn plates lie where it is said, and a tiny training ends in what ships."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from carspotter.geometry import BoundingBox
from carspotter.runtime.blur import LOOKS, STRIDE, Blurrer
from carspotter.serving import web
from carspotter.sources.showroom import PACK
from plate_drawings import drawn_plate

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from tools.plates import __main__ as command  # noqa: E402
from tools.plates.drawing import draw_plate, paste_plate  # noqa: E402
from tools.plates.network import PlateFinder  # noqa: E402
from tools.plates.patches import SIDE, Scene, confirmed, cut_patch, scenes_of, targets  # noqa: E402
from tools.plates.training import Pool, Recipe, train  # noqa: E402

EXAMPLES = Path(next(iter(web.__path__))) / "examples"
PHOTO = LOOKS["plate"].sides[0]  # pixels: a square photo that is looked at as it is
SHIPPED = PACK.parent.parent / "models" / "blur" / "plates.onnx"


def test_the_same_seed_draws_the_same_plates() -> None:
    drawn = [draw_plate(Random(seed)) for seed in (1, 1, 2)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert drawn[0].tobytes() != drawn[2].tobytes()


def test_a_box_encloses_the_pasted_plate() -> None:
    random = Random(0)
    for _ in range(30):
        photo = Image.new("RGB", (240, 180), (3, 250, 3))
        box = paste_plate(photo, (120.0, 90.0), random.uniform(22, 110), random=random)
        changed = np.abs(np.asarray(photo).astype(int) - (3, 250, 3)).max(2) > 25
        y, x = np.nonzero(changed)
        around = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert np.abs(np.array(box.to_list()) - around).max() < 2


class _Truth:
    """A session that answers what the network should."""

    def __init__(self, plates: list[BoundingBox]) -> None:
        heat, size, offset, _ = targets(plates, PHOTO // STRIDE)
        self.answers = {"heat": heat[None, None], "size": size[None, ::-1], "offset": offset[None, ::-1] - 0.5}

    def run(self, batch: Any) -> dict[str, Any]:
        assert batch.shape == (1, PHOTO, PHOTO, 3)
        return self.answers


def test_what_is_taught_is_what_is_read() -> None:
    plates = [BoundingBox(20.5, 31, 71, 43.25), BoundingBox(100, 100, 122, 106)]
    found = Blurrer({"plate": _Truth(plates)}).find(np.zeros((PHOTO, PHOTO, 3), np.uint8))  # type: ignore[dict-item]
    assert len(found) == len(plates)
    for plate in plates:
        assert max(find.box.iou(plate) for find in found) > 0.99


def test_a_patch_follows_its_plate() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[150:162, 200:250] = 255
    scene = Scene(photo=Image.fromarray(photo), plates=(BoundingBox(200, 150, 250, 162),))
    seen = 0
    for seed in range(40):
        patch = cut_patch(scene, Random(seed))
        assert patch.pixels.shape == (3, SIDE, SIDE)
        if patch.heat.max() < 1 or patch.pixels.max() < 80:
            continue
        seen += 1
        rows, columns = np.nonzero(patch.heat == 1)
        assert all(
            patch.pixels[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].max() > 20
            for row, column in zip(rows, columns, strict=True)
        )
    assert seen > 20


def test_proposals_that_a_person_keeps_are_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "cars").mkdir()
    Image.fromarray(drawn_plate()).save(tmp_path / "cars" / "one.png")
    (tmp_path / "cars" / "two.jpg").write_bytes(b"no photo")
    table = tmp_path / "found.csv"
    command.main(
        ["propose", str(SHIPPED), str(tmp_path / "cars"), "--out", str(table), "--sheets", str(tmp_path / "s")]
    )
    with table.open(encoding="utf-8", newline="") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == ["one.png"]
    ((plate,),) = [scene.plates for scene in confirmed(table)]
    assert plate.scale(480 / 400, 480 / 400).iou(BoundingBox(188, 202, 292, 224)) > 0.4
    with Image.open(tmp_path / "s" / "1.png") as sheet:
        assert np.asarray(sheet)[:64, :96].std() > 10


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Folders of drawn cars and of other things, as the command takes them."""
    folders = {"cars": ("front-left", "right"), "others": ("interior", "wheel")}
    for folder, names in folders.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.jpg").write_bytes((EXAMPLES / f"{name}.jpg").read_bytes())
    return [word for folder in folders for word in (f"--{folder}", str(tmp_path / folder))]


@pytest.mark.slow
def test_a_tiny_training_ends_in_a_network_as_it_ships(photos: list[str], tmp_path: Path) -> None:
    few = ["--steps", "3", "--batch", "2"]
    command.main(["train", str(tmp_path / "first.onnx"), *photos, *few])
    table = tmp_path / "boxes.csv"
    table.write_text(f"path,x1,y1,x2,y2\n{tmp_path}/cars/front-left.jpg,300,300,380,330\n", encoding="utf-8")
    more = ["--boxes", str(table), "--start", str(tmp_path / "first.pt")]
    command.main(["train", str(tmp_path / "second.onnx"), *photos, *few, *more])
    photo = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    forms, said = [], []
    for path in (tmp_path / "first.onnx", tmp_path / "second.onnx", SHIPPED):
        session = onnxruntime.InferenceSession(str(path))
        values = [(each.name, each.type, each.shape) for each in (*session.get_inputs(), *session.get_outputs())]
        said.append(session.run(None, {"image": photo}))
        forms.append((values, [(each.shape, each.dtype) for each in said[-1]]))
    assert forms[0] == forms[1] == forms[2]
    assert not np.array_equal(said[0][0], said[1][0])


def test_a_seed_fixes_a_training_and_steps_change_the_network(photos: list[str], tmp_path: Path) -> None:
    cars = scenes_of(tmp_path / "cars", at_most=2, random=Random(0), is_open=True)
    heats = []
    for steps, seed in ((2, 0), (2, 0), (2, 1), (0, 0)):
        torch.manual_seed(0)
        network = train(PlateFinder(), [Pool(scenes=cars, share=1.0)], Recipe(steps=steps, batch=2, seed=seed)).eval()
        heats.append(network(torch.zeros(1, 3, 64, 64))[0].detach().numpy())
    assert np.array_equal(heats[0], heats[1])
    assert not any(np.array_equal(heats[0], other) for other in heats[2:])
