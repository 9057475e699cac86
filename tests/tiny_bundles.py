"""Build tiny, real bundles in milliseconds whose networks answer by a rule that can be seen on the photo.

The finder calls a red, green or blue thing a vehicle and boxes it, one of each colour; the identifier names it by its
mean colour. Both run through the real engines, with weights stored as exported bundles store them: float16 and a Cast.
`draw_photo` draws photos for them; it needs no torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carspotter.export.answers import finish_finder, finish_identifier
from carspotter.pixels import Preprocessing
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import Taxon, Taxonomy

FINDER_INPUT = Preprocessing(width=128, height=96, fit="letterbox")
IDENTIFIER_INPUT = Preprocessing(width=32, height=32, fit="squash", pad=0.05)

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (230, 20, 20),
    "dark red": (130, 10, 10),
    "orange": (230, 110, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "light blue": (110, 110, 230),
}
"""The colour of each class, in the order of the classes. The finder sees each as a vehicle: one channel leads by 64."""

UNSURE_COLOR = "unsure red"
"""A paint for `draw_photo` half-way between red and dark red: the model is sure, generation and year are not."""

TOY_COLOR = "toy pink"
"""A paint for `draw_photo` that the finder boxes and the identifier takes for no car."""

_PAINTS = {**COLORS, UNSURE_COLOR: (183, 15, 15), TOY_COLOR: (250, 30, 180)}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "orange", "green", "blue"),
    "body": ("Sedan", "SUV", "Hatchback", "Coupe", "Convertible"),
    "subject": ("car", "other"),
}
"""What the identifier tells besides names: the nearest of these paints, the body of the nearest class, no toy."""

TAXA = (
    Taxon(make="Rubin", model="Alpha", generation="2010-2014", year=2012, body="Sedan"),
    Taxon(make="Rubin", model="Alpha", generation="2015-2019", year=2016, body="Sedan"),
    Taxon(make="Rubin", model="Beta", generation="2010-2014", year=2012, body="SUV"),
    Taxon(make="Smaragd", model="Gamma", generation="2013-2018", year=2014, body="Hatchback"),
    Taxon(make="Azur", model="Delta", generation="2016-2020", year=2018, body="Coupe"),
    Taxon(make="Azur", model="Delta Cabrio", body="Convertible"),
)

VIEWPOINT_OF_CHANNEL = {"red": "front", "green": "right", "blue": "back"}
"""The side that the finder sees, by the leading channel."""

CARD = {
    "use": "Tests.",
    "licence": "Apache-2.0",
    "data": "None: the weights are written by a rule.",
    "recipe": "tests/tiny_bundles.py",
    "figures": {"top-1": 1.0},
    "retrain": "Change the rule.",
}

BACKGROUNDS = {"exterior": 140, "interior": 40, "detail": 220, "other": 128}
"""Grey that makes the finder say this kind of a photo without a vehicle; with one, it says exterior at any grey."""

_LEAD = 64.0  # of 255: JPEG's blurred colours at an edge stay below, so that boxes are right to about two pixels
_LEAST_AREA = 0.002  # of the finder's input; 24 of its 128 x 96 pixels
_SHARPNESS = 0.002  # logits are -0.002 x squared distance of colours: red and dark red, 100 apart, are 20 apart


def draw_photo(
    size: tuple[int, int] = (400, 300),
    cars: Sequence[tuple[str, tuple[int, int, int, int]]] = (),
    *,
    background: int = BACKGROUNDS["exterior"],
) -> NDArray[np.uint8]:
    """Draw cars on grey, each one of `COLORS`, `UNSURE_COLOR` or `TOY_COLOR`, and a box x1, y1, x2, y2.

    `size` is (width, height).
    """
    pixels = np.full((size[1], size[0], 3), background, dtype=np.uint8)
    for color, (x1, y1, x2, y2) in cars:
        pixels[y1:y2, x1:x2] = _PAINTS[color]
    return pixels


def tiny_finder(folder: Path) -> ModelBundle:
    """Write a finder's bundle into the folder and return it; three anchors: the red, the green and the blue vehicle."""
    bundle = ModelBundle(
        task="finder",
        name="tiny-finder",
        preprocessing=FINDER_INPUT,
        calibration={"score": 0.4, "gate": 0.7},
        card=CARD,
    )
    return bundle.save(folder, finder_model(FINDER_INPUT).SerializeToString())


