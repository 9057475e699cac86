"""Choose where a training runs, by Lightning Fabric, and in which precision, by measuring.

One process uses the CPU or one GPU. Several are started by torchrun, one a GPU or one for some of the cores; each takes
its part of every batch. It knows no task.
"""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from carspotter import __version__
from carspotter.cores import cores
from carspotter.errors import RecipeError
from carspotter.training.recipe import Precision, Recipe


def open_fabric(recipe: Recipe) -> Fabric:
    """Open the devices of this process, and join the others where torchrun started several. Raises RecipeError."""
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Parts of unequal size would weigh photos of a short part more: DDP averages over processes, not photos.
    if recipe.train.batch % world:
        raise RecipeError(f"train.batch is {recipe.train.batch}; {world} processes need a multiple of {world}")
    if world == 1:
        return Fabric(devices=1)
    # Stages that a phase keeps still get no gradients, which DDP must expect.
    fabric = Fabric(devices=local, num_nodes=world // local, strategy=DDPStrategy(find_unused_parameters=True))
    fabric.launch()
    return fabric


def chooses_bfloat16(loss: Callable[[], Tensor], model: nn.Module, device: torch.device, precision: Precision) -> bool:
    """Return whether to compute in bfloat16: by the recipe, else on a GPU yes, on a CPU what a timed step says.

    bfloat16 is six times as fast with AMX and thirteen times slower without. `loss` computes a batch's loss.
    """
    # Measured on a CPU alone, where it may be the slower one by far.
    if precision != "auto" or device.type != "cpu":
        return precision != "float32"
    if not _has_bfloat16():
        # Trying it would cost as much as thirteen steps: a seventh of a short training.
        return False
    seconds: dict[bool, float] = {}
    # The tries must leave no trace: batch statistics move with each forward pass.
    kept = copy.deepcopy(model.state_dict())
    with torch.random.fork_rng(devices=[]):  # the dropout of these steps must not move that of the training
        for autocast in (False, True):
            # Float32 goes first, so that what is only done once (memory, kernels) is charged to it and not to bfloat16.
            started = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss().backward()
            seconds[autocast] = time.monotonic() - started
    model.load_state_dict(kept)
    model.zero_grad(set_to_none=True)
    return seconds[True] < seconds[False]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether memory did not suffice; on a CPU torch raises a plain RuntimeError, known by its words alone."""
    words = ("can't allocate memory", "not enough memory")  # on Linux and macOS, on Windows
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in words)


def _has_bfloat16() -> bool:
    """Return whether the processor may calculate in bfloat16; True where that is not known."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    # Of torch's own, and private: a version without them leaves it to the timed step.
    known = [getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return any(ask is None or bool(ask()) for ask in known)


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what a run ran on: versions, processor, threads, processes."""
    import timm

    # Figures of time mean nothing without it, and rounding differs between processors.
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        "carspotter": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **gpu,
    }


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch, of tensors in dictionaries and lists at any depth, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
