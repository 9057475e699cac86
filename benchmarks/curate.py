"""How fast are photographs checked, located and embedded, and what share of that is mere decoding?

In: photographs (`--photos`, by default soft shapes), written anew at `--size` into a temporary project. Out: images a
second on the cores at hand for decoding alone (the same scaled decode, in as many processes), for the two networks
alone, for check + locate, and with embeddings, the last also as a share of the limit: decoding and networks, one after
the other, and nothing else. Then for five times as many, with the largest memory of any process, deduplication timed on
the rows.

    python benchmarks/curate.py --photos ../shared/data/used-car-ads/photos --size 1600x1200 [--precision bfloat16]
"""

import io
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carspotter import compute
from carspotter.crops import decode_side
from carspotter.photos.checks import CheckSettings
from carspotter.photos.duplicates import find_duplicates
from carspotter.pixels import decode
from carspotter.project.deduplicate import CHECKED
from carspotter.project.folder import Project, create
from carspotter.project.locate import LocateSettings, LocateStage
from carspotter.runtime.bundle import shipped
from measure import CORES, machine, parser

TASKS = ("finder", "identifier")
PARTS = ("checks", "findings", "embeddings")
QUALITY = 88
CHUNK = 16


def main() -> None:
    """Measure, and print figures."""
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, help="folder of photographs")
    options.add_argument("--size", default="1600x1200")
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--precision", default="float32", help="float32 or bfloat16")
    options.add_argument("--growth", type=int, default=5, help="times as many photographs at last; 1 leaves it out")
    given = options.parse_args()
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        paths = list(write_photos(Path(folder) / "photos", sources(given.photos), (width, height), given.count))
        result = rates(Path(folder), paths, given.repeats, given.precision)
        if given.growth > 1:
            more = paths + [again(path, number) for number in range(1, given.growth) for path in paths]
            result["growth"] = growth(Path(folder), paths, more)
    result |= {"size": given.size, "precision": given.precision, "photographs": given.count, "machine": machine()}
    print(json.dumps(result, indent=None if given.json else 2))


def sources(folder: Path | None) -> list[Path | None]:
    """List photographs, or as many Nones, for which some are drawn."""
    if folder is None:
        return [None] * 20
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".png")]


