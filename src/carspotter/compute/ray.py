"""Workers on a Ray cluster: actors that set a stage up once and then take batch after batch.

The door of Ray. Rows travel with the tasks; so do the files that they name, to nodes that do not see the project's
folder (`files`). Facts come back to this process, which alone writes the catalogue. A node that is lost takes no row
with it: its batches go to other nodes. Ray itself must outlive the run: where its head node is lost, start the build
again, and it goes on.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from carspotter import __version__
from carspotter.compute.files import SentinelFile, unpacked
from carspotter.compute.stage import Row, RowStage, reason
from carspotter.compute.workers import ROW_S, SETUP_S, Died, Outcome, answer, deadline, portable, slow_setup, too_long
from carspotter.cores import cores
from carspotter.errors import CarspotterError, ComputeError, MissingExtraError

_log = logging.getLogger(__name__)

_CPUS = 1.0
"""Cores an actor asks for; a worker is one thread."""
_OBJECT_STORE_BYTES = 256 << 20
"""For a Ray started here: rows are small, so its shared memory needs no third of the machine."""
_MOST_LOSSES = 3
"""Nodes that a batch may lose before its rows are tried one by one: they may be what kills."""
_JOINS, _JOIN_PAUSE_S = 4, 3.0
_PATIENCE_S = 600.0
"""Without any actor at work: a cloud takes minutes to bring a new node in the place of a lost one."""


class _Actor:
    """Live on the cluster: one stage, set up once."""

    def __init__(self, stage: RowStage, landmark: SentinelFile | None, setup_s: float) -> None:
        """Keep the stage; `ready` reports errors of its setup, which an error of the actor itself would hide.

        It is set up in a thread: the driver cannot tell a setup that hangs from an actor that waits for room.
        """
        self._stage = stage
        self._landmark = landmark
        self._error: CarspotterError | None = None
        setup = threading.Thread(target=self._set_up, daemon=True)
        setup.start()
        setup.join(setup_s)
        if setup.is_alive():
            self._error = slow_setup(stage, setup_s)

    def _set_up(self) -> None:
        try:
            self._stage.setup()
        except Exception as error:  # noqa: BLE001  # reported to the driver, which raises it
            self._error = portable(self._stage, error)

    def ready(self) -> tuple[CarspotterError | None, str, str, bool]:
        """Return why the stage cannot be set up, or None; our version, the node, and whether files must travel."""
        import ray

        node: str = ray.get_runtime_context().get_node_id()
        return self._error, __version__, node, self._landmark is not None and not self._landmark.is_seen()

    def process(self, rows: list[Row], files: dict[str, bytes]) -> Outcome:
        """Process a batch, whose files lie where the rows say or came along."""
        with unpacked(rows, files) as here:
            return answer(self._stage, here)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """An actor that is set up."""

    actor: Any
    node: str
    wants_files: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Rows under way, or on their way again; `losses` counts the nodes that went away with them."""

    rows: list[Row]
    losses: int = 0
    ends_s: float = math.inf  # on the clock of `time.monotonic`


