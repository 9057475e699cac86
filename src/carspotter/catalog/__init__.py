"""The catalogue: tables in Parquet, asked with DuckDB."""

from __future__ import annotations

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import OK, TABLES, Table

__all__ = ["OK", "TABLES", "Catalog", "Table"]
