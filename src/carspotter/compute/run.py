"""Run a stage over a catalogue and write the facts that were lacking.

This process alone reads and writes the catalogue; workers only compute. Each batch is written as it comes back, so
that a run that is killed loses at most the batches under way, and goes on from what the catalogue lacks.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK, TABLES
from carspotter.compute.stage import Row, RowStage, Tables, error_rows, key_of
from carspotter.compute.workers import ROW_S, SETUP_S, Died, Inline, Outcome, Processes, Workers
from carspotter.cores import cores
from carspotter.errors import CarspotterError, ComputeError

BATCH = 64
"""Rows that a killed run loses for each worker; one part of each table has as many."""
_FILES = "files"
"""Who fills this table writes photographs below the project, and asks each host politely from one process."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did: `done` rows in `seconds`, and the count of each status other than ok."""

    stage: str
    done: int
    errors: Mapping[str, int]
    seconds: float


def run(
    stage: RowStage,
    catalog: Catalog,
    *,
    on: str = "local",
    workers: int | None = None,
    batch_size: int = BATCH,
    progress: Progress | None = None,
    row_s: float = ROW_S,
    setup_s: float = SETUP_S,
) -> RunSummary:
    """Run a stage over the rows that lack its facts, and append what it finds.

    `on` is "local" (processes, as many as cores or `workers`; 0: in this process), "ray" (a Ray started here), or the
    address of a cluster, "ray://host:10001" or "auto" (as many actors as it has cores, or `workers`). A stage that
    writes photographs (`files`) runs in one process here in place of a cluster. `progress` hears rows done and rows in
    all. A row that takes longer than `row_s` seconds is an error row, and a setup that takes longer than `setup_s` ends
    the run; neither holds in this process. Raises ComputeError when workers cannot be set up, MissingExtraError without
    Ray, CatalogError when the catalogue cannot be written.
    """
    start = time.monotonic()
    total = catalog.count_pending(stage.reads, stage.writes)
    if not total:
        return RunSummary(stage=stage.name, done=0, errors={}, seconds=0.0)
    answers = spread(
        stage,
        _pending(stage, catalog),
        total,
        on=on,
        workers=workers,
        batch_size=batch_size,
        row_s=row_s,
        setup_s=setup_s,
    )
    errors: Counter[str] = Counter()
    done = 0
    # Held throughout: each append alone would read the keys of its table again.
    with closing(answers), catalog.writer():
        for rows, tables in answers:
            for table, found in tables.items():
                if found:
                    catalog.append(table, found, version=stage.writes[table])
            done += len(rows)
            errors.update(_worst(tables))
            if progress is not None:
                progress(done, total)
        catalog.compact()
    return RunSummary(stage=stage.name, done=done, errors=dict(errors), seconds=time.monotonic() - start)


def _pending(stage: RowStage, catalog: Catalog) -> Iterator[Row]:
    return catalog.pending(stage.reads, stage.writes, order=getattr(stage, "order", ""))


