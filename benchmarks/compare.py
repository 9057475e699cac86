"""One command, one table: carspotter against each peer in the same run, with the machine and the versions.

In: a folder of photographs, and the Python of an environment that holds the peers (peers/requirements.txt; carspotter
needs none of them). Ours and the peer take turns, `--repeats` times, and a row compares their medians. Out: a table,
and JSON for `docs/compare_page.py`, which draws a section of docs/accuracy.md from it.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt
    python benchmarks/compare.py PHOTOS --peers peers/bin/python --out runs/compare.json [--only curate photo]
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from carspotter.photos.near import pairs_within
from carspotter.recognition.identifier import Identifier
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import shipped
from carspotter.runtime.session import Arithmetic, has_amx, is_installed
from curate import PARTS, look_at, sources, write_photos
from measure import CORES, installed, machine, parser, table

HERE = Path(__file__).parent
SIZE = (1600, 1200)
BATCH = 16
HAS_BFLOAT16 = has_amx() and is_installed("openvino")
PRECISIONS: tuple[Arithmetic, ...] = ("float32", "bfloat16") if HAS_BFLOAT16 else ("float32",)
KNOWN_PROJECT = (96, 691_000)
"""Hours and photographs that a known project needed to find vehicles, as its author tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison: our figure, the peer's, and how many times better ours is."""

    job: str
    ours: str
    our_figure: float
    peer: str
    peer_figure: float
    unit: str
    target: str = ""
    is_speed: bool = True

    @property
    def times(self) -> float:
        """Give how many times better ours is: more of a speed, less of a time."""
        both = self.our_figure, self.peer_figure
        return round(both[0] / both[1] if self.is_speed else both[1] / both[0], 2)

    def to_dict(self) -> dict[str, Any]:
        """Give the row for a table."""
        return {
            "job": self.job,
            "ours": f"{self.ours}: {self.our_figure:.4g} {self.unit}",
            "peer": f"{self.peer}: {self.peer_figure:.4g} {self.unit}",
            "times": self.times,
            "target": self.target,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the jobs share: the photographs, the peers' Python, how often to repeat; versions are gathered in here."""

    folder: Path
    paths: list[Path]
    peers: str
    repeats: int
    versions: dict[str, str]

    def peer(self, script: str, *words: object) -> dict[str, Any]:
        """Run a peer's script in its own environment and read what it prints."""
        command = [self.peers, str(HERE / "peers" / script), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.versions.update(said.get("versions", {}))
        return said

    def in_turn(self, *ways: Callable[[], float]) -> list[float]:
        """Measure the ways one after the other, again and again, and give the median of each."""
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(self.repeats):
            for way, values in zip(ways, taken, strict=True):
                values.append(way())
        return [median(values) for values in taken]


def main() -> None:
    """Measure what was asked for, print the table, write the JSON."""
    options = parser(__doc__)
    options.add_argument("photos", type=Path, help="folder of photographs; they are enlarged to 1600x1200")
    options.add_argument("--peers", default=sys.executable, help="Python of the environment with the peers")
    options.add_argument("--count", type=int, default=120)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--only", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    options.add_argument("--out", type=Path, help="write the rows as JSON, too")
    given = options.parse_args()
    if "serving" in given.only and not shutil.which("wrk"):
        raise SystemExit("the job `serving` needs wrk (apt install wrk); leave it out with --only")
    with tempfile.TemporaryDirectory() as name:
        paths = list(write_photos(Path(name) / "photos", sources(given.photos), SIZE, given.count))
        bench = Bench(folder=Path(name), paths=paths, peers=given.peers, repeats=given.repeats, versions={})
        rows = [row for job in given.only for row in JOBS[job](bench)]
    facts = machine()
    found = facts | {"versions": facts["versions"] | bench.versions}
    content = json.dumps({"rows": [row.to_dict() for row in rows], "machine": found}, indent=2)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(content)
    print(content if given.json else "\n".join([json.dumps(found), *table([row.to_dict() for row in rows])]))


# ---- the jobs


def curate(bench: Bench) -> list[Row]:
    """Check, hash, find and embed the photographs on all cores."""

    def ours(precision: Arithmetic) -> float:
        return len(bench.paths) / look_at(bench.folder, bench.paths, PARTS, precision=precision)

    def usual() -> float:
        said = bench.peer("curation.py", bench.folder / "photos")
        return float(len(bench.paths) / sum(said["seconds"].values()))

    *own, peer = bench.in_turn(*(partial(ours, precision) for precision in PRECISIONS), usual)
    hours, photographs = KNOWN_PROJECT
    rows = [
        Row(
            job="curate: check, hash, find, embed",
            ours=f"carspotter build, {precision}",
            our_figure=rate,
            peer="imagededup + YOLOv8n",
            peer_figure=peer,
            unit="photos/s",
            target="10",
        )
        for precision, rate in zip(PRECISIONS, own, strict=True)
    ]
    known = photographs / hours / 3600
    return [
        *rows,
        replace(
            rows[0], job=f"{photographs} photographs", peer=f"a known project, {hours} h", peer_figure=known, target=""
        ),
    ]


def photo(bench: Bench) -> list[Row]:
    """Answer one photograph after the other on one core."""

    def ours(precision: Arithmetic) -> float:
        recognizer = Recognizer.open(threads=1, precision=precision)
        for path in bench.paths[:5]:
            recognizer.recognize(path)
        return median(elapsed(partial(recognizer.recognize, path)) for path in bench.paths)

    ways = [partial(ours, precision) for precision in PRECISIONS]
    *own, peer = bench.in_turn(*ways, lambda: median(bench.peer("photo.py", bench.folder / "photos")["ms"]))
    return [
        Row(
            job="one photo of 1600x1200, p50",
            ours=f"recognize, {precision}",
            our_figure=taken,
            peer="Pillow + torchvision + timm, eager",
            peer_figure=peer,
            unit="ms",
            is_speed=False,
        )
        for precision, taken in zip(PRECISIONS, own, strict=True)
    ]


def start(bench: Bench) -> list[Row]:
    """Answer one photograph in a new process, imports and loading included."""
    few = bench.folder / "few"
    few.mkdir(exist_ok=True)
    (few / "0.jpg").write_bytes(bench.paths[0].read_bytes())
    command = [sys.executable, "-m", "carspotter.cli.main", "identify", str(few / "0.jpg"), "--json"]

    def ours() -> float:
        return elapsed(lambda: subprocess.run(command, capture_output=True, check=True))

    own, peer = bench.in_turn(ours, lambda: elapsed(lambda: bench.peer("photo.py", few, "--once")))
    return [
        Row(
            job="a new process to its first answer",
            ours="carspotter identify",
            our_figure=own,
            peer="torch + timm",
            peer_figure=peer,
            unit="ms",
            is_speed=False,
        )
    ]


def batch(bench: Bench) -> list[Row]:
    """Identify crops on all cores, against OpenVINO's own tool on the same file."""
    rows = []
    for precision in PRECISIONS:
        bundle = shipped("identifier")
        engines = (
            ["openvino"]
            if precision == "bfloat16"
            else [each for each in ("onnxruntime", "openvino") if installed(each)]
        )
        ways = [partial(identified, bundle, engine, precision) for engine in engines]
        *own, peer = bench.in_turn(*ways, partial(benchmark_app, bundle.model_path))
        best = int(np.argmax(own))
        rows.append(
            Row(
                job=f"crops identified, all cores, {precision}",
                ours=f"Identifier, {engines[best]}",
                our_figure=own[best],
                peer="OpenVINO benchmark_app",
                peer_figure=peer,
                unit="crops/s",
                target="0.85",
            )
        )
    return rows


def identified(bundle: Any, engine: str, precision: Arithmetic, *, seconds: float = 5.0) -> float:
    """Give crops a second of `Identifier.identify`, a thread a core, each with batches of its own."""
    identifier = Identifier(bundle, bundle.open_session(engine, threads=1, precision=precision, max_concurrency=CORES))
    size = bundle.preprocessing
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, size.height, size.width, 3), dtype=np.uint8)
    identifier.identify(crops)

    def work(end: float) -> int:
        count = 0
        while perf_counter() < end:
            identifier.identify(crops)
            count += len(crops)
        return count

    begin = perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        counts = list(pool.map(work, [begin + seconds] * CORES))
    return sum(counts) / (perf_counter() - begin)


