"""Workers on a Ray cluster: actors that set a stage up once and then take batch after batch.

The door of Ray. Rows travel with the tasks; photographs are read by the workers, so their paths must be reachable from
every node. Facts come back to this process, which alone writes the catalogue.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from carspotter.compute.stage import Row, RowStage, reason
from carspotter.compute.workers import Died, Outcome, answer, portable
from carspotter.errors import CarspotterError, ComputeError, MissingExtraError

_CPUS = 1.0
"""Cores an actor asks for; a worker is one thread."""
_OBJECT_STORE_BYTES = 256 << 20
"""For a Ray started here: rows are small, so its shared memory needs no third of the machine."""


class _Actor:
    """Live on the cluster: one stage, set up once."""

    def __init__(self, stage: RowStage) -> None:
        """Keep the stage; errors of its setup are told by `ready`, since an actor's own would hide them."""
        self._stage = stage
        self._error: CarspotterError | None = None
        try:
            stage.setup()
        except Exception as error:  # noqa: BLE001  # told to the driver, which raises it
            self._error = portable(stage, error)

    def ready(self) -> CarspotterError | None:
        """Return why the stage cannot be set up, or None."""
        return self._error

    def process(self, rows: list[Row]) -> Outcome:
        """Process a batch."""
        return answer(self._stage, rows)


class RayWorkers:
    """Actors, each with at most one batch."""

    def __init__(self, stage: RowStage, count: int, *, address: str | None) -> None:
        """Join the cluster at `address`, or start a Ray here, and start `count` actors; raises as `Processes` does."""
        try:
            # Before the import: Ray reads them then. Nobody is told that this runs.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps a warning of its next version away
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtraError("ray", "cluster") from error
        self._ray: Any = ray
        self._stage = stage
        self._batches: dict[Any, tuple[Any, list[Row]]] = {}
        self._idle: list[Any] = []
        self._has_started = not ray.is_initialized()
        if self._has_started:
            _join(ray, address, count)
        self._remote = ray.remote(num_cpus=_CPUS, max_restarts=0)(_Actor)
        try:
            self._idle = [self._remote.remote(stage) for _ in range(max(1, count))]
            for actor in self._idle:
                self._greet(actor)
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> int:
        """Count the actors without a batch."""
        return len(self._idle)

    def submit(self, rows: list[Row]) -> None:
        """Send a batch to a free actor."""
        actor = self._idle.pop()
        self._batches[actor.process.remote(rows)] = (actor, rows)

    def wait(self) -> tuple[list[Row], Outcome]:
        """Return the next batch that is done, or that died with its actor; the dead one is replaced."""
        done, _ = self._ray.wait(list(self._batches), num_returns=1)
        actor, rows = self._batches.pop(done[0])
        try:
            outcome: Outcome = self._ray.get(done[0])
        except self._ray.exceptions.RayActorError as error:
            outcome = Died(how=reason(error)[:200])
            actor = self._remote.remote(self._stage)
            self._greet(actor)
        self._idle.append(actor)
        return rows, outcome

    def close(self) -> None:
        """End the actors, and the Ray that was started here."""
        for actor in [*self._idle, *(actor for actor, _ in self._batches.values())]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        self._idle, self._batches = [], {}
        if self._has_started:
            self._ray.shutdown()

    def _greet(self, actor: Any) -> None:
        try:
            error = self._ray.get(actor.ready.remote())
        except self._ray.exceptions.RayError as gone:
            raise ComputeError(
                f"an actor of stage {self._stage.name} cannot be started: {reason(gone)[:200]}"
            ) from gone
        if error is not None:
            raise error


def _join(ray: Any, address: str | None, count: int) -> None:
    here = {"num_cpus": max(1, count), "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False, **({} if address else here))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"the cluster at {address}" if address else "a Ray here"
        raise ComputeError(f"{where} cannot be reached or started: {reason(error)[:200]}") from error
