"""Which candidates of a stage still lack its facts.

In: the SQL of the candidates, and the tables with the version of the facts that the stage writes there. Out: SQL whose
rows are the candidates that lack any, in the order of their key or another. It asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from carspotter.catalog.encode import STAGE_VERSION
from carspotter.catalog.tables import ERROR, TABLES
from carspotter.errors import CatalogError, suggestion


def pending_sql(sql: str, writes: Mapping[str, str], *, order: str = "") -> str:
    """Write the SQL that selects candidates without a row in a table, or whose newest one is of another version.

    A row of status `ERROR` counts as none: memory was short, or a worker was killed, and the next run may do better.

    After a candidate's own columns comes one truth a table, in the order of `writes`: whether it lacks that one. The
    versions are the last parameters. `order` is SQL over the columns of `candidate`. Raises CatalogError for tables
    that are no facts or have different keys.
    """
    key = _shared_key(writes)
    candidates = sql.strip().rstrip(";")
    lacks = [f"stage_{place}.{key} IS NULL" for place, _ in enumerate(writes)]
    counts = f"{STAGE_VERSION} = ? AND status IS DISTINCT FROM '{ERROR}'"
    joins = "".join(
        f" LEFT JOIN (SELECT {key} FROM {table} WHERE {counts}) AS stage_{place}"
        f" ON stage_{place}.{key} = candidate.{key}"
        for place, table in enumerate(writes)
    )
    truths = ", ".join(f'{lack} AS "lacks {table}"' for lack, table in zip(lacks, writes, strict=True))
    # The line break ends a comment at the end of the candidates' SQL.
    return (
        f"SELECT candidate.*, {truths} FROM (\n{candidates}\n) AS candidate{joins}"
        f" WHERE {' OR '.join(lacks)} ORDER BY {order or f'candidate.{key}'}"
    )


def _shared_key(writes: Mapping[str, str]) -> str:
    for table in writes:
        if table not in TABLES:
            raise CatalogError(f"no table {table!r}; {suggestion(table, TABLES)}")
        if TABLES[table].growth != "facts":
            raise CatalogError(f"table {table} holds a snapshot: no row of it can be pending")
    keys = {TABLES[table].key for table in writes}
    if len(keys) != 1:
        named = ", ".join(f"{table} ({TABLES[table].key})" for table in writes) or "none"
        raise CatalogError(f"pending rows need tables with one and the same key; given: {named}")
    return keys.pop()
