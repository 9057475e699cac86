"""Rebuild a bundle's network as the torch module that it was exported from, for one photo at a time.

Converters for phones read torch modules. Weights are read out of the bundle's ONNX file, as by a training that starts
from it. What `answers.py` put behind them is read there too, operator by operator, so that it is written once; the head
of a learned bundle comes into it as well. It trains nothing and calls no converter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import onnx
import timm
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from carspotter.errors import BundleError, RecipeError
from carspotter.export.answers import PREFIX, RAW, raw_outputs, whole
from carspotter.runtime.bundle import ModelBundle
from carspotter.training.finder.model import Finder, finder_export_module
from carspotter.training.identifier.model import Identifier
from carspotter.training.identifier.task import ExportedIdentifier
from carspotter.training.norms import fuse_norms
from carspotter.training.start import Start, start_of_bundle, take_all


class Network(nn.Module):
    """Run a bundle's network: uint8 (1, h, w, 3) in, the outputs as a tuple in the graph's order out.

    `bundle` says what the network is now: a head is in it, and no longer beside it.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        """Rebuild it. Raises BundleError for another network's file, or a card without a backbone."""
        super().__init__()
        size = bundle.preprocessing
        self.input_shape = (1, size.height, size.width, 3)
        self.body = fuse_norms(_body(bundle, start_of_bundle(bundle)))
        self.raw_names = raw_outputs(bundle.taxonomy, bundle.attributes)
        self.bundle, content = whole(bundle)
        graph = onnx.load_from_string(content).graph
        self.output_names = tuple(value.name for value in graph.output)
        self.answers = _Answers(graph, str(bundle.model_path))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for pixels (1, h, w, 3)."""
        raw = dict(zip(self.raw_names, self.body(image), strict=True))
        answered = self.answers(raw)
        return tuple(answered[name] for name in self.output_names)


def _body(bundle: ModelBundle, start: Start) -> nn.Module:
    """Return the network with its weights, as it was before answers were put behind it."""
    name = _backbone(bundle.card.get("recipe"))
    if not timm.is_model(name):
        raise BundleError(f"bundle {bundle.name}: its card names no backbone under `recipe`; export its run again")
    backbone = timm.create_model(name, num_classes=0)
    try:
        if bundle.task == "finder":
            finder = Finder(backbone)
            take_all(finder, start)
            return finder_export_module(finder)
        heads = {name: len(words) for name, words in bundle.attributes.items()}
        identifier = Identifier(backbone, len(start.weights["head.weight"]), heads=heads)
        take_all(identifier, start)
        return ExportedIdentifier(identifier).eval()
    except (RecipeError, KeyError) as error:
        raise BundleError(f"bundle {bundle.name} holds another network than its card says: {error}") from error


def _backbone(recipe: object) -> str:
    """Return the backbone that a card's recipe names, of a learned head that of the network below it."""
    if not isinstance(recipe, Mapping):
        return ""
    return str(recipe["backbone"]) if "backbone" in recipe else _backbone(recipe.get("network's recipe"))


def temperatures(bundle: ModelBundle, attributes: Iterable[str]) -> dict[str, Any]:
    """Return the temperatures in an identifier's graph, as `onnx.finish` takes them: of classes and of attributes."""
    graph = onnx.load(str(bundle.model_path)).graph
    made_by = {name: node for node in graph.node for name in node.output}
    numbers = {tensor.name: tensor for tensor in graph.initializer}

    def softness(output: str) -> float:
        # Softmax of logits times one number, as `answers.py` writes it.
        return 1 / float(numpy_helper.to_array(numbers[made_by[made_by[output].input[0]].input[1]]))

    return {"temperature": softness("probabilities"), "temperatures": {name: softness(name) for name in attributes}}


Value = Tensor | float | list[int]
"""What an operator takes: a tensor; of constants, single numbers and lists of places as Python's own."""


class _Answers(nn.Module):
    """Do what the nodes of `answers.py` do behind a network; constants are computed once, when it is made."""

    def __init__(self, graph: onnx.GraphProto, place: str) -> None:
        super().__init__()
        constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
        self.steps: list[tuple[Callable[..., Any], list[Value | str], list[str]]] = []
        for node in graph.node:
            if not node.name.startswith(PREFIX):
                continue
            run = _operator(node, place)
            if all(name in constants for name in node.input):
                constants[node.output[0]] = run(*(constants[name] for name in node.input))
                continue
            given = [self._kept(constants[name]) if name in constants else name for name in node.input]
            self.steps.append((run, given, list(node.output)))

    def _kept(self, value: Value) -> Value | str:
        """Return a number as it is, and of a tensor the name under which the module keeps it."""
        if not isinstance(value, Tensor):
            return value
        name = f"constant{len(list(self.buffers()))}"
        self.register_buffer(name, value)
        return name

    def forward(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return all that is computed on the way from the raw outputs (1, …), by name."""
        known = dict(self.named_buffers())
        for name, value in raw.items():
            known |= {name: value, RAW + name: value}
        for run, given, made in self.steps:
            results = run(*(known[value] if isinstance(value, str) else value for value in given))
            known |= zip(made, results if isinstance(results, tuple) else (results,), strict=True)
        return known


def _constant(tensor: onnx.TensorProto) -> Value:
    values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    if values.dtype == torch.int64:
        return cast("list[int]", values.tolist())
    return values if values.ndim else float(values)


def _operator(node: onnx.NodeProto, place: str) -> Callable[..., Any]:
    """Return what a node does to tensors of one photo. Raises BundleError for one that `answers.py` does not write."""
    if node.op_type not in _OPERATORS:
        raise BundleError(f"{place}: its answers hold {node.op_type}, which no answer is made by; export its run again")
    settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return lambda *given: _OPERATORS[node.op_type](*given, **settings)


def _gather(values: Tensor, places: Tensor, *, axis: int) -> Tensor:
    flat = torch.index_select(values, axis, places.flatten())
    return flat.reshape(*values.shape[:axis], *places.shape)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Cast": lambda values, **_: values.float(),  # to float32 alone
    "Clip": torch.clamp,
    "Concat": lambda *values, axis: torch.cat(values, axis),
    "Exp": torch.exp,
    "Gather": _gather,
    "GatherND": lambda values, places, **_: torch.index_select(values, 1, places.flatten()),
    "Gemm": lambda values, weights, bias: nn.functional.linear(values, weights.T, bias),
    "Greater": lambda a, b: a > b,
    "Identity": lambda values: values,
    "Less": lambda a, b: a < b,
    "Log": torch.log,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": lambda a, b: a * b,
    "ReduceMax": lambda values, axes, keepdims: values.amax(axes, keepdim=bool(keepdims)),
    "ReduceMean": lambda values, axes, keepdims: values.mean(axes, keepdim=bool(keepdims)),
    "ReduceSum": lambda values, axes, keepdims: values.sum(axes, keepdim=bool(keepdims)),
    "Relu": torch.relu,
    "Slice": lambda values, start, end, axis: values.narrow(axis[0], start[0], end[0] - start[0]),
    "Softmax": lambda values, axis: values.softmax(axis),
    "Sqrt": torch.sqrt,
    "Squeeze": lambda values, axes: values.squeeze(axes[0]),
    "Sub": lambda a, b: a - b,
    "TopK": lambda values, count, axis: tuple(values.topk(count[0], dim=axis)),
    "Transpose": lambda values, perm: values.permute(perm),
    "Unsqueeze": lambda values, axes: values.unsqueeze(axes[0]),
}
"""The operators of `answers.py`, for one photo."""
