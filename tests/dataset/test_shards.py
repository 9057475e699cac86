"""Shards: there and back, the pixels of serving, equal bytes whatever happened in between, bad input named."""

import csv
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carspotter.crops import crop_of
from carspotter.dataset.crops import cut
from carspotter.dataset.manifest import load_manifest, verify
from carspotter.dataset.reader import read_tfrecord, read_webdataset
from carspotter.dataset.shards import NETWORK, ShardSettings, write
from carspotter.errors import DatasetError, ImageError, StorageError
from carspotter.geometry import BoundingBox
from carspotter.pixels import Preprocessing, decode, network_input
from carspotter.taxonomy import Taxon, Taxonomy
from waiting import NEVER_S

BOTH = ("webdataset", "tfrecord")
TAXONOMY = Taxonomy((Taxon(make="Rubin"), Taxon(make="Azur")))


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Draw smooth colours with edges, as photographs have."""
    width, height = size
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def rows_of(folder: Path, n: int = 24, size: tuple[int, int] = (320, 240)) -> list[dict[str, Any]]:
    """Save photos and return their rows: three splits, two classes."""
    (folder / "photos").mkdir(parents=True)
    rows = []
    for number in range(n):
        Image.fromarray(picture(size, number)).save(folder / "photos" / f"{number}.jpg", quality=92)
        box = {"x1": 40.0, "y1": 50.5, "x2": size[0] - 30.0, "y2": size[1] - 20.0}
        named = {"class_name": ("Rubin", "Azur")[number % 2], "class_index": number % 2}
        rows.append(
            {
                "photo_id": f"ad.{number // 2}/{number}",
                "ad_id": f"ad.{number // 2}",
                "path": f"photos/{number}.jpg",
                **box,
                **named,
                "viewpoint": "front-left",
                "split": ("train", "train", "test")[number % 3],
                "year": None,
                "said_by": "seller",
            }
        )
    return rows


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of each file of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


SMALL = ShardSettings(format=BOTH, size=64, fit="keep", pad=0.1, encoding="jpeg", per_shard=5)


def test_there_and_back(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    manifest = write(rows, SMALL, tmp_path / "out", root=tmp_path, taxonomy=TAXONOMY)
    assert manifest == load_manifest(str(tmp_path / "out")) == verify(str(tmp_path / "out"))
    assert manifest.n_samples == 24
    assert manifest.counts == {"test": {"Azur": 4, "Rubin": 4}, "train": {"Azur": 8, "Rubin": 8}}
    assert manifest.stats() | {"megabytes": 0} == {"test": 8, "train": 16, "shards": 6, "megabytes": 0, "errors": 0}
    assert json.loads((tmp_path / "out/classes.json").read_text()) == ["Rubin", "Azur"]
    assert Taxonomy.load(tmp_path / "out/taxonomy.json") == TAXONOMY
    for read in (read_webdataset, read_tfrecord):
        samples = list(read(tmp_path / "out"))
        assert [sample.key for sample in samples] == [f"{number:09d}" for number in range(24)]
        assert {sample.metadata["photo_id"] for sample in samples} == {row["photo_id"] for row in rows}
        assert {sample.metadata["split"] for sample in read(tmp_path / "out", split="test")} == {"test"}
        assert "year" not in samples[0].metadata
        for sample in samples:
            assert sample.class_index == TAXONOMY.class_index(sample.metadata["class_name"])
            height, width = decode(sample.image).pixels.shape[:2]
            assert (sample.format, min(width, height)) == ("jpeg", 64)
            assert (sample.metadata["width"], sample.metadata["height"]) == (width, height)
    assert list(read_webdataset(tmp_path / "out")) == list(read_tfrecord(str(tmp_path / "out")))


def test_samples_are_shuffled_by_the_seed_alone(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    write(rows, SMALL, tmp_path / "a", root=tmp_path)
    write(rows[::-1], SMALL, tmp_path / "b", root=tmp_path)
    write(rows, replace(SMALL, seed=1), tmp_path / "c", root=tmp_path)
    order = {name: [s.metadata["photo_id"] for s in read_webdataset(tmp_path / name)] for name in "abc"}
    assert order["a"] == order["b"] != order["c"]
    assert order["a"] != sorted(order["a"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        (ShardSettings(), 0),
        (ShardSettings(format=BOTH), 0),
        (ShardSettings(encoding="jpeg"), 48),
        (ShardSettings(size=256, fit="keep", pad=0.1), 48),
    ],
    ids=["as seen", "for TensorFlow", "JPEG", "larger"],
)
def test_training_sees_the_pixels_of_serving(tmp_path: Path, settings: ShardSettings, most: int) -> None:
    """To the byte, unless a format that loses something or another size was asked for; pictures have hard edges."""
    rows = rows_of(tmp_path, 4, size=(1600, 1200))
    write(rows, settings, tmp_path / "out", root=tmp_path)
    manifest = load_manifest(str(tmp_path / "out"))
    for sample in read_webdataset(tmp_path / "out"):
        row = next(row for row in rows if row["photo_id"] == sample.metadata["photo_id"])
        box = BoundingBox(*(row[name] for name in ("x1", "y1", "x2", "y2")))
        served = crop_of((tmp_path / row["path"]).read_bytes(), NETWORK, box).astype(int)
        pixels = decode(sample.image).pixels
        trained = pixels if manifest.cut_for == NETWORK else network_input(pixels, NETWORK, sample.box)
        assert np.abs(served - trained).max() <= most
        area = BoundingBox.from_list(sample.metadata["area"])
        pad = settings.target(NETWORK).pad
        assert area.to_list() == pytest.approx(box.pad(pad).clip(1600, 1200).to_list(), abs=0.02)


def test_a_small_vehicle_is_not_enlarged_where_proportions_are_kept() -> None:
    buffer = BytesIO()
    Image.fromarray(picture((3200, 2400))).save(buffer, "JPEG")
    target = Preprocessing(width=256, height=256, pad=0.1)
    small = cut(buffer.getvalue(), BoundingBox(1000, 1000, 1300, 1200), target, keep=True)
    assert small.pixels.shape == (60, 90, 3)  # the photo is decoded at a quarter, as in serving
    assert small.box.to_list() == pytest.approx([7.5, 5, 82.5, 55])
    tiny = cut(buffer.getvalue(), BoundingBox(1000, 1000, 1030, 1020), target)
    assert tiny.pixels.shape == (256, 256, 3)
    with pytest.raises(ImageError, match="nothing to crop"):
        cut(buffer.getvalue(), BoundingBox(4000, 10, 4100, 60), target)


def test_the_webdataset_package_reads_it(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write(rows_of(tmp_path, 6), SMALL, tmp_path / "out", root=tmp_path)
    ours = {sample.key: sample for sample in read_webdataset(tmp_path / "out", split="train")}
    path = tmp_path / "out/train-000000.tar"
    # WebDataset itself leaves its files open, which is a warning; so it gets an open one.
    with path.open("rb") as stream:
        parts = webdataset.tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
        found = list(
            map(
                webdataset.autodecode.Decoder(
                    [webdataset.autodecode.imagehandler("rgb8"), webdataset.autodecode.basichandlers]
                ),
                webdataset.tariterators.group_by_keys(parts),
            )
        )
    assert {row["__key__"] for row in found} == set(ours)
    for row in found:
        assert row["cls"] == ours[row["__key__"]].class_index
        assert row["json"] == ours[row["__key__"]].metadata
        assert row["jpg"].shape == (row["json"]["height"], row["json"]["width"], 3)


def test_the_tfrecord_package_reads_it(tmp_path: Path) -> None:
    reader = pytest.importorskip("tfrecord.reader")
    write(rows_of(tmp_path, 6), SMALL, tmp_path / "out", root=tmp_path)
    path = next((tmp_path / "out").glob("train-*.tfrecord"))
    for row, sample in zip(reader.tfrecord_loader(str(path), None), read_tfrecord(path), strict=True):
        assert bytes(row["image/encoded"]) == sample.image
        assert row["image/class/label"].tolist() == [sample.class_index]
        assert row["image/object/class/label"].tolist() == [(sample.class_index or 0) + 1]
        assert bytes(row["image/object/view"]) == b"front-left"
        assert sample.box is not None
        left = sample.box.x1 / sample.metadata["width"]
        assert row["image/object/bbox/xmin"].tolist() == pytest.approx([left])


def test_photos_that_cannot_be_read_are_rows(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 6)
    (tmp_path / rows[0]["path"]).write_bytes(b"no photo")
    (tmp_path / rows[1]["path"]).unlink()
    rows[2]["x2"] = -1.0
    rows[3] |= {"x1": 5000.0, "x2": 5100.0}
    manifest = write(rows, SMALL, tmp_path / "out", root=tmp_path)
    found = {error["photo_id"]: (error["code"], error["message"]) for error in manifest.errors}
    assert {rows[number]["photo_id"] for number in range(4)} == set(found)
    codes = [found[rows[number]["photo_id"]][0] for number in range(4)]
    assert codes == ["unsupported-format", "storage", "dataset", "empty"]
    assert manifest.n_samples == 2
    assert (tmp_path / "out/errors.csv").read_text().count("\n") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": None}, "lacks split"),
        ({"photo_id": "ad.1/2"}, "is in split .* twice"),
        ({"class_index": 1}, "class_index 1 is 'Azur' and 'Rubin'"),
        ({"class_index": 7}, "class has two values of class_index"),
        ({"split": "../train"}, "must be a word"),
        ({"extra": {1, 2}}, "what JSON cannot"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = rows_of(tmp_path, 6)
    rows[0] |= change
    rows[2]["split"] = rows[0]["split"]
    with pytest.raises(DatasetError, match=message):
        write(rows, SMALL, tmp_path / "out", root=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": ()}, "must name webdataset"),
        ({"format": ("zip",)}, "format is 'zip'"),
        ({"fit": "stretch"}, "fit is 'stretch'; allowed: keep, squash"),
        ({"size": 8}, "size is 8; it must be from 16"),
        ({"pad": 2.0}, "pad is 2.0"),
        ({"quality": 101}, "quality is 101"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShardSettings(**settings)


def test_no_rows_give_no_shards(tmp_path: Path) -> None:
    assert write([], SMALL, tmp_path).n_samples == 0


def test_finished_shards_are_kept_and_stale_ones_go(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    out = tmp_path / "out"
    write(rows, SMALL, out, root=tmp_path)
    (out / "notes-000000.json").write_text("{}")  # not ours, though named like it
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    write(rows, SMALL, out, root=tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == times
    (out / "train-000001.tar").write_bytes(b"cut")
    write(rows, SMALL, out, root=tmp_path)
    changed = {path.name for path in out.glob("*.tar") if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"train-000001.tar"}
    write([row for row in rows if row["split"] == "train"], ShardSettings(size=64), out, root=tmp_path)
    named = {path.name for path in out.iterdir()}
    assert named == {
        "notes-000000.json",
        "train-000000.tar",
        "train-000000.json",
        "manifest.json",
        "classes.json",
        "errors.csv",
    }


def test_a_taxonomy_goes_with_its_classes(tmp_path: Path) -> None:
    write(rows_of(tmp_path, 6), SMALL, tmp_path / "out", root=tmp_path, taxonomy=TAXONOMY)
    write([], SMALL, tmp_path / "out", root=tmp_path)
    assert not (tmp_path / "out/taxonomy.json").exists()


def test_a_shard_that_lacks_a_photo_for_now_is_written_again(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 6)
    away, broken = (tmp_path / rows[number]["path"] for number in (0, 1))
    away.rename(tmp_path / "away")
    broken.write_bytes(b"no photo")
    assert write(rows, SMALL, tmp_path / "out", root=tmp_path).n_samples == 4
    (tmp_path / "away").rename(away)
    assert write(rows, SMALL, tmp_path / "out", root=tmp_path).n_samples == 5


KILLED = f"""
import json, sys
from pathlib import Path
from carspotter.dataset.shards import ShardSettings, write
folder = Path(sys.argv[1])
rows = json.loads((folder / "rows.json").read_text())
settings = {SMALL!r}
def told(done, total):
    print(done, flush=True)
    sys.stdin.read()  # until it is killed
