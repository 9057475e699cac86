"""Parts on a disk: damaged, foreign, older and newer ones, leftovers, and a disk that is full."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carspotter.catalog import merge
from carspotter.catalog.catalog import Catalog
from carspotter.errors import CatalogError


def part_files(project: Path, table: str = "checks") -> list[Path]:
    return sorted((project / "catalog" / table).glob("*.parquet"))


def fill(project: Path) -> list[Path]:
    with Catalog.open(project) as catalog, catalog.writer():
        for part in range(3):
            catalog.append("checks", [{"photo_id": f"{part}/{row}", "width": row} for row in range(500)])
    return part_files(project)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def remark(table: pa.Table, **mark: Any) -> pa.Table:
    old = json.loads(table.schema.metadata[b"carspotter"])
    return table.replace_schema_metadata({b"carspotter": json.dumps(old | mark).encode()})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(4, len(data) // 3):
        data[place] ^= 0xFF
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no bytes": (lambda path: path.write_bytes(b""), "this part of the catalogue is damaged ("),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "is damaged ("),
    "no end": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged ("),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is damaged ("),
    "a picture": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" * 100), "is damaged ("),
    "flipped pages": (flip, "is damaged ("),
    "no key": (lambda path: rewrite(path, lambda t: t.drop(["photo_id"])), "is damaged (it has no column photo_id)"),
    "no version": (lambda path: rewrite(path, lambda t: t.drop(["stage_version"])), "no column stage_version"),
    "another type": (
        lambda path: rewrite(path, lambda t: t.set_column(1, "width", t["width"].cast(pa.string()))),
        "column width is of type string; table checks has int64 there",
    ),
    "no mark": (
        lambda path: rewrite(path, lambda t: t.replace_schema_metadata(None)),
        "not written by carspotter; move it away",
    ),
    "newer": (
        lambda path: rewrite(path, lambda t: remark(t, format=2)),
        "written by a newer carspotter (format 2, this one reads up to 1); upgrade it",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_and_can_be_moved_away(damage: str, tmp_path: Path) -> None:
    middle = fill(tmp_path)[1]
    change, message = DAMAGES[damage]
    change(middle)
    with Catalog.open(tmp_path) as catalog:
        for ask in (
            lambda: catalog.rows("SELECT photo_id, sum(width) FROM checks GROUP BY photo_id"),
            lambda: catalog.columns("SELECT * FROM checks"),
            lambda: list(catalog.pending("FROM checks", {"checks": "2"})),
            lambda: catalog.compact(full=True),
        ):
            with pytest.raises(CatalogError) as caught:
                ask()
            assert str(middle) in str(caught.value)
            assert message in str(caught.value)
            assert "\n" not in str(caught.value)
    shutil.move(middle, tmp_path / "kept.parquet")
    with Catalog.open(tmp_path) as catalog:
        assert catalog.count("checks") == 1000
        catalog.append("checks", [{"photo_id": "1/0"}])
        assert catalog.count("checks") == 1001


def test_other_tables_can_be_asked_while_one_is_damaged(tmp_path: Path) -> None:
    fill(tmp_path)[0].write_bytes(b"")
    with Catalog.open(tmp_path) as catalog:
        catalog.append("files", [{"photo_id": "a"}])
        assert catalog.count("files") == 1


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    shutil.copy(path, path.with_name("copy.parquet"))
    with Catalog.open(tmp_path) as catalog:
        with pytest.raises(
            CatalogError, match=r"copy\.parquet: its name is not that of a part of a catalogue; move it"
        ):
            catalog.count("checks")
        (path.parent / "copy.parquet").rename(path.parent / "copy.parquet.old")
        assert catalog.count("checks") == 1500


def test_what_a_killed_writer_left_is_passed_over_and_swept(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    leftover = path.with_name("part-0000000009-0000000009-0-0123456789ab.parquet.tmp")
    leftover.write_bytes(path.read_bytes()[:100])
    spill = tmp_path / "catalog" / ".spill-0123456789ab"
    spill.mkdir()
    (spill / "duckdb_temp_block-1.block").write_bytes(b"x")
    with Catalog.open(tmp_path) as catalog:
        assert catalog.count("checks") == 1500
        assert leftover.exists()  # a reader may not know whether a writer is at work
        with catalog.writer():
            assert not leftover.exists()
            assert spill.exists()  # perhaps a reader's
        os.utime(spill, (0, 0))
        with catalog.writer():
            assert not spill.exists()


def test_a_part_from_before_a_column_was_added_reads_null(tmp_path: Path) -> None:
    oldest, *_ = fill(tmp_path)
    rewrite(oldest, lambda table: table.drop(["width"]))
    with Catalog.open(tmp_path) as catalog:
        sql = "SELECT width, height FROM checks WHERE photo_id = ?"
        assert catalog.rows(sql, "0/7") == [{"width": None, "height": None}]
        assert catalog.rows(sql, "1/7") == [{"width": 7, "height": None}]
        catalog.compact(full=True)
        assert catalog.rows(sql, "0/7") == [{"width": None, "height": None}]
        assert catalog.rows(sql, "1/7") == [{"width": 7, "height": None}]


def test_a_column_of_a_newer_carspotter_is_passed_over_and_kept(tmp_path: Path) -> None:
    newest = fill(tmp_path)[-1]
    rewrite(newest, lambda table: table.append_column("colour", pa.array(["red"] * 500)))
    with Catalog.open(tmp_path) as catalog:
        assert "colour" not in catalog.rows("SELECT * FROM checks LIMIT 1")[0]
        assert catalog.compact(full=True) == ["checks"]
        assert catalog.count("checks") == 1500
    (merged,) = part_files(tmp_path)
    colours = pq.read_table(merged)["colour"].to_pylist()
    assert colours == [None] * 1000 + ["red"] * 500


def test_a_part_is_as_wide_as_its_rows(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    schema = pq.read_schema(path)
    assert schema.names == ["photo_id", "width", "stage_version"]
    with Catalog.open(tmp_path) as catalog:
        catalog.append("embeddings", [{"photo_id": "a", "embedding": [0.5]}])
    assert pq.read_schema(part_files(tmp_path, "embeddings")[0]).field("embedding").type == pa.list_(pa.float16())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs rights that are lacking here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def keep_appending(catalog: Catalog, start: int) -> int:
    """Append until the disk is full; return how many appends went in."""
    for number in range(start, 1000):
        noise = os.urandom(2048).hex()  # does not compress
        try:
            catalog.append("checks", [{"photo_id": f"{number}", "message": noise}])
        except CatalogError as error:
            message = str(error)
            break
    else:
        number, message = 1000, "the disk was never full"
    assert "a part of table checks cannot be written (No space left on device)" in message
    assert "make room, then run the same command again" in message
    return number


@pytest.mark.parametrize("fan_in", [4, 1000])
def test_a_full_disk_loses_nothing(small_disk: Path, fan_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FAN_IN", fan_in)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(24 << 10))
    with Catalog.open(small_disk) as catalog, catalog.writer():
        first = keep_appending(catalog, 0)
        assert not list((small_disk / "catalog").rglob("*.tmp"))
        ids = {row["photo_id"] for row in catalog.rows("SELECT photo_id FROM checks")}
        assert ids == {str(number) for number in range(first)}
        ballast.unlink()
        second = keep_appending(catalog, first)
        assert second > first
        assert catalog.count("checks") == second
    with Catalog.open(small_disk) as catalog:
        assert catalog.count("checks") == second
