"""A writer that is killed at any moment: each append is there whole or not at all, and nothing is there twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import carspotter
from carspotter.catalog.catalog import Catalog

SOURCE = Path(carspotter.__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
ROWS = 7

# Says after each append that it is done; every key is also superseded once.
PROGRAM = """
import itertools, sys
from carspotter.catalog import merge
from carspotter.catalog.catalog import Catalog
merge.FAN_IN = 4
start, rows = int(sys.argv[2]), int(sys.argv[3])
with Catalog.open(sys.argv[1]) as catalog, catalog.writer():
    print(flush=True)
    for number in itertools.count(start):
        for version in ("1", "2"):
            keys = [f"{number:06d}/{row}" for row in range(rows)]
            catalog.append("checks", {"photo_id": keys, "width": [number] * rows}, version=version)
        catalog.replace("samples", {"photo_id": [f"{row}" for row in range(number)]})
        if number % 5 == 0:
            catalog.compact(full=number % 10 == 0)
        print(number, flush=True)
"""


def run_and_kill(project: Path, start: int, seconds: float, *, after_one: bool = False) -> int:
    """Append until killed, `after_one` not before a number is done; return the first not reported as done."""
    command = [sys.executable, "-c", PROGRAM, str(project), str(start), str(ROWS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        process.stdout.readline()
        first = process.stdout.readline().decode() if after_one else ""
        time.sleep(seconds)  # what is tested: any moment; whether it is early or late, what is there is checked
        process.send_signal(signal.SIGKILL)
        done = (first + process.stdout.read().decode()).splitlines()
    return int(done[-1]) + 1 if done else start


def check(project: Path, done: int) -> int:
    """Check that all that was done is there, once and whole; return how many numbers are."""
    with Catalog.open(project) as catalog:
        sql = "SELECT width, count(*) AS n, count(DISTINCT photo_id) AS keys, min(stage_version) AS version FROM checks"
        found = {row["width"]: row for row in catalog.rows(f"{sql} GROUP BY width")}
        assert set(range(done)) <= set(found) <= set(range(done + 1))
        assert all(row["n"] == row["keys"] == ROWS for row in found.values())
        assert all(found[number]["version"] == "2" for number in range(done))
        assert catalog.count("samples") in (max(done - 1, 0), done)
        return len(found)


def rounds(project: Path, *, n: int, seed: int) -> None:
    moments = random.Random(seed)
    done = 0
    for number in range(n):
        # On a busy machine nothing may be done in so short a time; once, something must be.
        done = run_and_kill(project, done, moments.uniform(0.0, 0.4), after_one=number == 0)
        check(project, done)
    assert done > 0
    with Catalog.open(project) as catalog:
        catalog.compact(full=True)
        assert not list((project / "catalog").rglob("*.tmp"))
    check(project, done)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rounds(tmp_path, n=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_random_moments(tmp_path: Path, seed: int) -> None:
    rounds(tmp_path, n=20, seed=seed)


# Every call that an append which merges makes of the system: the n-th kills, for each n of the arguments.
MOMENTS = """
import os, signal, sys
from pathlib import Path
import duckdb, pyarrow.parquet
from carspotter.catalog import merge
from carspotter.catalog.catalog import Catalog
merge.FAN_IN = 4

def counted(call):
    def die(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return die

def append(project):
    catalog = Catalog.open(project)
    with catalog.writer():
        for number in range(3):
            catalog.append("checks", [{"photo_id": "a", "width": number}, {"photo_id": str(number), "width": 0}])
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open"), (Path, "mkdir")):
            setattr(owner, name, counted(getattr(owner, name)))
        catalog.append("checks", [{"photo_id": "a", "width": 3}, {"photo_id": "3", "width": 0}])

for left in map(int, sys.argv[2:]):
    if not (child := os.fork()):
        append(Path(sys.argv[1]) / str(left))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
BEFORE = {"a": 2, "0": 0, "1": 0, "2": 0}
AFTER = {**BEFORE, "a": 3, "3": 0}


def killed_at(project: Path, calls: range) -> list[bool]:
    """Kill an append at each of some calls; return whether it was killed, and check what is there after that."""
    command = [sys.executable, "-W", "ignore", "-c", MOMENTS, str(project), *map(str, calls)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    states = []
    for call in calls:
        with Catalog.open(project / str(call)) as catalog:
            found = {row["photo_id"]: row["width"] for row in catalog.rows("SELECT photo_id, width FROM checks")}
            assert found in (BEFORE, AFTER)
            states.append(found == AFTER)
            catalog.append("checks", [{"photo_id": "a", "width": 9}])
            assert catalog.rows("SELECT width FROM checks WHERE photo_id = 'a'") == [{"width": 9}]
            assert catalog.count("checks") == len(found)
    assert states == sorted(states)  # once the append is there it stays
    assert {True, False} == set(states)
    return [int(status) == signal.SIGKILL for status in done.stdout.split()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_at_some_calls_of_an_append_that_merges(tmp_path: Path) -> None:
    killed = killed_at(tmp_path, range(2, 30, 7))
    assert killed[:2] == [True] * 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_at_each_call_of_an_append_that_merges(tmp_path: Path) -> None:
    killed = killed_at(tmp_path, range(1, 60))
    assert killed == sorted(killed, reverse=True)
    assert not killed[-1]  # every call was among them
