"""The finder's network, losses and task: the real path with a tiny network on drawn photos, in seconds."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from finder_drawings import COLUMNS, write_photos

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from carspotter.errors import RecipeError, TrainingError  # noqa: E402  # after the skip
from carspotter.training.finder.augment import place  # noqa: E402  # after the skip
from carspotter.training.finder.data import view_mask  # noqa: E402
from carspotter.training.finder.kind import still_features  # noqa: E402
from carspotter.training.finder.losses import FinderTargets, assign, distance_iou, finder_losses  # noqa: E402
from carspotter.training.finder.model import Finder, FinderOutput, cell_centers, finder_export_module  # noqa: E402
from carspotter.training.finder.pictures import group_weights  # noqa: E402
from carspotter.training.finder.task import FinderTask  # noqa: E402
from carspotter.training.identifier.model import choose_layers, load_backbone  # noqa: E402
from carspotter.training.recipe_file import load_recipe  # noqa: E402
from carspotter.training.run import train  # noqa: E402


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("finder"))


@pytest.fixture(scope="module")
def task(recipe_path: Path) -> FinderTask:
    return FinderTask(load_recipe(recipe_path))


@pytest.fixture
def model(task: FinderTask) -> Finder:
    torch.manual_seed(0)
    return task.build_model()


def targets_of(boxes: list[list[float]], role: list[int], view: str = "front-side") -> FinderTargets:
    return FinderTargets(
        kind=torch.tensor([0]),
        boxes=torch.tensor([boxes]),
        views=torch.from_numpy(np.stack([view_mask(view)] * len(boxes)))[None],
        role=torch.tensor([role]),
        boxes_known=torch.tensor([True]),
    )


def test_outputs_have_a_row_a_cell(model: Finder) -> None:
    output = model.eval()(torch.zeros(2, 3, 48, 64))
    n_cells = len(cell_centers(48, 64))
    assert n_cells == 6 * 8 + 3 * 4 + 2 * 2
    assert [tuple(part.shape) for part in output] == [(2, 4), (2, n_cells), (2, n_cells, 4), (2, n_cells, 8)]
    assert (output.boxes[..., 2:] > output.boxes[..., :2]).all()


def test_the_exported_form_is_what_bundles_promise(model: Finder) -> None:
    photos = torch.randint(0, 256, (2, 48, 64, 3), dtype=torch.uint8)
    kind, scores, boxes, viewpoints = finder_export_module(model)(photos)
    assert torch.allclose(kind.sum(1), torch.ones(2))
    assert torch.allclose(viewpoints.sum(2), torch.ones(2, 64))
    for part in (scores, boxes):
        assert part.min() >= 0
        assert part.max() <= 1


def test_frozen_stages_stand_still_and_answer_the_same(task: FinderTask, model: Finder) -> None:
    pixels = torch.rand(2, 3, 48, 64) * 255
    with torch.no_grad():
        before = model.eval()._features(pixels)[-1]
        model.freeze(2)
        model.train()
        for module in model.backbone.blocks[2:]:
            module.eval()
        after = model._features(pixels)[-1]
    assert torch.allclose(before, after, atol=1e-4)
    model.train()
    stem = model.backbone.conv_stem.weight.clone()
    statistics = model.backbone.bn1.running_mean.clone()
    task.loss(model, next(task.batches(task.recipe.phases[0], 0, 0))).backward()
    assert model.backbone.conv_stem.weight.grad is None
    assert model.backbone.blocks[3][0].conv_pw.weight.grad is not None
    assert torch.equal(stem, model.backbone.conv_stem.weight)
    assert torch.equal(statistics, model.backbone.bn1.running_mean)


def test_fixed_norms_are_those_of_the_backbone(task: FinderTask) -> None:
    recipe = dataclasses.replace(task.recipe, model=dataclasses.replace(task.recipe.model, norms="fixed"))
    model = Finder(load_backbone(recipe.model))
    choose_layers(model, recipe)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running_mean" in name}
    task.loss(model, next(task.batches(task.recipe.phases[0], 0, 0)))
    moved = {name for name, value in before.items() if not torch.equal(value, model.state_dict()[name])}
    assert moved == {name for name in before if not name.startswith("backbone.")}
    assert len(moved) < len(before)


def told_boxes(boxes: list[list[float]], scores: list[float]) -> FinderOutput:
    """Answer for the cells of a picture of 64 x 64, the first of them these boxes, all others one of a pixel."""
    n_cells = len(cell_centers(64, 64))
    corners = torch.tensor([-9.0, -9.0, -8.0, -8.0]).repeat(n_cells, 1)
    corners[: len(boxes)] = torch.tensor(boxes).reshape(-1, 4)
    logits = torch.full((1, n_cells), -5.0)
    logits[0, : len(scores)] = torch.tensor(scores)
    return FinderOutput(torch.zeros(1, 4), logits, corners[None], torch.zeros(1, n_cells, 8))


def test_the_cells_that_fit_best_speak_for_a_vehicle_and_should_score_their_overlap() -> None:
    box = [0.0, 0.0, 64.0, 16.0]  # the first two rows of the finest grid's 8 x 8 cells
    output = told_boxes([box, box, [0.0, 0.0, 32.0, 16.0]], [2.0, -2.0, 2.0])
    owner, quality = assign(output, targets_of([box], [1]), cell_centers(64, 64))
    assert (owner[0, :3] == 0).all()
    assert quality[0, 0] == pytest.approx(1)
    assert quality[0, 0] > quality[0, 1] > quality[0, 2]
    assert (owner[0, 16:64] == -1).all(), "cells outside of the vehicle are background"
    assert (quality[0, 16:64] == 0).all()


def test_nothing_is_asked_inside_an_ignored_box_and_where_boxes_are_unknown() -> None:
    centers = cell_centers(64, 64)
    owner = assign(told_boxes([], []), targets_of([[0, 0, 32, 64], [32, 0, 64, 64]], [1, 2]), centers)[0][0]
    right = centers[:, 0] > 32
    assert (owner[right] == -2).all()
    assert (owner[~right] >= -1).all()
    unknown = targets_of([[0, 0, 64, 64]], [0])._replace(boxes_known=torch.tensor([False]))
    assert (assign(told_boxes([], []), unknown, centers)[0] == -2).all()


def test_a_small_vehicle_still_has_a_cell_and_leaves_some_to_a_large_one() -> None:
    targets = targets_of([[0, 0, 64, 64], [29, 29, 32, 32]], [1, 1])
    large, small = [0.0, 0.0, 64.0, 64.0], [27.0, 27.0, 34.0, 34.0]
    index = int(((cell_centers(64, 64) - 30.5).abs().sum(1)).argmin())
    owner = assign(told_boxes([large] * index + [small], []), targets, cell_centers(64, 64))[0][0]
    assert (owner == 1).any()
    assert (owner == 0).any()
    assert owner[index] == 1


def test_overlap_is_one_for_the_same_box_and_the_loss_grows_with_distance() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    overlap, loss = distance_iou(torch.cat([box, box + 20, box + 80]), box.expand(3, 4))
    assert overlap.tolist() == [1, 0, 0]
    assert loss[0] == 0
    assert 1 < loss[1] < loss[2]


def test_a_merged_viewpoint_is_right_on_either_side(model: Finder) -> None:
    output = model.eval()(torch.zeros(1, 3, 96, 128))
    centers = cell_centers(96, 128)

    def loss(sure_of: int) -> float:
        logits = torch.full_like(output.viewpoints, -9.0)
        logits[..., sure_of] = 9
        targets = targets_of([[20, 20, 100, 80]], [1])
        return finder_losses(output._replace(viewpoints=logits), targets, centers).viewpoint.item()

    assert loss(1) < 0.01
    assert loss(7) < 0.01
    assert loss(0) > 5


def test_pictures_without_any_label_cost_nothing_but_their_score(model: Finder) -> None:
    output = model.eval()(torch.zeros(1, 3, 48, 64))
    nothing = targets_of([[0, 0, 0, 0]], [0])._replace(kind=torch.tensor([-1]))
    losses = finder_losses(output, nothing, cell_centers(48, 64))
    assert [losses.kind.item(), losses.box.item(), losses.viewpoint.item()] == [0, 0, 0]
    assert losses.score > 0


def test_batches_are_the_same_for_the_same_seed_and_differ_by_epoch(task: FinderTask) -> None:
    phase = task.recipe.phases[0]
    first, again, other = (next(task.batches(phase, epoch, 0)) for epoch in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["images"], other["images"])
    assert first["images"].shape == (8, 48, 64, 3)


def test_rare_photos_come_more_often_than_their_share(task: FinderTask) -> None:
    weights = group_weights(task.pictures.photos)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() > weights.min()


def test_learning_lowers_the_loss_and_thresholds_follow(task: FinderTask, model: Finder) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    losses = []
    for epoch in range(6):
        for batch in task.batches(task.recipe.phases[0], epoch, 0):
            loss = task.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    calibration, figures = task.calibrate(model)
    assert set(calibration) == {"score", "iou", "gate"}
    assert all(0 < value < 1 for value in calibration.values())
    assert next(iter(figures)) == "mean"


def test_kinds_are_fitted_to_the_features_and_nothing_else_changes(task: FinderTask, model: Finder) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = task.evaluate(model)["exterior"]
    task.finish(model)
    assert {name for name, value in before.items() if not torch.equal(value, model.state_dict()[name])} == {
        "kind.weight",
        "kind.bias",
    }
    rng = np.random.default_rng(0)
    features, kinds = still_features(model, (place(photo, task.size, rng) for photo in task.pictures.photos))
    right = (model.kind(features).argmax(1) == kinds).float().mean()
    assert right > 0.9, "drawn vehicles differ from noise in the features of any network"
    assert task.evaluate(model)["exterior"] >= first


def test_kinds_teach_the_backbone_and_take_no_features_from_the_boxes(task: FinderTask, model: Finder) -> None:
    batch = next(task.batches(task.recipe.phases[0], 0, 0))
    output = model.train()(batch["images"].permute(0, 3, 1, 2).float())
    output.kind.square().sum().backward()
    taught = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert taught == {"backbone", "kind"}


def test_a_run_goes_on_under_other_words_and_not_with_other_labels(task: FinderTask, recipe_path: Path) -> None:
    words = ["claim=better", "card.use=research", "train.workers=2"]
    assert FinderTask(load_recipe(recipe_path, words)).fingerprint == task.fingerprint
    assert FinderTask(load_recipe(recipe_path, ["train.lr=1e-3"])).fingerprint != task.fingerprint
    with (recipe_path.parent / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    vehicle = next(number for number, row in enumerate(rows) if row["x1"])
    for column, value in (("ignore", "1"), ("source", "street")):
        changed = [row | {column: value} if number == vehicle else row for number, row in enumerate(rows)]
        path = recipe_path.parent / f"{column}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(changed)
        assert FinderTask(load_recipe(recipe_path, [f"data.labels={path}"])).fingerprint != task.fingerprint


def test_the_whole_training_writes_a_run(recipe_path: Path, tmp_path: Path) -> None:
    assert "tiny" in train(recipe_path, [], tmp_path / "tiny")
    assert (tmp_path / "tiny" / "best.pt").exists()
    assert len((tmp_path / "tiny" / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [("input.fit=squash", "letterbox"), ("input.width=70", "multiples"), ("data.labels=none.csv", "cannot be read")],
)
def test_a_recipe_that_cannot_work_is_refused(recipe_path: Path, change: str, message: str) -> None:
    with pytest.raises((RecipeError, TrainingError), match=message):
        FinderTask(load_recipe(recipe_path, [change]))
