"""Load on `carspotter serve` and on its peers, from another process (wrk), in one run.

    python benchmarks/serving/bench.py throughput PHOTOS   ours, the naive endpoint and LitServe, by connections
    python benchmarks/serving/bench.py overload PHOTOS     five times the capacity for three minutes
    python benchmarks/serving/bench.py soak PHOTOS         twenty minutes at 70 % of the capacity: memory over time

PHOTOS is a folder of photographs at any depth; they are enlarged to 1600 x 1200 and encoded anew. Needs wrk, the extra
`serve`, and for `throughput` also litserve. Prints one line of JSON a measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from carspotter.cores import cores

HERE = Path(__file__).parent
SIZE = (1600, 1200)
HEAD = (
    b'--b0undary\r\ncontent-disposition: form-data; name="photo"; filename="a.jpg"\r\ncontent-type: image/jpeg\r\n\r\n'
)
END = b"\r\n--b0undary--\r\n"
PEERS = ("ours", "naive", "naive-threads", "litserve")


def bodies(photos: Path, folder: Path, count: int) -> int:
    """Write whole bodies as `N.bin` (a form) and `N.json` (base64, for LitServe); return how many."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".png"))
    chosen = found[:: max(1, len(found) // count)][:count]
    for number, path in enumerate(chosen):
        buffer = BytesIO()
        Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
        (folder / f"{number}.bin").write_bytes(HEAD + buffer.getvalue() + END)
        (folder / f"{number}.json").write_text(json.dumps({"photo": b64encode(buffer.getvalue()).decode()}))
    return len(chosen)


def command(peer: str, port: int, cores: int) -> list[str]:
    """Return the words that start a peer."""
    naive = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--port", str(port), "--log-level", "error"]
    return {
        "ours": [
            sys.executable,
            "-m",
            "carspotter.cli.main",
            "serve",
            "--port",
            str(port),
            "--log-level",
            "error",
            "--workers",
            str(cores),
        ],
        "naive": [*naive, "naive:app"],
        "naive-threads": [*naive, "naive:threaded"],
        "litserve": [sys.executable, str(HERE / "lit.py"), str(port), str(cores), "4"],
    }[peer]


@contextmanager
def started(peer: str, cores: int) -> Iterator[tuple[str, int]]:
    """Start a peer and wait until it answers; give its URL and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        command(peer, port, cores), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise SystemExit(f"{peer} did not start") from None
                time.sleep(0.2)
        time.sleep(3)  # LitServe opens its port before its workers are ready
        yield f"http://127.0.0.1:{port}/{'predict' if peer == 'litserve' else 'v1/photos'}", process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(ProcessLookupError):  # LitServe's workers stay behind
            os.killpg(process.pid, signal.SIGKILL)


def wrk(url: str, folder: Path, count: int, connections: int, seconds: float, *, pause_ms: float = 0) -> dict[str, Any]:
    """Load a URL; return what `load.lua` prints. Each connection rests `pause_ms` between its requests."""
    words = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{round(seconds)}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(HERE / "load.lua"),
        url,
    ]
    kind = "json" if url.endswith("/predict") else "bin"
    told = {**os.environ, "PHOTOS": str(folder), "COUNT": str(count), "KIND": kind, "PAUSE_MS": str(pause_ms)}
    done = subprocess.run(words, env=told, capture_output=True, text=True, check=True)
    line = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    line["good_per_s"] = round(line["statuses"].get("200", 0) / line["seconds"], 2)
    return dict(line)


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its children in MB."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            status = Path(f"/proc/{one}/status").read_text()
            total += int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except (OSError, StopIteration):
            continue
    return total / 1024


def throughput(folder: Path, count: int, options: argparse.Namespace) -> None:
    """Measure peers in turn, several rounds, at several numbers of connections."""
    rates: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for peer in options.peers:
            with started(peer, options.cores) as (url, pid):
                wrk(url, folder, count, 2, 3)
                for connections in options.connections:
                    found = wrk(url, folder, count, connections, options.seconds) | {"memory_mb": round(memory_mb(pid))}
                    rates.setdefault((peer, connections), []).append(found)
                    print(json.dumps({"peer": peer, "connections": connections, **found}), flush=True)
    for connections in options.connections:
        middle = {
            peer: {
                key: statistics.median(one[key] for one in rates[peer, connections])
                for key in ("good_per_s", "p50", "p99")
            }
            for peer in options.peers
        }
        mine = middle["ours"]["good_per_s"]
        ratios = {
            peer: round(mine / middle[peer]["good_per_s"], 2) for peer in options.peers if middle[peer]["good_per_s"]
        }
        print(json.dumps({"connections": connections, "median": middle, "ours to": ratios}), flush=True)


def overload(folder: Path, count: int, options: argparse.Namespace) -> None:
    """Send many times what it can do; a prober of its own times the refusals."""
    with started("ours", options.cores) as (url, pid):
        wrk(url, folder, count, 2, 3)
        capacity = wrk(url, folder, count, 8, 20)["good_per_s"]
        before = memory_mb(pid)
        stop = threading.Event()
        asked: list[tuple[int, float]] = []
        prober = threading.Thread(target=lambda: asyncio.run(probe(url, folder, stop, asked)))
        # A refused request comes back at once, so that the pause alone sets how much is offered.
        pause_ms = 1000 * options.flood / (options.times * capacity)
        offered = threading.Thread(
            target=lambda: results.append(wrk(url, folder, count, options.flood, options.seconds, pause_ms=pause_ms))
        )
        results: list[dict[str, Any]] = []
        prober.start()
        offered.start()
        memory = []
        while offered.is_alive():
            memory.append(memory_mb(pid))
            time.sleep(1)
        stop.set()
        prober.join()
        (found,) = results
        refusals = sorted(seconds * 1000 for status, seconds in asked if status == 429)
        statuses = Counter({int(status): n for status, n in found["statuses"].items()})
        statuses.update(status for status, _ in asked)
        sent, good = statuses.total() / found["seconds"], statuses[200] / found["seconds"]
        print(
            json.dumps(
                {
                    "capacity_per_s": capacity,
                    "offered_per_s": round(sent, 1),
                    "times": round(sent / capacity, 2),
                    "goodput_per_s": round(good, 2),
                    "goodput_share": round(good / capacity, 3),
                    "statuses": dict(statuses),
                    "errors": found["errors"],
                    "refusal_ms": {
                        "count": len(refusals),
                        "p50": percentile(refusals, 50),
                        "p99": percentile(refusals, 99),
                        "most": percentile(refusals, 100),
                    },
                    "memory_mb": {
                        "before": round(before),
                        "half": round(memory[len(memory) // 2]),
                        "end": round(memory[-1]),
                        "most": round(max(memory)),
                    },
                }
            ),
            flush=True,
        )


def percentile(values: list[float], share: float) -> float | None:
    """Return a percentile of sorted values, rounded."""
    return round(values[min(len(values) - 1, int(len(values) * share / 100))], 1) if values else None


async def probe(url: str, folder: Path, stop: threading.Event, asked: list[tuple[int, float]]) -> None:
    """Ask some twenty times a second, from eight connections, and note status and time."""
    body = (folder / "0.bin").read_bytes()
    headers = {"content-type": "multipart/form-data; boundary=b0undary"}

    async def one(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            began = time.perf_counter()
            try:
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                    asked.append((answer.status, time.perf_counter() - began))
            except aiohttp.ClientError:
                asked.append((0, time.perf_counter() - began))
            await asyncio.sleep(0.4)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(8)))


def soak(folder: Path, count: int, options: argparse.Namespace) -> None:
    """Keep a steady load and watch the memory: its slope after a warm-up of a fifth."""
    with started("ours", options.cores) as (url, pid):
        wrk(url, folder, count, 2, 3)
        results: list[dict[str, Any]] = []
        load = threading.Thread(target=lambda: results.append(wrk(url, folder, count, 3, options.seconds)))
        load.start()
        began, memory = time.monotonic(), []
        while load.is_alive():
            memory.append(((time.monotonic() - began) / 60, memory_mb(pid)))
            time.sleep(2)
        late = memory[len(memory) // 5 :]
        slope, _ = statistics.linear_regression([minute for minute, _ in late], [mb for _, mb in late])
        print(
            json.dumps(
                {
                    "minutes": round(memory[-1][0], 1),
                    **results[0],
                    "mb_a_minute": round(slope, 3),
                    "memory_mb": {
                        "by fifths": [round(memory[i * (len(memory) - 1) // 5][1], 1) for i in range(1, 6)],
                        "most": round(max(mb for _, mb in memory), 1),
                    },
                }
            ),
            flush=True,
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "overload", "soak"))
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, help="of one measurement; by default 15, 180, 1200")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=cores())
    parser.add_argument("--connections", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--times", type=float, default=6.5, help="the capacity, offered by the overload")
    parser.add_argument("--flood", type=int, default=400, help="connections of the overload")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    options.seconds = options.seconds or {"throughput": 15, "overload": 180, "soak": 1200}[options.what]
    with tempfile.TemporaryDirectory() as folder:
        count = bodies(options.photos, Path(folder), 40)
        {"throughput": throughput, "overload": overload, "soak": soak}[options.what](Path(folder), count, options)


if __name__ == "__main__":
    main()
