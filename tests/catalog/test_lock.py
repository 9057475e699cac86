"""One writer at a time: a second is refused at once, and a killed one leaves nothing locked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import carspotter
from carspotter.catalog.catalog import Catalog
from carspotter.errors import CatalogError

SOURCE = Path(carspotter.__file__).parent.parent

HOLD = """
import sys
from carspotter.catalog.catalog import Catalog
with Catalog.open(sys.argv[1]) as catalog, catalog.writer():
    catalog.append("checks", [{"photo_id": "held"}])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env={**os.environ, "PYTHONPATH": str(SOURCE)}) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_readers_are_not(holder: subprocess.Popen, tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        for write in (
            lambda: catalog.append("checks", [{"photo_id": "a"}]),
            lambda: catalog.replace("samples", []),
            lambda: catalog.compact(),
            lambda: catalog.writer().__enter__(),
        ):
            with pytest.raises(CatalogError) as caught:
                write()
            assert str(caught.value) == (
                f"{tmp_path} is being built by process {holder.pid}; wait until it has finished, or stop it"
            )
        assert catalog.rows("SELECT photo_id FROM checks") == [{"photo_id": "held"}]


def test_a_killed_writer_leaves_nothing_locked(holder: subprocess.Popen, tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").read_text() == str(holder.pid)  # the file is there, the lock is not
    with Catalog.open(tmp_path) as catalog, catalog.writer():
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
        catalog.append("checks", [{"photo_id": "b"}])
        assert catalog.count("checks") == 2


def test_two_catalogues_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as first, Catalog.open(tmp_path) as second:
        with first.writer(), first.writer():
            first.append("checks", [{"photo_id": "a"}])
            with pytest.raises(CatalogError, match=f"is being built by process {os.getpid()}"):
                second.append("checks", [{"photo_id": "b"}])
        second.append("checks", [{"photo_id": "b"}])
        assert first.count("checks") == 2


def test_the_lock_is_let_go_when_a_build_fails(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        with pytest.raises(RuntimeError), catalog.writer():
            raise RuntimeError
        with Catalog.open(tmp_path) as other, other.writer():
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with Catalog.open(tmp_path) as catalog, pytest.raises(CatalogError, match=r"\.lock: cannot be opened to lock"):
        catalog.append("checks", [{"photo_id": "a"}])


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("carspotter.catalog.lock._lock", refuse)
    with Catalog.open(tmp_path) as catalog, pytest.raises(CatalogError) as caught:
        catalog.append("checks", [{"photo_id": "a"}])
    assert "this file system cannot lock files (Operation not supported); keep the project on a local disk" in str(
        caught.value
    )
