"""Turn an ONNX network into static int8, calibrated on network inputs, or into float16.

Int8 is ONNX Runtime's QDQ: weights by channel, signed, in 7 bits, so that processors without VNNI cannot overflow;
activations unsigned. NNCF was measured beside it and keeps as much, but quantizes the inputs of depthwise convolutions
by channel, which ONNX Runtime cannot run as integers: 40 ms an image against 9 (docs/devices.md). It compares nothing
(`parity.py`) and reads no photos.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from carspotter.errors import BundleError
from carspotter.export.answers import drop_unused
from carspotter.runtime.session import open_session

Images = NDArray[np.uint8]

CALIBRATED = 300
"""Images that ranges are taken from; on held-out photos 300 and 96 did not differ by what one photo weighs."""
CORRECTED = 96
"""Images that biases are corrected on: a second round on other 96 moves them by 4 % of what the first did."""
LEAST = 16
"""Fewer images would give ranges that the next photo leaves."""
SMALL = 2048
"""Tensors with fewer values stay float32: they weigh nothing, and the first block of a MobileNet, whose few weights all
that follows hangs on, moves logits by 2 % in float16."""

_FOLDED = ("Clip", "Relu")
"""Activations that are a bound of the convolution's range in int8, so that they cost nothing."""
_ACTIVATIONS = (*_FOLDED, "HardSwish")

_AXES, _REFERENCE = "correction.axes", ".reference"


def to_int8(network: bytes, images: Images) -> bytes:
    """Return the network in int8, calibrated on images uint8 (n, h, w, 3); raises BundleError for too few."""
    if len(images) < LEAST:
        raise BundleError(f"int8 is calibrated on {len(images)} images; it needs {LEAST}, better {CALIBRATED}")
    plain = plain_weights(onnx.load_from_string(network))
    flatten_plainly(plain)
    quantized = _quantize(plain, images[:CALIBRATED])
    _correct_biases(plain, quantized, images[:CORRECTED])
    del quantized.metadata_props[:]
    halve_weights(quantized)  # those that stayed float32: a classifier's are as many as all others
    onnx.checker.check_model(quantized)
    return bytes(quantized.SerializeToString())


