"""The loop on drawn data with a tiny network: it learns, resumes exactly, refuses what would be wrong."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from carspotter.errors import RecipeError, TrainingError
from carspotter.runtime.seen import SEEN_FILE, to_bytes
from carspotter.training.checkpoint import BEST, LAST, load_checkpoint
from carspotter.training.identifier.task import IdentifierTask, predict
from carspotter.training.norms import are_folded, estimate_norms
from carspotter.training.progress import Clock, Foretold
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.start import NOTICE
from carspotter.training.task import LOG, RECIPE
from carspotter.training.trainer import Training
from full_disk import no_room_for


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def run(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    longer = "phases=[{epochs=8, width=48, height=48}, {epochs=4, width=64, height=64, frozen=1}]"
    message = train(drawn_data / "recipe.toml", [longer], out)
    assert message.startswith(f"{out}: best top1")
    return out


def test_it_learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    assert len(lines) == 12
    assert lines[-1]["loss"] < lines[0]["loss"] / 1.5
    # Chance is 0.25. Another order of adding leads to another training, as another seed does: five seeds keep it.
    assert max(line["top1"] for line in lines) >= 0.7
    assert load_checkpoint(run / LAST).epoch == 12
    assert load_checkpoint(run / BEST).best == pytest.approx(max(line["top1"] for line in lines), abs=1e-4)


def test_figures_are_there_for_tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    assert [event.step for event in events.Scalars("top1")] == list(range(1, 13))
    shown = [event.value for event in events.Scalars("loss")]
    assert shown == pytest.approx([line["loss"] for line in lines], abs=1e-4)


@pytest.mark.parametrize("changes", [[], ["train.precision=auto", "model.dropout=0.3"]], ids=["float32", "auto"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    drawn_data: Path, tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if changes:  # both steps are timed, which must move nothing; the outcome is pinned, as clocks differ
        monkeypatch.setattr(time, "monotonic", iter(range(10**9)).__next__)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(drawn_data / "recipe.toml", changes, whole)
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    cut.mkdir()
    stopped = Training(recipe, IdentifierTask(recipe), cut)
    calls = iter(range(3))
    evaluate = stopped.task.evaluate

    def evaluate_and_die(model: torch.nn.Module) -> dict[str, float]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(model)

    stopped.task.evaluate = evaluate_and_die
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    train(drawn_data / "recipe.toml", changes, cut, resume=True)
    # To the bit: a promise of one machine, one process and one thread (train.threads = 1), which add in one order.
    assert losses(cut) == losses(whole)
    ends = [load_checkpoint(run / LAST).averaged for run in (whole, cut)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_frozen_stage_does_not_move(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["phases=[{epochs=1, width=32, height=32, frozen=2}]"])
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.fit()
    moved = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "head.weight" in moved
    assert not any(name.startswith(("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0")) for name in moved)
    assert any(name.startswith("backbone.blocks.2") for name in moved)


def test_a_frozen_network_answers_in_training_as_it_would_unfused(drawn_data: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["model.dropout=0.0"])
    model = IdentifierTask(recipe).build_model()
    model.freeze(len(model.backbone.blocks))
    pixels = torch.rand(4, 3, 64, 64) * 255
    model.train()
    fast = model.embed(pixels)
    model._fast_frozen = []
    assert torch.allclose(fast, model.embed(pixels), atol=1e-4)


def test_refusals(drawn_data: Path, run: Path, tmp_path: Path) -> None:
    recipe = drawn_data / "recipe.toml"
    with pytest.raises(TrainingError, match="go on with --resume"):
        train(recipe, [], run)
    with pytest.raises(TrainingError, match="recipe or data differ"):
        train(recipe, ["train.lr=1"], run, resume=True)
    with pytest.raises(RecipeError, match="did you mean"):
        train(recipe, ["model.backbone=test_efficientnett"], tmp_path / "a")
    with pytest.raises(RecipeError, match="no file"):
        train(recipe, ["model.weights=nowhere.safetensors"], tmp_path / "b")
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_checkpoint(tmp_path / LAST)
    (tmp_path / LAST).write_bytes(b"no checkpoint at all")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(tmp_path / LAST)


def test_a_loss_that_is_no_number_stops_with_a_message(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    torch.nn.init.constant_(training.model.head.bias, float("nan"))
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        training.fit()


def test_weights_are_read_by_name(drawn_data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    trained = load_checkpoint(run / BEST).averaged
    prefix = "backbone."
    save_file({k[len(prefix) :]: v.contiguous() for k, v in trained.items() if k.startswith(prefix)}, tmp_path / "w.st")
    monkeypatch.setenv("CARSPOTTER_WEIGHTS", str(tmp_path))
    recipe = load_recipe(drawn_data / "recipe.toml", ["model.weights=w.st"])
    model = IdentifierTask(recipe).build_model()
    assert torch.equal(model.backbone.conv_stem.weight, trained["backbone.conv_stem.weight"])


def test_run_holds_its_recipe(run: Path) -> None:
    recipe = load_recipe(run / RECIPE)
    assert recipe.epochs == 12
    task = IdentifierTask(recipe)
    model = task.build_model()
    model.load_state_dict(load_checkpoint(run / BEST).averaged)
    one_photo = 1 / len(task.holdout)  # rounding may turn the answer to a photo between two classes
    assert task.evaluate(model)["top1"] == pytest.approx(load_checkpoint(run / BEST).best, abs=1.01 * one_photo)
    assert predict(model, task.holdout.images, batch=3)[0].shape == (len(task.holdout), 4)


def test_estimated_norms_change_nothing_that_is_said() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    )
    for norm in (network[1], network[4]):
        norm.running_var.fill_(1 - norm.eps)
        norm.bias.data.normal_()
    network.eval()
    photos = [torch.rand(8, 3, 9, 9) for _ in range(3)]
    before = network(photos[0])
    estimate_norms(network, [functools.partial(network, each) for each in photos])
    assert torch.allclose(network(photos[0]), before, atol=1e-5)
    assert not are_folded(network)
    # In training mode a batch's own statistics are near those that were estimated.
    assert torch.allclose(network.train()(torch.cat(photos)), network.eval()(torch.cat(photos)), atol=1e-3)


def scripted(training: Training, figures: list[tuple[float, float]]) -> Training:
    """Let a training be judged as `figures` (top1, held-out loss) say, in turn."""
    said = iter(figures)
    training.task.evaluate = lambda model: dict(zip(("top1", "held-out loss"), next(said, (0.0, 9.0)), strict=True))  # type: ignore[method-assign]
    return training


def test_of_epochs_with_the_same_share_right_the_one_of_least_loss_is_best(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["train.patience=2"])
    training = scripted(
        Training(recipe, IdentifierTask(recipe), tmp_path), [(1.0, 0.9), (1.0, 0.5), (1.0, 0.5), (0.9, 0.1)]
    )
    training.fit()
    assert (training.best_epoch, training.epoch) == (2, 4), "few photos: all are right from the first epoch on"
    saved = load_checkpoint(tmp_path / BEST)
    assert (saved.best, saved.best_loss) == (1.0, 0.5)


def test_what_fitted_heads_reach_is_kept_where_learning_makes_it_worse(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["train.probe=1", "phases=[{epochs=2, width=32, height=32}]"])
    training = scripted(Training(recipe, IdentifierTask(recipe), tmp_path), [(0.9, 0.5), (0.8, 0.5), (0.7, 0.5)])
    training.fit()
    assert load_checkpoint(tmp_path / BEST).epoch == 0


def test_a_budget_ends_a_training_with_the_end_of_its_schedule(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    training.fit(1e-9)
    assert (training.epoch, training.step) == (1, 1), "a step is taken and judged, so that there is something to keep"
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(recipe.train.lr * 0.01, rel=1e-3)
    again = Training(recipe, IdentifierTask(recipe), tmp_path)
    again.go_on()
    assert again.clock.spent() > 1e-9, "what was spent before a restart counts"
    again.fit(1e-9)
    assert again.epoch == 1


def test_a_schedule_is_not_thrown_back_by_a_restart(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    training, hours = Training(recipe, IdentifierTask(recipe), tmp_path), Hours()
    training.clock = Clock(now=hours)
    throttled(training, hours, step=10.0, judge=10.0)
    training.fit(60.0)
    saved = load_checkpoint(tmp_path / LAST)
    assert (saved.epoch, saved.place) == (1, training.n_steps), "the judging took what was left"
    again = Training(recipe, IdentifierTask(recipe), tmp_path)
    again.go_on()
    again.fit(1e9)
    assert again.epoch == 1, "nothing is learnt after the end of the schedule, whatever the time"
    dataclasses.replace(saved, place=training.n_steps / 2).save(tmp_path / LAST)
    again = Training(recipe, IdentifierTask(recipe), tmp_path)
    again.go_on()
    rates = throttled(again, hours, step=10.0, judge=10.0)
    again.fit(1e9)
    assert again.epoch == 4
    assert max(rates) < 0.6 * recipe.train.lr, "half of the schedule was behind it"


def test_a_checkpoint_of_before_is_read(run: Path, tmp_path: Path) -> None:
    state = torch.load(run / LAST, weights_only=True)
    del state["place"]
    torch.save(state, tmp_path / LAST)
    assert load_checkpoint(tmp_path / LAST).place == 0


def test_what_a_stopped_run_left_is_not_taken_for_ones_own(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    for name in (SEEN_FILE, NOTICE):
        (tmp_path / name).write_bytes(b"of other labels")
    training.describe()
    assert (tmp_path / SEEN_FILE).read_bytes() == to_bytes(training.task.seen())
    assert not (tmp_path / NOTICE).exists()
    (tmp_path / SEEN_FILE).write_bytes(b"of these labels")
    training.lines = ["of a checkpoint that was restored"]
    training.describe()
    assert (tmp_path / SEEN_FILE).read_bytes() == b"of these labels", "photos are hashed once"
    training.lines, training.task.seen = [], lambda: None  # type: ignore[method-assign]
    training.describe()
    assert not (tmp_path / SEEN_FILE).exists(), "photos that are streamed are not hashed"


def test_a_checkpoint_stays_as_it_was_where_the_new_one_has_no_room(run: Path, tmp_path: Path) -> None:
    saved = load_checkpoint(run / LAST)
    saved.save(tmp_path / LAST)
    before = (tmp_path / LAST).read_bytes()
    larger = dataclasses.replace(saved, model={"weight": torch.zeros(1_000_000)})
    with no_room_for(max(1_000_000, len(before))), pytest.raises(TrainingError, match="what was there before is whole"):
        larger.save(tmp_path / LAST)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert (tmp_path / LAST).read_bytes() == before


class Hours:
    """A clock that moves by what the work is said to take, and by nothing else."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def throttled(training: Training, hours: Hours, *, step: float, judge: float) -> list[float]:
    """Let each step and each judging take so many seconds by the given clock; return the steps' learning rates."""
    learn, evaluate, rates = training._train_step, training.task.evaluate, []

    def slow_step(batch: object) -> float:
        loss = learn(batch)
        hours.seconds += step
        rates.append(training.optimizer.param_groups[0]["lr"])
        return loss

    def slow_evaluate(model: nn.Module) -> dict[str, float]:
        hours.seconds += judge
        return dict(evaluate(model))

    training._train_step = slow_step  # type: ignore[method-assign]
    training.task.evaluate = slow_evaluate  # type: ignore[method-assign]
    return rates


