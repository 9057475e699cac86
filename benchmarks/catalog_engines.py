"""Would SQLite, Delta or Lance keep the catalogue as well as its own parts do?

Each engine (`catalog_adapters.py`) gets the same rows (those of `catalog_size.py`) and answers the same questions.
Every step runs in a process of its own, engine after engine in turn, and is charged the CPU seconds of its process,
since a neighbour takes wall time but no CPU time. Appends are checks of 64 photos, every second one of photos that were
checked before. A kill is `kill -9` between two appends or in one; what was acknowledged must be there, once and whole.

    python benchmarks/catalog_engines.py [--photos 2000000] [--engines today sqlite] [--repeats 3] [--json]
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.encode import encode
from carspotter.catalog.tables import TABLES
from catalog_adapters import ALL_LACK, ENGINES, FEW_LACK, QUESTIONS, VECTORS
from catalog_size import BATCH, PHOTOS_PER_AD, check_columns, photo_columns, slices
from measure import parser, report

MAKES = 40
APPENDS, KILLS, MOST_S = 320, 4, 30.0
N_VECTORS = 20_000
FIRST_KILLED = 10**6  # the number of the first batch of those that are killed
BATCHES = "SELECT photo_id FROM checks WHERE photo_id LIKE 'killed/%'"


def write_rows(folder: Path, photos: int) -> None:
    """Keep the encoded rows of all tables, and those that are found out anew, for all engines to take.

    Millions are copies of the first million with other keys: making them anew would take longer than all engines.
    """
    made = min(photos, 10**6)
    for place, numbers in enumerate(slices(made)):
        for table, columns in photo_columns(numbers).items():
            write_copies(folder / f"new-{place:04d}-{table}", table, columns, copies=photos // made)
    for place, ads in enumerate(slices(made // PHOTOS_PER_AD)):
        ids = [f"{number + 10_000_000}" for number in ads.tolist()]
        names = [f"Make {number % MAKES}" for number in ads.tolist()]
        columns = {"ad_id": ids, "make": names, "year": ads % 20 + 2000, "status": ["ok"] * len(ids)}
        write_copies(folder / f"new-{place:04d}-listings", "listings", columns, copies=photos // made)
    for place, numbers in enumerate(np.array_split(np.arange(made // 20), 4)):
        tables = photo_columns(numbers * 20)
        for table in ("checks", "findings"):
            path = folder / f"anew-{place:04d}-{table}"
            write_copies(path, table, tables[table], version="2", copies=photos // made)
    noise = np.random.default_rng(1).standard_normal((N_VECTORS, 512), dtype=np.float32)
    columns = {"photo_id": [str(number) for number in range(N_VECTORS)], "embedding": noise / 512**0.5}
    write_copies(folder / f"vectors-0000-{VECTORS}", VECTORS, columns)


def write_copies(path: Path, table: str, columns: dict[str, Any], *, version: str = "1", copies: int = 1) -> None:
    """Write rows, and copies of them that differ in their keys; copies come after all that is no copy."""
    import pyarrow.compute as pc
    from pyarrow import feather

    rows = encode(TABLES[table], columns, version=version)
    feather.write_feather(rows, path)
    for copy in range(1, copies):
        for name in {"photo_id", "ad_id"} & set(rows.column_names):
            keys = pc.binary_join_element_wise(str(copy), rows[name], "")
            rows = rows.set_column(rows.column_names.index(name), name, keys)
        kind, place, _ = path.name.split("-")
        feather.write_feather(rows, path.with_name(f"{kind}-{copy}{place}-{table}"))


def load(engine: Any, rows: Path, *, kind: str) -> dict[str, Any]:
    """Append what `write_rows` kept."""
    from pyarrow import feather

    for path in sorted(rows.glob(f"{kind}-*")):
        engine.load(path.name.split("-")[2], feather.read_table(path), new=kind != "anew")
    return {}


def batches(photos: int) -> Iterator[dict[str, Any]]:
    """Make batches of checks, every second one of photos that have one."""
    for batch in range(APPENDS):
        numbers = np.arange(batch * BATCH, (batch + 1) * BATCH) % photos
        old = photo_columns(numbers)["checks"]
        yield old if batch % 2 else check_columns(numbers, [f"more/{number:012x}" for number in numbers.tolist()])


def append(engine: Any, photos: int) -> dict[str, Any]:
    """Time appends, all of them or those of a minute."""
    made = list(batches(photos))
    taken, appending = [], engine.appending(iter(made))
    began = start = time.perf_counter()
    cpu = time.process_time()
    for _ in appending:
        taken.append((time.perf_counter() - start) * 1000)
        start = time.perf_counter()
        if start - began > MOST_S:
            break
    mean = {"mean_ms": np.mean(taken), "cpu_ms": (time.process_time() - cpu) * 1000 / len(taken)}
    return {"n": len(taken), "p50_ms": np.median(taken), **mean}


def read_on(engine_name: str, folder: Path) -> dict[str, Any]:
    """Count until the word to stop, each time as a new reader; counts that fall are errors."""
    counts: list[int] = []
    while not (folder / "stop").exists():
        counts.append(ENGINES[engine_name](folder).ask("SELECT count(*) AS n FROM checks")[0]["n"])
        print(counts[-1], flush=True)
    return {"reads": len(counts), "fell": sum(after < before for before, after in pairwise(counts))}


def append_forever(engine: Any, first: int) -> dict[str, Any]:
    """Append numbered batches, naming each that is in, until killed."""

    def endless() -> Iterator[dict[str, Any]]:
        for number in range(first, first + 10**6):
            yield check_columns(np.arange(number * BATCH, (number + 1) * BATCH), named(number))

    for number, _ in enumerate(engine.appending(endless()), start=first):
        print(number, flush=True)
    return {}


def named(number: int) -> list[str]:
    """Name the photos of a batch."""
    return [f"killed/{number}/{row}" for row in range(BATCH)]


def find_killed(engine: Any) -> dict[str, Any]:
    """Count the rows of each numbered batch."""
    keys = [row["photo_id"] for row in engine.ask(BATCHES)]
    counts: dict[str, int] = {}
    for key in keys:
        counts[key.split("/")[1]] = counts.get(key.split("/")[1], 0) + 1
    return {"batches": counts, "double": len(keys) - len(set(keys))}


def ask(engine: Any, question: str) -> dict[str, Any]:
    """Answer one question, or fetch pending rows."""
    if question in QUESTIONS:
        rows = engine.ask(QUESTIONS[question])
        return {"answer": sorted(map(str, (tuple(row.values()) for row in rows)))}
    first, count = None, 0
    for row in engine.pending({"pending, all": ALL_LACK, "pending, few": FEW_LACK}[question]):
        first, count = first or row["photo_id"], count + 1
    return {"answer": [first, count]}


def child(arguments: Sequence[str]) -> None:
    """Do one step of one engine and print what it says of itself."""
    name, step, folder, rest = arguments[0], arguments[1], Path(arguments[2]), arguments[3]
    if step == "read":
        print(json.dumps(read_on(name, folder)))
        return
    engine = ENGINES[name](folder)
    steps: dict[str, Callable[[], dict[str, Any] | None]] = {
        "load": lambda: load(engine, Path(rest), kind="new"),
        "anew": lambda: load(engine, Path(rest), kind="anew"),
        "vectors": lambda: load(engine, Path(rest), kind="vectors"),
        "settle": lambda: engine.settle(),
        "append": lambda: append(engine, int(rest)),
        "forever": lambda: append_forever(engine, int(rest)),
        "killed": lambda: find_killed(engine),
        "ask": lambda: ask(engine, rest),
    }
    said = steps[step]() or {}
    status = Path("/proc/self/status").read_text(encoding="utf-8").split()
    print(json.dumps(said | {"mb": int(status[status.index("VmHWM:") + 1]) // 1024}))


def start(engine: str, step: str, folder: Path, rest: object = "") -> subprocess.Popen[str]:
    """Start a step in a process of its own."""
    command = [sys.executable, __file__, "--child", engine, step, str(folder), str(rest)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(engine: str, step: str, folder: Path, rest: object = "") -> dict[str, Any]:
    """Do a step in a process of its own; add what it took."""
    began = time.perf_counter()
    process = start(engine, step, folder, rest)
    said = process.stdout.read()  # type: ignore[union-attr]
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{engine}: {step} failed")
    wall = time.perf_counter() - began
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result | {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime}


def kill(engine: str, folder: Path) -> dict[str, Any]:
    """Kill a writer again and again; count what is lost, cut or double."""
    chance, acknowledged, first = random.Random(5), set(), FIRST_KILLED
    for _ in range(KILLS):
        writer = start(engine, "forever", folder, first)
        for _ in range(chance.randint(1, 12)):
            acknowledged.add(writer.stdout.readline().strip())  # type: ignore[union-attr]
        time.sleep(chance.random() / 50)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged |= {line for line in writer.stdout.read().split("\n")[:-1] if line}  # type: ignore[union-attr]
        writer.wait()
        found = run(engine, "killed", folder)
        first = max(map(int, found["batches"]), default=first) + 1
    lost = acknowledged - set(found["batches"])
    cut = [batch for batch, rows in found["batches"].items() if rows != BATCH]
    return {"acknowledged": len(acknowledged), "lost": len(lost), "cut": len(cut), "double": found["double"]}


def beside(engine: str, folder: Path, photos: int) -> dict[str, Any]:
    """Append while another process reads."""
    reader = start(engine, "read", folder)
    reader.stdout.readline()  # type: ignore[union-attr]  # it has read once
    took = run(engine, "append", folder, photos)
    (folder / "stop").touch()
    said = json.loads(reader.communicate()[0].splitlines()[-1])
    (folder / "stop").unlink()
    return {**took, **said}


def vectors(engine: str, folder: Path, rows: Path) -> dict[str, Any]:
    """Append embeddings and tell by how much the folder grew."""
    before = size(folder)
    took = run(engine, "vectors", folder, rows)
    return took | {"disk_mb": size(folder) - before}


def size(folder: Path) -> int:
    """Give the megabytes below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 10**6