class RayWorkers:
    """Actors on every node, each with at most one batch."""

    def __init__(
        self,
        stage: RowStage,
        count: int | None,
        *,
        most: int,
        address: str | None,
        row_s: float | None = ROW_S,
        setup_s: float = SETUP_S,
    ) -> None:
        """Join the cluster at `address`, or start a Ray here, and start `count` actors, by default one a core of it.

        No more than `most` are started. Work begins with the first one that is set up. Limits and errors are those of
        `Processes`.
        """
        try:
            # Before the import: Ray reads it then.
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps a warning of its next version away
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtraError("ray", "cluster") from error
        self._ray: Any = ray
        self._stage, self._row_s, self._setup_s = stage, row_s, setup_s
        self._landmark = SentinelFile.of(stage)
        self._starting: dict[Any, Any] = {}
        self._idle: list[_Worker] = []
        self._batches: dict[Any, tuple[_Worker, _Batch]] = {}
        self._again: deque[_Batch] = deque()
        self._has_started = not ray.is_initialized()
        if self._has_started:
            _join(ray, address, min(most, count or cores()))
        self._chances = _MOST_LOSSES
        # Spread: else Ray fills the driver's node first, and the others wait.
        self._remote = ray.remote(num_cpus=_CPUS, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
        try:
            for _ in range(max(1, min(most, count or self._room()))):
                self._start()
            while not self._idle:
                self._advance()
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> int:
        """Count the actors without a batch."""
        return len(self._idle)

    def submit(self, rows: list[Row]) -> None:
        """Send a batch to a free actor."""
        self._send(_Batch(rows=rows))

    def wait(self) -> tuple[list[Row], Outcome]:
        """Return the next batch that is done, or that died with its actor; dead actors are replaced.

        Raises ComputeError when no node has had room for an actor for ten minutes.
        """
        settled = self._advance()
        # Whoever asks for rows next needs an actor at work or a free one, or it would take the run for done.
        while settled is None or not (self._idle or self._batches or self._again):
            later = self._advance()
            settled = settled or later
        return settled

    def close(self) -> None:
        """End the actors, and the Ray that was started here."""
        workers = [*self._idle, *(worker for worker, _ in self._batches.values())]
        for actor in [*self._starting.values(), *(worker.actor for worker in workers)]:
            self._kill(actor)
        self._starting, self._idle, self._batches = {}, [], {}
        if self._landmark is not None:
            self._landmark.remove()
        if self._has_started:
            self._ray.shutdown()

    def _advance(self) -> tuple[list[Row], Outcome] | None:
        """Wait for the next thing to happen; return a batch that is settled by it, if one is."""
        while self._again and self._idle:
            self._send(self._again.popleft())
        first_s = min((batch.ends_s for _, batch in self._batches.values()), default=math.inf)
        patience_s = max(0.0, min(_PATIENCE_S, first_s - time.monotonic()))
        done, _ = self._ray.wait([*self._batches, *self._starting], num_returns=1, timeout=patience_s)
        if not done:
            if first_s <= time.monotonic():
                return self._end_first()
            if self._batches:
                return None
            raise ComputeError(
                f"no node of the cluster had room for an actor of stage {self._stage.name} for {_PATIENCE_S:.0f} s; "
                "add nodes, or ask for fewer workers"
            )
        if done[0] in self._starting:
            self._welcome(done[0])
            return None
        return self._settle(done[0])

    def _end_first(self) -> tuple[list[Row], Outcome]:
        """End the actor whose batch hangs, and start another in its place."""
        task = min(self._batches, key=lambda each: self._batches[each][1].ends_s)
        worker, batch = self._batches.pop(task)
        self._kill(worker.actor)
        self._start()
        return batch.rows, Died(how=too_long(self._row_s))

    def _settle(self, done: Any) -> tuple[list[Row], Outcome] | None:
        """Return what became of a batch; one that a lost node took along is kept to be sent again."""
        worker, batch = self._batches.pop(done)
        try:
            outcome: Outcome = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            self._kill(worker.actor)
            self._start()
            if batch.losses < _MOST_LOSSES and self._is_lost(worker, error):
                _log.warning("node %s is lost; its %d rows go to another", worker.node[:8], len(batch.rows))
                self._again.append(replace(batch, losses=batch.losses + 1))
                return None
            return batch.rows, Died(how=reason(error)[:200])
        self._idle.append(worker)
        return batch.rows, outcome

    def _send(self, batch: _Batch) -> None:
        worker = self._idle.pop()
        files = self._landmark.files(batch.rows) if self._landmark is not None and worker.wants_files else {}
        task = worker.actor.process.remote(batch.rows, files)
        self._batches[task] = (worker, replace(batch, ends_s=deadline(len(batch.rows), self._row_s)))

    def _start(self) -> None:
        actor: Any = self._remote.remote(self._stage, self._landmark, self._setup_s)
        self._starting[actor.ready.remote()] = actor

    def _welcome(self, done: Any) -> None:
        """Take an actor that is set up among the idle ones; raises what its setup raised."""
        actor = self._starting.pop(done)
        try:
            error, version, node, wants_files = self._ray.get(done)
        except self._ray.exceptions.RayError as gone:
            self._kill(actor)
            self._chances -= 1
            if self._chances < 0:
                raise ComputeError(
                    f"an actor of stage {self._stage.name} cannot be started: {reason(gone)[:200]}"
                ) from gone
            self._start()  # its node may have gone while it was set up
            return
        if error is not None:
            raise error
        if version != __version__:
            raise ComputeError(f"a node has carspotter {version}, this one {__version__}; install the same on all")
        self._idle.append(_Worker(actor=actor, node=node, wants_files=wants_files))

    def _is_lost(self, worker: _Worker, error: Exception) -> bool:
        """Return whether a batch failed because of its node or the way there, rather than its rows."""
        errors = self._ray.exceptions
        if not isinstance(error, errors.ActorDiedError):
            return isinstance(error, errors.ActorUnavailableError | errors.ObjectLostError)
        return not any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == worker.node)

    def _room(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 1) / _CPUS)

    def _kill(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def _join(ray: Any, address: str | None, count: int) -> None:
    here = {"num_cpus": max(1, count), "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    where = f"the cluster at {address}" if address else "a Ray here"
    for left in reversed(range(_JOINS)):
        try:
            ray.init(address=address, logging_level="error", log_to_driver=False, **({} if address else here))
            return
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, ConnectionAbortedError) and left:
                # The head answered, but the process that it starts for each client did not come up: seen when busy.
                time.sleep(_JOIN_PAUSE_S)
                continue
            # A client's error holds the server's whole trace; what it was about stands at the end.
            raise ComputeError(f"{where} cannot be reached or started: {reason(error)[-200:]}") from error
