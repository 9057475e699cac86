"""Foreign detectors: what is fed and what is read, on small real networks and on the one of the Open Model Zoo."""

import csv
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from carspotter.errors import DetectorError
from carspotter.geometry import BoundingBox, iou_matrix
from carspotter.pixels import Preprocessing, decode
from carspotter.recognition.detector import ForeignDetector, InputForm, choose, make_detector, open_detector, prepare
from carspotter.recognition.finder import photo_box
from carspotter.runtime.form import TensorSpec
from tiny_bundles import draw_photo

SHARED = Path(os.environ.get("CARSPOTTER_SHARED", Path(__file__).parents[3] / "shared"))


class FakeSession:
    """What the test gives and remember what was fed."""

    engine = "fake"
    input_name = "image"

    def __init__(
        self, outputs: dict[str, Any], shape: tuple[int | None, ...] = (1, 3, 40, 60), dtype: str = "float32"
    ) -> None:
        self.input_form = TensorSpec(name="image", shape=shape, dtype=dtype)
        self.outputs = {name: np.asarray(value, dtype=np.float32) for name, value in outputs.items()}
        self.output_forms = tuple(
            TensorSpec(name=name, shape=value.shape, dtype="float32") for name, value in self.outputs.items()
        )
        self.output_names = tuple(self.outputs)
        self.fed = np.empty(0)

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.fed = batch
        return self.outputs


def boxes_of(detector: ForeignDetector, size: tuple[int, int] = (600, 400)) -> list[list[float]]:
    return [one.box.to_list() for one in detector.detect(draw_photo(size))]


SSD_ROWS = [
    [0, 0, 0.9, 0.1, 0.2, 0.5, 0.6],
    [0, 0, 0.8, 0.11, 0.2, 0.5, 0.6],  # the first again
    [0, 1, 0.7, 0.6, 0.6, 1.3, 0.9],  # reaches out of the photo
    [0, 0, 0.4, 0.0, 0.0, 0.1, 0.1],  # below the threshold
    [-1, 0, 0, 0, 0, 0, 0],
    [0, 0, 0.99, 0.0, 0.0, 0.2, 0.2],  # left from an earlier run
]


def test_ssd_rows_are_read() -> None:
    detector = make_detector(FakeSession({"detection_out": [[SSD_ROWS]]}), "ssd")
    found = detector.detect(draw_photo((600, 400)))
    assert [one.score for one in found] == pytest.approx([0.9, 0.7])
    assert found[0].box.to_list() == pytest.approx([60, 80, 300, 240], abs=0.01)
    assert found[1].box.to_list() == pytest.approx([360, 240, 600, 360], abs=0.01)
    assert found[0].viewpoints is None


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("scale", [1, np.array([60, 40, 60, 40])], ids=["relative", "pixels of the input"])
def test_plain_boxes_are_read(batched: bool, scale: Any) -> None:
    boxes, scores = np.array([[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.9, 0.9]]) * scale, np.array([0.6, 0.8])
    outputs = {"scores": scores[None], "boxes": boxes[None]} if batched else {"boxes": boxes, "scores": scores}
    found = boxes_of(make_detector(FakeSession(outputs), "plain"))
    np.testing.assert_allclose(found, [[300, 200, 540, 360], [60, 80, 300, 240]], atol=0.01)


@pytest.mark.parametrize(
    "outputs",
    [{"boxes": np.zeros((0, 4)), "scores": np.zeros(0)}, {"detection_out": np.zeros((1, 1, 0, 7))}],
    ids=["plain", "ssd"],
)
def test_no_box_is_no_detection(outputs: dict[str, Any]) -> None:
    assert boxes_of(make_detector(FakeSession(outputs), "none")) == []


def test_boxes_that_do_not_fit_their_scores_are_named() -> None:
    detector = make_detector(FakeSession({"boxes": np.zeros((3, 4)), "scores": np.zeros((3, 80))}), "odd")
    with pytest.raises(DetectorError, match=r"boxes \(3, 4\) with scores \(3, 80\)"):
        boxes_of(detector)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"output0": np.zeros((1, 84, 8400))}, r"output0 float32 \(1, 84, 8400\)"),
        ({"boxes": np.zeros((5, 5)), "labels": np.zeros(5)}, "boxes float32"),
        ({"a": np.zeros((1, 1, 9, 7)), "b": np.zeros(1)}, "of an unknown form"),
    ],
)
def test_an_unknown_answer_is_named(outputs: dict[str, Any], words: str) -> None:
    with pytest.raises(DetectorError, match=words):
        make_detector(FakeSession(outputs), "yolo")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 3, None, None), "float32"),
        ((None, 224, 224, 4), "float32"),
        ((1, 224), "float32"),
        ((8, 3, 40, 60), "float32"),
        ((1, 3, 40, 60), "int64"),
    ],
)
def test_an_unknown_input_is_named(shape: tuple[int | None, ...], dtype: str) -> None:
    with pytest.raises(DetectorError, match="none that can be fed"):
        make_detector(FakeSession({"detection_out": [[SSD_ROWS]]}, shape, dtype), "odd")