def measure(folder: Path, rows: Path, engines: Sequence[str], *, photos: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each step and engine, one engine after the other in each step."""
    places = {engine: folder / engine for engine in engines}
    for place in places.values():
        place.mkdir()
    for step in ("load", "anew", "settle"):
        yield from (line(step, name, [run(name, step, place, rows)]) for name, place in places.items())
    yield from (line("size", name, [{"disk_mb": size(place)}]) for name, place in places.items())
    for question in (*QUESTIONS, "pending, few", "pending, all"):
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
        for _ in range(repeats):
            for name, place in places.items():
                taken[name].append(run(name, "ask", place, question))
        answers = {json.dumps(one["answer"]) for found in taken.values() for one in found}
        if len(answers) > 1:
            print(f"{question}: the answers differ: {answers}"[:2000], file=sys.stderr)
        yield from (line(question, name, found) for name, found in taken.items())
    for name, place in places.items():
        yield line("append", name, [run(name, "append", place, photos)])
    for name, place in places.items():
        yield line("append beside a reader", name, [beside(name, place, photos)])
    for name, place in places.items():
        yield line("kill -9", name, [kill(name, place)])
    yield from (line("vectors", name, [vectors(name, place, rows)]) for name, place in places.items())


def line(step: str, engine: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one row: the median of numbers."""
    names = [name for name, value in found[0].items() if isinstance(value, int | float)]
    middle = {name: round(float(np.median([one[name] for one in found])), 2) for name in names}
    result = {"step": step, "engine": engine, **middle}
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Make the rows, let every engine take them, and print the table."""
    options = parser(__doc__)
    options.add_argument("--photos", type=int, default=2_000_000)
    options.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (rows := Path(folder) / "rows").mkdir()
        write_rows(rows, chosen.photos)
        found = list(measure(Path(folder), rows, chosen.engines, photos=chosen.photos, repeats=chosen.repeats))
    report("catalogue engines", found, as_json=chosen.json, conditions={"photos": chosen.photos})


if __name__ == "__main__":
    child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
