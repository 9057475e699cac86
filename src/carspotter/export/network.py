"""A bundle's ONNX file in, the same network as a torch module for one photo at a time out.

Converters for phones read torch modules, a bundle holds ONNX. Only the operators of our own networks are known here:
onnx2torch knows more of them, but neither the reductions of our opset nor arithmetic on shapes. It trains nothing and
calls no converter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from carspotter.errors import BundleError, suggestion


class Network(nn.Module):
    """Run an ONNX graph as torch: uint8 (1, h, w, 3) in, the outputs as a tuple in the graph's order out.

    All that does not depend on pixels is computed once: weights stored in float16, sizes that follow from a batch of 1.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; raises BundleError where it is none, has a free size but the batch, or an unknown operator."""
        super().__init__()
        graph = _read(path).graph
        _check_operators(graph, path)
        self.input_shape = _input_shape(graph, path)
        self.output_names = tuple(value.name for value in graph.output)
        known = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
        values = {**known, "image": torch.zeros(self.input_shape, dtype=torch.uint8)}
        varying = {"image"}
        self._steps: list[_Step] = []
        for node in graph.node:
            step = _Step(node, values)
            step(values)
            if node.op_type != "Shape" and varying & set(node.input):
                varying.update(step.outputs)
                self._steps.append(step)
        self._steps = _transpose_later(self._steps, values)
        self._buffers_of: dict[str, str] = {}
        for name in sorted({name for step in self._steps for name in step.tensors} & (values.keys() - varying)):
            self._buffers_of[name] = f"constant_{len(self._buffers_of)}"
            self.register_buffer(self._buffers_of[name], values[name])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for pixels (1, h, w, 3)."""
        values = {name: getattr(self, buffer) for name, buffer in self._buffers_of.items()}
        values["image"] = image
        for step in self._steps:
            step(values)
        return tuple(values[name] for name in self.output_names)


class _Step:
    """One operator: which tensors it reads, and all else that it takes as plain numbers."""

    def __init__(self, node: onnx.NodeProto, values: dict[str, Tensor]) -> None:
        self.outputs = tuple(node.output)
        self.operator = node.op_type
        self.settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        first = _NUMBERS_FROM.get(node.op_type, len(node.input))
        self.tensors = tuple(node.input[:first])
        # A converter needs sizes and axes as numbers, not as tensors that could change.
        self._numbers = [values[name].tolist() if name else None for name in node.input[first:]]

    def __call__(self, values: dict[str, Tensor]) -> None:
        """Add what the operator answers to the values by name."""
        tensors = [values[name] for name in self.tensors]
        result = OPERATORS[self.operator](_Call(tensors=tensors, numbers=self._numbers, settings=self.settings))
        values.update(zip(self.outputs, (result,) if isinstance(result, Tensor) else result, strict=True))


def _transpose_later(steps: list[_Step], values: dict[str, Tensor]) -> list[_Step]:
    """Normalize pixels before their channels are put first: phones keep them last, and two transpositions are saved."""
    first, moved = steps[0], 0
    if first.operator != "Transpose" or first.tensors != ("image",) or first.settings["perm"] != [0, 3, 1, 2]:
        return steps
    pixels = "image"
    for step in steps[1:]:
        before = steps[moved].outputs[0]
        if step.operator not in _ON_EACH_PIXEL or before not in step.tensors:
            break
        for name in set(step.tensors) - {before}:
            constant = values[name]
            values[f"{name} last"] = constant[(None,) * (4 - constant.ndim)].permute(0, 2, 3, 1).contiguous()
        step.tensors = tuple(pixels if name == before else f"{name} last" for name in step.tensors)
        pixels, moved = f"{step.outputs[0]} last", moved + 1
    if moved:
        first.tensors, first.outputs = (pixels,), steps[moved].outputs
        for step in steps[1 : moved + 1]:
            step.outputs = (f"{step.outputs[0]} last",)
    return [*steps[1 : moved + 1], first, *steps[moved + 1 :]]


def _read(path: Path) -> onnx.ModelProto:
    if path.suffix.lower() != ".onnx":
        raise BundleError(f"{path} is no ONNX file, and only ONNX can be converted; take the bundle it was made from")
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise BundleError(f"{path} is no ONNX file: {str(error).splitlines()[0]}; copy the bundle again") from error
    return onnx.load(path)


