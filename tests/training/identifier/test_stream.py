"""A training that reads a stream: what is learnt is the same as from memory, whoever reads, wherever it resumes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from carspotter.errors import DatasetError, RecipeError
from carspotter.export.onnx import export
from carspotter.training.identifier.source import Drawing, Kept, Streamed
from carspotter.training.identifier.task import IdentifierTask
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.task import LOG
from training.identifier.test_identifier_task import rewritten
from training.identifier.test_shards import recipe_of, shards_of

STREAM = ["data.memory=0", "data.workers=0", "data.shuffle=16"]


def task_of(drawn_data: Path, changes: list[str], run: Path | None = None) -> IdentifierTask:
    return IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes), run)


def figures(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log without its times."""
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def seen(task: IdentifierTask, epoch: int = 0, part: tuple[int, int] = (0, 1)) -> list[dict[str, torch.Tensor]]:
    return list(task.batches(task.recipe.phases[0], epoch, 0, part))


def test_a_stream_has_the_photos_that_memory_has(drawn_data: Path, tmp_path: Path) -> None:
    changes = recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards"))
    kept, streamed = (task_of(drawn_data, [*changes, *more]) for more in ([], STREAM))
    assert isinstance(kept.photos, Kept)
    assert isinstance(streamed.photos, Streamed)
    assert len(kept.photos) == len(streamed.photos)
    assert kept.photos.counts(4).tolist() == streamed.photos.counts(4).tolist()
    assert kept.holdout.mark == streamed.holdout.mark
    assert np.array_equal(kept.holdout.images, streamed.holdout.images)
    one, other = kept.photos.some(), streamed.photos.some()
    assert one.mark == other.mark
    assert np.array_equal(one.images, other.images)
    # An epoch of either has as many batches, and each photo once at most.
    still = Drawing(batch=8, seed=0, epoch=0)
    for task in (kept, streamed):
        photos = torch.cat([drawn.pixels for drawn in task.photos.draw(still)])
        assert len(photos) == task.steps(task.recipe.phases[0]) * 8
        assert len({photo.numpy().tobytes() for photo in photos}) == len(photos)