def to_float16(network: bytes) -> bytes:
    """Return the network with arithmetic in float16; input and outputs keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    plain = plain_weights(onnx.load_from_string(network))
    flatten_plainly(plain)
    converted: onnx.ModelProto = convert_float_to_float16(plain, keep_io_types=True, disable_shape_infer=False)
    return bytes(converted.SerializeToString())


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 tensors as float16, each with a Cast back to float32 in front of its readers."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        # float16 ends at 65,504; a tensor near it would become infinite.
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALL or np.abs(values).max() > 60_000:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    # Casts first: nodes of ONNX stand in the order in which they are computed.
    model.graph.node.extend(casts + nodes)


def plain_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with float32 weights, without the Cast that weights stored in float16 have."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    for node in model.graph.node:
        # Only a Cast that reads a stored tensor is unpacking; any other belongs to the network.
        if node.op_type == "Cast" and node.input[0] in stored and node.attribute[0].i == TensorProto.FLOAT:
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            result.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            result.graph.node.append(node)
    # The float16 originals are read by nothing any more, and would be stored beside their copies.
    needed = _read(result)
    result.graph.initializer.extend(tensor for name, tensor in stored.items() if name in needed)
    return result


def flatten_plainly(model: onnx.ModelProto) -> None:
    """Replace Reshape, Gather of all places in order, Reshape by the last Reshape alone.

    torch writes the flatten after pooling so. In a quantized network OpenVINO 2026.4 gathers wrong numbers there:
    logits were off by 0.7 on average, now by 0.05.
    """
    graph = model.graph
    made = {node.output[0]: node for node in graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        gather = made.get(node.input[0]) if node.op_type == "Reshape" else None
        flat = made.get(gather.input[0]) if gather is not None and gather.op_type == "Gather" else None
        if gather is None or flat is None or flat.op_type != "Reshape":
            continue
        size = constants.get(flat.input[1])
        # Only a Gather of all places in order changes nothing; any other is left alone.
        if size is not None and size.tolist() == [-1] and _counts_up(graph, gather.input[1]):
            node.input[0] = flat.input[0]
    drop_unused(graph)


def _counts_up(graph: onnx.GraphProto, index: str) -> bool:
    """Return whether an index is computed as 0, 1, 2, …: evaluate its part of the graph for one photo and for two."""
    shape = [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim][1:]
    part = onnx.GraphProto()
    part.CopyFrom(graph)
    del part.output[:], part.value_info[:]
    part.output.append(helper.make_tensor_value_info(index, TensorProto.INT64, None))
    drop_unused(part)
    # An index that hangs on the picture is none of shapes alone, and slow to evaluate in Python.
    if any(node.op_type in ("Conv", "Gemm", "MatMul") for node in part.node):
        return False
    session = ReferenceEvaluator(helper.make_model(part, opset_imports=[helper.make_opsetid("", 18)]))
    # Two sizes, since an index may count up for one photo and repeat for two.
    found = [np.asarray(session.run(None, {"image": np.zeros((n, *shape), np.uint8)})) for n in (1, 2)]
    return all(np.array_equal(each.ravel(), np.arange(each.size)) for each in found)


def _read(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.input}


def _quantize(model: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    entry = model.metadata_props.add()  # says that the shapes are known, without which it complains
    entry.key, entry.value = "onnx.quant.pre_process", "onnxruntime.quant"
    chosen = _layers(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        # quantize_static sets the level of the root logger, which is not its own.
        level = logging.getLogger().level
        quantize_static(
            source,
            target,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            # A scale for each output channel: the weights of a depthwise convolution differ widely (Nagel et al. 2019).
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        logging.getLogger().setLevel(level)
        return onnx.load(target)


def _layers(graph: onnx.GraphProto) -> list[str]:
    """Name the nodes that become int8: convolutions, the activations behind them, and additions between them.

    A layer whose outputs are answers stays float: the last product, and convolutions without an activation behind
    which no other one comes. They cost next to nothing, and 256 steps over all logits would be their precision. So does
    what looks at the mean of a photo: squeeze-and-excitation, and a head behind the pooling.
    """
    # Nodes are chosen by name, and not all exporters give one.
    for number, node in enumerate(graph.node):
        node.name = node.name or f"node_{number}"
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    before: set[str] = set()  # names of nodes from which a convolution follows
    # From the end: what follows a node is then known before the node itself.
    for node in reversed(graph.node):
        following = readers.get(node.output[0], [])
        if any(each.op_type == "Conv" or each.name in before for each in following):
            before.add(node.name)
    chosen = []
    pooled: set[str] = set()  # tensors of one place a photo
    for node in graph.node:
        # A Mul takes the squeeze back to all places: what comes after it is a picture again.
        if node.op_type in ("ReduceMean", "GlobalAveragePool") or (set(node.input) & pooled and node.op_type != "Mul"):
            pooled.update(node.output)
            continue
        activated = any(each.op_type in _ACTIVATIONS for each in readers.get(node.output[0], []))
        is_between = node.op_type in ("Conv", "Add", *_FOLDED) and node.name in before
        if is_between or (node.op_type == "Conv" and activated):
            chosen.append(node.name)
    if not any(node.op_type == "Conv" for node in graph.node):
        raise BundleError("int8 is for networks with convolutions; this one has none, export it in float16")
    return chosen


class _Reader:
    """Hand images one by one to the calibration; the class that ONNX Runtime wants checks no type."""

    def __init__(self, images: Images) -> None:
        self._images: Iterator[Images] = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        """Return the next image as a batch of one, None after the last."""
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def _correct_biases(plain: onnx.ModelProto, quantized: onnx.ModelProto, images: Images) -> None:
    """Move each bias by what rounding the layer's weights does to its mean output (Nagel et al. 2019, section 4.2).

    Both layers see the quantized network's own activations, so that each repairs its own rounding alone; repairing the
    whole way up to a layer at once diverges. It halves the distance of the probabilities.
    """
    shifts = _mean_shifts(plain, quantized, images)
    values = {tensor.name: tensor for tensor in quantized.graph.initializer}
    scaled = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    for node in quantized.graph.node:
        if node.name not in shifts or len(node.input) < 3:
            continue
        bias = scaled.get(node.input[2])
        if bias is None:
            continue
        scale = numpy_helper.to_array(values[bias.input[1]])
        # In steps of the bias's own scale (that of activation times weight), as 32-bit integers.
        moved = numpy_helper.to_array(values[bias.input[0]]) + np.round(shifts[node.name] / scale).astype(np.int32)
        values[bias.input[0]].CopyFrom(numpy_helper.from_array(moved.astype(np.int32), bias.input[0]))


def _mean_shifts(plain: onnx.ModelProto, quantized: onnx.ModelProto, images: Images) -> dict[str, NDArray[Any]]:
    """Return by layer how much the mean of each output channel lacks after rounding, (channels,)."""
    wanted = {node.name: node for node in plain.graph.node if node.op_type == "Conv"}
    tensors = {tensor.name: tensor for tensor in plain.graph.initializer}
    pair = onnx.ModelProto()
    pair.CopyFrom(quantized)
    graph = pair.graph
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), _AXES))
    layers = []
    for node in quantized.graph.node:
        # Layers that stayed in float have nothing to correct.
        if node.op_type != "Conv" or not node.input[1].endswith("_DequantizeLinear_Output"):
            continue
        # The exact layer beside the rounded one, on the same input: their difference is the rounding of the weights
        # alone.
        parameters = list(wanted[node.name].input[1:])
        graph.initializer.extend(_renamed(tensors[name], name + _REFERENCE) for name in parameters)
        graph.node.extend(_difference(node, [name + _REFERENCE for name in parameters]))
        graph.output.append(helper.make_tensor_value_info(f"{node.name}.shift", TensorProto.FLOAT, None))
        layers.append(node.name)
    means = _means(pair, images)
    return {name: means[f"{name}.shift"] for name in layers}


def _difference(node: onnx.NodeProto, parameters: Sequence[str]) -> list[onnx.NodeProto]:
    reference = onnx.NodeProto()
    reference.CopyFrom(node)
    reference.name += _REFERENCE
    reference.output[0] = f"{node.name}.whole"
    del reference.input[1:]
    reference.input.extend(parameters)
    # Averaged inside the graph over photo, height and width: one number a channel leaves it.
    lack = helper.make_node("Sub", [reference.output[0], node.output[0]], [f"{node.name}.lack"])
    mean = helper.make_node("ReduceMean", [f"{node.name}.lack", _AXES], [f"{node.name}.shift"], keepdims=0)
    return [reference, lack, mean]


def _means(model: onnx.ModelProto, images: Images) -> dict[str, NDArray[Any]]:
    """Return the mean of each output over images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.onnx"
        onnx.save(model, path)
        session = open_session(path, "onnxruntime", threads=1)
        sums: dict[str, NDArray[Any]] = {}
        for image in images:
            for name, value in session.run(image[None]).items():
                # One image at a time in float64: activations of a whole batch in two networks would take gigabytes.
                sums[name] = sums.get(name, 0) + value.astype(np.float64)
    return {name: total / len(images) for name, total in sums.items()}


def _renamed(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    result = onnx.TensorProto()
    result.CopyFrom(tensor)
    result.name = name
    return result


def stated(network: bytes, words: Mapping[str, str]) -> bytes:
    """Return the ONNX network with words about it in its metadata, each under `carspotter.` and its name."""
    model = onnx.load_from_string(network)
    del model.metadata_props[:]
    helper.set_model_props(model, {f"carspotter.{name}": word for name, word in words.items()})
    return bytes(model.SerializeToString())