def _check_operators(graph: onnx.GraphProto, path: Path) -> None:
    for node in graph.node:
        if node.op_type not in OPERATORS or node.domain:
            raise BundleError(
                f"{path}: operator {node.op_type} cannot be converted; {suggestion(node.op_type, OPERATORS, limit=60)}"
            )


def _input_shape(graph: onnx.GraphProto, path: Path) -> tuple[int, ...]:
    sizes = [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim]
    shape = (1, *sizes[1:])
    if len(graph.input) != 1 or graph.input[0].name != "image" or len(shape) != 4 or 0 in shape:
        found = ", ".join(value.name for value in graph.input)
        raise BundleError(f"{path} takes {found} {tuple(sizes)}; needed is one input, image (n, h, w, 3)")
    return shape


# ---- operators, as https://onnx.ai/onnx/operators says


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What an operator is called with."""

    tensors: Sequence[Tensor]
    numbers: Sequence[Any]
    settings: Mapping[str, Any]

    @property
    def x(self) -> Tensor:
        return self.tensors[0]


Operator = Callable[[_Call], Tensor | tuple[Tensor, ...]]

_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 10: torch.float16}


def _convolve(call: _Call) -> Tensor:
    settings, bias = call.settings, call.tensors[2] if len(call.tensors) > 2 else None
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    even = (top, left) == (bottom, right)
    image = call.x if even else F.pad(call.x, (left, right, top, bottom))
    stride, dilation = tuple(settings.get("strides", (1, 1))), tuple(settings.get("dilations", (1, 1)))
    padding = (top, left) if even else (0, 0)
    return F.conv2d(image, call.tensors[1], bias, stride, padding, dilation, settings.get("group", 1))


def _average(call: _Call) -> Tensor:
    top, left, bottom, right = call.settings.get("pads", (0, 0, 0, 0))
    if (top, left, bottom, right) != (0, 0, 0, 0) or call.settings.get("ceil_mode"):
        raise BundleError("AveragePool over padded pixels cannot be converted")
    return F.avg_pool2d(call.x, tuple(call.settings["kernel_shape"]), tuple(call.settings.get("strides", (1, 1))))


def _linear(call: _Call) -> Tensor:
    weights = call.tensors[1] if call.settings.get("transB") else call.tensors[1].T
    return F.linear(call.x, weights, call.tensors[2] if len(call.tensors) > 2 else None)


def _normalize(call: _Call) -> Tensor:
    _, scale, bias, mean, variance = call.tensors
    return F.batch_norm(call.x, mean, variance, scale, bias, eps=call.settings.get("epsilon", 1e-5))


def _clip(call: _Call) -> Tensor:
    low, high = (*call.numbers, None, None)[:2]
    # ReLU6 by its own name, which converters fold into the convolution before it.
    return F.relu6(call.x) if (low, high) == (0, 6) else torch.clamp(call.x, low, high)


def _divide(call: _Call) -> Tensor:
    return torch.div(*call.tensors, rounding_mode=None if call.x.is_floating_point() else "trunc")


def _gather(call: _Call) -> Tensor:
    index = np.array(call.numbers[0])
    # torch writes a flatten as a Gather of all places in order; converted, it would stay a copy.
    if call.x.ndim == 1 and np.array_equal(index.flatten(), np.arange(len(call.x))):
        return call.x.reshape(index.shape)
    axis = call.settings.get("axis", 0) % call.x.ndim
    shape = (*call.x.shape[:axis], *index.shape, *call.x.shape[axis + 1 :])
    return torch.index_select(call.x, axis, torch.from_numpy(index.flatten())).reshape(shape)


def _gather_rows(call: _Call) -> Tensor:
    rows, places = call.tensors
    if call.settings.get("batch_dims") != 1 or rows.shape[0] != 1 or places.shape[2:] != (1,):
        raise BundleError("GatherND is known for rows of one photo alone, by one place each")
    return torch.index_select(rows, 1, places.flatten())


def _hard_sigmoid(call: _Call) -> Tensor:
    # By its own name, which converters know, where it is torch's: relu6(x + 3) / 6.
    alpha, beta = call.settings.get("alpha", 0.2), call.settings.get("beta", 0.5)
    is_torchs = abs(alpha - 1 / 6) < 1e-6 and abs(beta - 0.5) < 1e-6
    return F.hardsigmoid(call.x) if is_torchs else (call.x * alpha + beta).clamp(0, 1)


def _pad(call: _Call) -> Tensor:
    sizes, value = call.numbers[0], call.numbers[1] if len(call.numbers) > 1 else 0.0
    if call.settings.get("mode", b"constant") != b"constant":
        raise BundleError("Pad is known with a constant alone")
    before, after = sizes[: call.x.ndim], sizes[call.x.ndim :]
    pairs = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
    return F.pad(call.x, pairs, value=value)


def _reshape(call: _Call) -> Tensor:
    keeps = not call.settings.get("allowzero")
    sizes = [call.x.shape[i] if keeps and size == 0 else size for i, size in enumerate(call.numbers[0])]
    return call.x.reshape(sizes)


def _resize(call: _Call) -> Tensor:
    _, scales, sizes = (*call.numbers, None, None)[:3]
    if sizes:
        return F.interpolate(call.x, size=sizes[2:], mode="nearest")
    return F.interpolate(call.x, scale_factor=scales[2:], mode="nearest")


def _slice(call: _Call) -> Tensor:
    starts, ends, *rest = call.numbers
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * call.x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return call.x[tuple(index)]


def _top(call: _Call) -> tuple[Tensor, ...]:
    return tuple(torch.topk(call.x, call.numbers[0][0], dim=call.settings.get("axis", -1)))


def _unsqueeze(call: _Call) -> Tensor:
    result = call.x
    for axis in sorted(call.numbers[0]):
        result = result.unsqueeze(axis)
    return result


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda call: function(*call.tensors)


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(call: _Call) -> Tensor:
        axes = call.numbers[0] if call.numbers else call.settings["axes"]
        return function(call.x, dim=list(axes), keepdim=bool(call.settings.get("keepdims", 1)))

    return reduce


OPERATORS: Mapping[str, Operator] = {
    "Add": _plain(torch.add),
    "AveragePool": _average,
    "BatchNormalization": _normalize,
    "Cast": lambda call: call.x.to(_TYPES[call.settings["to"]]),
    "Clip": _clip,
    "Concat": lambda call: torch.cat(list(call.tensors), dim=call.settings["axis"]),
    "Conv": _convolve,
    "Div": _divide,
    "Exp": _plain(torch.exp),
    "Expand": lambda call: call.x.expand(torch.broadcast_shapes(call.x.shape, call.numbers[0])),
    "Gather": _gather,
    "GatherND": _gather_rows,
    "Gemm": _linear,
    "Greater": _plain(torch.gt),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "Identity": lambda call: call.x,
    "Less": _plain(torch.lt),
    "LpNormalization": lambda call: F.normalize(call.x, p=call.settings["p"], dim=call.settings["axis"]),
    "MatMul": _plain(torch.matmul),
    "Max": _plain(torch.maximum),
    "Min": _plain(torch.minimum),
    "Mul": _plain(torch.mul),
    "Pad": _pad,
    "Range": lambda call: torch.arange(*call.numbers),
    "ReduceL2": _reduced(torch.linalg.vector_norm),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda call: torch.tensor(call.x.shape[call.settings.get("start", 0) : call.settings.get("end")]),
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda call: torch.softmax(call.x, dim=call.settings.get("axis", -1)),
    "Squeeze": lambda call: call.x.squeeze(tuple(call.numbers[0])) if call.numbers else call.x.squeeze(),
    "Sub": _plain(torch.sub),
    "TopK": _top,
    "Transpose": lambda call: call.x.permute(tuple(call.settings["perm"])),
    "Unsqueeze": _unsqueeze,
}
"""What can be converted: the operators of our own networks."""

_ON_EACH_PIXEL = ("Add", "Cast", "Div", "Mul", "Sub")

_NUMBERS_FROM = {
    "Clip": 1, "Expand": 1, "Gather": 1, "Pad": 1, "Range": 0, "ReduceL2": 1, "ReduceMax": 1, "ReduceMean": 1,
    "ReduceSum": 1, "Reshape": 1, "Resize": 1, "Slice": 1, "Squeeze": 1, "TopK": 1, "Unsqueeze": 1,
}  # fmt: skip
"""Which inputs are sizes, axes or bounds and no tensors, from this one on."""
