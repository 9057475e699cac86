"""The finder: tiny real networks on drawn photos, and what is told of anything that a network may answer."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alike import alike
from carspotter.errors import BundleError, ImageError
from carspotter.geometry import BoundingBox
from carspotter.pixels import Preprocessing, to_network_box
from carspotter.recognition import finder as finder_module
from carspotter.recognition.finder import Finder, photo_box
from carspotter.records import KINDS
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.form import TensorSpec
from tiny_bundles import BACKGROUNDS, CARD, FINDER_INPUT, draw_photo, tiny_finder, tiny_identifier


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Finder:
    bundle = tiny_finder(tmp_path_factory.mktemp("finder"))
    return Finder(bundle, bundle.open_session("onnxruntime", threads=1))


class FakeSession:
    """Answer with the arrays given, for any batch; count the runs."""

    engine = "fake"
    input_name = "image"
    input_form = TensorSpec(name="image", shape=(None, 96, 128, 3), dtype="uint8")
    output_names = ("kind", "scores", "boxes", "viewpoints")
    output_forms: tuple[TensorSpec, ...] = ()

    def __init__(self, boxes: Any, scores: Any) -> None:
        self.boxes, self.scores = np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)
        self.batches: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(batch.shape)
        n, a = len(batch), len(self.scores)
        return {
            "kind": np.tile(np.float32([0.7, 0.1, 0.1, 0.1]), (n, 1)),
            "scores": np.tile(self.scores, (n, 1)),
            "boxes": np.tile(self.boxes.reshape(a, 4), (n, 1, 1)),
            "viewpoints": np.full((n, a, 8), 1 / 8, dtype=np.float32),
        }


def fake_finder(boxes: Any, scores: Any, **options: Any) -> Finder:
    calibration = options.pop("calibration", {})
    bundle = ModelBundle(task="finder", name="fake", preprocessing=FINDER_INPUT, card=CARD, calibration=calibration)
    return Finder(bundle, FakeSession(boxes, scores), **options)


def test_two_vehicles_are_found_where_they_are(finder: Finder) -> None:
    cars = [("red", (50, 60, 200, 160)), ("blue", (250, 100, 380, 250))]
    [finding] = finder.find([draw_photo(cars=cars)])
    assert finding.kind.name == "exterior"
    assert finding.kind.probability == pytest.approx(0.97, abs=0.01)
    assert [d.viewpoint.name for d in finding.detections] == ["front", "back"]
    for detection, (_, box) in zip(finding.detections, cars, strict=True):
        assert detection.box.to_list() == pytest.approx(box, abs=3.2)  # one pixel of the network is 3.1 of the photo


@pytest.mark.parametrize("kind", KINDS)
def test_photos_without_a_vehicle_have_a_kind(finder: Finder, kind: str) -> None:
    [finding] = finder.find([draw_photo(background=BACKGROUNDS[kind])])
    assert (finding.kind.name, finding.detections) == (kind, ())
    assert finding.kind_probabilities[KINDS.index(finding.kind.name)] == finding.kind.probability


@given(data=st.data(), width=st.integers(160, 700), height=st.integers(160, 700))
def test_a_vehicle_is_found_in_a_photo_of_any_shape(
    finder: Finder, data: st.DataObject, width: int, height: int
) -> None:
    x1, y1 = data.draw(st.integers(0, width // 2)), data.draw(st.integers(0, height // 2))
    box = (x1, y1, x1 + width // 2, y1 + height // 2)
    [finding] = finder.find([draw_photo((width, height), [("green", box)])])
    assert [d.viewpoint.name for d in finding.detections] == ["right"]
    found = finding.detections[0].box
    pixel = max(width / FINDER_INPUT.width, height / FINDER_INPUT.height)
    assert found.to_list() == pytest.approx(box, abs=1.6 * pixel + 1)
    assert found == found.clip(width, height)


def test_a_batch_answers_like_single_photos_in_order(finder: Finder) -> None:
    photos = [
        draw_photo((300, 200), [("red", (10, 10, 150, 150))]),
        draw_photo((200, 400), background=BACKGROUNDS["interior"]),
        draw_photo((640, 480), [("green", (300, 100, 600, 400))]),
    ]
    together, alone = finder.find(photos), [finder.find([photo])[0] for photo in photos]
    assert [asdict(found) for found in together] == alike([asdict(found) for found in alone])
    assert finder.find([]) == []


def test_each_photo_is_resized_once_and_the_network_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = finder_module.network_input
    monkeypatch.setattr(finder_module, "network_input", lambda *args: calls.append(args) or original(*args))
    fake = fake_finder([[0, 0, 1, 1]], [0.9])
    fake.find([draw_photo()] * 5)
    assert len(calls) == 5
    assert fake.session.batches == [(5, 96, 128, 3)]  # type: ignore[attr-defined]


def test_calibration_sets_the_thresholds_and_options_override_it() -> None:
    assert fake_finder([], []).score == 0.4
    assert fake_finder([], [], calibration={"score": 0.3}).score == 0.3
    assert fake_finder([], [], calibration={"score": 0.3}, score=0.9).score == 0.9
    with pytest.raises(BundleError, match="calibration score is 3"):
        fake_finder([], [], calibration={"score": 3})
    with pytest.raises(ValueError, match=r"score=1\.5"):
        fake_finder([], [], score=1.5)


def test_another_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a finder is needed"):
        Finder(tiny_identifier(tmp_path), FakeSession([], []))


def test_an_array_that_is_no_photo_is_an_error(finder: Finder) -> None:
    with pytest.raises(ImageError):
        finder.find([np.zeros((10, 10), dtype=np.uint8)])  # type: ignore[list-item]


def test_most_detections_are_the_best() -> None:
    boxes = [[i / 40, 0, (i + 1) / 40, 1] for i in range(40)]
    scores = np.linspace(0.9, 0.5, 40)
    [finding] = fake_finder(boxes, scores).find([draw_photo()])
    assert [d.score for d in finding.detections] == pytest.approx(scores[:20])


@pytest.mark.parametrize(
    "box",
    [
        [0.5, 0.5, 0.5, 0.9],
        [0.6, 0.1, 0.4, 0.9],
        [np.nan, 0, 1, 1],
        [0, 0, np.inf, 1],
        [1.2, 0.2, 1.9, 0.8],
        [0.1, 0.0, 0.9, 0.05],  # in the upper bar of a wide photo's letterbox
        [0.5, 0.5, 0.5005, 0.9],
    ],
    ids=["no width", "turned", "nan", "infinite", "outside", "in the bar", "thinner than a pixel"],
)
def test_boxes_that_are_none_are_dropped(box: list[float]) -> None:
    [finding] = fake_finder([box, [0.2, 0.3, 0.8, 0.7]], [0.9, 0.8]).find([draw_photo((400, 200))])
    assert [d.score for d in finding.detections] == pytest.approx([0.8])


@given(data=st.data(), n=st.integers(0, 30), score=st.floats(0, 1))
def test_whatever_a_network_answers_what_is_told_is_sane(data: st.DataObject, n: int, score: float) -> None:
    floats = st.floats(-2, 3, width=32) | st.floats(width=32)
    boxes = data.draw(hnp.arrays(np.float32, (n, 4), elements=floats))
    scores = data.draw(hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32) | st.just(np.nan)))
    [finding] = fake_finder(boxes, scores, score=score).find([draw_photo((300, 100))])
    assert len(finding.detections) <= 20
    for detection in finding.detections:
        assert detection.score >= np.float32(score)
        assert detection.score > 0, "an empty place is no vehicle, whatever the threshold is"
        assert detection.box == detection.box.clip(300, 100)
        assert min(detection.box.width, detection.box.height) >= 1


@given(
    width=st.integers(20, 4000),
    height=st.integers(20, 4000),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    fit=st.sampled_from(["squash", "letterbox"]),
)
def test_mapping_back_undoes_mapping_there(width: int, height: int, corners: list[float], fit: Any) -> None:
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    box = BoundingBox(x1 * width, y1 * height, x2 * width, y2 * height)
    preprocessing = Preprocessing(width=256, height=192, fit=fit)
    there = to_network_box(box, (width, height), preprocessing).relative(256, 192)
    back = photo_box(np.array(there.to_list()), (width, height), preprocessing)
    if min(box.width, box.height) >= 1.001:
        assert back is not None
        assert back.to_list() == pytest.approx(box.to_list(), abs=1e-6 * max(width, height))