def spread(
    stage: RowStage,
    rows: Iterable[Row],
    total: int,
    *,
    on: str = "local",
    workers: int | None = None,
    batch_size: int = BATCH,
    row_s: float = ROW_S,
    setup_s: float = SETUP_S,
) -> Generator[tuple[list[Row], Tables], None, None]:
    """Yield batches of `total` rows with what a stage finds, in whatever order they come back.

    What `run` does, without a catalogue: each row says in `lacks` which tables of `stage.writes` it is for. Close the
    generator to end the workers.
    """
    # More workers than batches would only be set up.
    most = max(1, -(-total // batch_size))
    pool = open_workers(stage, on=on, count=workers, most=most, row_s=row_s, setup_s=setup_s)
    try:
        yield from _outcomes(stage, pool, rows, batch_size)
    finally:
        pool.close()


def in_order(
    stage: RowStage, rows: Iterable[Row], *, workers: int, ahead: int = 2, row_s: float = ROW_S
) -> Generator[Row, None, None]:
    """Yield what a stage with one table says of each row, in the order of the rows; 0 `workers` ask it right here.

    At most `ahead` rows a worker are under way or waiting, so that endless rows take no more memory than a few. Close
    the generator to end the workers. Raises ComputeError where a worker dies: its row is not tried again.
    """
    (table,) = stage.writes
    pool: Workers = Processes(stage, workers, row_s=row_s) if workers else Inline(stage)
    waiting, most = iter(rows), max(1, ahead * workers)
    asked, answers = deque[Any](), dict[Any, Row]()  # keys of rows by their order, and what is known of some of them
    key = key_of(stage, table)
    try:
        while True:
            while pool.free and len(asked) < most and (row := next(waiting, None)) is not None:
                pool.submit([row])
                asked.append(row[key])
            if not asked:
                return
            if asked[0] in answers:
                yield answers.pop(asked.popleft())
                continue
            (row,), outcome = pool.wait()
            if isinstance(outcome, Died):
                raise ComputeError(
                    f"a worker of stage {stage.name} died: {outcome.how}; fewer workers need less memory"
                )
            if not isinstance(outcome, dict):
                raise outcome
            (answers[row[key]],) = outcome[table]
    finally:
        pool.close()


def open_workers(
    stage: RowStage, *, on: str, count: int | None, most: int, row_s: float | None, setup_s: float
) -> Workers:
    """Open the workers that `on` names, `count` or one a core, `most` at most; raises ComputeError for another word.

    Workers that have one row for longer than `row_s` seconds are ended, but where photographs are fetched: that
    waits for servers, each within limits of its own.
    """
    if on not in ("local", "ray", "auto") and not on.startswith("ray://"):
        raise ComputeError(f"on is {on!r}; allowed: local, ray (started here), ray://host:port or auto (a cluster)")
    if on != "local" and _FILES in stage.writes:
        on, count = "local", count or 1
    if on == "local":
        if count == 0:
            return Inline(stage)
        limit = None if _FILES in stage.writes else row_s
        return Processes(stage, min(most, count or cores()), row_s=limit, setup_s=setup_s)
    from carspotter.compute.ray import RayWorkers

    return RayWorkers(stage, count, most=most, address=None if on == "ray" else on, row_s=row_s, setup_s=setup_s)


def _outcomes(
    stage: RowStage, workers: Workers, pending: Iterable[Row], batch_size: int
) -> Iterator[tuple[list[Row], Tables]]:
    """Yield batches with their rows, in whatever order they come back; no more are read than workers can hold."""
    batches = _batches(iter(pending), batch_size)
    again: deque[list[Row]] = deque()
    under_way = 0
    while True:
        while workers.free:
            rows = again.popleft() if again else next(batches, [])
            if not rows:
                break
            workers.submit(rows)
            under_way += 1
        if not under_way:
            return
        rows, outcome = workers.wait()
        under_way -= 1
        tables = _settle(stage, rows, outcome)
        if tables is None:
            again.extend([row] for row in rows)  # one of them is deadly; alone, it is known
        else:
            yield rows, tables


def _settle(stage: RowStage, rows: list[Row], outcome: Outcome) -> Tables | None:
    """Return the rows of a batch, or None when its rows are to be tried one by one."""
    if isinstance(outcome, CarspotterError):
        raise outcome
    if isinstance(outcome, Died):
        return error_rows(stage, rows, f"the worker died on this row: {outcome.how}") if len(rows) == 1 else None
    return outcome


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch


def _worst(tables: Tables) -> Iterator[str]:
    """Yield the status of each row that is not ok, a row of several tables once: the first table says most."""
    seen: set[str] = set()
    for table, found in tables.items():
        for row in found:
            key = row[TABLES[table].key]
            if row["status"] != OK and key not in seen:
                seen.add(key)
                yield row["status"]
