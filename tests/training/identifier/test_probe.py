"""Heads fitted to still features: what they keep, whom all epochs follow, and photos that show no car of a class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from carspotter.errors import RecipeError
from carspotter.training.checkpoint import BEST, LAST, load_checkpoint
from carspotter.training.identifier import losses
from carspotter.training.identifier.probe import fit_heads, resized, still_features
from carspotter.training.identifier.targets import Nodes
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.norms import blend_folded, fuse_norms
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.task import LOG
from training.identifier.test_identifier_task import rewritten

PROBED = ["train.probe=20", "train.probe_decay=0", "phases=[{epochs=1, width=48, height=48}]"]


def test_heads_are_fitted_while_the_backbone_stands_still(drawn_data: Path) -> None:
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml"))
    model = task.build_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    targets = torch.from_numpy(task.photos.some().targets)
    losses_of: list[float] = []

    def loss(features: torch.Tensor, logits: torch.Tensor, extras: object, chosen: torch.Tensor) -> torch.Tensor:
        del features, extras
        value = nn.functional.cross_entropy(logits, targets[chosen])
        losses_of.append(value.item())
        return value

    fit_heads(model, torch.from_numpy(task.photos.some().images), loss, epochs=60, side=48, rate=1e-3, decay=0.0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert losses_of[-1] < losses_of[0]


def test_features_are_of_a_photo_and_of_its_mirror_image(drawn_data: Path) -> None:
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml"))
    model = task.build_model()
    images = torch.from_numpy(task.photos.some().images[:3])
    features = still_features(model, images, 48)
    mirrored = still_features(model, images.flip(2), 48)
    assert features.shape[:2] == (3, 2)
    assert torch.allclose(features.flip(1), mirrored, atol=1e-4)
    assert resized(torch.zeros(1, 3, 48, 48), 64).shape == (1, 3, 64, 64)


def test_a_run_tells_what_fitted_heads_reach_and_follows_them(drawn_data: Path, tmp_path: Path) -> None:
    changes = [*PROBED, "train.distill=0.5", "train.teacher_side=64", "train.keep=0.3"]
    train(drawn_data / "recipe.toml", changes, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert "held-out loss" in lines[0]
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes))
    model = task.build_model()
    assert task.teacher is not None
    assert not any(weights.requires_grad for weights in task.teacher.parameters())
    assert any(weights.requires_grad for weights in model.parameters())


def test_distilling_needs_somebody_to_follow(drawn_data: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.teachers: runs to follow; or train\.probe and train\.teacher_side"):
        load_recipe(drawn_data / "recipe.toml", ["train.distill=0.5"])


def test_what_was_said_of_the_parents_is_kept_at_no_cost_where_nothing_moved() -> None:
    parents = torch.tensor([0, 0, 1])
    before = torch.tensor([[1.0, 0.5, 2.0]])
    entropy = losses.kept(before, before, parents)
    # Probability moved within a parent costs nothing, from one to another it does.
    inside = torch.tensor([[0.5, 1.0, 2.0]])
    assert losses.kept(inside, before, parents).item() == pytest.approx(entropy.item(), abs=1e-6)
    assert losses.kept(torch.tensor([[3.0, 0.5, 2.0]]), before, parents).item() > entropy.item() + 0.1


def test_a_photo_of_no_class_teaches_the_further_heads_alone(drawn_data: Path, tmp_path: Path) -> None:
    def subject(row: dict[str, str]) -> str:
        return "other" if int(Path(row["path"]).stem) % 8 == 0 else "car"

    labels = rewritten(
        drawn_data, tmp_path, subject=subject, class_id=lambda row: "" if subject(row) == "other" else row["class_id"]
    )
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", [labels, "model.heads=['subject']"]))
    nodes = Nodes(task.taxonomy, {})
    anybody = nodes.of({})
    assert nodes.members[anybody].all()
    anything = torch.from_numpy(task.members.numpy()).all(dim=1)
    photos = torch.from_numpy(task.photos.some().targets)
    assert anything[photos].any()
    batch = next(iter(task.batches(task.recipe.phases[0], 0, 0)))
    logits = torch.randn(len(batch["target"]), len(task.taxonomy))
    lost = task._of_photos(logits, batch["target"])
    assert (lost[anything[batch["target"]]] == 0).all()
    assert (lost[~anything[batch["target"]]] > 0).all()


def test_what_is_kept_lies_between_the_beginning_and_the_end(drawn_data: Path, tmp_path: Path) -> None:
    train(drawn_data / "recipe.toml", [*PROBED, "train.blend=0.25", "train.lr=1e-2"], tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / LAST)
    first, last = saved.first["head.weight"], saved.averaged["head.weight"]
    assert not torch.equal(first, last)
    between = first * 0.75 + last * 0.25
    assert torch.allclose(saved.kept["head.weight"], between, atol=1e-6)
    best = load_checkpoint(tmp_path / "run" / BEST)
    fitted = best.kept
    assert best.is_finished
    assert 0 < (fitted["head.weight"] - between).abs().mean() < 0.1, "fitted once more to the features of what is kept"
    train(drawn_data / "recipe.toml", [*PROBED, "train.blend=0.25", "train.lr=1e-2"], tmp_path / "run", resume=True)
    assert torch.equal(load_checkpoint(tmp_path / "run" / BEST).kept["head.weight"], fitted["head.weight"]), "but once"
    again = load_checkpoint(tmp_path / "run" / LAST)
    assert torch.equal(again.first["head.weight"], saved.first["head.weight"])


def test_between_two_networks_with_norms_the_folded_ones_are_blended() -> None:
    torch.manual_seed(1)

    def network() -> nn.Sequential:
        made = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        made[1].running_var.uniform_(0.1, 4)
        made[1].running_mean.normal_()
        return made.eval()

    first, last, between = network(), network(), network()
    between.load_state_dict(blend_folded(between, first.state_dict(), last.state_dict(), 0.25))
    pixels = torch.rand(2, 3, 5, 5)
    folded = [fuse_norms(each) for each in (first, last, between)]
    wanted = folded[0][0].weight * 0.75 + folded[1][0].weight * 0.25
    assert torch.allclose(folded[2][0].weight, wanted, atol=1e-6)
    for share, same in ((0.0, first), (1.0, last)):
        between.load_state_dict(blend_folded(between, first.state_dict(), last.state_dict(), share))
        assert torch.allclose(between(pixels), same(pixels), atol=1e-5)
