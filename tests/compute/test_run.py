"""Running a row stage: every row answered once, whatever goes wrong, and nothing lost by a kill."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from carspotter.catalog.catalog import Catalog
from carspotter.compute import in_order, run
from carspotter.errors import BundleError, ComputeError
from compute_stages import Count, fill
from waiting import NEVER_S, until

N = 50
TESTS = Path(__file__).parent.parent


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    fill(tmp_path, N)
    with Catalog.open(tmp_path) as opened:
        yield opened


def facts(catalog: Catalog, table: str = "files") -> dict[str, tuple[str, str | None]]:
    rows = catalog.rows(f"SELECT photo_id, status, message FROM {table}")
    assert len(rows) == len({row["photo_id"] for row in rows})
    return {row["photo_id"]: (row["status"], row["message"]) for row in rows}


GOOD = {f"a/{i:05}": ("ok", None) for i in range(N)}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_is_answered_once(catalog: Catalog, workers: int) -> None:
    heard: list[tuple[int, int]] = []
    summary = run(Count(), catalog, workers=workers, batch_size=8, progress=lambda *pair: heard.append(pair))
    assert (summary.done, summary.errors) == (N, {})
    assert facts(catalog) == facts(catalog, "checks") == GOOD
    assert heard[-1] == (N, N)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert run(Count(), catalog, workers=workers).done == 0


def test_a_stage_is_set_up_once_in_each_worker(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "setups"
    folder.mkdir()
    run(Count(folder=str(folder)), catalog, workers=2, batch_size=4)
    assert len(list(folder.iterdir())) == 2


def test_no_more_workers_are_started_than_there_are_batches(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "setups"
    folder.mkdir()
    run(Count(folder=str(folder)), catalog, workers=4, batch_size=N)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "workers", "message"),
    [
        ("raises", 0, "ValueError: cannot be done"),
        ("raises", 2, "ValueError: cannot be done"),
        ("exits", 2, "the worker died on this row: ended with exit code 3"),
        ("killed", 1, "the worker died on this row: killed by SIGKILL"),
    ],
)
def test_a_deadly_row_is_an_error_row_and_the_others_are_answered(
    catalog: Catalog, kind: str, workers: int, message: str
) -> None:
    summary = run(Count(kind=kind), catalog, workers=workers, batch_size=8)
    assert summary.errors == {"error": 1}
    assert facts(catalog) == facts(catalog, "checks") == {**GOOD, "a/00007": ("error", message)}


@pytest.mark.parametrize(("kind", "workers"), [("raises", 0), ("killed", 1)])
def test_a_row_that_failed_is_tried_once_by_each_later_run(catalog: Catalog, kind: str, workers: int) -> None:
    for done in (N, 1, 1):
        summary = run(Count(kind=kind), catalog, workers=workers, batch_size=N)
        assert (summary.done, summary.errors) == (done, {"error": 1})
    assert (run(Count(), catalog, workers=workers).done, facts(catalog)) == (1, GOOD)
    assert run(Count(), catalog, workers=workers).done == 0


def test_a_row_that_hangs_is_an_error_row_and_the_others_are_answered(catalog: Catalog) -> None:
    summary = run(Count(kind="hangs", writes={"checks": "1"}), catalog, workers=1, batch_size=2, row_s=3.0)
    assert summary.errors == {"error": 1}
    message = "the worker died on this row: it took longer than 3 s"
    assert facts(catalog, "checks") == {**GOOD, "a/00007": ("error", message)}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("forgets", "gave 7 rows of files for 8 that lack one"),
        ("twice", "gave 9 rows of files for 8"),
        ("unknown", "fills table 'fils', but it writes files, checks"),
    ],
)
def test_a_stage_that_answers_wrongly_is_a_fault_of_the_stage(
    catalog: Catalog, kind: str, message: str, workers: int
) -> None:
    with pytest.raises(ComputeError, match=message):
        run(Count(kind=kind), catalog, workers=workers, batch_size=8)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("setup", ComputeError, "stage count cannot be set up: ValueError: no network"),
        ("bundle", BundleError, "no bundle at x"),
        ("setup-dies", ComputeError, "died while it was set up: ended with exit code 9"),
    ],
)
def test_a_setup_that_fails_ends_the_run_at_once(
    catalog: Catalog, kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(Count(kind=kind), catalog, workers=1)


def test_a_setup_that_hangs_ends_the_run(catalog: Catalog) -> None:
    with pytest.raises(ComputeError, match="stage count was not set up within 2 s"):
        run(Count(kind="setup-hangs"), catalog, workers=2, batch_size=8, setup_s=2.0)


def test_only_what_lacks_is_asked_for(catalog: Catalog) -> None:
    done = [{"photo_id": f"a/{i:05}", "status": "old"} for i in range(10)]
    catalog.append("files", done, version="1")
    summary = run(Count(), catalog, workers=0)
    assert summary.done == N
    assert facts(catalog)["a/00003"] == ("old", None)
    assert facts(catalog, "checks") == GOOD


def test_a_new_version_is_done_anew(catalog: Catalog) -> None:
    run(Count(), catalog, workers=0)
    assert run(Count(writes={"files": "2", "checks": "1"}), catalog, workers=0).done == N
    assert catalog.rows("SELECT DISTINCT stage_version FROM files") == [{"stage_version": "2"}]


def test_an_unknown_place_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ComputeError, match=r"on is 'spark'; allowed: local, ray"):
        run(Count(), catalog, on="spark")


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it, and we inherit that
import sys
sys.path.insert(0, {tests!r})
from compute_stages import Count
from carspotter.catalog.catalog import Catalog
from carspotter.compute import run
if __name__ == "__main__":
    with Catalog.open({project!r}) as catalog:
        run(Count(gate={project!r} + "/gate", folder={project!r}, kind={kind!r}), catalog, workers=2, batch_size=4)
"""


