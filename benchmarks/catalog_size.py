"""Does a catalogue of millions of rows answer at once, and what do many small parts cost?

Rows are synthetic: `--photos` photos (2 million), five to an ad, each with a file, a check and a finding, and a label
for each ad. `status` is the whole command in a new process, printing its funnel (target: under 3 s), with the tables as
small appends leave them, with 5 % of checks and findings found out anew, which is the most that is left unmerged, and
after `compact`. Then all photos are fetched as pending rows, and 5,000 parts of 64 rows are asked as they are and
merged, and batches of 64 are appended one by one.

With `--steps` the whole-catalogue steps of a build are run instead, each in a process of its own: CPU seconds, and the
most memory that it held. All are done twice, the second time over what the first one left.

    python benchmarks/catalog_size.py [--photos 2000000] [--repeats 5] [--steps] [--folder FOLDER] [--json]
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.encode import encode
from carspotter.catalog.parts import TableParts
from carspotter.catalog.tables import TABLES
from carspotter.labels.known import Known
from carspotter.project.folder import create
from measure import parser, percentiles, report, timings

STATUS = "from carspotter.cli.main import app; app(['status', {project!r}, '--json'])"
COUNT = (
    "from carspotter.catalog.catalog import Catalog; "
    "Catalog.open({project!r}).rows('SELECT status, count(*) FROM checks GROUP BY status')"
)
PENDING = """
from pathlib import Path
from carspotter.catalog.catalog import Catalog
catalog = Catalog.open({project!r})
print(sum(1 for _ in catalog.pending("SELECT photo_id, path FROM files WHERE status = 'ok'", {{"checks": "3"}})))
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) // 1024)
"""
STEP = """
import time
from pathlib import Path
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
build(Project.open({project!r}), only=({step!r},))
status = Path("/proc/self/status").read_text().split()  # ru_maxrss would be the parent's, where that was more
print(time.process_time(), int(status[status.index("VmHWM:") + 1]) // 1024)
"""
WHOLE = ("deduplicate", "resolve", "classes", "split")
PHOTOS_PER_AD = 5
MODELS = 2_000
COPY_EVERY, BACK = 20, 7
SMALL_PARTS = 5_000
BATCH = 64  # rows that compute appends at a time


def sizes(total: int) -> Iterator[int]:
    """Give the rows of the parts that a long run of small appends leaves: three sizes, after merging 64 to 1."""
    for size, most in ((64**3, total), (64**2, 63), (64, 62)):
        for _ in range(min(total // size, most)):
            yield size
            total -= size
    if total:
        yield total


def slices(total: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Cut the numbers of all rows as `sizes` says."""
    start = 0
    for size in sizes(total):
        yield np.arange(start, start + size)
        start += size


def stopped(numbers: np.ndarray[Any, Any], every: int, reason: str) -> list[str]:
    """Make a status column in which every so many rows stopped."""
    return [reason if number % every == 0 else "ok" for number in numbers.tolist()]


def photo_columns(numbers: np.ndarray[Any, Any]) -> dict[str, dict[str, Any]]:
    """Make the rows of the four tables of photos."""
    ads = [f"{number // PHOTOS_PER_AD + 10_000_000}" for number in numbers.tolist()]
    # Multiplying by an odd number spreads the digests as a hash would.
    ids = [f"{ad}/{(number * 2654435761) % 2**48:012x}" for ad, number in zip(ads, numbers.tolist(), strict=True)]
    noise = np.random.default_rng(int(numbers[0])).random((3, len(numbers)), dtype=np.float32)
    return {
        "listing_photos": {
            "photo_id": ids,
            "ad_id": ads,
            "position": numbers % PHOTOS_PER_AD,
            "url": [f"https://photos.example/{name}.jpg" for name in ids],
            "status": ["ok"] * len(ids),
        },
        "files": {
            "photo_id": ids,
            "path": [f"photos/{name}.jpg" for name in ids],
            "bytes": numbers + 100_000,
            "status": stopped(numbers, 97, "missing"),
        },
        "checks": check_columns(numbers, ids),
        "findings": {
            "photo_id": ids,
            "kind": ["interior" if number % 3 == 0 else "exterior" for number in numbers.tolist()],
            "passed": numbers % 3 > 0,
            "vehicles": numbers % 4,
            "x1": noise[0],
            "y1": noise[1],
            "score": noise[2],
            "viewpoint": ["front-left"] * len(ids),
            "status": ["ok"] * len(ids),
        },
    }


def check_columns(numbers: np.ndarray[Any, Any], ids: list[str]) -> dict[str, Any]:
    """Make the rows of the table of checks."""
    random = np.random.default_rng(int(numbers[0]))
    noise = random.random((2, len(numbers)), dtype=np.float32)
    digests, hashes = (
        random.bytes(32 * len(numbers)).hex(),
        random.integers(1 << 64, size=(2, len(numbers)), dtype=np.uint64),
    )
    first = np.arange(len(numbers))
    # One photo in twenty is a copy of one of another ad, byte for byte, and one in twenty a copy three bits off.
    first[BACK::COPY_EVERY] -= BACK
    near = first.copy()
    near[2 * BACK :: COPY_EVERY] -= 2 * BACK
    hashes = hashes[:, near]
    hashes[0, 2 * BACK :: COPY_EVERY] ^= np.uint64(0b10101)
    return {
        "photo_id": ids,
        "sha256": [digests[64 * at : 64 * at + 64] for at in first.tolist()],
        "width": numbers % 500 + 800,
        "height": numbers % 400 + 600,
        "phash": hashes[0],
        "dhash": hashes[1],
        "contrast": np.full(len(numbers), 0.2),
        "brightness": noise[0],
        "sharpness": noise[1],
        "flags": [[]] * len(ids),
        "status": stopped(numbers, 17, "blurred"),
    }


def fill(catalog: Catalog, photos: int) -> None:
    """Write every table as a build leaves it."""
    known = [
        (make.name, model) for make in Known.bundled().makes.values() for model in sorted(set(make.models.values()))
    ]
    known = known[:MODELS]
    with catalog.writer():
        for numbers in slices(photos):
            for table, columns in photo_columns(numbers).items():
                catalog.append(table, columns)
        for numbers in slices(photos // PHOTOS_PER_AD):
            ads = [f"{number + 10_000_000}" for number in numbers.tolist()]
            cars = [known[number % len(known)] for number in numbers.tolist()]
            words = {"make": [make for make, _ in cars], "model": [model for _, model in cars]}
            # One ad in eleven says something that nobody knows.
            words["model"][::11] = [f"Wagon {number}" for number in numbers[::11].tolist()]
            words["title"] = [f"{make} {model}, first hand, garaged, {n}" for n, (make, model) in enumerate(cars)]
            ok = {"status": ["ok"] * len(ads)}
            catalog.append("listings", {"ad_id": ads, **words, "year": numbers % 20 + 2000, **ok})
            names = [f"{make} {model}" for make, model in cars]
            catalog.append("labels", {"ad_id": ads, "name": names, "status": stopped(numbers, 11, "unresolved")})
        names = sorted({f"{make} {model}" for make, model in known})
        catalog.replace("classes", {"taxon": names, "class_name": names, "status": ["ok"] * len(names)})


def find_anew(catalog: Catalog, photos: int) -> None:
    """Append a twentieth of checks and findings again, as a new version of a stage does when it is stopped."""
    with catalog.writer():
        for numbers in np.array_split(np.arange(photos // 20), 10):
            tables = photo_columns(numbers * 20)
            catalog.append("checks", tables["checks"], version="2")
            catalog.append("findings", tables["findings"], version="2")


def in_new_process(program: str, project: Path, *, repeats: int) -> dict[str, Any]:
    """Time a program of its own, from the start of the interpreter to its end."""
    command = [sys.executable, "-c", program.format(project=str(project))]
    return percentiles(timings(lambda: subprocess.run(command, capture_output=True, check=True), repeats=repeats))


def small_parts(folder: Path) -> TableParts:
    """Write many parts of one batch each, none of them merged."""
    parts = TableParts(folder / "catalog" / "checks", TABLES["checks"])
    for part in range(SMALL_PARTS):
        numbers = np.arange(part * BATCH, (part + 1) * BATCH)
        encoded = encode(
            TABLES["checks"], check_columns(numbers, [f"1/{n:012x}" for n in numbers.tolist()]), version="1"
        )
        name = parts.name_part(first=part + 1, last=part + 1, merges=0)
        parts.write(name, encoded.schema, [encoded], fresh=True)
    return parts


def seconds(start: float) -> float:
    """Give the seconds since a start."""
    return round(time.perf_counter() - start, 2)


def measure_millions(project: Path, *, photos: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the rows about a catalogue of millions."""
    with Catalog.open(project) as catalog:
        start = time.perf_counter()
        fill(catalog, photos)
        yield {"what": "append all tables", "seconds": seconds(start)}
        yield {"what": "status, as a build leaves it", **in_new_process(STATUS, project, repeats=repeats)}
        catalog.compact(full=True)
        find_anew(catalog, photos)
        yield {"what": "status, 5 % found out anew", **in_new_process(STATUS, project, repeats=repeats)}
        start = time.perf_counter()
        catalog.compact(full=True)
        yield {"what": "compact everything", "seconds": seconds(start)}
        yield {"what": "status, compacted", **in_new_process(STATUS, project, repeats=repeats)}
    start = time.perf_counter()
    program = [sys.executable, "-c", PENDING.format(project=str(project))]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    count, megabytes = map(int, done.stdout.split())
    yield {"what": "fetch every pending row", "rows": count, "seconds": seconds(start), "memory_mb": megabytes}


def measure_small(folder: Path, *, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the rows about many small parts."""
    small_parts(folder)
    yield {"what": f"count of {SMALL_PARTS} parts, not merged", **in_new_process(COUNT, folder, repeats=repeats)}
    with Catalog.open(folder) as catalog:
        start = time.perf_counter()
        catalog.compact()
        yield {"what": f"compact {SMALL_PARTS} parts", "seconds": seconds(start)}
    yield {"what": "count of the same rows, compacted", **in_new_process(COUNT, folder, repeats=repeats)}
    with Catalog.open(folder) as catalog, catalog.writer():
        columns = [
            check_columns(n := np.arange(i * BATCH, (i + 1) * BATCH), [f"2/{k}" for k in n]) for i in range(1000)
        ]
        taken = timings(lambda: catalog.append("checks", columns.pop()), repeats=1000)
        yield {
            "what": "one append of 64 rows, mergers included",
            **percentiles(taken),
            "mean_ms": round(float(np.mean(taken)), 2),
        }
    yield {"what": "count after 1,000 appends", **in_new_process(COUNT, folder, repeats=repeats)}


def measure_steps(project: Path, *, photos: int) -> Iterator[dict[str, Any]]:
    """Yield the rows about the steps that look at the whole catalogue."""
    with Catalog.open(project) as catalog:
        fill(catalog, photos)
    for about in ("", ", again"):
        (project / "steps.json").unlink(missing_ok=True)  # or a step that is done would not be done again
        for step in WHOLE:
            start = time.perf_counter()
            program = [sys.executable, "-c", STEP.format(project=str(project), step=step)]
            done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
            cpu, megabytes = done.stdout.split()
            row = {"what": f"{step}{about}", "cpu_s": round(float(cpu), 1), "memory_mb": int(megabytes)}
            print({**row, "wall_s": seconds(start)}, file=sys.stderr, flush=True)  # an hour may pass until the next one
            yield row


def main() -> None:
    """Build the catalogues in temporary folders, measure, and print the table."""
    options = parser(__doc__)
    options.add_argument("--photos", type=int, default=2_000_000)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--steps", action="store_true", help="measure the whole-catalogue steps of a build")
    options.add_argument("--folder", help="where the rows are written and deleted again")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        project = Path(folder) / "millions"
        create(project, 'name = "millions"\n')
        if chosen.steps:
            rows = list(measure_steps(project, photos=chosen.photos))
        else:
            rows = list(measure_millions(project, photos=chosen.photos, repeats=chosen.repeats))
            rows += measure_small(Path(folder) / "small", repeats=chosen.repeats)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    conditions = {"photos": chosen.photos, "ads": chosen.photos // PHOTOS_PER_AD, "writer's memory_mb": megabytes}
    report("catalogue size", rows, as_json=chosen.json, conditions=conditions)


if __name__ == "__main__":
    main()