def write_photos(folder: Path, found: list[Path | None], size: tuple[int, int], count: int) -> Iterable[Path]:
    """Write photographs anew at a size, some grain on them: enlarging alone leaves too little for a decoder to do."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        path = found[number % len(found)]
        image = Image.open(path).convert("RGB") if path else noise(random)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.int16)
        grain = random.normal(0, 4, (size[1], size[0], 1)).astype(np.int16)
        target = folder / f"{number:05}.jpg"
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(target, quality=QUALITY)
        yield target


def noise(random: np.random.Generator) -> Image.Image:
    """Draw soft shapes."""
    return Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))


def again(path: Path, number: int) -> Path:
    """Write a photograph once more at another quality, under another name."""
    target = path.with_name(f"{path.stem}-{number}.jpg")
    if not target.exists():
        buffer = io.BytesIO()
        Image.open(path).save(buffer, "JPEG", quality=QUALITY - 2 * number)
        target.write_bytes(buffer.getvalue())
    return target


def rates(folder: Path, paths: list[Path], repeats: int, precision: str) -> dict[str, Any]:
    """Measure images a second, the ways in turn, and give the median of each and its share of decoding alone."""
    side = decode_side(shipped("identifier").preprocessing, shipped("finder").preprocessing)
    ways = ("decode alone", "networks alone", "check + locate", "check + locate + embed")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        seconds[ways[2]].append(look_at(folder, paths, PARTS[:2], precision=precision))
        seconds[ways[3]].append(look_at(folder, paths, PARTS, precision=precision))
        share = identified(folder) / len(paths)
        runs = [(n := len(paths[i : i + CHUNK]), round(n * share), precision) for i in chunks(paths)]
        seconds[ways[1]].append(in_processes(run_networks, runs))
        seconds[ways[0]].append(in_processes(decode_some, [(paths[i : i + CHUNK], side) for i in chunks(paths)]))
    took = {way: float(np.median(values)) for way, values in seconds.items()}
    return {
        "images a second": {way: round(len(paths) / value, 1) for way, value in took.items()},
        **{f"{way}, share of decoding": round(took[ways[0]] / took[way], 3) for way in ways[2:]},
        f"{ways[3]}, share of the limit": round((took[ways[0]] + took[ways[1]]) / took[ways[3]], 3),
    }


def chunks(paths: list[Path]) -> range:
    """Give where each chunk of work begins."""
    return range(0, len(paths), CHUNK)


def in_processes(work: Callable[[Any], int], jobs: list[Any]) -> float:
    """Do jobs in as many processes as there are cores; the start of the processes is not counted."""
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        list(pool.map(work, jobs[:1] * CORES * 2))
        start = time.perf_counter()
        list(pool.map(work, jobs))
        return time.perf_counter() - start


def decode_some(job: tuple[list[Path], int]) -> int:
    """Read and decode some photographs."""
    return sum(decode(path.read_bytes(), min_side=job[1]).width for path in job[0])


def identified(folder: Path) -> int:
    """Count the photographs whose vehicle was identified; the others spare the identifier its work."""
    with Project.open(folder / "project").catalog() as catalog:
        (row,) = catalog.rows("SELECT count(*) AS n FROM embeddings WHERE status = 'ok'")
    return int(row["n"])


def run_networks(job: tuple[int, int, str]) -> int:
    """Run the finder on some pictures and the identifier on some, one thread each, as a worker of the stage does."""
    *counts, precision = job
    for task, count in zip(TASKS, counts, strict=True):
        session = opened(task, precision)
        form = session.input_form.shape
        session.run(np.zeros((max(1, count), *form[1:]), np.uint8))  # what is in it changes no time
    return sum(counts)


@lru_cache(maxsize=4)
def opened(task: Any, precision: str) -> Any:
    """Open a shipped network once a process."""
    return shipped(task).open_session(threads=1, precision=precision)


def project_of(folder: Path, paths: list[Path]) -> Project:
    """Make a project whose catalogue has these photographs as files."""
    shutil.rmtree(folder / "project", ignore_errors=True)
    project = create(folder / "project", 'name = "speed"')
    names = [f"{number // 5}/{number:06}" for number in range(len(paths))]
    with project.catalog() as catalog:
        catalog.append("listing_photos", [{"photo_id": n, "ad_id": n.split("/")[0], "status": "ok"} for n in names])
        files = [{"photo_id": n, "path": str(path), "status": "ok"} for n, path in zip(names, paths, strict=True)]
        catalog.append("files", files, version="1")
    return project


def look_at(folder: Path, paths: list[Path], parts: tuple[str, ...], *, precision: str = "float32") -> float:
    """Run the row stage over photographs; the time from the first rows to the last, without the start of workers."""
    project = project_of(folder, paths)
    locate = LocateSettings(precision=precision)
    look = LocateStage(folder=str(project.folder), check=CheckSettings(), locate=locate, parts=parts)
    times: list[tuple[float, int]] = []
    with project.catalog() as catalog:
        compute.run(look, catalog, batch_size=CHUNK, progress=lambda *p: times.append((time.perf_counter(), p[0])))
    (begin, before), (end, done) = times[0], times[-1]
    return (end - begin) * len(paths) / (done - before)


def growth(folder: Path, few: list[Path], many: list[Path]) -> dict[str, Any]:
    """Compare the time and the largest memory of few and of many photographs, deduplication included."""
    found: dict[str, Any] = {}
    for name, paths in (("few", few), ("many", many)):
        start = time.perf_counter()
        seconds = look_at(folder, paths, ("checks", "findings"))
        with Project.open(folder / "project").catalog() as catalog:
            columns = catalog.columns(f"{CHECKED} ORDER BY c.photo_id")
        begin = time.perf_counter()
        rows = find_duplicates(columns)
        found[name] = {
            "photographs": len(paths),
            "look s": round(seconds, 1),
            "deduplicate s": round(time.perf_counter() - begin, 2),
            "all s": round(time.perf_counter() - start, 1),
            "in groups": len(rows),
            "largest worker MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "this process MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    found["times as long"] = round(found["many"]["look s"] / found["few"]["look s"], 2)
    return found


if __name__ == "__main__":
    main()
