"""Is the pool behind `compute.run` worth its lines against Daft, which the design named first?

The same row stage (check + locate) over the same photographs, in as many processes, twice: by `compute.run`, and by a
Daft class in its own processes that writes Parquet. Out: seconds of each, its start included, in turn; what each leaves
on the disk when it is killed after half of that time; and what becomes of a run in which one row kills its worker.

    python benchmarks/daft_pool.py --photos ../shared/data/used-car-ads/photos [--count 800] [--repeats 3] [--json]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carspotter import compute
from carspotter.compute.stage import process
from carspotter.errors import CarspotterError
from carspotter.photos.checks import CheckSettings
from carspotter.project.folder import Project, create
from carspotter.project.locate import LocateSettings, LocateStage
from measure import CORES, machine, parser

PARTS = ("checks", "findings")
BATCH = 64
DEADLY = "deadly"
WAYS = ("pool", "daft")
DISCARDED_RUN = 1  # the first one of each reads the files for the first time


@dataclass(slots=True, kw_only=True)
class DeadlyLook(LocateStage):
    """Kill the worker on one row, as a fault in a decoder would."""

    def process(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Look, or die."""
        if any(row["photo_id"] == DEADLY for row in rows):
            os._exit(11)
        return super(DeadlyLook, self).process(rows)


def main() -> None:
    """Measure, or be one of the runs that are measured."""
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, required=True)
    options.add_argument("--count", type=int, default=800)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--run", choices=WAYS, help="run one way in --project, and nothing else")
    options.add_argument("--project", type=Path)
    given = options.parse_args()
    if given.run:
        print(json.dumps(run(given.run, given.project)))
        return
    paths = [path for path in sorted(given.photos.rglob("*")) if path.suffix.lower() in (".jpg", ".webp", ".png")]
    with tempfile.TemporaryDirectory() as folder:
        result = compare(Path(folder), paths[: given.count], given.repeats)
    print(json.dumps(result | {"machine": machine()}, indent=None if given.json else 2))


def compare(folder: Path, paths: list[Path], repeats: int) -> dict[str, Any]:
    """Time both ways in turn, kill both, and give both a row that kills."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(DISCARDED_RUN + repeats):
        for way in WAYS:
            found = in_new_process(way, project_of(folder, paths))
            if number >= DISCARDED_RUN:
                seconds[way].append(found["seconds"])
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "photographs": len(paths),
        "seconds": {way: round(value, 1) for way, value in medians.items()},
        "daft takes times as long": round(medians["daft"] / medians["pool"], 3),
        "of all, in seconds": {way: [round(value, 1) for value in values] for way, values in seconds.items()},
        "rows on the disk after a kill at half time": {
            way: killed(way, project_of(folder, paths), after=medians[way] / 2) for way in WAYS
        },
        "a row kills its worker": {
            way: in_new_process(way, project_of(folder, paths[:100], deadly=True)) for way in WAYS
        },
    }


def project_of(folder: Path, paths: list[Path], *, deadly: bool = False) -> Path:
    """Make a project whose catalogue has these photographs as files."""
    shutil.rmtree(folder / "project", ignore_errors=True)
    project = create(folder / "project", 'name = "compare"')
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    rows = [
        {"photo_id": name, "path": str(path.resolve()), "status": "ok"} for name, path in zip(names, paths, strict=True)
    ]
    if deadly:
        rows[len(rows) // 2]["photo_id"] = DEADLY
    with project.catalog() as catalog:
        catalog.append("files", rows, version="1")
    return project.folder


def run(way: str, folder: Path) -> dict[str, Any]:
    """Run one way; return its seconds and rows, or what went wrong with it."""
    stage = DeadlyLook(folder=str(folder), check=CheckSettings(), locate=LocateSettings(), parts=PARTS)
    start = time.perf_counter()
    try:
        (run_pool if way == "pool" else run_daft)(stage, folder)
    # Daft raises errors of several kinds, its own and others'.
    except Exception as error:  # noqa: BLE001
        known = error if isinstance(error, CarspotterError) else type(error).__name__
        return {"rows": rows_of(way, folder), "error": str(known)}
    return {"seconds": time.perf_counter() - start, "rows": rows_of(way, folder)}


def run_pool(stage: LocateStage, folder: Path) -> None:
    """Run the stage as the product does."""
    with Project.open(folder).catalog() as catalog:
        compute.run(stage, catalog, batch_size=BATCH, workers=CORES)


def run_daft(stage: LocateStage, folder: Path) -> None:
    """Run the stage as a Daft class, one instance a core in processes of their own, into Parquet."""
    os.environ["DO_NOT_TRACK"] = os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
    import daft

    @daft.cls(max_concurrency=CORES, use_process=True, cpus=1)
    class Looks:
        def __init__(self, stage: LocateStage) -> None:
            self.stage = stage
            stage.setup()

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=BATCH)
        def look(self, photo_id: daft.Series, path: daft.Series) -> list[str]:
            pairs = zip(photo_id.to_pylist(), path.to_pylist(), strict=True)
            rows = [{"photo_id": key, "path": where, "lacks": list(PARTS)} for key, where in pairs]
            found = process(self.stage, rows)
            return [json.dumps([found[part][i] for part in PARTS], default=float) for i in range(len(rows))]

    with Project.open(folder).catalog() as catalog:
        rows = catalog.rows("SELECT photo_id, path FROM files")
    looks = Looks(stage)
    frame = daft.from_pydict({name: [row[name] for row in rows] for name in ("photo_id", "path")})
    # Daft's method takes expressions here and hands series to the method itself, which its types do not tell.
    found: Any = looks.look(daft.col("photo_id"), daft.col("path"))  # type: ignore[arg-type]
    frame.into_batches(BATCH).with_column("found", found).write_parquet(str(folder / "daft"))


def rows_of(way: str, folder: Path) -> int:
    """Count the photographs that are looked at and on the disk."""
    if way == "pool":
        with Project.open(folder).catalog() as catalog:
            return catalog.count("findings")
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in (folder / "daft").rglob("*.parquet"))


def command(way: str, folder: Path) -> list[str]:
    """Give the command line of one run in a process of its own."""
    return [sys.executable, __file__, "--photos", ".", "--run", way, "--project", str(folder)]


def in_new_process(way: str, folder: Path) -> dict[str, Any]:
    """Run one way in a new process and return what it said."""
    done = subprocess.run(command(way, folder), capture_output=True, text=True, timeout=600)
    if done.returncode:
        return {"rows": rows_of(way, folder), "exit": done.returncode, "said": done.stderr[-200:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def killed(way: str, folder: Path, *, after: float) -> int:
    """Kill a run, and all that it started, after some seconds; return the photographs that are not lost."""
    silent = subprocess.DEVNULL
    child = subprocess.Popen(command(way, folder), stdout=silent, stderr=silent, start_new_session=True)
    time.sleep(after)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return rows_of(way, folder)


if __name__ == "__main__":
    main()
