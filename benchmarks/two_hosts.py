"""Do two hosts build the tables that one builds, also when one of them is lost half-way, and how long does that take?

Three hosts of network namespaces (`hosts`): `head` with a Ray head, the project and the build; `node` with a Ray node,
which does not see the project; `store`, which serves drawn photographs over HTTP. The same project is built by

    one            `carspotter build` on `head` alone, in processes
    two            `--on ray://head:10001`, actors on both
    raylet killed  the same, and when half of the photos are looked at, kill -9 of the node's raylet
    host killed    the same, and every process of the node dies at once
    link cut       the same, and the node's network goes silent in place of that
    link cut, 3 s  the same, and the head is told to take three seconds of silence for a loss

and every table is compared with that of `one`, row by row and column by column; only the time of an attempt in
`files.stage_version` may differ. `noticed_s` is from the loss until the build says so, `recovered_s` until every photo
that was under way at the loss is looked at, `rows` how many photos were looked at; `actors` and `cpu_s` are what the
kernel says of the actors on each host. Needs root, Ray and the extra `data`.

    python benchmarks/two_hosts.py [--cpus 1] [--only two "raylet killed"] [--address ray|auto] [--json]
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.tables import TABLES
from carspotter.compute.run import BATCH
from carspotter.sources.showroom import unpack
from hosts import Host, hosts, why_not
from measure import parser, report

SOURCE = Path(__file__).parent.parent / "src"
PORT, CLIENTS, WEB = 6379, 10001, 8000
LOSSES = {"raylet killed": "raylet", "host killed": "host", "link cut": "link", "link cut, 3 s": "link"}
SETTINGS = """
name = "hosts"
[[sources]]
kind = "table"
path = "cars.csv"
photos = "http://{store}:{port}/photos/{{image_id}}"
columns = {{photos = "images"}}
[locate]
gate = 0.7
[classes]
min_photos = 6
"""
# A node that is silent for so long is lost: Ray's own patience, asked every second, and lost after three.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
NEVER_SAME = {"files": ("stage_version",)}
RAY = str(Path(sys.executable).with_name("ray"))
LIMIT_S = 900


@dataclass(slots=True, kw_only=True)
class Seen:
    """What is seen of a build from outside."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    cpu_s: dict[str, dict[int, float]] = field(default_factory=dict)
    lost_at: float = math.nan
    recovered_at: float = math.nan
    rows_at_loss: int = 0
    seconds: float = math.nan

    def noticed_at(self) -> float:
        """Say when the build spoke of the loss."""
        return next((when for when, line in self.lines if "is lost" in line), math.nan)


def environment() -> dict[str, str]:
    """Give what processes on the hosts get: no proxy, one thread, our sources, Ray without its usage report."""
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    return kept | {
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "HOME": "/tmp",
        "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120",  # of 30 s, which a busy machine may take to start one
    }


