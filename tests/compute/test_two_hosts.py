"""Two hosts of network namespaces build what one builds, also when one of them is killed half-way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "two_hosts.py"

if not SCRIPT.exists():
    pytest.skip("a source distribution has no benchmarks/", allow_module_level=True)


@pytest.mark.slow
def test_a_killed_host_takes_no_row_with_it() -> None:
    pytest.importorskip("ray")
    command = [sys.executable, str(SCRIPT), "--only", "two", "host killed", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    if done.returncode and (why := done.stderr.strip().splitlines()[-1]).startswith(("needs", "cannot make")):
        pytest.skip(why)
    assert done.returncode == 0, done.stderr[-2000:]  # it ends with 1 where tables differ
    one, two, killed = json.loads(done.stdout)["rows"]
    assert one["rows"] == two["rows"] == killed["rows"] > 200
    assert {row["tables equal"] for row in (one, two, killed)} == {"12 of 12"}
    assert two["actors on head"] >= 1 <= two["actors on node"]
    assert min(two["cpu_s on head"], two["cpu_s on node"]) > 0.5  # both worked
    assert killed["rows at loss"] < killed["rows"]
    assert killed["noticed_s"] > 0
    assert subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.count("head") == 0
