"""Merge many small parts of a table into one larger part, without the rows that newer ones supersede.

Rows pass through in pieces; only keys, and only where some row supersedes another, are held whole: some 60 bytes each.
Killed at any moment, the table is what it was: the sources count until the merged part has its name, and not after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carspotter.catalog.parts import ROW_GROUP, Footer, Part, TableParts

if TYPE_CHECKING:
    import pyarrow as pa

FAN_IN = 64
"""Appends merge by themselves when this many parts of one size follow each other.

64 batches of 64 rows make a part of 4,096 rows, 64 of those one of 262,144: at a million rows a table has at most some
130 files, and each row was written three times.
"""

# A part this much larger than all that follow it is left alone: rewriting it would save the opening of a few files.
_MUCH_LARGER = 4
# Readers look up each row among the superseding ones; above a twentieth of a table, rewriting it once is cheaper.
_SUPERSEDING_SHARE = 0.05


def merge_appended(parts: TableParts) -> bool:
    """Merge the newest parts when `FAN_IN` of them have as many mergers behind them; return whether it did."""
    counting = parts.read()
    newest_first = list(reversed(counting))
    # From the smallest level up: merging few small rows may be all that is needed.
    for merges in sorted({part.merges for part in counting}):
        run = list(takewhile(lambda part: part.merges <= merges, newest_first))  # noqa: B023  # used at once
        # Those with fewer mergers go along but do not count: else each of them would have a large part rewritten.
        if sum(part.merges == merges for part in run) >= FAN_IN:
            # Only a run at the newest end may be merged: a part between would change which row is the newest.
            merge(parts, counting, start=len(counting) - len(run))
            return True
    return False


def compact(parts: TableParts, *, full: bool) -> bool:
    """Merge what is worth it, or with `full` everything, into one part; return whether there was anything to do."""
    counting = parts.read()
    start = 0 if full else _worthwhile(list(counting.values()))
    # Rewriting one part alone would change nothing.
    if len(counting) - start < 2:
        return False
    merge(parts, counting, start=start)
    return True


def _worthwhile(footers: Sequence[Footer]) -> int:
    """Return where the run of newest parts begins that should become one."""
    total = sum(footer.n_rows for footer in footers)
    superseding = sum(footer.n_rows for footer in footers[1:] if not footer.fresh)  # the first has none before it
    # Superseding rows may replace any older one, so that only rewriting everything gets rid of them.
    if superseding > _SUPERSEDING_SHARE * total:
        return 0
    start, later = len(footers), 0
    # From the newest back; FAN_IN squared rows are worth merging in any case: they are two levels of appends.
    while start and footers[start - 1].n_rows <= _MUCH_LARGER * later + FAN_IN * FAN_IN:
        start -= 1
        later += footers[start].n_rows
    return start


def merge(parts: TableParts, counting: Mapping[Part, Footer], *, start: int) -> None:
    """Merge the counting parts from `start` on, oldest first, into one, and remove them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = list(counting)[start:]
    footers = [counting[part] for part in run]
    merged = parts.name_part(
        # One more merger than any source, by which readers know that it replaces all of them.
        first=run[0].first,
        last=max(part.last for part in run),
        merges=max(p.merges for p in run) + 1,
    )
    # Columns that a newer carspotter added are kept, though this one does not know them.
    schema = pa.unify_schemas([pq.read_schema(part.path).remove_metadata() for part in run])
    kept = _kept_rows(parts, run) if not all(footer.fresh for footer in footers[1:]) else None
    # With nothing before it, a part whose own rows are the newest can supersede none.
    fresh = start == 0 or all(footer.fresh for footer in footers)
    parts.write(merged, schema, _pass_through(parts, run, schema, kept), fresh=fresh)
    # Only now: until the merged part has its name, its sources are the truth.
    parts.sweep()


def _kept_rows(parts: TableParts, run: Sequence[Part]) -> npt.NDArray[np.bool_]:
    """Return which rows of the run, part after part, no later one supersedes."""
    import pyarrow as pa

    key = parts.table.key
    keys = pa.concat_tables([batch for part in run for batch in parts.read_batches(part, [key])])
    # The largest row number of a key is its newest fact, since parts come oldest first.
    numbered = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    last = numbered.group_by(key, use_threads=False).aggregate([("row", "max")])["row_max"].to_numpy()
    # One byte a row, where the kept row numbers would take eight.
    kept = np.zeros(keys.num_rows, dtype=np.bool_)
    kept[last] = True
    return kept


def _pass_through(
    parts: TableParts, run: Sequence[Part], schema: pa.Schema, kept: npt.NDArray[np.bool_] | None
) -> Iterator[pa.Table]:
    """Yield the rows of a run, kept ones only, with null where a part lacks a column, a row group at a time."""
    import pyarrow as pa

    waiting: list[Any] = []
    n_waiting = seen = 0
    for part in run:
        for batch in parts.read_batches(part):
            # `seen` counts rows over all parts, in the order in which `_kept_rows` numbered them.
            mask = None if kept is None else kept[seen : seen + batch.num_rows]
            seen += batch.num_rows
            waiting.append(batch if mask is None or mask.all() else batch.filter(pa.array(mask)))
            n_waiting += waiting[-1].num_rows
            # Whole row groups: many small ones would slow every later reader down.
            if n_waiting >= ROW_GROUP:
                yield _joined(waiting, schema)
                waiting, n_waiting = [], 0
    if waiting:
        yield _joined(waiting, schema)


def _joined(batches: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    # The empty table gives all columns and their order; what a batch lacks becomes null.
    return pa.concat_tables([schema.empty_table(), *batches], promote_options="default").combine_chunks()