@contextmanager
def cluster(head: Host, node: Host, cpus: int, *, is_impatient: bool) -> Iterator[None]:
    """Start a Ray head and a node; both go with the context. An impatient head takes 3 s of silence for a loss."""
    shared = ["--num-cpus", str(cpus), "--object-store-memory", str(100 << 20), "--block"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
    told = quiet | {"env": environment() | (IMPATIENT if is_impatient else {})}
    try:
        head.start(
            [
                RAY,
                "start",
                "--head",
                f"--node-ip-address={head.address}",
                f"--port={PORT}",
                "--include-dashboard=false",
                f"--ray-client-server-port={CLIENTS}",
                *shared,
            ],
            **told,
        )
        _wait_for_nodes(head, 1)
        node.start(
            [RAY, "start", f"--address={head.address}:{PORT}", f"--node-ip-address={node.address}", *shared], **quiet
        )
        _wait_for_nodes(head, 2)
        yield
    finally:
        for host in (head, node):
            host.kill("/ray")
            host.kill("ray::")
            host.kill("ray.util.client")


def _wait_for_nodes(head: Host, count: int) -> None:
    program = (
        f"import ray; ray.init(address='{head.address}:{PORT}', logging_level='error', log_to_driver=False); "
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    until = time.monotonic() + 90
    while time.monotonic() < until:
        asked = head.start(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
        if asked.communicate()[0].strip() == str(count):
            return
        time.sleep(0.5)
    raise SystemExit(f"the cluster did not come to {count} nodes within 90 s")


def build(machines: dict[str, Host], project: Path, *, on: str, loss: str | None) -> Seen:
    """Build a project on `head`, lose the node half-way where that is asked for, and note what is seen."""
    seen, started = Seen(), time.monotonic()
    command = [sys.executable, "-m", "carspotter.cli.main", "build", str(project), "--on", on, "--json"]
    told = environment() | {"RAY_ADDRESS": f"{machines['head'].address}:{PORT}"}
    process = machines["head"].start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=told)
    reader = threading.Thread(target=_listen, args=(process, seen), daemon=True)
    reader.start()
    under_way: set[str] = set()
    while process.poll() is None:
        if time.monotonic() - started > LIMIT_S:
            raise SystemExit(f"a build did not end within {LIMIT_S} s; it said: {seen.lines[-3:]}")
        _look_at_actors(machines, seen)
        if loss and math.isnan(seen.lost_at) and (todo := _half_done(project, sum(map(len, seen.cpu_s.values())))):
            seen.rows_at_loss, under_way = todo
            lose(machines["node"], loss)
            seen.lost_at = time.monotonic()
        elif under_way and math.isnan(seen.recovered_at) and under_way <= looked_at(project):
            seen.recovered_at = time.monotonic()
        time.sleep(0.1)
    seen.seconds = time.monotonic() - started
    reader.join()
    if process.returncode:
        logs = "tail -n 5 /tmp/ray/session_latest/logs/ray_client_server*"
        reading = machines["head"].start(["sh", "-c", logs], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = reading.communicate()
        raise SystemExit("a build failed: " + "\n".join(line for _, line in seen.lines[-12:]) + f"\n{said}")
    return seen


def _listen(process: subprocess.Popen[str], seen: Seen) -> None:
    for line in process.stderr or ():
        seen.lines.append((time.monotonic(), line.rstrip()))


def _look_at_actors(machines: dict[str, Host], seen: Seen) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    for name in ("head", "node"):
        for number, title in machines[name].processes().items():
            if title.startswith("ray::_Actor"):
                try:
                    stat = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                seen.cpu_s.setdefault(name, {})[number] = (int(stat[11]) + int(stat[12])) / ticks


def looked_at(project: Path) -> set[str]:
    """Give the photos that have been looked at."""
    with Catalog.open(project) as catalog:
        # Of a batch, embeddings are written last.
        return {row["photo_id"] for row in catalog.rows("SELECT photo_id FROM embeddings")}


def _half_done(project: Path, actors: int) -> tuple[int, set[str]] | None:
    """Return how many photos are done and which ones may be under way, once half of them are done."""
    with Catalog.open(project) as catalog:
        if not (done := catalog.count("embeddings")):
            return None
        todo = [
            row["photo_id"] for row in catalog.rows("SELECT photo_id FROM files WHERE status = 'ok' ORDER BY photo_id")
        ]
    if done < len(todo) / 2:
        return None
    ready = looked_at(project)
    batches = [set(todo[start : start + BATCH]) for start in range(0, len(todo), BATCH)]
    # Batches are handed out in order, one to an actor: the first ones that are not done are under way.
    return len(ready), set().union(*[batch - ready for batch in batches if batch - ready][:actors])


def lose(node: Host, how: str) -> None:
    """Lose the node."""
    match how:
        case "raylet":
            assert node.kill("raylet/raylet")
        case "link":
            node.cut()
        case "host":
            node.crash()


def make_project(folder: Path, showroom: Path, store: Host) -> Path:
    """Write a project whose photographs are at the store."""
    folder.mkdir(parents=True)
    (folder / "cars.csv").write_bytes((showroom / "cars.csv").read_bytes())
    (folder / "carspotter.toml").write_text(SETTINGS.format(store=store.address, port=WEB))
    return folder


def tables(project: Path) -> dict[str, list[dict[str, Any]]]:
    """Read every table, without what may differ."""
    with Catalog.open(project) as catalog:
        read = {name: catalog.rows(f"SELECT * FROM {name} ORDER BY {table.key}") for name, table in TABLES.items()}
    return {
        name: [
            {key: _plain(value) for key, value in row.items() if key not in NEVER_SAME.get(name, ())} for row in rows
        ]
        for name, rows in read.items()
    }


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def differences(ours: dict[str, list[dict[str, Any]]], theirs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Name what differs between two catalogues, at most three rows of a table."""
    found = []
    for name, rows in ours.items():
        if len(rows) != len(theirs[name]):
            found.append(f"{name}: {len(rows)} rows against {len(theirs[name])}")
            continue
        unequal = [(row, other) for row, other in zip(rows, theirs[name], strict=True) if row != other]
        for row, other in unequal[:3]:
            columns = {key: (row[key], other[key]) for key in row if row[key] != other[key]}
            found.append(f"{name}: {row[TABLES[name].key]}: {str(columns)[:200]} ({len(unequal)} rows)")
    return found


def measured(name: str, seen: Seen, project: Path, wanted: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Make the row of one build."""
    made = tables(project)
    unequal = differences(made, wanted)
    for line in unequal:
        print(line, file=sys.stderr)
    loss = seen.lost_at
    return {
        "build": name,
        "seconds": round(seen.seconds, 1),
        "rows": len(made["embeddings"]),
        "tables equal": f"{sum(not any(line.startswith(f'{table}:') for line in unequal) for table in made)}"
        f" of {len(made)}",
        "rows compared": sum(map(len, made.values())),
        **{f"actors on {host}": len(cpu) for host, cpu in sorted(seen.cpu_s.items())},
        **{f"cpu_s on {host}": round(sum(cpu.values()), 1) for host, cpu in sorted(seen.cpu_s.items())},
        **(
            {}
            if math.isnan(loss)
            else {
                "rows at loss": seen.rows_at_loss,
                "noticed_s": round(seen.noticed_at() - loss, 1),
                "recovered_s": round(seen.recovered_at - loss, 1),
            }
        ),
    }


def measure(folder: Path, *, cpus: int, chosen: list[str], address: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each build."""
    showroom, projects = folder / "store", folder / "projects"
    unpack(showroom)
    projects.mkdir()
    hidden = {"head": [showroom], "node": [folder], "store": [projects]}
    with hosts(("head", "node", "store"), hidden=hidden) as machines:
        head, store = machines["head"], machines["store"]
        store.start(
            [sys.executable, "-m", "http.server", str(WEB), "--bind", store.address, "--directory", str(showroom)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        one = make_project(projects / "one", showroom, store)
        seen = build(machines, one, on="local", loss=None)
        wanted = tables(one)
        yield measured("one", seen, one, wanted)
        on = f"ray://{head.address}:{CLIENTS}" if address == "ray" else "auto"
    for number, name in enumerate(chosen):
        with hosts(("head", "node", "store"), hidden=hidden) as machines:  # a lost host stays lost
            store = machines["store"]
            store.start(
                [sys.executable, "-m", "http.server", str(WEB), "--bind", store.address, "--directory", str(showroom)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            project = make_project(projects / f"two{number}", showroom, store)
            with cluster(machines["head"], machines["node"], cpus, is_impatient=name == "link cut, 3 s"):
                seen = build(machines, project, on=on, loss=LOSSES.get(name))
            yield measured(name, seen, project, wanted)


def main() -> None:
    """Build, compare, and print the table."""
    options = parser(__doc__)
    options.add_argument("--cpus", type=int, default=1, help="cores of each host, as Ray is told")
    options.add_argument("--only", nargs="+", choices=["two", *LOSSES], default=["two", *LOSSES])
    options.add_argument("--address", choices=["ray", "auto"], default="ray", help="ray://head:10001, or auto on head")
    chosen = options.parse_args()
    if lacking := why_not():
        raise SystemExit(lacking)
    # Not in /tmp, of which each host has its own.
    with tempfile.TemporaryDirectory(prefix="carspotter-hosts-", dir="/var/tmp") as folder:
        rows = []
        for row in measure(Path(folder), cpus=chosen.cpus, chosen=chosen.only, address=chosen.address):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    conditions = {"cores a host": chosen.cpus, "address": chosen.address, "batch": BATCH}
    report("two hosts", rows, as_json=chosen.json, conditions=conditions)
    if any(row["tables equal"] != f"{len(TABLES)} of {len(TABLES)}" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
