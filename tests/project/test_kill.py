"""A build that is killed in the middle of each step, and built again: the tables of an undisturbed build."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carspotter.errors import CatalogError
from carspotter.project.folder import Project
from carspotter.project.pipeline import STEPS, build
from tiny_project import make_project, tables
from waiting import NEVER_S

TESTS = Path(__file__).parent.parent

# The child kills itself at the worst moment of a step: when the first batch is written, or when all is written but not
# yet noted.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from carspotter import compute
from carspotter.catalog.catalog import Catalog
from carspotter.project.build import Journal
from carspotter.project.folder import Project
from carspotter.project.pipeline import build

STEP = sys.argv[2]

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Watch:
    step = ""
    def start(self, step, about):
        self.step = step
    def advance(self, done, total):
        if self.step == STEP:
            die()
    def end(self, step, said):
        if step == STEP:
            die()

finish = Journal.finish
Journal.finish = lambda self, step, *rest: die() if step == STEP else finish(self, step, *rest)
compute.BATCH = 8
if __name__ == "__main__":
    build(Project.open(sys.argv[1]), workers=2, watch=Watch())
"""

NAMES = tuple(step.name for step in STEPS)
QUICK = ("locate", "split")


@pytest.fixture(scope="module")
def undisturbed(tiny_built: Path) -> dict[str, list]:
    return tables(tiny_built)


@pytest.mark.parametrize(
    "step", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_killed_step_is_finished_by_the_next_build(step: str, undisturbed: dict[str, list], tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(TESTS)))
    done = subprocess.run([sys.executable, str(program), str(folder), step], timeout=NEVER_S, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()[-2000:]
    build(Project.open(folder), until=None if step == "report" else "shard", workers=0)
    assert tables(folder) == undisturbed


HOLD = """
import sys
from carspotter.catalog.catalog import Catalog

with Catalog.open(sys.argv[1]) as catalog, catalog.writer():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CatalogError, match=str(holder.pid)):
            build(Project.open(folder), workers=0)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        holder.stdin.close()
    assert build(Project.open(folder), until="import", workers=0)["import"]["listings"] > 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_loses_nothing(tmp_path: Path, undisturbed: dict[str, list]) -> None:
    folder = make_project(tmp_path / "project")
    disk = folder / "catalog"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(CatalogError, match=r"(?i)space|full"):
            build(Project.open(folder), workers=0)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        build(Project.open(folder), workers=0)
        again = tables(folder)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert again == undisturbed