# Foretold: a step takes 2 s, judging 10 s, and what follows 60 s. The rest is as the test says.
FORETOLD = Foretold(step=2.0, judge=10.0, after=60.0)


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_a_budget_is_kept_on_a_machine_that_got_busy(drawn_data: Path, tmp_path: Path, slower: float) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", ["phases=[{epochs=15, width=32, height=32}]"])
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    hours = Hours()
    training.clock = Clock(now=hours)
    rates = throttled(training, hours, step=2 * slower, judge=10 * slower)
    budget = 400.0
    training.fit(budget, FORETOLD)
    whole = hours.seconds + (60 - 10) * slower  # the last look at the best network has been had by now
    assert whole <= budget + 2 * slower, "what follows ends in time, but for the step under way"
    assert whole > 0.75 * budget or training.epoch == 15, "and no time is wasted"
    assert min(rates) == rates[-1]
    assert rates[-1] < 0.1 * max(rates), "the schedule came to its end"
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True), "and never went back"


def test_a_machine_that_is_busy_for_a_while_costs_no_more_than_that() -> None:
    hours = Hours()
    clock = Clock(now=hours)
    clock.limit(1000, FORETOLD)
    for took in [10.0] * 10:
        hours.seconds += took
        clock.did(2.0)
    assert clock.slower() == 5
    for _ in range(200):
        hours.seconds += 2.0
        clock.did(2.0)
    assert clock.slower() < 1.1
    assert not clock.is_over()
