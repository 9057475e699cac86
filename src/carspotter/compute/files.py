"""The files that rows name, for workers on machines that do not see them.

In: a stage with a `folder` and rows with a `path`. Out: whether another machine sees that folder, the files' bytes, and
there the same rows with paths of copies that last as long as the batch. Large and shared stores are better mounted on
every node: then nothing travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from carspotter import storage
from carspotter.compute.stage import Row, RowStage
from carspotter.errors import StorageError

_SEEN = ".seen-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelFile:
    """A file in the folder from which the paths of a stage's rows count: a machine that sees it sees those files."""

    folder: str
    name: str

    @classmethod
    def of(cls, stage: RowStage) -> SentinelFile | None:
        """Set a landmark for a stage that has a `folder`; None for one that reads no files, or from no folder."""
        folder = getattr(stage, "folder", "")
        if not folder:
            return None
        for old in Path(folder).glob(f"{_SEEN}*"):  # of a run that was killed
            old.unlink(missing_ok=True)
        landmark = cls(folder=str(folder), name=f"{_SEEN}{uuid4().hex}")
        storage.write(Path(folder) / landmark.name, b"")
        return landmark

    def is_seen(self) -> bool:
        """Return whether this machine sees the folder, by a name that no other folder has."""
        return (Path(self.folder) / self.name).exists()

    def files(self, rows: list[Row]) -> dict[str, bytes]:
        """Read the files of rows, by `path`; one that cannot be read is left to the worker to miss."""
        found: dict[str, bytes] = {}
        for path in {row["path"] for row in rows if row.get("path")}:
            with suppress(StorageError):
                found[path] = storage.read(Path(self.folder) / path)
        return found

    def remove(self) -> None:
        """Take the landmark away."""
        with suppress(OSError):
            (Path(self.folder) / self.name).unlink(missing_ok=True)


@contextmanager
def unpacked(rows: list[Row], files: dict[str, bytes]) -> Iterator[list[Row]]:
    """Give rows whose `path` leads to a copy of their file, where one came along; the copies go with the context."""
    if not files:
        yield rows
        return
    with TemporaryDirectory(prefix="carspotter-") as folder:
        copies = {path: str(Path(folder) / f"{n}{Path(path).suffix}") for n, path in enumerate(files)}
        for path, copy in copies.items():
            Path(copy).write_bytes(files[path])
        yield [{**row, "path": copies[row["path"]]} if row.get("path") in copies else row for row in rows]
