"""What every step of a build is given: the project, its open catalogue, the journal of steps, and who watches.

A whole-catalogue step is done as long as its settings and the rows it reads stay as they were: `steps.json` in the
project's folder keeps their fingerprints, and the stats that each step returned. A row stage needs no such record,
since the catalogue knows which rows lack its facts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from carspotter import compute, storage
from carspotter.catalog.catalog import Catalog
from carspotter.catalog.funnel import funnel
from carspotter.catalog.tables import ERROR
from carspotter.progress import Watch
from carspotter.project.folder import Project
from carspotter.project.locate import versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build under way; the catalogue is open and its lock is held."""

    project: Project
    catalog: Catalog
    journal: Journal
    watch: Watch
    on: str = "local"
    workers: int | None = None
    again: tuple[str, ...] = ()

    @property
    def embeddings(self) -> str:
        """Return the SQL of the embeddings that the project's networks made; those of other weights do not mix in."""
        version = versions(self.project.settings.locate)["embeddings"].replace("'", "''")
        columns = "photo_id, embedding, said, seen"
        return f"(SELECT {columns} FROM embeddings WHERE status = 'ok' AND stage_version = '{version}')"

    def rows(self, stage: compute.RowStage, *, workers: int | None = None) -> Mapping[str, Any]:
        """Run a row stage over the rows that lack its facts and say how many it did; `workers` is for it alone."""
        count = self.workers if workers is None else workers
        summary = compute.run(stage, self.catalog, on=self.on, workers=count, progress=self.watch.advance)
        stats: dict[str, Any] = {"done": summary.done}
        if summary.errors:
            stats["stopped"] = dict(summary.errors)
        if ERROR in summary.errors:
            stats["tried again by the next build"] = summary.errors[ERROR]
        return stats

    def stopped(self, *stages: str) -> Mapping[str, Any]:
        """Return how many photos stop at these stages of the funnel and why, in the figures of `carspotter status`."""
        found = [stage.stopped for stage in funnel(self.catalog).stages if stage.name in stages and stage.stopped]
        return {"stopped": dict(sum(map(Counter, found), Counter[str]()))} if found else {}

    def whole(
        self, name: str, *, reads: tuple[str, ...], writes: tuple[str, ...], settings: Any, work: Callable[[], Any]
    ) -> Mapping[str, Any]:
        """Do a whole-catalogue step unless it is done; `reads` and `writes` ask for what it needs and makes.

        What it made counts as well: a snapshot that was moved away is made again. Of a step that is done the stats are
        those of then, with `unchanged`.
        """
        before = fingerprint(self.catalog, reads, settings)
        if self.journal.is_done(name, before + fingerprint(self.catalog, writes, None)):
            return {**self.journal.stats(name), UNCHANGED: True}
        stats: Mapping[str, Any] = work()
        self.journal.finish(name, before + fingerprint(self.catalog, writes, None), stats)
        return stats


FILE = "steps.json"
UNCHANGED = "unchanged"


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

    def stats(self, step: str) -> Mapping[str, Any]:
        """Return what a step had to say when it was last finished; empty when it never was."""
        content = self._steps.get(step, {}).get("said", {})
        return content if isinstance(content, dict) else {}

    def forget(self, step: str) -> None:
        """Take a step for not done: what it made is gone."""
        self._steps.pop(step, None)

    def finish(self, step: str, mark: str, stats: Mapping[str, Any]) -> None:
        """Note that a step is finished."""
        self._steps[step] = {"fingerprint": mark, "said": dict(stats)}
        storage.write_json(self._path, self._steps)
