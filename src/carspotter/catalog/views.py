"""Write the SQL that selects the newest rows of a table from its parts.

It knows which rows count; it asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carspotter.catalog.encode import STAGE_VERSION
from carspotter.catalog.parts import Footer, Part
from carspotter.catalog.tables import RETIRED, ColumnType, Table

_SQL_TYPES: Mapping[ColumnType, str] = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "hash": "UBIGINT",
    "number": "FLOAT",
    "truth": "BOOLEAN",
    "texts": "VARCHAR[]",
    "vector": "FLOAT[]",
}


def view(table: Table, parts: Mapping[Part, Footer]) -> str:
    """Write the SQL of a table's newest rows, from its parts in the order of their age.

    Parts whose keys were all new when they were written need no comparison among each other, however many. Only the
    keys of superseding parts are looked up: the rows they supersede are left out, and each of their keys is taken
    from the newest part that has it.
    """
    if not parts:
        return empty_view(table)
    # There is nothing that the oldest part could supersede.
    fresh = {part: footer for place, (part, footer) in enumerate(parts.items()) if place == 0 or footer.fresh}
    superseding = {part: footer for part, footer in parts.items() if part not in fresh}
    older = _read(table, fresh)
    if not superseding:
        return _standing(table, older)
    newer = _read(table, superseding, name=True)
    # Names begin with the number of the first append in ten digits, so their order is that of age.
    newest = f"PARTITION BY {table.key} ORDER BY filename DESC"
    return _standing(
        table,
        f"SELECT * FROM ({older}) AS older ANTI JOIN (SELECT {table.key} FROM ({newer})) AS newer USING ({table.key}) "
        f"UNION ALL SELECT * EXCLUDE (filename) FROM ({newer}) QUALIFY row_number() OVER ({newest}) = 1",
    )


def _standing(table: Table, sql: str) -> str:
    """Leave out the facts that were retired."""
    if "status" not in table.columns:
        return sql
    return f"SELECT * FROM ({sql}) AS rows WHERE status IS DISTINCT FROM '{RETIRED}'"


def empty_view(table: Table) -> str:
    """Write the SQL of a table without rows."""
    return f"SELECT {_columns(table, frozenset())}, CAST(NULL AS VARCHAR) AS {STAGE_VERSION} WHERE false"


def _columns(table: Table, have: frozenset[str]) -> str:
    """List the columns of a table, with null for those that a part lacks."""
    return ", ".join(
        name if name in have else f"CAST(NULL AS {_SQL_TYPES[kind]}) AS {name}" for name, kind in table.columns.items()
    )


def _read(table: Table, parts: Mapping[Part, Footer], *, name: bool = False) -> str:
    """Read parts, those with the same columns together: DuckDB then opens each only when it comes to it."""
    alike: dict[frozenset[str], list[Path]] = {}
    for part, footer in parts.items():
        alike.setdefault(footer.columns, []).append(part.path)
    more, option = (", filename", ", filename = true") if name else ("", "")
    return " UNION ALL ".join(
        f"SELECT {_columns(table, columns)}, {STAGE_VERSION}{more} "
        f"FROM read_parquet([{', '.join(map(_quoted, paths))}]{option})"
        for columns, paths in alike.items()
    )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
