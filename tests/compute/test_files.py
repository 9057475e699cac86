"""Files that travel to workers that do not see them: the same bytes, for as long as the batch, and no longer."""

from dataclasses import dataclass
from pathlib import Path

from carspotter.compute.files import SentinelFile, unpacked
from compute_stages import Count


@dataclass
class Reads:
    folder: str


def test_a_stage_that_reads_no_files_has_no_landmark() -> None:
    assert SentinelFile.of(Count()) is None


def test_a_landmark_is_seen_where_the_folder_is(tmp_path: Path) -> None:
    here = tmp_path / "here"
    landmark = SentinelFile.of(Reads(str(here)))
    assert landmark.is_seen()
    there = tmp_path / "there"
    here.rename(there)
    assert not landmark.is_seen()
    here.mkdir()  # a host with a folder of that name, but another one
    assert not landmark.is_seen()
    assert SentinelFile(folder=str(there), name=landmark.name).is_seen()


def test_landmarks_are_taken_away_also_those_of_killed_runs(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    SentinelFile.of(Reads(str(tmp_path)))  # killed: never removed
    landmark = SentinelFile.of(Reads(str(tmp_path)))
    assert len(list(tmp_path.glob(".seen-*"))) == 1
    landmark.remove()
    landmark.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_files_are_read_once_and_what_cannot_be_read_stays_out(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"o")
    landmark = SentinelFile.of(Reads(str(tmp_path / "photos")))
    rows = [{"path": path} for path in ("a.jpg", "a.jpg", "absent.jpg", str(outside))] + [{"position": 1}]
    assert landmark.files(rows) == {"a.jpg": b"a", str(outside): b"o"}


def test_rows_lead_to_copies_that_go_with_the_batch() -> None:
    rows = [{"photo_id": "1", "path": "x/a.JPG"}, {"photo_id": "2", "path": "x/b.jpg"}, {"photo_id": "3"}]
    with unpacked(rows, {"x/a.JPG": b"a"}) as here:
        copy = Path(here[0]["path"])
        assert (copy.read_bytes(), copy.suffix) == (b"a", ".JPG")
        assert here[1:] == rows[1:]
    assert not copy.exists()
    assert rows[0]["path"] == "x/a.JPG"


def test_without_files_rows_are_left_alone() -> None:
    rows = [{"path": "a.jpg"}]
    with unpacked(rows, {}) as here:
        assert here is rows
