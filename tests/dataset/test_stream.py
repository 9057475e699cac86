"""Streams of shards: an order that seed and epoch decide, real workers, clear errors, and nobody left behind."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carspotter.dataset.manifest import load_manifest
from carspotter.dataset.reader import ShardFile, read_shards
from carspotter.dataset.shards import Format, ShardSettings, write
from carspotter.dataset.stream import Order, Reading, ShardedSplit, batches, draw, interleaved, open_split, shuffled
from carspotter.errors import ComputeError, DatasetError
from carspotter.pixels import Preprocessing
from waiting import until

SIZE = Preprocessing(width=32, height=32)
N = 40


def shards_in(drawn_data: Path, folder: Path, form: Format = "webdataset", *, per_shard: int = 6) -> Path:
    """Write drawn photos as shards of one split."""
    with (drawn_data / "photos" / "labels.csv").open() as file:
        found = list(csv.DictReader(file))[:N]
    rows = [
        {
            "photo_id": row["path"],
            "path": row["path"],
            "x1": 0.0,
            "y1": 0.0,
            "x2": 96.0,
            "y2": 72.0,
            "split": "train",
            "class_name": row["class_id"],
            "class_index": int(row["class_id"]) - 1,
            "colour": row["color"],
        }
        for row in found
    ]
    # PNG for both kinds of file, so that their samples are the same to the byte.
    settings = ShardSettings(format=(form,), per_shard=per_shard, size=32, pad=0.0, encoding="jpeg", quality=95)
    write(rows, settings, folder, root=drawn_data / "photos")
    return folder


@pytest.fixture(scope="module")
def folders(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("shards")
    return {form: shards_in(drawn_data, folder / form, form) for form in ("webdataset", "tfrecord")}  # type: ignore[arg-type]


def opened(folder: Path) -> ShardedSplit:
    return open_split(load_manifest(str(folder)), "train")


def split_of(*samples: int) -> ShardedSplit:
    return ShardedSplit(files=tuple(f"{number}.tar" for number in range(len(samples))), samples=samples)


def test_an_epoch_has_each_photo_once_in_an_order_of_its_own() -> None:
    split = split_of(5, 7, 0, 30, 1)
    epochs = [list(draw(split, Order(seed=3, epoch=epoch, buffer=10, at_once=2), 43)) for epoch in (0, 1, 0)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == split.places()
    assert epochs[0] == epochs[2] != epochs[1]
    assert list(draw(split, Order(seed=4, epoch=0, buffer=10, at_once=2), 43)) != epochs[0]


def test_shards_are_interleaved_and_the_buffer_mixes_no_more_than_it_holds() -> None:
    split = split_of(*[50] * 6)
    from random import Random

    lanes = (iter([(shard, number) for number in range(50)]) for shard in range(6))
    woven = list(interleaved(lanes, 3, Random(0)))
    assert len({shard for shard, _ in woven[:20]}) == 3
    assert {shard for shard, _ in woven[:50]} == {0, 1, 2}
    for shard in range(6):  # each in its own order
        assert [number for lane, number in woven if lane == shard] == list(range(50))
    mixed = list(shuffled(iter(woven), 16, Random(0)))
    assert sorted(mixed) == sorted(woven)
    assert mixed != woven
    # A place comes at most the buffer's size before its turn.
    assert max(woven.index(place) - turn for turn, place in enumerate(mixed)) <= 16
    assert len(split.places(30)) == 30
    assert Counter(shard for shard, _ in split.places(30)) == dict.fromkeys(range(6), 5)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_read_shards_of_their_own(world: int) -> None:
    split = split_of(*[10] * 13, 3)
    parts = [list(draw(split, Order(seed=1, epoch=2, part=(rank, world)), 133 // world)) for rank in range(world)]
    assert {len(part) for part in parts} == {133 // world}
    of_part = [{shard for shard, _ in part} for part in parts]
    assert all(one.isdisjoint(other) for index, one in enumerate(of_part) for other in of_part[:index])


def test_with_fewer_shards_than_processes_they_read_samples_of_their_own() -> None:
    split = split_of(20, 20)
    parts = [list(draw(split, Order(seed=1, epoch=0, part=(rank, 4)), 10)) for rank in range(4)]
    assert sorted(place for part in parts for place in part) == split.places()


def test_some_samples_can_be_chosen() -> None:
    split = split_of(5, 9, 30)
    chosen = np.arange(44) % 3 == 0
    fewer = split.choose(chosen)
    everything = split.places()
    assert fewer.places() == [everything[index] for index in np.flatnonzero(chosen)]
    assert len(fewer) == sum(fewer.sizes) == chosen.sum()
    drawn = list(draw(fewer, Order(seed=0, epoch=0), len(fewer)))
    assert sorted(drawn) == fewer.places()
    assert list(draw(split.choose(np.zeros(44, bool)), Order(seed=0, epoch=0), 5)) == []


def test_no_process_is_dealt_a_shard_of_which_nothing_is_chosen() -> None:
    split = split_of(3, 3).choose(np.arange(6) < 3)
    parts = [list(draw(split, Order(seed=0, epoch=0, part=(rank, 2)), 3)) for rank in range(2)]
    assert [len(part) for part in parts] == [3, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_tars_and_tfrecords_give_the_same_batches_whoever_reads(folders: dict[str, Path], workers: int) -> None:
    found = []
    for form, used in (("webdataset", 0), ("tfrecord", workers)):
        reading = Reading(split=opened(folders[form]), target=SIZE, words={"colour": ("Blue", "Red")})
        assert reading.split.files[0].endswith({"webdataset": ".tar", "tfrecord": ".tfrecord"}[form])
        places = draw(reading.split, Order(seed=1, epoch=1), N)
        found.append(list(batches(reading, places, 7, workers=used)))
    assert [len(batch["targets"]) for batch in found[0]] == [7, 7, 7, 7, 7, 5]
    for one, other in zip(*found, strict=True):
        for name in ("pixels", "targets", "colour"):
            assert np.array_equal(one[name], other[name])
        assert np.array_equal(one["targets"] % 2, 1 - one["colour"])  # classes 0 and 2 are red


def children() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children()]


def test_workers_end_when_a_stream_is_left_halfway(folders: dict[str, Path]) -> None:
    reading = Reading(split=opened(folders["webdataset"]), target=SIZE)
    places = draw(reading.split, Order(seed=0, epoch=0), 10_000)  # it begins again and again
    with closing(batches(reading, places, 4, workers=2)) as found:
        assert len(list(islice(found, 3))) == 3
        assert len(children()) == 2
    assert children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_photo_is_named_with_its_shard(drawn_data: Path, tmp_path: Path, workers: int) -> None:
    folder = shards_in(drawn_data, tmp_path / "shards")
    path = folder / "train-000002.tar"
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xd8\xff")
    data[start : start + 40] = bytes(40)
    path.write_bytes(bytes(data))
    reading = Reading(split=opened(folder), target=SIZE)
    with pytest.raises(DatasetError, match=r"train-000002\.tar: sample '0000000\d\d' \(number \d\): .*write the shard"):
        list(batches(reading, iter(reading.split.places()), 5, workers=workers))
    assert children() == []


def test_what_is_cut_missing_or_of_another_length_is_told_before_it_is_read(drawn_data: Path, tmp_path: Path) -> None:
    for form in ("webdataset", "tfrecord"):
        folder = shards_in(drawn_data, tmp_path / form, form)  # type: ignore[arg-type]
        path = next(folder.glob("train-000003.t*"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-700])
        with pytest.raises(DatasetError, match=rf"{path.name} has {len(whole) - 700} bytes, the manifest says"):
            opened(folder)
        path.unlink()
        with pytest.raises(DatasetError, match=rf"{path.name} cannot be read"):
            opened(folder)


def test_a_shard_with_other_samples_than_stated_is_refused(folders: dict[str, Path]) -> None:
    split = opened(folders["tfrecord"])
    wrong = ShardedSplit(files=split.files, samples=(7, *split.samples[1:]))
    with pytest.raises(DatasetError, match=r"train-000000\.tfrecord holds 6 samples, the manifest says 7"):
        Reading(split=wrong, target=SIZE).sample((0, 0))


@pytest.mark.parametrize("form", ["webdataset", "tfrecord"])
def test_a_shard_that_is_written_anew_while_it_is_learnt_from_is_refused(
    drawn_data: Path, tmp_path: Path, form: str
) -> None:
    """A build may give other numbers to as many samples of as many classes."""
    folder = shards_in(drawn_data, tmp_path, form)  # type: ignore[arg-type]
    reading = Reading(split=opened(folder), target=SIZE)
    assert reading.sample((0, 0)).class_index is not None
    later = (folder / "train-000001").with_suffix(".tar" if form == "webdataset" else ".tfrecord")
    again = tmp_path / "again"
    again.write_bytes(later.read_bytes())
    again.replace(later)
    assert reading.sample((0, 1)).class_index is not None
    for _ in range(2):
        with pytest.raises(DatasetError, match=rf"{later.name} was written anew while it was read"):
            reading.sample((1, 0))
    assert Reading(split=opened(folder), target=SIZE).sample((1, 0)).image


def test_a_checksum_of_a_record_is_compared_when_it_is_read(drawn_data: Path, tmp_path: Path) -> None:
    folder = shards_in(drawn_data, tmp_path / "shards", "tfrecord")
    path = folder / "train-000001.tfrecord"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    reading = Reading(split=opened(folder), target=SIZE)
    assert reading.sample((1, 0)).image
    with pytest.raises(DatasetError, match=r"train-000001\.tfrecord: record 5: its checksum is wrong"):
        reading.sample((1, 5))


def test_any_sample_of_any_tar_is_found(tmp_path: Path) -> None:
    picture = BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(picture, "PNG")
    names = ["a", f"folder/{'long' * 40}", "b.c/d", "ü"]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        known = names if form != tarfile.USTAR_FORMAT else names[:1] + names[2:]
        with tarfile.open(path, "w", format=form) as tar:
            folder = tarfile.TarInfo("b.c")
            folder.type = tarfile.DIRTYPE
            for number, name in enumerate(known):
                tar.addfile(folder)
                for suffix, content in (("png", picture.getvalue()), ("cls", str(number).encode()), ("txt", b"")):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, BytesIO(content))
        with ShardFile(str(path)) as shard:
            assert len(shard) == len(known)
            for number in (2, 0, 1):
                sample = shard.sample(number)
                assert (sample.key, sample.class_index, sample.image) == (known[number], number, picture.getvalue())
                assert shard.sample(number, image=False).image == b""
        assert [sample.key for sample in read_shards(path)] == known


SCRIPT = """
import multiprocessing, signal, sys
from carspotter.dataset.manifest import load_manifest
from carspotter.dataset.stream import Order, Reading, batches, draw, open_split
from carspotter.pixels import Preprocessing

signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it, and we inherit that

if __name__ == "__main__":
    split = open_split(load_manifest(sys.argv[1]), "train")
    reading = Reading(split=split, target=Preprocessing(width=32, height=32))
    for _ in batches(reading, draw(split, Order(seed=0, epoch=0), 10**9), 4, workers=2):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nobody_is_left_behind(folders: dict[str, Path], tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "stream.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "stream.py"), str(folders["webdataset"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        process.send_signal(how)
        for _ in process.stdout:  # until it ends
            pass
    assert process.returncode != 0
    until(lambda: not any(alive(pid) for pid in workers), "the workers end with who started them")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that ended and was not yet waited for, in a container without an init, works no more.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self/status").exists() else True


def test_a_worker_that_is_killed_is_told(folders: dict[str, Path]) -> None:
    reading = Reading(split=opened(folders["webdataset"]), target=SIZE)
    places: Iterator[tuple[int, int]] = draw(reading.split, Order(seed=0, epoch=0), 10_000)
    with closing(batches(reading, places, 4, workers=1)) as found:
        next(found)
        os.kill(children()[0], signal.SIGKILL)
        with pytest.raises(ComputeError, match="a worker of stage read died: killed by SIGKILL"):
            list(found)
    assert children() == []
