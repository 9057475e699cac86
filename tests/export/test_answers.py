"""What is put into exported graphs: level sums as the taxonomy has them, boxes as greedy suppression keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carspotter.export.answers import CANDIDATES, PLACES, ROUNDS, finish_finder, finish_identifier, with_head
from carspotter.geometry import iou_matrix, suppress
from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head
from carspotter.runtime.session import Session, open_session
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from tiny_bundles import ATTRIBUTES, tiny_identifier

ENGINES = ["onnxruntime", "openvino"]
ANCHORS = 300


def session_of(model: onnx.ModelProto, folder: Path, engine: str) -> Session:
    pytest.importorskip(engine)
    onnx.checker.check_model(model, full_check=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return open_session(path, engine, threads=1)


def sliced(
    parts: dict[str, tuple[int, int]], shape: tuple[int, ...], squeezed: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """Make a network that hands parts of its input's last axis on as its outputs."""
    nodes, tensors, outputs = [], [], []
    axis = len(shape)
    for name, (start, end) in parts.items():
        for word, number in (("start", start), ("end", end), ("axis", axis)):
            tensors.append(numpy_helper.from_array(np.array([number]), f"{name}.{word}"))
        names = [f"{name}.{word}" for word in ("start", "end", "axis")]
        nodes.append(helper.make_node("Slice", ["image", *names], [f"{name}.cut" if name in squeezed else name]))
        if name in squeezed:
            nodes.append(helper.make_node("Squeeze", [f"{name}.cut", f"{name}.axis"], [name]))
        sizes = shape[:-1] if name in squeezed else (*shape[:-1], end - start)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *sizes]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *shape])
    graph = helper.make_graph(nodes, "raw", [image], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


# ---- levels


def drawn_taxonomy(random: np.random.Generator, size: int) -> Taxonomy:
    """Draw classes of uneven depth: makes alone, models with and without generation and year, bodies of one model."""
    classes = []
    for number in range(size):
        make = f"make {int(random.geometric(0.05))}"
        depth = int(random.integers(0, 5))
        model, year = f"model {int(random.integers(0, 9))}" if depth else None, int(random.integers(2000, 2009))
        generation = f"g{year // 3}" if depth > 1 else None
        body = f"b{number}" if depth else None
        classes.append(
            Taxon(make=make, model=model, generation=generation, year=year if depth > 2 else None, body=body)
        )
    return Taxonomy(tuple(dict.fromkeys(classes)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_levels_are_the_taxonomys_sums(engine: str, size: int, tmp_path: Path) -> None:
    random = np.random.default_rng(size)
    taxonomy = drawn_taxonomy(random, size)
    size = len(taxonomy)
    parts = {"logits": (0, size), "embedding": (size, size + 8), "colour.logits": (size + 8, size + 11)}
    model = sliced(parts, (size + 11,))
    before = model.ByteSize()
    finish_identifier(model, taxonomy, temperature=0.7, attributes={"colour": 1.9})
    session = session_of(model, tmp_path, engine)
    raw = random.normal(0, 4, (5, size + 11)).astype(np.float32)
    found = session.run(raw)
    assert session.output_names == ("probabilities", "embedding", *LEVELS, "colour")
    wanted = softmax(raw[:, :size].astype(np.float64) / 0.7)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    for level in LEVELS:
        assert found[level].shape == (5, len(taxonomy.names(level)))
        np.testing.assert_allclose(found[level], taxonomy.sum_to(level, wanted), atol=1e-5, err_msg=level)
    np.testing.assert_allclose(found["colour"], softmax(raw[:, -3:].astype(np.float64) / 1.9), atol=1e-5)
    np.testing.assert_allclose(found["embedding"], raw[:, size : size + 8], rtol=1e-6)  # float32, handed on
    assert model.ByteSize() - before < 2_000 + 60 * size, "it must stay small beside the weights"


@pytest.mark.parametrize("with_profiles", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_in_the_graph_answers_as_beside_it(engine: str, with_profiles: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    base = tiny_identifier(tmp_path / "tiny")
    assert base.taxonomy is not None
    models = len(base.taxonomy.names("model"))
    network = onnx.load(str(base.model_path))
    taxonomy = drawn_taxonomy(random, 40)
    weights = random.normal(0, 3, (len(taxonomy), 16)).astype(np.float16)
    said = np.sqrt(random.dirichlet(np.ones(models), len(taxonomy))).astype(np.float16)
    bias = random.normal(0, 1, len(taxonomy))
    head = Head(weights=weights, bias=bias, profiles=said if with_profiles else None)
    model = onnx.load_from_string(with_head(network.SerializeToString(), head, taxonomy, temperature=1.7))
    session = session_of(model, tmp_path, engine)
    crops = random.integers(0, 256, (3, 1, 1, 3)).repeat(32, 1).repeat(32, 2).astype(np.uint8)
    found = session.run(crops)
    assert set(session.output_names) == {"probabilities", "embedding", *LEVELS, *ATTRIBUTES, "evidence"}
    logits = head.logits(found["embedding"]).astype(np.float64)
    wanted = softmax(logits / 1.7)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    for level in LEVELS:
        np.testing.assert_allclose(found[level], taxonomy.sum_to(level, wanted), atol=1e-5, err_msg=level)
    own = session_of(network, tmp_path / "tiny", engine).run(crops)["model"]
    np.testing.assert_allclose(found["evidence"][:, 0], head.evidence(found["embedding"], own), atol=1e-5)


# ---- boxes


def finder(folder: Path, engine: str = "onnxruntime", anchors: int = ANCHORS, iou: float = 0.5) -> Session:
    parts = {"kinds": (0, 4), "scores": (4, 5), "boxes": (5, 9), "viewpoints": (9, 17)}
    model = sliced(parts, (anchors, 17), squeezed=("scores",))
    model.graph.node.append(helper.make_node("ReduceMean", ["kinds", "anchors"], ["kind"], keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "anchors"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("kind", TensorProto.FLOAT, ["n", 4]))
    finish_finder(model, iou=iou)
    return session_of(model, folder, engine)


def asked(session: Session, boxes: NDArray[Any], scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Ask for photos with boxes (n, a, 4) and scores (n, a); a box's viewpoints are its number."""
    n, count = scores.shape
    raw = np.zeros((n, count, 17), np.float32)
    raw[..., 4], raw[..., 5:9] = scores, boxes
    raw[..., 9:] = np.arange(count, dtype=np.float32)[None, :, None]
    return session.run(raw)


def kept_by(found: dict[str, NDArray[Any]], photo: int = 0) -> list[int]:
    """Return which boxes were kept, best first."""
    return np.rint(found["viewpoints"][photo, :, 0][found["scores"][photo] > 0]).astype(int).tolist()


def greedy(boxes: NDArray[Any], scores: NDArray[Any], iou: float = 0.5) -> list[int]:
    """Return what suppression one by one keeps of the boxes that are some, best first."""
    inside = np.clip(boxes, 0, 1)
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    order = order[((inside[order, 2:] > inside[order, :2]).all(1)) & (scores[order] > 0)]
    return order[suppress(inside[order], scores[order], iou)][:PLACES].tolist()


def drawn_boxes(random: np.random.Generator, vehicles: int, count: int = ANCHORS) -> NDArray[np.float32]:
    """Draw boxes in heaps about vehicles, as a network answers."""
    sizes = random.uniform(0.05, 0.5, (vehicles, 2))
    places = random.uniform(0, 1 - sizes)
    which = random.integers(0, vehicles, count)
    corners = np.concatenate([places, places + sizes], axis=1)[which]
    return (corners + random.normal(0, 0.02, corners.shape)).astype(np.float32)


def undecided(boxes: NDArray[Any], iou: float = 0.5) -> NDArray[np.bool_]:
    """Return which boxes overlap one before them by so nearly `iou` that float32's rounding decides."""
    inside = np.clip(boxes, 0, 1)
    return np.triu(np.abs(iou_matrix(inside, inside) - iou) < 1e-5).any(axis=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_are_kept_as_greedy_suppression_keeps_them(engine: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    session = finder(tmp_path, engine)
    photos = [drawn_boxes(random, int(random.integers(1, 25))) for _ in range(60)]
    scores = np.stack([random.permutation(ANCHORS) + 1.0 for _ in photos]).astype(np.float32) / ANCHORS
    for boxes, its in zip(photos, scores, strict=True):
        its[undecided(boxes)] = 0
    found = asked(session, np.stack(photos), scores)
    for number, boxes in enumerate(photos):
        wanted = greedy(boxes, scores[number])
        assert kept_by(found, number) == wanted
        np.testing.assert_allclose(found["boxes"][number, : len(wanted)], boxes[wanted].clip(0, 1), atol=1e-6)
        np.testing.assert_allclose(found["scores"][number, : len(wanted)], scores[number][wanted], rtol=1e-6)
        assert (np.diff(found["scores"][number]) <= 0).all(), "best first"


def row_of(count: int, step: float = 0.3) -> NDArray[np.float32]:
    """Return boxes side by side, each of which overlaps the next by more than a half, and the one after by less."""
    left = np.arange(count) * step
    boxes = np.stack([left, np.zeros(count), left + 1, np.ones(count)], axis=1) / (count * step + 1)
    boxes[:, 1::2] = [0, 1]
    return boxes.astype(np.float32)


@pytest.mark.parametrize("count", [2, 5, ROUNDS + 1])
def test_chains_are_decided_as_one_by_one(count: int, tmp_path: Path) -> None:
    boxes, scores = row_of(count), np.linspace(0.9, 0.5, count).astype(np.float32)
    overlap = iou_matrix(boxes, boxes) > 0.5
    assert overlap[0].tolist() == [True, True, *[False] * (count - 2)]
    found = asked(finder(tmp_path, anchors=count), boxes[None], scores[None])
    assert kept_by(found) == list(range(0, count, 2)) == greedy(boxes, scores)


def test_of_longer_chains_no_two_that_overlap_are_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    session = finder(tmp_path, anchors=100)
    for boxes in (row_of(100), row_of(100, 0.1), random.permutation(row_of(100, 0.03))):
        scores = np.linspace(0.9, 0.1, 100).astype(np.float32)
        kept = kept_by(asked(session, boxes[None], scores[None]))
        assert set(kept) <= set(greedy(boxes, scores))
        assert kept[0] == 0
        assert (iou_matrix(boxes[kept], boxes[kept]) <= 0.5)[~np.eye(len(kept), dtype=bool)].all()


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_that_are_none_have_no_score_and_hide_nothing(engine: str, tmp_path: Path) -> None:
    good = [0.2, 0.3, 0.8, 0.7]
    odd = [
        [0.5, 0.5, 0.5, 0.9],
        [0.6, 0.1, 0.4, 0.9],
        [1.2, 0.2, 1.9, 0.8],
        [-3e38, -3e38, -1e38, 3e38],
        [3e38, 0.2, -3e38, 0.7],
        [-1e30, -1e30, -5, -5],
    ]
    boxes = np.array([*odd, good, [-1e38, 0, 0.05, 1e38]], np.float32)
    scores = np.linspace(0.9, 0.3, len(boxes)).astype(np.float32)
    found = asked(finder(tmp_path, engine, anchors=len(boxes)), boxes[None], scores[None])
    assert kept_by(found) == [6, 7]
    np.testing.assert_allclose(found["boxes"][0, :2], [good, [0, 0, 0.05, 1]], atol=1e-6)
    assert np.isfinite(found["boxes"]).all()


def test_a_finder_of_few_anchors_has_as_many_places(tmp_path: Path) -> None:
    for anchors, places in ((3, 3), (ANCHORS, PLACES)):
        found = asked(finder(tmp_path, anchors=anchors), np.zeros((2, anchors, 4)), np.ones((2, anchors)))
        shapes = {name: values.shape[1:] for name, values in found.items() if name != "kind"}
        assert shapes == {"scores": (places,), "boxes": (places, 4), "viewpoints": (places, 8)}
        assert not found["scores"].any()


def test_the_overlap_that_is_one_vehicle_can_be_set(tmp_path: Path) -> None:
    boxes, scores = row_of(4), np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    assert kept_by(asked(finder(tmp_path, anchors=4, iou=0.99), boxes[None], scores[None])) == [0, 1, 2, 3]
