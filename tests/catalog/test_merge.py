"""Small parts become large ones: by themselves, on request, and while others read."""

import threading
from pathlib import Path

import numpy as np
import pytest

from carspotter.catalog import merge
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.known import KnownKeys


def parts(project: Path, table: str = "checks") -> list[str]:
    return sorted(path.name[:26] for path in (project / "catalog" / table).glob("*.parquet"))


def append(catalog: Catalog, number: int, *, rows: int = 2) -> None:
    keys = [f"{number:05d}/{row}" for row in range(rows)]
    catalog.append("checks", {"photo_id": keys, "width": [number] * rows})


def test_many_appends_leave_few_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FAN_IN", 4)
    with Catalog.open(tmp_path) as catalog, catalog.writer():
        for number in range(1, 23):
            append(catalog, number)
            assert catalog.count("checks") == number * 2
    # 16 appends merged twice, 4 once, 2 not yet
    assert parts(tmp_path) == [
        "part-0000000001-0000000016",
        "part-0000000017-0000000020",
        "part-0000000021-0000000021",
        "part-0000000022-0000000022",
    ]


def test_compacting_leaves_one_part_and_the_same_rows(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        for number in range(5):
            append(catalog, number)
        catalog.append("checks", [{"photo_id": "00002/1", "height": 7}, {"photo_id": "9"}], version="2")
        before = catalog.rows("SELECT * FROM checks ORDER BY photo_id")
        assert catalog.compact() == ["checks"]
        assert catalog.rows("SELECT * FROM checks ORDER BY photo_id") == before
        assert len(before) == 11
        assert parts(tmp_path) == ["part-0000000001-0000000006"]
        assert catalog.compact() == []
        assert catalog.compact(full=True) == []


def test_a_superseded_row_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FAN_IN", 3)
    with Catalog.open(tmp_path) as catalog:
        with catalog.writer():
            append(catalog, 0)  # its rows are superseded by a part that is merged, twice
            for number in range(1, 15):
                catalog.append("checks", [{"photo_id": "00000/0", "width": number}, {"photo_id": f"{number}"}])
                assert catalog.rows("SELECT width FROM checks WHERE photo_id = '00000/0'") == [{"width": number}]
        assert catalog.count("checks") == 16


def test_a_large_part_is_left_alone_by_a_small_tail(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        append(catalog, 0, rows=50_000)
        append(catalog, 1)
        append(catalog, 2)
        assert catalog.compact() == ["checks"]
        assert parts(tmp_path) == ["part-0000000001-0000000001", "part-0000000002-0000000003"]
        assert catalog.compact() == []
        assert catalog.compact(full=True) == ["checks"]
        assert catalog.count("checks") == 50_004


def test_many_superseding_rows_make_compacting_rewrite_the_table(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        append(catalog, 0, rows=50_000)
        append(catalog, 0, rows=3_000)
        assert catalog.compact() == ["checks"]
        assert parts(tmp_path) == ["part-0000000001-0000000002"]
        assert catalog.count("checks") == 50_000
        assert catalog.compact() == []


def test_vectors_stay_as_they_are_through_a_merger(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float16)
    with Catalog.open(tmp_path) as catalog:
        for number, vector in enumerate(vectors):
            catalog.append("embeddings", [{"photo_id": f"{number}", "embedding": vector}])
        catalog.append("embeddings", [{"photo_id": "9"}])
        catalog.append("checks", [{"photo_id": "a", "phash": 2**64 - 1}])
        catalog.append("checks", [{"photo_id": "b"}])
        assert catalog.compact() == ["checks", "embeddings"]
        found = catalog.columns("SELECT embedding FROM embeddings WHERE photo_id < '9' ORDER BY photo_id")["embedding"]
        np.testing.assert_array_equal(found, vectors.astype(np.float32))
        assert catalog.rows("SELECT embedding FROM embeddings WHERE photo_id = '9'") == [{"embedding": None}]
        assert catalog.rows("SELECT phash FROM checks ORDER BY photo_id") == [{"phash": 2**64 - 1}, {"phash": None}]


def test_sources_of_a_merger_that_was_killed_before_it_swept_do_not_count(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        for number in range(3):
            append(catalog, number)
        sources = {path: path.read_bytes() for path in (tmp_path / "catalog" / "checks").iterdir()}
        catalog.compact()
        for path, content in sources.items():
            path.write_bytes(content)
        assert catalog.count("checks") == 6
        assert catalog.rows("SELECT count(*) AS n FROM checks GROUP BY photo_id HAVING n > 1") == []
        with catalog.writer():
            pass
    assert parts(tmp_path) == ["part-0000000001-0000000003"]


def test_readers_see_whole_appends_while_a_writer_appends_and_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "FAN_IN", 4)
    done = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with Catalog.open(tmp_path) as catalog, catalog.writer():
                for number in range(60):
                    append(catalog, number, rows=10)
        except BaseException as error:  # noqa: BLE001  # shown by the assertion below
            errors.append(error)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    with Catalog.open(tmp_path) as reader:
        while not done.is_set():
            row = reader.rows("SELECT count(*) AS n, count(DISTINCT photo_id) AS keys FROM checks")[0]
            assert row["n"] == row["keys"]
            assert row["n"] % 10 == 0
            seen.append(row["n"])
    writer.join()
    assert not errors
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_reader_whose_parts_were_merged_away_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog.open(tmp_path) as writer, Catalog.open(tmp_path) as reader:
        for number in range(3):
            append(writer, number)
        show = reader._questions._show

        def show_and_lose(names: list[str]) -> None:
            show(names)
            writer.compact(full=True)  # between the listing and the reading

        monkeypatch.setattr(reader._questions, "_show", show_and_lose)
        assert reader.count("checks") == 6
        assert reader.columns("SELECT photo_id FROM checks")["photo_id"].shape == (6,)
        append(writer, 9)
        assert len(list(reader.pending("FROM checks", {"checks": "2"}))) == 8


def test_known_keys_are_remembered_in_order_of_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carspotter.catalog.known._RECENT", 50)
    known = KnownKeys()
    for start in range(0, 1000, 10):
        assert known.add([f"k{number}" for number in range(start, start + 10)])
    for number in range(1000):
        assert not known.add([f"k{number}"])
    assert not known.add(["new", "k5"])
    assert not known.add(["new"])
    assert known.add([])