write(rows, settings, folder / "killed", root=folder, progress=told)
"""


def test_killed_half_way_and_done_again_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    write(rows, SMALL, tmp_path / "whole", root=tmp_path)
    source = str(Path(__file__).parents[2] / "src")
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    with program.stdin, program.stdout:
        assert int(program.stdout.readline()) < 24
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    with pytest.raises(DatasetError, match="being written, or writing was stopped"):
        list(read_webdataset(tmp_path / "killed"))
    done: list[int] = []
    kept = len(list((tmp_path / "killed").glob("*-0*.json")))
    write(rows, SMALL, tmp_path / "killed", root=tmp_path, progress=lambda n, total: done.append(n))
    assert kept > 0
    assert len(done) == 6 - kept
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_stop_between_the_files_of_a_shard_leaves_none_that_counts(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    out = tmp_path / "out"
    write(rows, SMALL, out, root=tmp_path)
    whole = contents(out)
    (out / "train-000000.json").unlink()
    (out / "train-000000.tfrecord").unlink()
    write(rows, SMALL, out, root=tmp_path)
    assert contents(out) == whole


def test_spawned_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 8)
    write(rows, SMALL, tmp_path / "one", root=tmp_path)
    write(rows, replace(SMALL, workers=2), tmp_path / "two", root=tmp_path)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


ELSEWHERE = f"""
import json, sys
from pathlib import Path
from carspotter.dataset.shards import ShardSettings, write
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    rows = json.loads((folder / "rows.json").read_text())
    write(rows, {SMALL!r}, folder / "ray", root=folder, on="ray", workers=2)
