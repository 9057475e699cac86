"""A step is done as long as its settings and the rows it reads stay as they were."""

from __future__ import annotations

from pathlib import Path

from carspotter.catalog.catalog import Catalog
from carspotter.project.build import fingerprint


def test_an_even_number_of_equal_changes_is_seen(tmp_path: Path) -> None:
    with Catalog.open(tmp_path) as catalog:
        marks = []
        for name in ("BMW X5", "Audi A4"):
            rows = [{"photo_id": f"3/{n}", "ad_id": "3", "class_name": name, "status": "ok"} for n in range(4)]
            catalog.replace("samples", rows)
            marks.append(fingerprint(catalog, ("SELECT * FROM samples",), None))
    assert marks[0] != marks[1]