def benchmark_app(model: Path, *, seconds: int = 6) -> float:
    """Give crops a second that OpenVINO's own tool reaches at its throughput setting, in float32 arithmetic."""
    size = shipped("identifier").preprocessing
    shape = f"image[{BATCH},{size.height},{size.width},3]"
    words = ["-m", str(model), "-d", "CPU", "-hint", "throughput", "-t", str(seconds), "-shape", shape]
    command = [str(Path(sys.executable).with_name("benchmark_app")), *words, "-infer_precision", "f32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if "Throughput:" in line]
    if not found:
        raise SystemExit(f"{' '.join(command)} gave no throughput:\n{done.stdout[-800:]}{done.stderr[-800:]}")
    return float(found[-1].split("Throughput:")[1].split()[0])


def duplicates(bench: Bench) -> list[Row]:
    """Find all pairs within ten bits among hashes."""
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)
    path = bench.folder / "hashes.json"
    path.write_text(json.dumps([f"{value:016x}" for value in hashes]))

    def ours() -> float:
        return elapsed(lambda: pairs_within(hashes, 10)) / 1000

    own, peer = bench.in_turn(ours, lambda: bench.peer("pairs.py", path)["seconds"])
    return [
        Row(
            job="pairs within 10 bits, 10 000 hashes",
            ours="pairs_within",
            our_figure=own,
            peer="imagededup",
            peer_figure=peer,
            unit="s",
            is_speed=False,
        )
    ]


def serving(bench: Bench) -> list[Row]:
    """Serve photographs over HTTP; needs wrk and litserve."""
    words = [str(HERE / "serving" / "bench.py"), "throughput", str(bench.folder / "photos"), "--rounds", "1"]
    done = subprocess.run([sys.executable, *words, "--connections", "4"], capture_output=True, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    rates = {line["peer"]: line["good_per_s"] for line in said if "peer" in line}
    names = {"naive": "FastAPI, async def", "naive-threads": "FastAPI, def", "litserve": "LitServe"}
    return [
        Row(
            job="serve 1600x1200 photos, 4 connections",
            ours="carspotter serve",
            our_figure=rates["ours"],
            peer=name,
            peer_figure=rates[peer],
            unit="photos/s",
            target={"litserve": "1.3"}.get(peer, "3"),
        )
        for peer, name in names.items()
    ]


def elapsed(action: Callable[[], object]) -> float:
    """Give the milliseconds that an action takes."""
    begin = perf_counter()
    action()
    return (perf_counter() - begin) * 1000


JOBS: dict[str, Callable[[Bench], Sequence[Row]]] = {
    "curate": curate,
    "photo": photo,
    "start": start,
    "batch": batch,
    "duplicates": duplicates,
    "serving": serving,
}


if __name__ == "__main__":
    main()