def tiny_identifier(folder: Path) -> ModelBundle:
    """Write an identifier's bundle into the folder and return it; six classes, one a colour."""
    bundle = ModelBundle(
        task="identifier",
        name="tiny-identifier",
        preprocessing=IDENTIFIER_INPUT,
        calibration={"thresholds": {"make": 0.6, "model": 0.6, "generation": 0.6, "year": 0.6}},
        card=CARD,
        taxonomy=Taxonomy(classes=TAXA),
        attributes=ATTRIBUTES,
    )
    return bundle.save(folder, identifier_model(IDENTIFIER_INPUT).SerializeToString())


def finder_model(size: Preprocessing) -> onnx.ModelProto:
    """Make the finder's network; the leading colour channel is the anchor."""
    graph = _Graph(size)
    x = graph.floats("image")  # (n, h, w, 3)
    others = graph.add("Max", graph.gather(x, [1, 0, 0], 3), graph.gather(x, [2, 2, 1], 3))
    leads = graph.add("Greater", graph.add("Sub", x, others), graph.weights([_LEAD]))
    mask = graph.floats(leads)  # (n, h, w, 3), 1 where the channel leads
    area = graph.reduce("ReduceMean", mask, [1, 2])  # (n, 3)
    # 0.98 from 4.9 % of the photo on, less for smaller ones, so that a threshold has something to cut.
    graph.output(
        "scores",
        graph.add(
            "Clip", graph.times(area, 20.0), graph.weights([0.0], scalar=True), graph.weights([0.98], scalar=True)
        ),
    )
    graph.output("boxes", _boxes(graph, mask, size))
    graph.output("viewpoints", _viewpoints(graph, area))
    graph.output("kind", _kind(graph, x, area))
    model = graph.model(
        {"kind": 2, "scores": 2, "boxes": 3, "viewpoints": 3}, last={"kind": 4, "boxes": 4, "viewpoints": 8}
    )
    finish_finder(model, iou=0.5)
    onnx.checker.check_model(model, full_check=True)
    return model


def identifier_model(size: Preprocessing) -> onnx.ModelProto:
    """Make the identifier's network: a linear layer over the mean colour, which is least squares in disguise."""
    graph = _Graph(size)
    mean = graph.reduce("ReduceMean", graph.floats("image"), [1, 2])  # (n, 3)
    logits = graph.nearness(mean, list(COLORS.values()))
    graph.output("logits", logits)
    directions = np.random.default_rng(0).normal(size=(3, 16))
    graph.output(
        "embedding", graph.add("LpNormalization", graph.add("MatMul", mean, graph.weights(directions)), axis=1, p=2)
    )
    graph.output("colour.logits", graph.nearness(mean, [COLORS[word] for word in ATTRIBUTES["colour"]]))
    bodies = [graph.gather(logits, [first, 2, 3, 4, 5], 1) for first in (0, 1)]  # the first two classes are sedans
    graph.output("body.logits", graph.add("Max", *bodies))
    car = graph.reduce("ReduceMax", logits, [1], keepdims=1)
    graph.output("subject.logits", graph.add("Concat", car, graph.nearness(mean, [_PAINTS[TOY_COLOR]]), axis=1))
    last = {f"{name}.logits": len(words) for name, words in ATTRIBUTES.items()}
    last |= {"logits": len(COLORS), "embedding": 16}
    model = graph.model(dict.fromkeys(last, 2), last=last)
    finish_identifier(model, Taxonomy(classes=TAXA), temperature=1.0, attributes=dict.fromkeys(ATTRIBUTES, 1.0))
    onnx.checker.check_model(model, full_check=True)
    return model


def _boxes(graph: "_Graph", mask: str, size: Preprocessing) -> str:
    """Return relative x1, y1, x2, y2 of what is set in the mask, (n, 3, 4); of nothing a box that is none."""
    corners = {}
    for name, axis, length in (("y", 2, size.height), ("x", 1, size.width)):
        present = graph.add("Greater", graph.reduce("ReduceMax", mask, [axis]), graph.weights([0.5]))
        places = np.arange(length, dtype=np.float32).reshape(1, length, 1) / length  # (1, length, 1)
        low = graph.add("Where", present, graph.constant(places), graph.weights([1.0]))
        high = graph.add("Where", present, graph.constant(places + np.float32(1 / length)), graph.weights([0.0]))
        corners[name + "1"] = graph.reduce("ReduceMin", low, [1])
        corners[name + "2"] = graph.reduce("ReduceMax", high, [1])
    return graph.add("Concat", *(graph.last_axis(corners[key]) for key in ("x1", "y1", "x2", "y2")), axis=2)


