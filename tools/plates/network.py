"""The network that finds plates, and its file in the form that `carspotter.runtime.blur` reads."""

from __future__ import annotations

import io
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carspotter import storage

HALVINGS = 16
"""The sides of a photo are padded to a multiple of this: the coarsest grid is so many times as coarse as the photo."""
OPSET = 18


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a depthwise-separable convolution (Howard et al. 2017): an eighth of the work of a full one."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _full(inputs: int, outputs: int, stride: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = _block(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)  # type: ignore[no-any-return]


class PlateFinder(nn.Module):
    """Answer for each place of a grid, four pixels apart, as CenterNet does (Zhou et al. 2019); 90 181 weights."""

    def __init__(self) -> None:
        """Start with random weights and the belief that plates are rare and some 18 by 18 pixels."""
        super().__init__()
        self.stem = _full(3, 16, 2, 3)
        self.at_4 = nn.Sequential(_block(16, 32, 2), _Residual(32))
        self.at_8 = nn.Sequential(_block(32, 64, 2), _Residual(64), _Residual(64))
        self.at_16 = nn.Sequential(_block(64, 128, 2), _Residual(128), _Residual(128), _Residual(128))
        self.from_16, self.from_8, self.from_4 = _full(128, 32, 1, 1), _full(64, 32, 1, 1), _full(32, 32, 1, 1)
        self.joined_8 = _block(32, 32)
        self.joined_4 = nn.Sequential(_block(32, 32), _block(32, 32))
        self.heat, self.size, self.offset = nn.Conv2d(32, 1, 1), nn.Conv2d(32, 2, 1), nn.Conv2d(32, 2, 1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]  # else the first steps unlearn the background
        nn.init.constant_(self.size.bias, 1.5)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take pixels (n, 3, h, w) of 0 to 255; return heat (n, 1), log size and offset (n, 2), each on (h/4, w/4).

        Width and x come first; size and offset are in steps of the grid, offset from the place's upper left corner.
        """
        fine = self.at_4(self.stem((pixels - 127.5) / 64))
        middle = self.at_8(fine)
        coarse = self.at_16(middle)
        joined = self.joined_8(self.from_8(middle) + F.interpolate(self.from_16(coarse), scale_factor=2.0))
        joined = self.joined_4(self.from_4(fine) + F.interpolate(joined, scale_factor=2.0))
        return torch.sigmoid(self.heat(joined)), self.size(joined), self.offset(joined)


class _Shipped(nn.Module):
    """The network with the input and the outputs of `models/blur/CARD.md`: height and y first, places by middles."""

    def __init__(self, network: PlateFinder) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heat, size, offset = self.network(image.permute(0, 3, 1, 2).float())
        return heat, size.flip(1), offset.flip(1) - 0.5


def write_onnx(network: PlateFinder, path: Path) -> None:
    """Write the file that ships: uint8 photos (n, h, w, 3) of any size that `HALVINGS` divides."""
    sides = {side: HALVINGS * torch.export.Dim(name, min=2, max=512) for side, name in ((1, "high"), (2, "wide"))}
    program = torch.onnx.export(
        _Shipped(network).eval(),
        (torch.zeros(2, 4 * HALVINGS, 6 * HALVINGS, 3, dtype=torch.uint8),),
        dynamo=True,
        input_names=["image"],
        output_names=["heat", "size", "offset"],
        dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=1024), **sides}},
        opset_version=OPSET,
        verbose=False,
    )
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)  # type: ignore[union-attr]  # None only with dynamo=False
    model = onnx.load_from_string(buffer.getvalue())
    # The exporter numbers sides that are free by how often it ran, and notes paths and lines of our source, as heavy as
    # the weights.
    free = [
        (model.graph.input[0], {0: "n", 1: "h", 2: "w"}),
        *((out, {0: "n", 2: "h4", 3: "w4"}) for out in model.graph.output),
    ]
    for value, names in free:
        for axis, name in names.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    storage.write(str(path), bytes(model.SerializeToString()))
