"""Small row stages that worker processes can import: good ones, and each kind of bad one."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.errors import BundleError

Row = dict[str, Any]
GATED = 100  # the position from which on rows wait for the gate
LISTED = "SELECT photo_id, position FROM listing_photos WHERE status = 'ok'"


@dataclass(kw_only=True)
class Count:
    """Fill `files` and `checks`; `kind` says what goes wrong, at position `at`; late rows wait for a file `gate`."""

    kind: str = "good"
    at: int = 7
    folder: str = ""
    gate: str = ""
    name: str = "count"
    reads: str = LISTED
    writes: Mapping[str, str] = field(default_factory=lambda: {"files": "1", "checks": "1"})

    def setup(self) -> None:
        """Note each setup as a file, and fail where that is asked for."""
        if self.folder:
            (Path(self.folder) / f"setup-{os.getpid()}-{time.monotonic_ns()}").touch()
        if self.kind == "setup":
            raise ValueError("no network")
        if self.kind == "bundle":
            raise BundleError("no bundle at x")
        if self.kind == "setup-hangs":
            threading.Event().wait()
        if self.kind == "setup-dies":
            os._exit(9)

    def process(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Answer each row, or go wrong at one."""
        if self.gate and rows[-1]["position"] >= GATED:
            from waiting import until

            until(Path(self.gate).exists, "the gate opens")
        found: dict[str, list[Row]] = {table: [] for table in self.writes}
        for row in rows:
            if row["position"] == self.at:
                self._go_wrong(found)
            for table in row["lacks"]:
                found[table].append({"photo_id": row["photo_id"], "status": "ok"})
        return found

    def _go_wrong(self, found: dict[str, list[Row]]) -> None:
        match self.kind:
            case "raises":
                raise ValueError("cannot\nbe done")
            case "exits":
                os._exit(3)
            case "hangs":
                threading.Event().wait()
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "forgets":
                found["files"].pop()
            case "twice":
                found["files"].append(dict(found["files"][-1]))
            case "unknown":
                found["fils"] = []


def fill(folder: Path, n_photos: int) -> None:
    """Make a catalogue with so many photos of one ad."""
    rows = [{"photo_id": f"a/{i:05}", "ad_id": "a", "position": i, "status": "ok"} for i in range(n_photos)]
    with Catalog.open(folder) as catalog:
        catalog.append("listing_photos", rows)
