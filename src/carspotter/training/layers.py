"""Count the layers of a backbone as Keras does, in the order in which pixels pass them.

A layer is a module that computes something by itself (a convolution, a norm, an activation, a pooling, a dense layer),
and each sum or product of two branches, which Keras has as `Add` and `Multiply`. Not counted are `Identity`, dropout,
flattening and the last pooling. The last N of a ResNet-50 are those of `keras.applications.ResNet50` without its top.
Keras counts paddings and the input as well, of which torch has none, so that the two may differ by some elsewhere.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SIDE = 64
"""Pixels of a side of the picture by which the order is seen; where a backbone takes one size only, it says which."""
_SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
_JOINTS = {torch.add, torch.mul, *(getattr(Tensor, f"__{name}__") for name in ("add", "iadd", "mul", "imul"))} | {
    getattr(Tensor, name) for name in ("add", "add_", "mul", "mul_")
}


def layers_of(backbone: nn.Module) -> list[nn.Module | None]:
    """Return the layers of a backbone of timm in the order of the pixels; None is a sum or product of two branches."""
    passed: list[nn.Module | None] = []
    pooling = {id(module) for name, module in backbone.named_modules() if name.startswith("global_pool")}
    was_training = backbone.training
    weights = next(backbone.parameters())
    size = getattr(backbone, "pretrained_cfg", {}) or {}
    side = size["input_size"][-1] if size.get("fixed_input_size") else SIDE
    with ExitStack() as stack:
        for module in backbone.modules():
            # A norm of timm holds its activation as a module of its own; the two are two layers, as in Keras.
            if id(module) not in pooling and not isinstance(module, _SILENT) and _computes(module):
                hook = module.register_forward_pre_hook(lambda module, _: passed.append(module))
                stack.callback(hook.remove)
        stack.callback(backbone.train, was_training)
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Joints(passed))
        backbone.eval()(weights.new_zeros(1, 3, side, side))  # eval: no statistics move
    return passed


def _computes(module: nn.Module) -> bool:
    return bool(next(module.parameters(recurse=False), None) is not None or not list(module.children()))


class _Joints(TorchFunctionMode):
    """Note each sum or product of two tensors that are computed, neither a weight nor a number."""

    def __init__(self, passed: list[nn.Module | None]) -> None:
        super().__init__()
        self.passed = passed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _JOINTS and sum(type(value) is Tensor and value.ndim >= 3 for value in args) == 2:
            self.passed.append(None)
        return func(*args, **(kwargs or {}))


def still_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules with weights that stand still where the last `count` layers learn; a shared one learns."""
    passed = layers_of(backbone)
    learns = {id(module) for module in passed[-count:]}
    return [module for module in passed[:-count] if module is not None and id(module) not in learns]