def _viewpoints(graph: "_Graph", area: str) -> str:
    sides = np.full((1, 3, 8), 0.01, dtype=np.float32)
    sides[0, (0, 1, 2), (0, 2, 4)] = 0.93  # front, right, back
    return graph.add("Add", graph.times(graph.last_axis(area), 0.0), graph.constant(sides))


def _kind(graph: "_Graph", x: str, area: str) -> str:
    """Return exterior where there is a vehicle, else interior where it is dark, detail where it is bright, or other.

    Grey 140 without a vehicle is exterior as well: a street with nothing on it.
    """
    largest = graph.reduce("ReduceMax", area, [1], keepdims=1)  # (n, 1)
    empty = graph.add("Less", largest, graph.weights([_LEAST_AREA]))
    mean = graph.last_axis(graph.reduce("ReduceMean", x, [1, 2, 3]), axis=1)  # (n, 1)
    dark = graph.add("And", empty, graph.add("Less", mean, graph.weights([85.0])))
    bright = graph.add("And", empty, graph.add("Greater", mean, graph.weights([160.0])))
    street = graph.add("And", empty, graph.add("Greater", mean, graph.weights([132.0])))
    vehicle = graph.add("Or", graph.add("Not", empty), graph.add("And", street, graph.add("Not", bright)))
    named = [graph.floats(name) for name in (vehicle, dark, bright)]
    rest = graph.add("Sub", graph.weights([1.0]), graph.add("Sum", *named))
    # 0.97 for the kind and 0.01 for each other.
    return graph.add("Add", graph.times(graph.add("Concat", *named, rest, axis=1), 0.96), graph.weights([0.01]))


class _Graph:
    """Collect nodes and weights of a network whose single input is `image`, uint8 (n, height, width, 3)."""

    def __init__(self, size: Preprocessing) -> None:
        self.size = size
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: int | list[int]) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"weights_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weights(self, values: list[float] | NDArray[np.float64], *, scalar: bool = False) -> str:
        """Store values in float16 and cast them, as exported bundles do."""
        stored = np.array(values, dtype=np.float16)
        name = f"weights_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(stored.reshape(()) if scalar else stored, name))
        return self.floats(name)

    def floats(self, name: str) -> str:
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def gather(self, name: str, places: list[int], axis: int) -> str:
        return self.add("Gather", name, self.constant(np.array(places, dtype=np.int64)), axis=axis)

    def times(self, name: str, factor: float) -> str:
        return self.add("Mul", name, self.constant(np.array([factor], dtype=np.float32)))

    def last_axis(self, name: str, axis: int = 2) -> str:
        return self.add("Unsqueeze", name, self.constant(np.array([axis], dtype=np.int64)))

    def reduce(self, kind: str, name: str, axes: list[int], keepdims: int = 0) -> str:
        return self.add(kind, name, self.constant(np.array(axes, dtype=np.int64)), keepdims=keepdims)

    def nearness(self, mean: str, palette: list[tuple[int, int, int]]) -> str:
        """Return how near mean colours (n, 3) are to each of a palette, as logits that leave out what all share."""
        colors = np.array(palette, dtype=np.float64)
        # -|m - c|² = 2 m·c - |c|² - |m|², and the last term is the same for all colours.
        projected = self.add("MatMul", mean, self.weights(2 * _SHARPNESS * colors.T))
        return self.add("Add", projected, self.constant((-_SHARPNESS * (colors**2).sum(axis=1)).astype(np.float32)))

    def output(self, name: str, of: str) -> None:
        self.nodes.append(helper.make_node("Identity", [of], [name]))

    def model(self, ranks: dict[str, int], last: dict[str, int]) -> onnx.ModelProto:
        """Close the network; `ranks` are the outputs' numbers of dimensions, `last` their last sizes."""
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", self.size.height, self.size.width, 3])
        outputs = []
        for name, rank in ranks.items():
            middle = [3] * (rank - 2)  # anchors
            shape = ["n", *middle, last.get(name, 3)]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        graph = helper.make_graph(self.nodes, "tiny", [image], outputs, self.initializers)
        # The opset of what we export; IR 8 came with it.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        return model
