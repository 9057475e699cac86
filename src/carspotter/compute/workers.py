"""Workers on this machine: spawned processes that set a stage up once and then take batch after batch.

A worker that dies is reported with the batch it held. Its parent's death ends it, whatever it is doing then.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from carspotter.compute.stage import Row, RowStage, Tables, process, reason
from carspotter.errors import CarspotterError, ComputeError

# Libraries that start a thread for each core by themselves: with a process for each core they would fight.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_WORDS_S = 5.0

ROW_S = 120.0
"""Seconds after which a row that is alone hangs: the slowest photo we met took 4 s, on a busy machine."""
SETUP_S = 600.0
"""Seconds after which the setup of a worker hangs: it may load networks from a slow disk, beside others that do."""
_MORE_ROWS_S = 5.0  # a batch may take so much longer for each further row; then its rows are tried one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A worker died while it held a batch, and how."""

    how: str


Outcome = Tables | CarspotterError | Died


class Workers(Protocol):
    """What processes batches: `submit` while `free`, then `wait` for any one to be done."""

    @property
    def free(self) -> int:
        """Count the workers without a batch."""

    def submit(self, rows: list[Row]) -> None:
        """Hand a batch to a free worker."""

    def wait(self) -> tuple[list[Row], Outcome]:
        """Return a batch and what became of it, as soon as there is one."""

    def close(self) -> None:
        """End the workers, whatever they do."""


class Inline:
    """Process batches in this very process: for tests and debuggers."""

    def __init__(self, stage: RowStage) -> None:
        """Set the stage up."""
        self._stage = stage
        self._batch: list[Row] | None = None
        stage.setup()

    @property
    def free(self) -> int:
        """Count one worker as long as it has no batch."""
        return 0 if self._batch else 1

    def submit(self, rows: list[Row]) -> None:
        """Keep the batch for `wait`."""
        self._batch = rows

    def wait(self) -> tuple[list[Row], Outcome]:
        """Process the batch."""
        rows, self._batch = self._batch or [], None
        return rows, process(self._stage, rows)

    def close(self) -> None:
        """Do nothing: there is no process to end."""


@dataclass(slots=True, kw_only=True)
class _Worker:
    process: Any  # multiprocessing's SpawnProcess
    pipe: Connection
    batch: list[Row] | None = None
    ends_s: float = math.inf  # on the clock of `time.monotonic`: of its setup, then of its batch


class Processes:
    """Spawned processes, each with its pipe."""

    def __init__(self, stage: RowStage, count: int, *, row_s: float | None = ROW_S, setup_s: float = SETUP_S) -> None:
        """Start the workers; raises what the stage's `setup` raises, and ComputeError where it takes over `setup_s`.

        A worker that has a single row for longer than `row_s` seconds is ended; None: it may take its time.
        """
        self._stage, self._row_s, self._setup_s = stage, row_s, setup_s
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        try:
            self._workers = [self._start() for _ in range(count)]
            for worker in self._workers:
                self._greet(worker)
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> int:
        """Count the workers without a batch."""
        return sum(worker.batch is None for worker in self._workers)

    def submit(self, rows: list[Row]) -> None:
        """Send a batch to a free worker."""
        worker = next(worker for worker in self._workers if worker.batch is None)
        worker.batch = rows
        worker.ends_s = deadline(len(rows), self._row_s)
        with suppress(OSError):  # it died since its last batch: `wait` finds the closed pipe
            worker.pipe.send(rows)

    def wait(self) -> tuple[list[Row], Outcome]:
        """Return the next batch that is done, or that died with its worker; the dead one is replaced."""
        busy = {worker.pipe: worker for worker in self._workers if worker.batch is not None}
        first = min(busy.values(), key=lambda worker: worker.ends_s)
        left_s = None if math.isinf(first.ends_s) else max(0.0, first.ends_s - time.monotonic())
        done = wait(list(busy), left_s)
        worker = busy[done[0]] if done else first  # type: ignore[index]  # `wait` also takes sockets; here are pipes only
        rows, worker.batch = worker.batch or [], None
        if not done:
            worker.process.kill()
            return rows, self._replaced(worker, too_long(self._row_s))
        try:
            return rows, worker.pipe.recv()
        except (EOFError, OSError):
            return rows, self._replaced(worker, death(worker.process))

    def _replaced(self, worker: _Worker, how: str) -> Died:
        """Start another worker in the place of one that is dead; return how it died."""
        worker.process.join(_LAST_WORDS_S)
        worker.pipe.close()
        fresh = self._start()
        self._workers[self._workers.index(worker)] = fresh
        self._greet(fresh)
        return Died(how=how)

    def close(self) -> None:
        """Close the pipes, on which idle workers end, and kill those at work."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.batch is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(_LAST_WORDS_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=_serve, args=(self._stage, theirs), daemon=True)
        with _one_thread():
            child.start()
        theirs.close()  # or its death would not close the pipe
        return _Worker(process=child, pipe=ours, ends_s=time.monotonic() + self._setup_s)

    def _greet(self, worker: _Worker) -> None:
        """Wait until a worker is set up; raises what it raised."""
        if not worker.pipe.poll(max(0.0, worker.ends_s - time.monotonic())):
            worker.process.kill()
            raise slow_setup(self._stage, self._setup_s)
        try:
            error = worker.pipe.recv()
        except (EOFError, OSError) as gone:
            raise ComputeError(
                f"a worker of stage {self._stage.name} died while it was set up: {death(worker.process)}; "
                "fewer workers need less memory"
            ) from gone
        if error is not None:
            raise error


def deadline(n_rows: int, row_s: float | None) -> float:
    """Return when this many rows count as hanging (`time.monotonic`), infinity where they may take their time."""
    return math.inf if row_s is None else time.monotonic() + row_s + min(_MORE_ROWS_S, row_s) * (n_rows - 1)


def too_long(row_s: float | None) -> str:
    """Return how a worker died that was ended because its row hung."""
    return f"it took longer than {row_s:g} s"


def slow_setup(stage: RowStage, setup_s: float) -> ComputeError:
    """Return the error of a setup that hangs."""
    return ComputeError(
        f"stage {stage.name} was not set up within {setup_s:g} s; see whether its networks and folders answer"
    )


def end_with_parent() -> None:
    """End this spawned process when its parent ends, even by `kill -9`, and whatever it is doing then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def death(process: Any) -> str:
    """Return how a process (multiprocessing's) died that answers no more."""
    process.join(_LAST_WORDS_S)
    code = process.exitcode
    if code is None:
        return "ended: its pipe closed"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _serve(stage: RowStage, pipe: Connection) -> None:
    """Live as a worker: set up, then answer batches until the pipe closes."""
    # Ctrl-C reaches the whole group; the parent decides what becomes of the batch under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        stage.setup()
    except Exception as error:  # noqa: BLE001  # reported to the parent, which raises it
        pipe.send(portable(stage, error))
        return
    pipe.send(None)
    while True:
        try:
            rows = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(answer(stage, rows))
        except OSError:  # the parent is gone
            return


def answer(stage: RowStage, rows: list[Row]) -> Tables | CarspotterError:
    """Process a batch; a fault of the stage itself is returned, since it must travel."""
    try:
        return process(stage, rows)
    except CarspotterError as error:
        return error


def portable(stage: RowStage, error: Exception) -> CarspotterError:
    """Return an error that surely travels between processes: our own as it is, any other as its words."""
    if isinstance(error, CarspotterError):
        return error
    return ComputeError(f"stage {stage.name} cannot be set up: {reason(error)}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Set what children inherit, for as long as they start."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
