"""Rebuild a bundle's network as the torch module that it was exported from, for one photo at a time.

Converters for phones read torch modules. Weights are read out of the bundle's ONNX file, as by a training that starts
from it, and so are the numbers of the answers behind them (`answers.py`): temperatures, sums and overlap. The tests
hold both to the same answers. It trains nothing and calls no converter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import onnx
import timm
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from carspotter.errors import BundleError, RecipeError
from carspotter.export.answers import CANDIDATES, PLACES, ROUNDS
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import LEVELS
from carspotter.training.finder.model import Finder, finder_export_module
from carspotter.training.identifier.model import Identifier
from carspotter.training.identifier.task import ExportedIdentifier
from carspotter.training.norms import fuse_norms
from carspotter.training.start import Start, start_of_bundle, take_all


class Network(nn.Module):
    """Run a bundle's network: uint8 (1, h, w, 3) in, the outputs as a tuple in the bundle's order out."""

    def __init__(self, bundle: ModelBundle) -> None:
        """Rebuild it. Raises BundleError for a head, another network's file, or a card without a backbone."""
        super().__init__()
        size = bundle.preprocessing
        self.input_shape = (1, size.height, size.width, 3)
        self.output_names = bundle.outputs
        self.body = fuse_norms(_body(bundle, start_of_bundle(bundle)))
        tail = _Tail(bundle)
        is_finder = bundle.task == "finder"
        self.answers = _FinderAnswers(tail) if is_finder else _IdentifierAnswers(tail, tuple(bundle.attributes))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for pixels (1, h, w, 3)."""
        answered = self.answers(*self.body(image))
        return tuple(answered[name] for name in self.output_names)


def _body(bundle: ModelBundle, start: Start) -> nn.Module:
    """Return the network with its weights, as it was before answers were put behind it."""
    if bundle.head is not None:
        raise BundleError(
            f"bundle {bundle.name}: it is a head learnt on another network, which this format cannot hold; "
            "train a network with `carspotter train PROJECT` and export that"
        )
    recipe = bundle.card.get("recipe")
    name = str(recipe.get("backbone")) if isinstance(recipe, Mapping) else ""
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


class _Tail:
    """The numbers in what `answers.py` puts behind a network."""

    def __init__(self, bundle: ModelBundle) -> None:
        graph = onnx.load(str(bundle.model_path)).graph
        self._place = str(bundle.model_path)
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def _before(self, output: str, *kinds: str) -> onnx.NodeProto:
        """Return the first node of a chain of these kinds that ends in `output`."""
        for kind in reversed(kinds):
            node = self._made_by.get(output)
            if node is None or node.op_type != kind:
                raise BundleError(f"{self._place}: {output} is not made by {kind}; export its run again")
            output = node.input[0]
        return cast(onnx.NodeProto, node)

    def sharpness(self, output: str) -> float:
        """Return by what logits are multiplied before they become these probabilities."""
        return float(self._tensors[self._before(output, "Mul", "Softmax").input[1]])

    def members(self, level: str) -> NDArray[np.int32] | None:
        """Return the places (groups, most) in the level below that each name sums; None where each is its own.

        One place beyond the last is a zero.
        """
        if self._made_by[level].op_type == "Identity":
            return None
        return self._tensors[self._before(level, "Gather", "ReduceSum").input[1]]

    def iou(self) -> float:
        """Return the overlap from which on the worse of two boxes is suppressed."""
        over = next(node for node in self._made_by.values() if node.op_type == "Greater")
        return float(self._tensors[self._before(over.input[1], "Mul").input[1]])


def temperatures(bundle: ModelBundle, attributes: Iterable[str]) -> dict[str, Any]:
    """Return the temperatures in an identifier's graph, as `onnx.finish` takes them: of classes and of attributes."""
    tail = _Tail(bundle)
    each = {name: 1 / tail.sharpness(name) for name in attributes}
    return {"temperature": 1 / tail.sharpness("probabilities"), "temperatures": each}


class _IdentifierAnswers(nn.Module):
    """Do what `answers.finish_identifier` does."""

    def __init__(self, tail: _Tail, attributes: tuple[str, ...]) -> None:
        super().__init__()
        self.attributes = attributes
        self.sharpness = {name: tail.sharpness(name) for name in ("probabilities", *attributes)}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for level in LEVELS:
            if (members := tail.members(level)) is not None:
                self.shapes[level] = members.shape
                self.register_buffer(level, torch.from_numpy(members.flatten().copy()))

    def forward(self, logits: Tensor, embedding: Tensor, *extras: Tensor) -> dict[str, Tensor]:
        values = (logits * self.sharpness["probabilities"]).softmax(1)
        answered = {"probabilities": values, "embedding": embedding}
        for level in reversed(LEVELS):
            if level in self.shapes:
                longer = torch.cat([values, values[:, :1] * 0.0], dim=1)
                gathered = torch.index_select(longer, 1, self.get_buffer(level))
                values = gathered.reshape(1, *self.shapes[level]).sum(2)
            answered[level] = values
        for name, extra in zip(self.attributes, extras, strict=True):
            answered[name] = (extra * self.sharpness[name]).softmax(1)
        return answered


class _FinderAnswers(nn.Module):
    """Do what `answers.finish_finder` does."""

    def __init__(self, tail: _Tail) -> None:
        super().__init__()
        self.iou = tail.iou()
        self.register_buffer("places", torch.arange(CANDIDATES, dtype=torch.float32))

    def forward(self, kind: Tensor, scores: Tensor, boxes: Tensor, viewpoints: Tensor) -> dict[str, Tensor]:
        count = min(scores.shape[1], CANDIDATES)
        best, order = scores.topk(count, dim=1)
        boxes, viewpoints = (torch.index_select(values, 1, order.flatten()) for values in (boxes, viewpoints))
        kept = best * self._alive(boxes)
        told, order = kept.topk(min(count, PLACES), dim=1)
        is_one = (told > 0).float().unsqueeze(2)
        boxes, viewpoints = (torch.index_select(values, 1, order.flatten()) * is_one for values in (boxes, viewpoints))
        return {"kind": kind, "scores": told, "boxes": boxes, "viewpoints": viewpoints}

    def _alive(self, boxes: Tensor) -> Tensor:
        """Return (1, k) of k boxes (1, k, 4), best first: 1 for one that stays, 0 for one suppressed or none."""
        x1, y1, x2, y2 = (boxes[:, :, place : place + 1] for place in range(4))
        areas = torch.relu(x2 - x1) * torch.relu(y2 - y1)
        shared = _common(x1, x2) * _common(y1, y2)
        over = shared > (areas + areas.transpose(1, 2) - shared) * self.iou
        places = self.get_buffer("places")[: boxes.shape[1]]
        beats = over.float() * (places.unsqueeze(1) < places.unsqueeze(0)).float()
        alive = is_box = (areas > 0).float()
        for _ in range(ROUNDS):
            alive = is_box * (1 - (beats * alive).amax(1, keepdim=True).transpose(1, 2))
        return alive.squeeze(2)


def _common(low: Tensor, high: Tensor) -> Tensor:
    """Return by how much each two of k intervals (1, k, 1) overlap, (1, k, k)."""
    begins = torch.maximum(low, low.transpose(1, 2))
    return torch.relu(torch.minimum(high, high.transpose(1, 2)) - begins)
