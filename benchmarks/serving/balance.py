"""How many requests fail while replicas behind nginx die, restart, or are full?

Two `carspotter serve` behind nginx with `deploy/nginx.conf`, its ports exchanged for free ones. Connections send drawn
photos without a pause, and a request counts as failed unless it is answered 200. In turn:

    steady     nothing happens
    rolling    each replica gets SIGTERM, ends, is started anew and is ready, one after the other, over and over
    killed     a replica gets kill -9 and is started anew, over and over
    full       one replica has room for a single photo, and answers most of what it is sent with 429

    python benchmarks/serving/balance.py [--seconds 30] [--connections 6] [--finder F --identifier I]

Needs nginx, the extra `serve` and, for drawn photos, nothing else; `--finder` and `--identifier` name other bundles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parent.parent.parent
PARTS = ("steady", "rolling", "killed", "full")
READY_S = 60


class Replica:
    """One `carspotter serve` on a port that stays its own."""

    def __init__(self, port: int, options: Sequence[str]) -> None:
        """Start it, and wait until it answers photos."""
        self.port, self.options = port, options
        self.start()

    def start(self) -> None:
        """Start it anew."""
        command = [
            sys.executable,
            "-m",
            "carspotter.cli.main",
            "serve",
            "--port",
            str(self.port),
            "--log-level",
            "error",
            "--workers",
            "1",
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())

    def end(self, how: signal.Signals) -> float:
        """End it by a signal; return the seconds that took."""
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(60)
        return time.monotonic() - started


def environment() -> dict[str, str]:
    """Give what replicas get: our sources, and no more threads than workers."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def free_ports(count: int) -> list[int]:
    """Find ports that are free just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def balanced(folder: Path, options: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[Replica]]]:
    """Start replicas with their options and nginx before them; give nginx's URL and the replicas."""
    door, *ports = free_ports(1 + len(options))
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for old, new in zip((8001, 8002, 8080), (*ports, door), strict=True):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    text = text.replace("/tmp/carspotter-nginx.pid", f"{folder}/nginx.pid")
    text = text.replace("/dev/shm/carspotter-bodies", f"{folder}/bodies")
    text = "daemon off;\nuser root;\n" * (os.geteuid() == 0) + "daemon off;\n" * (os.geteuid() != 0) + text
    (folder / "nginx.conf").write_text(text)
    replicas: list[Replica] = []
    nginx = None
    try:
        replicas += [Replica(port, words) for port, words in zip(ports, options, strict=True)]
        nginx = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf")])
        asyncio.run(_all_ready(replicas))
        yield f"http://127.0.0.1:{door}", replicas
    finally:
        for process in [*(replica.process for replica in replicas), *([nginx] if nginx else [])]:
            process.terminate()
        for process in [*(replica.process for replica in replicas), *([nginx] if nginx else [])]:
            process.wait(60)


async def _all_ready(replicas: Sequence[Replica]) -> None:
    async with aiohttp.ClientSession() as session:
        for replica in replicas:
            await ready(session, replica)


async def ready(session: aiohttp.ClientSession, replica: Replica) -> None:
    """Wait until a replica answers photos."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            async with session.get(f"http://127.0.0.1:{replica.port}/readyz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        if replica.process.poll() not in (None, -signal.SIGKILL):
            raise SystemExit(f"a replica ended by itself: {replica.process.returncode}")
        await asyncio.sleep(0.05)
    raise SystemExit(f"a replica was not ready within {READY_S} s")


async def load(url: str, photos: Sequence[bytes], connections: int, ended: asyncio.Event) -> dict[str, Any]:
    """Ask from so many connections until the end; count answers by status, and note the longest one."""
    told: Counter[str] = Counter()
    longest = 0.0

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal longest
        while not ended.is_set():
            number += 1
            started = time.monotonic()
            try:
                async with session.post(
                    f"{url}/v1/photos", data=photos[number % len(photos)], headers={"content-type": "image/jpeg"}
                ) as answer:
                    await answer.read()
                    told[str(answer.status)] += 1
            except aiohttp.ClientError as error:
                told[type(error).__name__] += 1
            longest = max(longest, time.monotonic() - started)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(session, number) for number in range(connections)))
    return {
        "requests": told.total(),
        "failed": told.total() - told["200"],
        "answers": dict(told),
        "longest_s": round(longest, 2),
    }


async def trouble(part: str, replicas: Sequence[Replica], seconds: float) -> dict[str, Any]:
    """Do to the replicas what a part is about, for some seconds; return how often, and how long ends took."""
    until, ends, slowest = time.monotonic() + seconds, 0, 0.0
    async with aiohttp.ClientSession() as session:
        while part in ("rolling", "killed") and time.monotonic() < until:
            how = signal.SIGTERM if part == "rolling" else signal.SIGKILL
            for replica in replicas:
                await asyncio.sleep(min(1.0, seconds / 10))
                slowest = max(slowest, await asyncio.to_thread(replica.end, how))
                replica.start()
                await ready(session, replica)
                ends += 1
        await asyncio.sleep(max(0.0, until - time.monotonic()))
    return {"replicas ended": ends, "slowest end_s": round(slowest, 2)} if ends else {}


async def part_of(part: str, url: str, replicas: Sequence[Replica], options: argparse.Namespace) -> dict[str, Any]:
    """Load and trouble at once; return the row."""
    ended = asyncio.Event()
    loading = asyncio.create_task(load(url, drawn(), options.connections, ended))
    happened = await trouble(part, replicas, options.seconds)
    ended.set()
    row = {"part": part, **(await loading), **happened}
    if part == "full":
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{replicas[0].port}/metrics") as told,
        ):
            found = re.search(r'carspotter_errors_total\{code="queue-full"\} (\S+)', await told.text())
            row["429 of the full replica"] = int(float(found[1])) if found else 0
    return row


def drawn() -> list[bytes]:
    """Draw some photos."""
    from io import BytesIO

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    photos = []
    for color in ((230, 20, 20), (20, 200, 20), (20, 20, 220)):
        pixels = np.full((600, 800, 3), 140, np.uint8)
        pixels[200:450, 200:600] = color
        noisy = np.clip(pixels + random.integers(-10, 10, pixels.shape), 0, 255).astype(np.uint8)
        buffer = BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
        photos.append(buffer.getvalue())
    return photos


def main() -> None:
    """Run the parts and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--connections", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--finder")
    parser.add_argument("--identifier")
    options = parser.parse_args()
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        raise SystemExit("needs nginx, such as Debian's nginx-light")
    bundles = [
        word for name in ("finder", "identifier") if (given := getattr(options, name)) for word in (f"--{name}", given)
    ]
    for part in options.only:
        first = [*bundles, "--queue", "1", "--max-photos", "1"] if part == "full" else bundles
        with (
            tempfile.TemporaryDirectory(prefix="carspotter-balance-") as folder,
            balanced(Path(folder), [first, bundles]) as (url, replicas),
        ):
            print(json.dumps(asyncio.run(part_of(part, url, replicas, options))), flush=True)


if __name__ == "__main__":
    main()
