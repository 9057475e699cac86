"""Put answers in place of the raw numbers in which an ONNX network ends.

An identifier gets its temperatures and the sums over the taxonomy's levels, a finder the suppression of boxes that say
the same vehicle twice, so that users of the file need no copy of them. Only plain operators are used, which ONNX
Runtime, OpenVINO, LiteRT, Core ML and browsers have alike: no loop, no scatter, no operator of detection; and none that
quantizers turn into int8, such as Add, Pad or MatMul. It trains nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carspotter.records import VIEWPOINTS
from carspotter.runtime.bundle import NETWORK, TASK_OUTPUTS, ModelBundle
from carspotter.runtime.classes import head_temperature
from carspotter.runtime.head import FLOOR, SHARE, Head
from carspotter.taxonomy import LEVELS, Taxonomy

CANDIDATES = 128
"""Best boxes of a photo that are compared with each other; twenty vehicles are reported at most, by six boxes each."""
PLACES = 50
"""Vehicles that a finder's outputs have room for."""
ROUNDS = 9
"""Rounds of suppression. After r rounds all is as one box after the other decides it, except in chains of more than r
boxes each of which overlaps the next; with an odd number no two boxes that overlap are ever kept."""
PREFIX = "answers/"
"""Begins the names of all nodes that are added, so that a quantizer can leave them alone."""
RAW = f"{PREFIX}raw/"
"""Begins the names of a network's own outputs whose names the answers take."""


