"""Count the cores that this process may use, of the machine or of the container around it.

Three bounds hold: the cores there are, those this process is bound to, and the time that a control group of Linux
grants (`docker run --cpus 2`), which neither of the others shows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cores() -> int:
    """Count the cores this process may use, at least one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, quota() or bound)


def quota(root: Path = Path("/")) -> int | None:
    """Return how many cores' time the control groups grant, rounded up; None where they grant all there is.

    A group's bound holds for those below, so that the least on the way up counts. `root` is where `proc` and `sys` lie.
    """
    granted = [share for group in _groups(root) if (share := _share(group)) is not None]
    return max(1, math.ceil(min(granted))) if granted else None


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, of version 2 and of version 1, each with all above it."""
    for line in _words(root / "proc/self/cgroup", "\n"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, of which only the mount's own root is seen.
        mounts = [root / "sys/fs/cgroup" / name for name in ((controllers, "cpu") if controllers else ("", "unified"))]
        inner = PurePosixPath(path.strip().lstrip("/"))
        yield from (mount / place for mount in mounts for place in (inner, *inner.parents))


def _share(group: Path) -> float | None:
    """Return the cores that one group grants: "200000 100000" of `cpu.max`, or the two files of version 1."""
    words = _words(group / "cpu.max") or [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
    try:
        granted, period = (float(word) for word in words)
    except ValueError:  # "max", or no such group
        return None
    return granted / period if granted > 0 and period > 0 else None


def _words(file: Path, between: str | None = None) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split(between)
    except OSError:
        return []
