"""Nothing calls home: real commands in a network of their own look no name up and write nothing into the home folder.

What runs is the command as people run it, engines and worker processes included; the last test shows that a program
that does call, or write, is seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from commands import COMMAND
from tiny_bundles import draw_photo
from tiny_project import make_project
from waiting import NEVER_S

OWN_NETWORK = Path(__file__).with_name("own_network.py")


def _can_unshare() -> bool:
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    words = ["unshare", "-rnm", "mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="no network of its own may be made here")


def heard(folder: Path, *words: object) -> tuple[list[str], list[str]]:
    """Run a program; return the names it looked up and the files it left in its home folder."""
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS")}
    environment = {**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["unshare", "-rnm", sys.executable, str(OWN_NETWORK), str(folder), *map(str, words)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=NEVER_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = json.loads((folder / "names.json").read_text())
    return names, [str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_identify(engine: str, tmp_path: Path, bundles: dict[str, Path]) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    photo = tmp_path / "car.jpg"
    Image.fromarray(draw_photo((800, 600), [("red", (100, 200, 500, 500))])).save(photo)
    options = ("--finder", bundles["finder"], "--identifier", bundles["identifier"], "--engine", engine)
    assert heard(tmp_path, *COMMAND, "identify", *options, photo) == ([], [])


def test_a_build_with_workers(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    assert heard(tmp_path, *COMMAND, "build", project, "--workers", 1) == ([], [])


SERVE = """
import subprocess, sys, urllib.request
service = subprocess.Popen([*sys.argv[1:], "--port", "0"], stdout=subprocess.PIPE, text=True)
address = service.stdout.readline().split()[-1]
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/v1/models") as answer:
    answer.read()
service.terminate()
service.wait()
"""


def test_the_service(tmp_path: Path, bundles: dict[str, Path]) -> None:
    pytest.importorskip("uvicorn")
    options = ("--finder", bundles["finder"], "--identifier", bundles["identifier"], "--workers", 1)
    assert heard(tmp_path, sys.executable, "-c", SERVE, *COMMAND, "serve", *options) == ([], [])


EXPORT = """
from pathlib import Path
import carspotter.export.quantize, carspotter.runtime.openvino
import sys
from carspotter.export.openvino import to_openvino
to_openvino(Path(sys.argv[1]).read_bytes(), precision="float16", about={})
"""


def test_conversion(tmp_path: Path, bundles: dict[str, Path]) -> None:
    for package in ("onnx", "openvino", "torch"):
        pytest.importorskip(package)
    assert heard(tmp_path, sys.executable, "-c", EXPORT, bundles["identifier"] / "model.onnx") == ([], [])


CALLS = """
import pathlib, socket
(pathlib.Path.home() / "id").write_text("1")
try:
    socket.getaddrinfo("events.example.com", 443)
except socket.gaierror:
    pass
"""


def test_a_program_that_calls_is_seen(tmp_path: Path) -> None:
    names, files = heard(tmp_path, sys.executable, "-c", CALLS)
    assert set(names) == {"events.example.com"}
    assert files == ["id"]


def test_who_wants_to_be_told_of_may_say_so() -> None:
    program = "import carspotter, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0"
