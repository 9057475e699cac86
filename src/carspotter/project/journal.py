"""Which steps of a build are done: a step is, as long as its settings and the rows it reads stay as they were.

In: names, settings and tables. Out: fingerprints, and `steps.json` in the project's folder, which also keeps what each
step had to say. A row stage needs no journal, since the catalogue knows which rows lack its facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.catalog.catalog import Catalog

FILE = "steps.json"


def fingerprint(catalog: Catalog, queries: tuple[str, ...], settings: Any) -> str:
    """Name what a step depends on: the rows of some queries, in whatever order, and its settings."""
    parts = [json.dumps(_plain(settings), sort_keys=True, default=str)]
    for query in queries:
        # An exclusive or of the rows' hashes does not depend on their order, nor on how parts are cut. Of their texts,
        # since DuckDB mixes a row's columns by exclusive or too: an even number of equal changes would cancel out.
        row = catalog.rows(f"SELECT count(*) AS n, bit_xor(hash(t::VARCHAR)) AS x FROM ({query}) AS t")[0]
        parts.append(f"{row['n']}:{row['x']}")
    return blake2b("|".join(parts).encode(), digest_size=12).hexdigest()


def _plain(settings: Any) -> Any:
    if is_dataclass(settings) and not isinstance(settings, type):
        return asdict(settings)
    if isinstance(settings, list | tuple):
        return [_plain(item) for item in settings]
    return settings


class Journal:
    """Read and write which steps are done, and what they said."""

    def __init__(self, folder: Path) -> None:
        """Read the journal of a project's folder; none, or one that is no JSON, means that nothing is done."""
        self._path = folder / FILE
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        self._steps: dict[str, dict[str, Any]] = content if isinstance(content, dict) else {}

    def is_done(self, step: str, mark: str) -> bool:
        """Return whether a step was finished with this fingerprint."""
        return self._steps.get(step, {}).get("fingerprint") == mark

    def said(self, step: str) -> Mapping[str, Any]:
        """Return what a step had to say when it was last finished; empty when it never was."""
        content = self._steps.get(step, {}).get("said", {})
        return content if isinstance(content, dict) else {}

    def forget(self, step: str) -> None:
        """Take a step for not done: what it made is gone."""
        self._steps.pop(step, None)

    def finish(self, step: str, mark: str, said: Mapping[str, Any]) -> None:
        """Note that a step is finished."""
        self._steps[step] = {"fingerprint": mark, "said": dict(said)}
        storage.write(self._path, (json.dumps(self._steps, indent=2, ensure_ascii=False) + "\n").encode())