def raw_outputs(taxonomy: Taxonomy | None, attributes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what a network ends in before its answers, in the order of `Task.export_module`; only an identifier has a
    taxonomy."""
    if taxonomy is None:
        return TASK_OUTPUTS["finder"]
    return ("logits", "embedding", *(f"{name}.logits" for name in attributes))


def finish_identifier(
    model: onnx.ModelProto, taxonomy: Taxonomy, *, temperature: float, attributes: Mapping[str, float]
) -> None:
    """Turn outputs `logits` and `NAME.logits` of each attribute into probabilities, and add those of each level.

    `attributes` are the attributes' temperatures. Class probabilities are (n, c), a level's (n, names of the level), in
    the order of `taxonomy.names`.
    """
    tail = _Tail(model)
    sizes = _levels(tail, taxonomy, temperature)
    for name, softness in attributes.items():
        tail.soften(f"{name}.logits", softness, name)
    sizes |= {name: tail.last_size(f"{name}.logits") for name in attributes}
    sizes["embedding"] = tail.last_size("embedding")
    tail.close({name: (size,) for name, size in sizes.items()}, (*TASK_OUTPUTS["identifier"], *attributes))


def whole(bundle: ModelBundle) -> tuple[ModelBundle, bytes]:
    """Return an identifier's or a finder's ONNX file with the head of a learned bundle in it, and what to say of it.

    The bundle that is returned has no head of its own; of what the network called strangers nothing is left.
    """
    network = bundle.model_path.read_bytes()
    if bundle.head is None or bundle.taxonomy is None:
        return bundle, network
    network = with_head(network, bundle.head, bundle.taxonomy, temperature=head_temperature(bundle))
    said = {name: value for name, value in bundle.calibration.items() if name not in ("temperature", NETWORK)}
    return replace(bundle, head=None, network=None, calibration=said), network


def with_head(network: bytes, head: Head, taxonomy: Taxonomy, *, temperature: float) -> bytes:
    """Put a learned bundle's head into its network: what it answers of classes and levels becomes the head's.

    One more output, `evidence` (n, 1), is what `Head.evidence` says.
    """
    model = onnx.load_from_string(network)
    tail = _Tail(model)
    kept = [value.name for value in model.graph.output if value.name not in ("probabilities", *LEVELS)]
    # The old answers keep their nodes under other names until nothing reads them; `drop_unused` then takes them out.
    own = {name: tail.rename(name) for name in ("logits", "probabilities", *LEVELS)}
    # In 16 bits, as `head.npz` has them: the same numbers in half of the bytes.
    weights = tail.floats(tail.constant(head.weights.T.astype(np.float16)))
    tail.add("Gemm", "embedding", weights, tail.constant(head.bias), output="logits")
    # The largest is taken out before the exponential and added again: float32 overflows from 89 on.
    most = tail.add("ReduceMax", "logits", tail.integers([1]), keepdims=1)
    powers = tail.add("Exp", tail.add("Sub", "logits", most))
    mean = tail.add("ReduceMean", powers, tail.integers([1]), keepdims=1)
    _evidence(tail, head, tail.add("Add", most, tail.add("Log", mean)), own["model"])
    sizes = _levels(tail, taxonomy, temperature)
    sizes |= {name: tail.last_size(name) for name in kept} | {"evidence": 1}
    tail.close({name: (size,) for name, size in sizes.items()}, ("probabilities", *LEVELS, *kept, "evidence"))
    drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _evidence(tail: _Tail, head: Head, energy: str, said: str) -> None:
    """Add the output `evidence` (n, 1) to the energy of the logits (n, 1) and the network's own models (n, m)."""
    if head.profiles is None:
        tail.add("Identity", energy, output="evidence")
        return
    profiles = tail.floats(tail.constant(head.profiles.T.astype(np.float16)))
    none = tail.constant(np.zeros(head.n_classes, np.float32))
    overlaps = tail.add("Gemm", tail.add("Sqrt", said), profiles, none)
    likeness = tail.add("ReduceMax", overlaps, tail.integers([1]), keepdims=1)
    spoken = tail.add("Log", tail.add("Sub", likeness, tail.number(-FLOOR)))
    tail.add("Add", tail.add("Mul", energy, tail.number(SHARE)), spoken, output="evidence")


def _levels(tail: _Tail, taxonomy: Taxonomy, temperature: float) -> dict[str, int]:
    """Add probabilities of classes and of each level to `logits`; return the size of each output."""
    tail.soften("logits", temperature, "probabilities")
    values, index = "probabilities", taxonomy.index(LEVELS[-1])
    for level in reversed(LEVELS):
        # Each level is summed from the one below it: a tree, so that all sums are short.
        values, index = tail.sums(values, index, level), taxonomy.parents(level)
    return {"probabilities": len(taxonomy), **{level: len(taxonomy.names(level)) for level in LEVELS}}


def finish_finder(model: onnx.ModelProto, *, iou: float) -> None:
    """Keep of outputs `scores` (n, a), `boxes` (n, a, 4) and `viewpoints` (n, a, 8) the best, each vehicle once.

    Boxes are relative; those that overlap a better one that stays by more than `iou` lose their score. What comes out
    has min(a, PLACES) places, best first; an empty one is all zeros.
    """
    tail = _Tail(model)
    # Pairs are compared in a square table: 128 boxes give 16,384 pairs, all places of a finder millions.
    count = min(tail.last_size("scores"), CANDIDATES)
    places = min(count, PLACES)
    raw = {name: tail.rename(name) for name in ("scores", "boxes", "viewpoints")}
    scores, order = tail.best(raw["scores"], count)
    # Clipped before boxes are compared: a part outside of the picture is in nobody's favour.
    boxes = tail.add("Clip", tail.take(raw["boxes"], order), tail.number(0.0), tail.number(1.0))
    views = tail.take(raw["viewpoints"], order)
    # A suppressed box gets the score 0 and sinks to the end, without a shape that depends on the photo.
    kept = tail.add("Mul", scores, _alive(tail, boxes, count=count, iou=iou))
    told, order = tail.best(kept, places, output="scores")
    # Zeros where there is no vehicle: which of the suppressed boxes stands there would differ between engines.
    is_one = tail.add("Unsqueeze", tail.floats(tail.add("Greater", told, tail.number(0.0))), tail.integers([2]))
    tail.add("Mul", tail.take(boxes, order), is_one, output="boxes")
    tail.add("Mul", tail.take(views, order), is_one, output="viewpoints")
    sizes = {"scores": (places,), "boxes": (places, 4), "viewpoints": (places, len(VIEWPOINTS))}
    tail.close({"kind": (tail.last_size("kind"),), **sizes}, TASK_OUTPUTS["finder"])


def _alive(tail: _Tail, boxes: str, *, count: int, iou: float) -> str:
    """Return (n, k) of k boxes (n, k, 4), best first: 1 for one that stays, 0 for one that is suppressed or empty."""
    x1, y1, x2, y2 = (tail.column(boxes, place) for place in range(4))  # (n, k, 1) each
    # `extent` is 0 for corners in the wrong order, so that such a box has no area and is none.
    areas = tail.add("Mul", tail.extent(x1, x2), tail.extent(y1, y2))
    shared = tail.add("Mul", tail.common(x1, x2), tail.common(y1, y2))  # (n, k, k)
    # a - (s - b) instead of a + b - s: Add is among the operators that quantizers turn into int8.
    union = tail.add("Sub", areas, tail.add("Sub", shared, tail.turned(areas)))
    # No division: of two boxes without an area the union is 0, and nothing is over 0.
    over = tail.floats(tail.add("Greater", shared, tail.add("Mul", union, tail.number(iou))))
    places = tail.constant(np.arange(count, dtype=np.float32))
    column, row = (tail.add("Unsqueeze", places, tail.integers([axis])) for axis in (1, 0))
    # (n, k, k): 1 where the box of the row is better than that of the column, and overlaps it.
    beats = tail.add("Mul", over, tail.floats(tail.add("Less", column, row)))
    is_box = tail.floats(tail.add("Greater", areas, tail.number(0.0)))  # (n, k, 1)
    alive = is_box
    # Each round asks again who is beaten by a box that is still alive; a fixed number, since loops are not alike
    # everywhere.
    for _ in range(ROUNDS):
        beaten = tail.add("ReduceMax", tail.add("Mul", beats, alive), tail.integers([1]), keepdims=1)  # (n, 1, k)
        alive = tail.add("Mul", is_box, tail.add("Sub", tail.number(1.0), tail.turned(beaten)))
    return tail.add("Squeeze", alive, tail.integers([2]))


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and tensors that no output needs."""
    wanted = {value.name for value in graph.output}
    kept = []
    # Backwards, so that a node's readers are known before the node.
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


class _Tail:
    """Append nodes to a network; every method that adds some returns the name of what they make."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self._taken = {name for node in self.graph.node for name in (node.name, *node.output)}
        self._taken |= {tensor.name for tensor in self.graph.initializer}
        # Noted before outputs are replaced; the sizes of inner tensors are not in the file.
        self._sizes = {value.name: int(value.type.tensor_type.shape.dim[-1].dim_value) for value in model.graph.output}

    def _free(self) -> str:
        """Return a name that nothing in the graph has."""
        name = f"{PREFIX}{len(self._taken)}"
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name

    def last_size(self, output: str) -> int:
        """Return the last size of an output of the network as it came."""
        return self._sizes[output]

    def rename(self, output: str) -> str:
        """Free a name for what will take its place; return the name that its values have now."""
        raw = RAW + output
        self._taken.add(raw)
        for node in self.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == output:
                        names[place] = raw
        return raw

    def add(self, kind: str, *inputs: str, output: str = "", **settings: Any) -> str:
        name = self._free()
        self.graph.node.append(helper.make_node(kind, list(inputs), [output or name], name=name, **settings))
        return output or name

    def constant(self, values: NDArray[Any]) -> str:
        name = self._free()
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def floats(self, name: str) -> str:
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def soften(self, logits: str, temperature: float, output: str) -> None:
        """Add probabilities of logits (n, c): a temperature above 1 makes them softer."""
        self.add("Softmax", self.add("Mul", logits, self.number(1 / temperature)), axis=1, output=output)

    def sums(self, values: str, index: NDArray[np.intp], output: str) -> str:
        """Sum values (n, c) to (n, groups); `index` (c,) says into which group each goes.

        The members of each group are gathered side by side, where the shorter ones have a zero appended to the values.
        That costs a few microseconds, where a product with a matrix of ones and zeros would read ten megabytes.
        """
        groups = [np.flatnonzero(index == group) for group in range(int(index.max()) + 1)]
        # Each class its own group, in order: nothing to sum.
        if len(groups) == len(index):
            return self.add("Identity", values, output=output)
        # `len(index)` is the place of the zero appended below.
        members = np.full((len(groups), max(map(len, groups))), len(index), np.int32)
        for row, group in zip(members, groups, strict=True):
            row[: len(group)] = group
        # A column times 0 has the right number of rows for any batch, without Pad or a shape that is read.
        zero = self.add("Mul", self.column(values, 0, axis=1), self.number(0.0))
        longer = self.add("Concat", values, zero, axis=1)
        gathered = self.add("Gather", longer, self.constant(members), axis=1)  # (n, groups, members)
        return self.add("ReduceSum", gathered, self.integers([2]), keepdims=0, output=output)

    def best(self, scores: str, count: int, *, output: str = "") -> tuple[str, str]:
        """Return the `count` largest of scores (n, a), largest first, and their places, (n, count) each."""
        name = self._free()
        values, places = output or f"{name}.values", f"{name}.places"
        node = helper.make_node("TopK", [scores, self.integers([count])], [values, places], name=name, axis=1)
        self.graph.node.append(node)
        return values, places

    def take(self, rows: str, places: str) -> str:
        """Return the rows (n, k, d) of (n, a, d) at places (n, k)."""
        each = self.add("Unsqueeze", places, self.integers([2]))
        return self.add("GatherND", rows, each, batch_dims=1)

    def column(self, values: str, place: int, *, axis: int = 2) -> str:
        """Return one place of an axis, such as a corner (n, k, 1) of boxes (n, k, 4)."""
        return self.add("Slice", values, *(self.integers([number]) for number in (place, place + 1, axis)))

    def turned(self, name: str) -> str:
        """Return (n, 1, k) of (n, k, 1), or the other way round."""
        return self.add("Transpose", name, perm=[0, 2, 1])

    def extent(self, low: str, high: str) -> str:
        return self.add("Relu", self.add("Sub", high, low))

    def common(self, low: str, high: str) -> str:
        """Return by how much each two of k intervals (n, k, 1) overlap, (n, k, k)."""
        begins = self.add("Max", low, self.turned(low))
        return self.extent(begins, self.add("Min", high, self.turned(high)))

    def close(self, sizes: Mapping[str, tuple[int, ...]], outputs: Sequence[str]) -> None:
        """Make these the outputs of the network, in this order; all are float32."""
        del self.graph.output[:]
        for name in outputs:
            shape: list[str | int | None] = ["n", *sizes[name]]
            self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
