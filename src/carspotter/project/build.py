"""What every step of a build is given: the project, its open catalogue, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from carspotter import compute
from carspotter.catalog.catalog import Catalog
from carspotter.project.folder import Project
from carspotter.project.journal import Journal, fingerprint
from carspotter.project.look import versions


class Watch(Protocol):
    """Whoever shows a build to a person."""

    def start(self, step: str, about: str) -> None:
        """Hear that a step begins."""

    def advance(self, done: int, total: int) -> None:
        """Hear how far the step is, in rows."""

    def end(self, step: str, said: Mapping[str, Any]) -> None:
        """Hear that the step is done, and what it had to say."""


class Quiet:
    """Show nothing."""

    def start(self, step: str, about: str) -> None:
        """Pass over it."""

    def advance(self, done: int, total: int) -> None:
        """Pass over it."""

    def end(self, step: str, said: Mapping[str, Any]) -> None:
        """Pass over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build under way; the catalogue is open and its lock is held."""

    project: Project
    catalog: Catalog
    journal: Journal
    watch: Watch
    on: str = "local"
    workers: int | None = None

    @property
    def embeddings(self) -> str:
        """Return the SQL of the embeddings that the project's networks made; those of other weights do not mix in."""
        version = versions(self.project.settings.locate)["embeddings"].replace("'", "''")
        return f"(SELECT photo_id, embedding FROM embeddings WHERE status = 'ok' AND stage_version = '{version}')"

    def rows(self, stage: compute.RowStage, *, workers: int | None = None) -> Mapping[str, Any]:
        """Run a row stage over the rows that lack its facts and say how many it did; `workers` is for it alone."""
        count = self.workers if workers is None else workers
        summary = compute.run(stage, self.catalog, on=self.on, workers=count, progress=self.watch.advance)
        return {"done": summary.done, **({"stopped": dict(summary.errors)} if summary.errors else {})}

    def whole(
        self, name: str, *, reads: tuple[str, ...], writes: tuple[str, ...], settings: Any, work: Callable[[], Any]
    ) -> Mapping[str, Any]:
        """Do a whole-catalogue step unless it is done; `reads` and `writes` ask for what it needs and makes.

        What it made counts as well: a snapshot that was moved away is made again.
        """
        before = fingerprint(self.catalog, reads, settings)
        if self.journal.is_done(name, before + fingerprint(self.catalog, writes, None)):
            return self.journal.said(name)
        said: Mapping[str, Any] = work()
        self.journal.finish(name, before + fingerprint(self.catalog, writes, None), said)
        return said