"""


@pytest.mark.slow
def test_a_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    rows = rows_of(tmp_path)
    rows[3]["path"] = "missing.jpg"
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    write(rows, SMALL, tmp_path / "here", root=tmp_path)
    program = tmp_path / "program.py"  # a fresh interpreter: Ray's threads stay out of this one
    program.write_text(ELSEWHERE)
    done = subprocess.run([sys.executable, str(program), str(tmp_path)], capture_output=True, timeout=NEVER_S)
    assert done.returncode == 0, done.stderr.decode()
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
    assert [error["path"] for error in load_manifest(str(tmp_path / "ray")).errors] == ["missing.jpg"]


def test_a_photo_that_kills_its_worker_is_a_row(tmp_path: Path) -> None:
    """Its server kills whoever asks for it, as a kernel without memory does; the others of its batch are cut."""

    class Deadly(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for worker in multiprocessing.active_children():
                worker.kill()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    rows = rows_of(tmp_path, 8)
    with ThreadingHTTPServer(("127.0.0.1", 0), Deadly) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        deadly = rows[3] | {"path": f"http://127.0.0.1:{server.server_port}/deadly.jpg"}
        manifest = write([*rows[:3], deadly, *rows[4:]], replace(SMALL, workers=1), tmp_path / "out", root=tmp_path)
        server.shutdown()
    assert manifest == verify(str(tmp_path / "out"))
    kept = {sample.metadata["photo_id"] for sample in read_webdataset(tmp_path / "out")}
    assert kept == {row["photo_id"] for row in rows if row is not rows[3]}
    with (tmp_path / "out/errors.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                **{name: str(deadly[name]) for name in ("photo_id", "path", "split")},
                "code": "error",
                "message": "the worker died on this row: killed by SIGKILL",
            }
        ]


def test_a_folder_that_cannot_be_written_stops(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 2)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written"):
        write(rows, SMALL, tmp_path / "file", root=tmp_path)


def test_each_cut_of_a_tar_is_found(tmp_path: Path) -> None:
    write(rows_of(tmp_path, 3), SMALL, tmp_path / "out", root=tmp_path)
    whole = next((tmp_path / "out").glob("train*.tar")).read_bytes()
    path = tmp_path / "cut.tar"
    with tarfile.open(next((tmp_path / "out").glob("train*.tar"))) as tar:
        ends = [member.offset for member in tar] + [sum((m.offset_data, m.size)) for m in tar]
    for size in [0, 100, 700, *ends]:
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match=r"cut\.tar is cut, or no tar"):
            list(read_webdataset(path))


def test_damage_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(rows_of(tmp_path, 6), SMALL, out, root=tmp_path)
    path = next(out.glob("train*.tar"))
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"train-000000\.tar: sha256 is"):
        verify(str(out))
    path.write_bytes(b"x" * 512 + bytes(1024))
    with pytest.raises(DatasetError, match="is damaged, or no tar"):
        list(read_webdataset(path))
    path.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        list(read_webdataset(out))
    with pytest.raises(DatasetError, match="no shards at"):
        list(read_webdataset(tmp_path / "absent"))
    with pytest.raises(DatasetError, match=r"no \.tar file of split 'validation'"):
        list(read_webdataset(out, split="validation"))


def test_foreign_tars_are_read(tmp_path: Path) -> None:
    image = picture((32, 24))
    Image.fromarray(image).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "folder.1/a.png")
        tar.add(tmp_path / "a.png", "folder.1/b.PNG")
    samples = list(read_webdataset(tmp_path / "x.tar"))
    assert [(sample.key, sample.format, sample.metadata) for sample in samples] == [
        ("folder.1/a", "png", {}),
        ("folder.1/b", "png", {}),
    ]
    assert samples[0].box is None
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.txt")
    with pytest.raises(DatasetError, match="sample 'a' has txt and no image"):
        list(read_webdataset(tmp_path / "x.tar"))