@pytest.mark.parametrize(
    ("shape", "dtype", "outputs", "expected"),
    [
        ((1, 3, 40, 60), "float32", {"out": [[SSD_ROWS]]}, (20, 20, 230)),  # the zoo's way: BGR, 0..255
        ((1, 40, 60, 3), "float32", {"boxes": np.zeros((0, 4)), "scores": []}, (230 / 255, 20 / 255, 20 / 255)),
        ((None, 40, 60, 3), "uint8", {"out": [[SSD_ROWS]]}, (230, 20, 20)),
    ],
)
def test_what_is_fed(
    shape: tuple[int | None, ...], dtype: str, outputs: dict[str, Any], expected: tuple[float, ...]
) -> None:
    session = FakeSession(outputs, shape, dtype)
    make_detector(session, "red").detect(draw_photo((300, 200), [("red", (0, 0, 300, 200))]))
    assert session.fed.shape == tuple(size or 1 for size in shape)
    assert session.fed.dtype == np.dtype(dtype)
    axes = (0, 2, 3) if shape[1] == 3 else (0, 1, 2)
    np.testing.assert_allclose(session.fed.astype(np.float64).mean(axis=axes), expected, rtol=1e-5)


def test_prepare_follows_the_form_given() -> None:
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    form = TensorSpec(name="image", shape=(1, 3, 2, 2), dtype="float32")
    batch = prepare(pixels, form, InputForm(colors="bgr", divisor=2.0))
    np.testing.assert_array_equal(batch[0, 0], pixels[..., 2] / 2)
    assert batch.flags["C_CONTIGUOUS"]


def save_constant_detector(path: Path) -> None:
    """Write an SSD-shaped network of float NCHW whose score is the mean of the first channel over 255."""
    weights = {"rows": np.float32(SSD_ROWS[:1])[None, None], "gain": np.float32([0, 0, 1 / 255, 0, 0, 0, 0])}
    weights["rows"][..., 2] = 0
    nodes = [
        helper.make_node("Slice", ["image", "zero", "one", "axis"], ["first"]),
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["scored"]),
        helper.make_node("Add", ["rows", "scored"], ["detection_out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 60])],
        [helper.make_tensor_value_info("detection_out", TensorProto.FLOAT, [1, 1, 1, 7])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()]
        + [numpy_helper.from_array(np.int64([v]), n) for n, v in (("zero", 0), ("one", 1), ("axis", 1))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_file_is_opened_by_path_and_fed_as_told(tmp_path: Path) -> None:
    path = tmp_path / "constant.onnx"
    save_constant_detector(path)
    photo = draw_photo((300, 200), [("red", (0, 0, 300, 200))])
    rgb = open_detector(path, engine="onnxruntime", threads=1, input_form=InputForm(colors="rgb"))
    [found] = rgb.detect(photo)
    assert found.score == pytest.approx(230 / 255, abs=1e-4)
    assert found.box.to_list() == pytest.approx([30, 40, 150, 120], abs=0.01)
    # By default the first channel of such a network is blue.
    assert open_detector(str(path), engine="onnxruntime", threads=1).detect(photo) == ()


def test_what_is_no_file_is_named() -> None:
    with pytest.raises(DetectorError, match=r"no detector 'yolox-nano': it is no file; give the path of an \.onnx"):
        open_detector("yolox-nano")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the photographs for development are not here")
def test_the_detector_of_the_zoo_finds_cars() -> None:
    detector = open_detector(SHARED / "weights" / "vehicle-detection-0200.xml", threads=1)
    with (SHARED / "data" / "car-boxes" / "boxes.csv").open() as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}  # the last box of each photo
    overlaps = []
    for path, row in list(rows.items())[:20]:
        true = BoundingBox(*(float(row[key]) for key in ("x1", "y1", "x2", "y2")))
        found = detector.detect(decode((SHARED / "data" / "car-boxes" / path).read_bytes()).pixels)
        overlaps.append(max((one.box.iou(true) for one in found), default=0.0))
    assert np.mean(np.array(overlaps) > 0.5) >= 0.9  # .987 over all of them
    assert np.mean(overlaps) > 0.8


FLOATS = st.floats(-2, 3, width=32) | st.floats(width=32)


@given(data=st.data(), n=st.integers(0, 30), score=st.floats(0, 1), iou=st.floats(0, 1))
def test_whatever_a_network_answers_what_is_chosen_is_sane(
    data: st.DataObject, n: int, score: float, iou: float
) -> None:
    boxes = data.draw(hnp.arrays(np.float32, (n, 4), elements=FLOATS))
    scores = data.draw(hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32) | st.just(np.nan)))
    chosen = choose(boxes, scores, score=score, iou=iou)
    assert len(set(chosen.tolist())) == len(chosen)
    kept = boxes[chosen]
    assert np.isfinite(kept).all()
    assert (kept[:, 2:] > kept[:, :2]).all()
    assert (np.diff(scores[chosen]) <= 0).all()
    assert (scores[chosen] >= score).all()
    overlaps = iou_matrix(kept, kept)
    assert (overlaps[~np.eye(len(kept), dtype=bool)] <= iou).all()
    for index in chosen:
        found = photo_box(boxes[index], (300, 100), Preprocessing(width=128, height=96, fit="letterbox"))
        assert found is None or (found == found.clip(300, 100) and min(found.width, found.height) >= 1)
