"""Pruning: the shape it leaves, which channels stay, that nothing is lost where nothing was said, and the way back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models._registry import register_model
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from carspotter.errors import RecipeError
from carspotter.training.checkpoint import BEST, load_checkpoint
from carspotter.training.identifier_task import IdentifierTask, predict
from carspotter.training.pruning import blocks_of, count_kept, narrow, prune, surviving
from carspotter.training.recipe import load_recipe
from carspotter.training.trainer import train

BRIEF = "phases=[{epochs=1, width=32, height=32}]"


@register_model
def tiny_inverted(pretrained: bool = False, **settings: Any) -> EfficientNet:
    """Make the smallest network that has what is pruned: three inverted-residual blocks, one with a way past it."""
    del pretrained
    blocks = decode_arch_def([["ds_r1_k3_s1_e1_c8_noskip"], ["ir_r2_k3_s2_e4_c16"], ["ir_r1_k5_s2_e6_c24"]])
    kept = {name: value for name, value in settings.items() if name in ("num_classes", "in_chans")}
    return EfficientNet(blocks, num_features=32, stem_size=8, round_chs_fn=round, **kept)


@pytest.fixture
def backbone() -> nn.Module:
    """A small EfficientNet without squeeze-and-excite, whose norms have statistics as trained ones have."""
    torch.manual_seed(0)
    network = timm.create_model("tiny_inverted", num_classes=0).train()
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.3, 0.3)
        for _ in range(40):
            network(torch.rand(8, 3, 32, 32) * 2 - 1)
    return network.eval()


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(96, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("channels", "keep", "kept"),
    [(96, 0.5, 48), (240, 0.7, 168), (144, 0.35, 48), (1152, 1.0, 1152), (96, 0.01, 8), (12, 0.9, 8), (4, 0.5, 4)],
)
def test_counts_are_multiples_of_eight(channels: int, keep: float, kept: int) -> None:
    assert count_kept(channels, keep) == kept


def test_the_network_is_really_smaller(backbone: nn.Module, pixels: Tensor) -> None:
    before = sum(weights.numel() for weights in backbone.parameters())
    outputs = backbone(pixels).shape
    prune(backbone, 0.5, pixels)
    assert [block.conv_pwl.in_channels for block in blocks_of(backbone)] == [16, 32, 48]
    assert [block.conv_dw.groups for block in blocks_of(backbone)] == [16, 32, 48]
    assert sum(weights.numel() for weights in backbone.parameters()) < 0.7 * before
    assert backbone(pixels).shape == outputs
    assert not backbone.training
    backbone.train()(pixels).sum().backward()  # what is left can learn
    assert all(weights.grad is not None for weights in backbone.parameters())


def test_channels_that_say_nothing_go_and_nothing_is_lost(backbone: nn.Module, pixels: Tensor) -> None:
    silent = {}
    with torch.no_grad():
        for number, block in enumerate(blocks_of(backbone)):
            width = block.conv_pwl.in_channels
            silent[number] = torch.randperm(width, generator=torch.Generator().manual_seed(number))[: width // 2]
            block.conv_pwl.weight[:, silent[number]] = 0
        others = torch.rand(16, 3, 32, 32) * 2 - 1  # not those by which channels are chosen
        loud = [
            torch.tensor([i for i in range(block.conv_pwl.in_channels) if i not in set(silent[number].tolist())])
            for number, block in enumerate(blocks_of(backbone))
        ]
        first = [block.conv_pw.weight.clone() for block in blocks_of(backbone)]
        wanted = backbone(others)
        prune(backbone, 0.5, pixels)
        assert torch.allclose(backbone(others), wanted, atol=1e-4)
    for block, kept, weights in zip(blocks_of(backbone), loud, first, strict=True):
        assert torch.equal(block.conv_pw.weight, weights[kept])


def test_refitted_channels_answer_better_than_the_first_ones(backbone: nn.Module, pixels: Tensor) -> None:
    plain, fitted = copy.deepcopy(backbone), copy.deepcopy(backbone)
    narrow(plain, 0.5)
    prune(fitted, 0.5, pixels)
    with torch.no_grad():
        others = torch.rand(64, 3, 32, 32) * 2 - 1
        wanted = backbone(others)
        errors = [float((network(others) - wanted).square().mean()) for network in (plain, fitted)]
    assert errors[1] < 0.5 * errors[0]


def test_of_two_channels_that_say_the_same_one_goes() -> None:
    signal = torch.randn(500, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    channels = torch.stack([signal[:, 0], signal[:, 1], signal[:, 0] * 2, signal[:, 2]], dim=1)
    learnt = torch.tensor([[1.0], [0.5], [1.0], [0.2]], dtype=torch.float64)
    products = channels.T @ channels / 500
    kept, weights = surviving(products, products @ learnt, learnt, count=3)
    assert kept.tolist() in ([0, 1, 3], [1, 2, 3])  # the quietest channel stays: nothing else says what it says
    assert torch.allclose(channels[:, kept] @ weights, channels @ learnt, atol=1e-2)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_backbones_without_such_blocks_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"model\.keep: .* has no inverted-residual block without squeeze"):
        narrow(timm.create_model(name, num_classes=0), 0.5)


@pytest.fixture(scope="module")
def runs(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and one of its network pruned to a half, which follows it."""
    folder = tmp_path_factory.mktemp("pruned")
    train(drawn_data / "recipe.toml", [BRIEF, "model.backbone=tiny_inverted"], folder / "whole")
    train(drawn_data / "recipe.toml", _changes(folder / "whole"), folder / "half")
    return folder / "whole", folder / "half"


