"""Run a Core ML package where Core ML itself does not: its file is read back, and each operation done in torch.

Only for tests, and only the operations that our networks become. The meaning of each is Apple's (the reference of MIL
operations in coremltools' documentation), not taken from the network that was converted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F


def run_package(path: Path, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return the outputs of a `.mlpackage` for pixels (1, h, w, 3), red first."""
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load

    model = coremltools.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, file_weights_dir=model.weights_dir)
    function = program.functions["main"]
    values = {"image": torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2).copy())}
    for operation in function.operations:
        if operation.op_type != "const":
            given = {name: _value(variable, values) for name, variable in operation.inputs.items()}
            answer = OPERATIONS[operation.op_type](**given)
            each = answer if isinstance(answer, tuple) else (answer,)
            values.update({out.name: value for out, value in zip(operation.outputs, each, strict=True)})
    return {variable.name: values[variable.name].numpy() for variable in function.outputs}


def _value(variable: Any, values: dict[str, torch.Tensor]) -> Any:
    if isinstance(variable, tuple | list):
        return [_value(one, values) for one in variable]
    if variable is None or variable.val is None:
        return None if variable is None else values[variable.name]
    constant = variable.val
    if isinstance(constant, np.ndarray) and (constant.dtype.kind == "f" or constant.ndim > 1):
        return torch.from_numpy(constant.copy())
    return constant.tolist() if isinstance(constant, np.ndarray | np.generic) else constant


def _convolve(
    *,
    x: Any,
    weight: Any,
    bias: Any = None,
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    strides: Any = (1, 1),
    dilations: Any = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    assert pad_type in ("valid", "custom")
    top, bottom, left, right = pad if pad_type == "custom" else (0, 0, 0, 0)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, strides, 0, dilations, groups)


def _average(
    *,
    x: Any,
    kernel_sizes: Any,
    strides: Any,
    pad_type: str = "valid",
    pad: Any = (),
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> torch.Tensor:
    assert pad_type == "valid" or not any(pad)
    assert not ceil_mode
    return F.avg_pool2d(x, kernel_sizes, strides)


def _matmul(*, x: Any, y: Any, transpose_x: bool = False, transpose_y: bool = False) -> torch.Tensor:
    return (x.transpose(-1, -2) if transpose_x else x) @ (y.transpose(-1, -2) if transpose_y else y)


def _pad(*, x: Any, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> torch.Tensor:
    assert mode == "constant"
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)]  # before and after, of the last axes
    return F.pad(x, [side for pair in reversed(pairs) for side in pair], value=float(constant_val))


def _slice(*, x: Any, begin: Any, end: Any, begin_mask: Any = None, end_mask: Any = None) -> torch.Tensor:
    sizes = range(x.ndim)
    starts = [None if begin_mask and begin_mask[i] else begin[i] for i in sizes]
    ends = [None if end_mask and end_mask[i] else end[i] for i in sizes]
    return x[tuple(slice(start, stop) for start, stop in zip(starts, ends, strict=True))]


def _enlarge(*, x: Any, scale_factor_height: float, scale_factor_width: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=(scale_factor_height, scale_factor_width), mode="nearest")


def _normalize(*, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float) -> torch.Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


def _restore(*, quantized_data: Any, zero_point: Any, scale: Any, axis: int) -> torch.Tensor:
    shape = [-1 if i == axis else 1 for i in range(quantized_data.ndim)]
    zero = torch.as_tensor(zero_point).reshape(shape)
    return (quantized_data.to(scale.dtype) - zero.to(scale.dtype)) * scale.reshape(shape)


def _gather(*, x: Any, indices: Any, axis: int, batch_dims: int = 0, validate_indices: bool = False) -> torch.Tensor:
    assert not batch_dims
    assert not validate_indices
    places = torch.as_tensor(indices)
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    return torch.index_select(x, axis, places.flatten().long()).reshape(shape)


def _top(
    *, x: Any, k: int, axis: int, ascending: bool, sort: bool, return_indices: bool, output_indices_dtype: str = "int32"
) -> tuple[torch.Tensor, ...]:
    assert sort
    assert return_indices
    assert output_indices_dtype in ("int32", "uint16")
    return tuple(torch.topk(x, k, dim=axis, largest=not ascending))


_TYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int32": torch.int32,
    "int16": torch.int16,
    "uint16": torch.int32,
}

OPERATIONS: dict[str, Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]] = {
    "add": lambda x, y: x + y,
    "avg_pool": _average,
    "batch_norm": _normalize,
    "cast": lambda x, dtype: x.to(_TYPES[dtype]),
    "clip": lambda x, alpha, beta: torch.clamp(x, float(alpha), float(beta)),
    "concat": lambda values, axis, interleave: torch.cat(values, dim=axis),
    "constexpr_affine_dequantize": _restore,
    "conv": _convolve,
    "exp": lambda x: torch.exp(x),
    "expand_dims": lambda x, axes: x.unsqueeze(axes[0]),
    "gather": _gather,
    "greater": lambda x, y: x > y,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": _matmul,
    "maximum": lambda x, y: torch.maximum(x, torch.as_tensor(y)),
    "minimum": lambda x, y: torch.minimum(x, torch.as_tensor(y)),
    "mul": lambda x, y: x * y,
    "pad": _pad,
    "real_div": lambda x, y: x / y,
    "reduce_l2_norm": lambda x, axes, keep_dims: torch.linalg.vector_norm(x, dim=axes, keepdim=keep_dims),
    "reduce_max": lambda x, axes, keep_dims: x.amax(dim=axes, keepdim=keep_dims),
    "reduce_mean": lambda x, axes, keep_dims: x.mean(dim=axes, keepdim=keep_dims),
    "reduce_sum": lambda x, axes, keep_dims: x.sum(dim=axes, keepdim=keep_dims),
    "relu": lambda x: torch.relu(x),
    "relu6": lambda x: torch.clamp(x, 0, 6),
    "reshape": lambda x, shape: x.reshape(shape),
    "sigmoid": lambda x: torch.sigmoid(x),
    "sigmoid_hard": lambda x, alpha, beta: torch.clamp(x * float(alpha) + float(beta), 0, 1),
    "slice_by_index": _slice,
    "softmax": lambda x, axis: torch.softmax(x, dim=axis),
    "squeeze": lambda x, axes: x.squeeze(axes[0]),
    "sub": lambda x, y: x - y,
    "thresholded_relu": lambda x, alpha: torch.where(x >= float(alpha), x, 0.0),
    "topk": _top,
    "tile": lambda x, reps: x.repeat(reps),
    "transpose": lambda x, perm: x.permute(perm),
    "upsample_nearest_neighbor": _enlarge,
}