def test_what_is_seen_follows_from_seed_and_epoch_whoever_decodes(drawn_data: Path, tmp_path: Path) -> None:
    shards = shards_of(drawn_data, tmp_path / "shards")
    alone = task_of(drawn_data, [*recipe_of(drawn_data, shards), *STREAM])
    helped = task_of(drawn_data, [*recipe_of(drawn_data, shards), *STREAM, "data.workers=2"])
    for one, other in zip(seen(alone, 1), seen(helped, 1), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(seen(alone, 1)[0]["pixels"], seen(alone, 2)[0]["pixels"])


def test_tars_and_tfrecords_train_to_the_same_figures(drawn_data: Path, tmp_path: Path) -> None:
    for form in ("webdataset", "tfrecord"):
        shards = shards_of(drawn_data, tmp_path / form, form=form)
        for way, more in (("kept", []), ("streamed", STREAM)):
            train(drawn_data / "recipe.toml", [*recipe_of(drawn_data, shards), *more], tmp_path / f"{form}-{way}")
    for way in ("kept", "streamed"):
        assert figures(tmp_path / f"webdataset-{way}") == figures(tmp_path / f"tfrecord-{way}")
        assert max(line["top1"] for line in figures(tmp_path / f"webdataset-{way}")) >= 0.5  # chance: 0.25


def test_a_run_that_resumes_sees_what_it_would_have_seen(drawn_data: Path, tmp_path: Path) -> None:
    changes = [*recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards")), *STREAM]
    changes[2] = "phases=[{epochs=3, width=32, height=32}]"
    train(drawn_data / "recipe.toml", changes, tmp_path / "whole")
    shorter = [*changes, "phases=[{epochs=3, width=32, height=32}]"]
    stopped = IdentifierTask(load_recipe(drawn_data / "recipe.toml", shorter))
    batches, told = stopped.batches, []
    from carspotter.training.trainer import Training

    training = Training(stopped.recipe, stopped, tmp_path / "parts")
    (tmp_path / "parts").mkdir()

    def until_the_third(phase: Any, epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Any:
        told.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(phase, epoch, seed, part)

    stopped.batches = until_the_third  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        training.fit()
    train(drawn_data / "recipe.toml", shorter, tmp_path / "parts", resume=True)
    assert told == [0, 1, 2]
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")


def test_two_processes_see_shards_of_their_own(drawn_data: Path, tmp_path: Path) -> None:
    changes = [*recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards", per_shard=5)), *STREAM]
    task = task_of(drawn_data, changes)
    parts = [list(task.photos.draw(Drawing(batch=8, seed=0, epoch=0, part=(rank, 2)))) for rank in (0, 1)]
    assert [len(part) for part in parts] == [task.steps(task.recipe.phases[0])] * 2
    photos = [{photo.numpy().tobytes() for drawn in part for photo in drawn.pixels} for part in parts]
    assert photos[0].isdisjoint(photos[1])
    assert {len(drawn.pixels) for part in parts for drawn in part} == {4}


def test_a_csv_of_too_many_photos_is_cut_to_shards_first(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = rewritten(drawn_data, tmp_path, source=lambda row: f"market {int(row['class_id']) % 2}")
    changes = [labels, "model.heads=['color']"]
    kept = task_of(drawn_data, changes)
    with caplog.at_level(logging.INFO):
        streamed = task_of(drawn_data, [*changes, *STREAM], tmp_path / "run")
    assert "56 photos are more than data.memory holds" in caplog.text
    assert "56 of 56 photos cut" in caplog.text
    assert isinstance(streamed.photos, Streamed)

    def rows(task: IdentifierTask, held: bool) -> dict[str, Any]:
        photos = task.holdout if held else task.photos.some()
        labels = zip(
            photos.targets.tolist(), photos.groups, photos.sources, photos.extras["color"].tolist(), strict=True
        )
        pixels = [image.tobytes() for image in photos.images]
        return {path: (*label, image) for path, label, image in zip(photos.paths, labels, pixels, strict=True)}

    for held in (False, True):
        assert rows(kept, held) == rows(streamed, held)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        task_of(drawn_data, [*changes, *STREAM], tmp_path / "run")
    assert "cut" not in caplog.text  # they stand


def test_a_run_of_a_long_csv_is_trained_and_exported(drawn_data: Path, tmp_path: Path) -> None:
    train(drawn_data / "recipe.toml", [*STREAM, "train.probe=5"], tmp_path / "run")
    assert export(tmp_path / "run", tmp_path / "bundle").calibration
    assert len(list((tmp_path / "run").glob("shards-*"))) == 1


def test_a_photo_of_a_long_csv_that_cannot_be_read_is_named_and_tried_again(drawn_data: Path, tmp_path: Path) -> None:
    labels = rewritten(drawn_data, tmp_path)
    path = Path(labels.partition("=")[2])
    path.write_text(path.read_text().replace("20.png", "none.png"))
    with pytest.raises(
        RecipeError, match=r"names 1 photos that cannot be read, the first of them .*none\.png.*errors\.csv"
    ):
        task_of(drawn_data, [labels, *STREAM], tmp_path / "run")
    missing = drawn_data / "photos" / "none.png"
    Image.open(drawn_data / "photos" / "20.png").save(missing)
    try:
        assert len(task_of(drawn_data, [labels, *STREAM], tmp_path / "run").photos) > 0
    finally:
        missing.unlink()


def test_without_a_validation_split_the_same_ads_are_held_out(drawn_data: Path, tmp_path: Path) -> None:
    changes = [
        *recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards", splits=("train",))),
        "data.fraction=0.5",
    ]
    kept, streamed = (task_of(drawn_data, [*changes, *more]) for more in ([], STREAM))
    assert kept.holdout.mark == streamed.holdout.mark
    assert len(kept.holdout) > 0
    assert kept.photos.some().mark == streamed.photos.some().mark
    assert set(streamed.photos.some().groups).isdisjoint(streamed.holdout.groups)
    assert streamed.photos.counts(4).sum() == len(streamed.photos) == len(kept.photos)


def test_rare_classes_are_drawn_as_often(drawn_data: Path, tmp_path: Path) -> None:
    rows = [number for number in range(64) if number % 4 or number % 16 == 0]  # of the first class a quarter
    shards = shards_of(drawn_data, tmp_path / "shards", splits=("train", "train", "train", "validation"), only=rows)
    changes = [*recipe_of(drawn_data, shards), *STREAM]
    plain, balanced = (task_of(drawn_data, [*changes, *more]) for more in ([], ["train.balance=1"]))

    def share(task: IdentifierTask) -> float:
        targets = torch.cat([batch["target"] for epoch in range(20) for batch in seen(task, epoch)])
        return float((targets == 0).float().mean())

    assert share(plain) < 0.12
    assert 0.2 < share(balanced) < 0.3
    assert len(seen(plain)) == len(seen(balanced))
    assert all(
        torch.equal(one["target"], two["target"]) for one, two in zip(seen(balanced), seen(balanced), strict=True)
    )


def test_what_looks_at_all_photos_is_bounded_and_told(
    drawn_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carspotter.training.identifier.source.LEAST_SAMPLE", 10)
    changes = [*recipe_of(drawn_data, shards_of(drawn_data, tmp_path / "shards")), *STREAM, "train.probe=3"]
    with caplog.at_level(logging.INFO):
        task = task_of(drawn_data, changes)
        task.build_model()
    assert len(task.holdout) == 10
    assert "10 of 20 photos, drawn evenly: data.memory grants no more" in caplog.text
    assert len(task.photos.some()) == 10
    assert len(set(task.photos.some().groups)) > 4
    assert "heads fitted at 64 px: 10 photos" in caplog.text


def test_damage_is_told_at_the_start_or_where_it_is(drawn_data: Path, tmp_path: Path) -> None:
    shards = shards_of(drawn_data, tmp_path / "shards")
    changes = [*recipe_of(drawn_data, shards), *STREAM]
    path = next(shards.glob("train-*.tar"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=rf"{path.name} has \d+ bytes, the manifest says {len(whole)}"):
        task_of(drawn_data, changes)
    data = bytearray(whole)
    start = data.index(b"RIFF")
    data[start : start + 60] = bytes(60)
    path.write_bytes(bytes(data))
    for workers in (0, 1):
        task = task_of(drawn_data, [*changes, f"data.workers={workers}"])
        with pytest.raises(DatasetError, match=rf"{path.name}: sample '\d+'"):
            seen(task)


@pytest.mark.parametrize(
    ("change", "words"),
    [("data.memory=-1", "data.memory is -1"), ("data.shuffle=0", "shuffle is 0"), ("data.workers=-2", "workers is -2")],
)
def test_bad_settings_of_a_stream(drawn_data: Path, change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(drawn_data / "recipe.toml", [change])