def _changes(start: Path) -> list[str]:
    return [BRIEF, "model.backbone=tiny_inverted", f"model.start={start}", "model.keep=0.5", "train.distill=0.7"]


def test_a_run_is_rebuilt_from_its_recipe_and_checkpoint_alone(runs: tuple[Path, Path]) -> None:
    whole, half = runs
    hidden = whole.rename(whole.with_name("gone"))
    try:
        task = IdentifierTask(load_recipe(half / "recipe.json"))
        model = task.build_model(blank=True)
        model.load_state_dict(load_checkpoint(half / BEST).averaged)
        assert predict(model, task.holdout.images)[0].shape == (len(task.holdout), 4)
    finally:
        hidden.rename(whole)
    ours, theirs = (load_checkpoint(run / BEST).averaged for run in (half, whole))
    assert sum(values.numel() for values in ours.values()) < sum(values.numel() for values in theirs.values())


def test_a_pruned_network_follows_the_unpruned_one(runs: tuple[Path, Path], drawn_data: Path) -> None:
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", _changes(runs[0])))
    model: Any = task.build_model()
    batch = next(iter(task.batches(task.recipe.phases[0], 0, 0)))
    logits = model.eval()(batch["pixels"])[0]
    followed = task._followed(task.unpruned, logits, batch["pixels"])
    with torch.no_grad():
        itself = task._followed(task.unpruned, task.unpruned(batch["pixels"])[0], batch["pixels"])
    assert (itself <= followed).all()  # nothing follows a network better than itself
    assert not any(weights.requires_grad for weights in task.unpruned.parameters())
    batch["target"] = (batch["target"] + 1) % 4
    before = task.loss(model, batch)
    task.unpruned = None
    assert not torch.isclose(before, task.loss(model, batch))


@pytest.mark.slow
def test_a_pruned_run_is_exported(runs: tuple[Path, Path], tmp_path: Path) -> None:
    from carspotter.export.onnx import export

    bundle = export(runs[1], tmp_path / "half")
    whole = export(runs[0], tmp_path / "whole")
    assert bundle.model_path.stat().st_size < 0.9 * whole.model_path.stat().st_size
    task = IdentifierTask(load_recipe(runs[1] / "recipe.json"))
    model = task.build_model(blank=True)
    model.load_state_dict(load_checkpoint(runs[1] / BEST).averaged)
    found = bundle.open_session("onnxruntime", threads=1).run(task.holdout.images)["logits"]
    assert torch.allclose(torch.from_numpy(found), predict(model, task.holdout.images)[0], atol=0.02)
