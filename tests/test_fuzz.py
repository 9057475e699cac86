"""Wide fuzzing, in the ring `slow`: every property test again, with many examples drawn at random."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_properties_hold_for_many_examples_drawn_at_random() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "hypothesis and not slow"]
    environment = {"CARSPOTTER_FUZZ": "1000", **os.environ}
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
