"""Learn from decisions while a person goes on deciding: the steps of a build that depend on them, in a thread.

In: a project. Out: how far it is, for a display. A process that is killed meanwhile leaves what a killed build
leaves: the next one goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from carspotter.errors import CarspotterError
from carspotter.progress import Quiet
from carspotter.project.folder import Project
from carspotter.project.pipeline import build

STEPS = ("resolve", "classes", "split", "learn")


class Relearning(Quiet):
    """Run the steps once at a time. It is the `Watch` of its own build."""

    def __init__(self, project: Project, *, done: Callable[[], None]) -> None:
        """Name the project, and what to call when the steps are done."""
        self._project, self._done = project, done
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"running": False, "step": None, "about": None, "said": None, "error": None}

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON values: `running`, the `step` it is at, what it `said`, or its `error`."""
        return dict(self._state)

    def begin(self) -> bool:
        """Start unless it runs; return whether it was started."""
        with self._lock:
            if self._state["running"]:
                return False
            self._state = {**self._state, "running": True, "step": STEPS[0], "said": None, "error": None}
        threading.Thread(target=self._run, name="learn", daemon=True).start()
        return True

    def _run(self) -> None:
        end: dict[str, Any] = {"error": "learning stopped; the log of the review says more"}
        try:
            said = build(self._project, only=STEPS, watch=self)
            end = {"error": None, "said": str(said["learn"].get("text", "nothing to learn"))}
            self._done()
        except CarspotterError as error:
            end = {"error": str(error)}
        finally:
            self._state = {**self._state, "running": False, "step": None, "about": None, "said": None, **end}

    def start(self, step: str, about: str) -> None:
        """Note that a step begins."""
        self._state = {**self._state, "step": step, "about": about}
