"""Waiting in tests: for what must become so, and never for a while that should be enough."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

NEVER_S = 300  # a busy machine takes long; what is not so by then is never so


def until(is_so: Callable[[], object], what: str = "") -> None:
    """Wait until it is so; fail with `what` when it is never."""
    end = time.monotonic() + NEVER_S
    while not is_so():
        if time.monotonic() > end:
            pytest.fail(f"never so: {what or is_so}")
        time.sleep(0.01)