def start(project: Path, kind: str = "good") -> subprocess.Popen[bytes]:
    program = project / "program.py"
    program.write_text(PROGRAM.format(tests=str(TESTS), project=str(project), kind=kind))
    return subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for_rows(catalog: Catalog, least: int) -> int:
    until(lambda: catalog.count("files") >= least, "the run writes")
    return catalog.count("files")


def alive(project: Path) -> list[int]:
    """Give the workers that are still there, by the files of their setup."""
    pids = {int(path.name.split("-")[1]) for path in project.glob("setup-*")}
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in _state(pid)]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who lives")
def test_a_killed_run_goes_on_and_leaves_no_worker(tmp_path: Path) -> None:
    fill(tmp_path, 400)
    with Catalog.open(tmp_path) as catalog:
        process = start(tmp_path)
        try:
            before = wait_for_rows(catalog, 20)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            (tmp_path / "gate").touch()  # a worker notices when it hands its batch over
        until(lambda: not alive(tmp_path), "no worker is left")
        kept = catalog.count("files")
        assert before <= kept < 400
        # A part of `files` may be there whose part of `checks` was not written any more.
        assert run(Count(), catalog, workers=2, batch_size=4).done <= 400 - kept + 4
        assert facts(catalog) == facts(catalog, "checks") == {f"a/{i:05}": ("ok", None) for i in range(400)}


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who lives")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("kind", ["hangs", "setup-hangs"])
def test_a_worker_that_hangs_ends_with_its_parent(tmp_path: Path, kind: str, end: signal.Signals) -> None:
    fill(tmp_path, N)
    process = start(tmp_path, kind)
    try:
        until(lambda: len(alive(tmp_path)) == 2, "both workers are there")
        if kind == "hangs":
            with Catalog.open(tmp_path) as catalog:
                wait_for_rows(catalog, N - 4)
    finally:
        process.send_signal(end)
        process.wait()
    until(lambda: not alive(tmp_path), "no worker is left")


ON_RAY = """
import sys
sys.path.insert(0, {tests!r})
from compute_stages import Count
from carspotter.catalog.catalog import Catalog
from carspotter.compute import run
if __name__ == "__main__":
    with Catalog.open({project!r}) as catalog:
        stage = Count(kind={kind!r}, writes={{"checks": "1", "embeddings": "1"}})
        run(stage, catalog, workers=2, batch_size=8, on={where!r}, row_s=3.0, setup_s=5.0)
"""


def run_on(project: Path, where: str, kind: str) -> subprocess.CompletedProcess[bytes]:
    """Run a stage in a fresh interpreter: Ray's threads stay out of this one."""
    fill(project, N)
    program = project / "program.py"
    program.write_text(ON_RAY.format(tests=str(TESTS), project=str(project), kind=kind, where=where))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, str(program)], timeout=NEVER_S, env=environment, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raises", "exits", "hangs"])
def test_a_ray_run_gives_the_same_tables(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("ray")
    tables = {}
    for where in ("local", "ray"):
        project = tmp_path / where
        project.mkdir()
        done = run_on(project, where, kind)
        assert done.returncode == 0, done.stderr.decode()
        with Catalog.open(project) as catalog:
            tables[where] = {name: status for name, (status, _) in facts(catalog, "checks").items()}
            if kind == "hangs":
                assert facts(catalog, "checks")["a/00007"][1] == "the worker died on this row: it took longer than 3 s"
            assert facts(catalog, "embeddings") == facts(catalog, "checks")
    assert tables["ray"] == tables["local"]
    assert tables["ray"]["a/00007"] == "error"


@pytest.mark.slow
def test_a_setup_that_hangs_ends_a_ray_run(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = run_on(tmp_path, "ray", "setup-hangs")
    assert done.returncode == 1
    assert b"stage count was not set up within 5 s" in done.stderr


@pytest.mark.parametrize("workers", [0, 3])
def test_endless_rows_are_answered_in_order_and_taken_a_few_at_a_time(workers: int) -> None:
    taken: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for position in count(100):  # no row of the bad kinds
            taken.append(position)
            yield {"photo_id": f"a/{position}", "position": position, "lacks": ["files"]}

    with closing(in_order(Count(writes={"files": "1"}), rows(), workers=workers)) as answers:
        for position, answer in zip(range(100, 140), answers, strict=False):
            assert answer["photo_id"] == f"a/{position}"
            assert len(taken) <= position - 100 + max(1, 2 * workers) + 1
    assert multiprocessing.active_children() == []


def test_a_row_that_raises_is_told_in_its_place() -> None:
    rows = [{"photo_id": f"a/{n}", "position": n, "lacks": ["files"]} for n in range(10)]
    answers = list(in_order(Count(kind="raises", at=7, writes={"files": "1"}), rows, workers=2))
    assert [answer["status"] for answer in answers] == ["ok"] * 7 + ["error"] + ["ok"] * 2
