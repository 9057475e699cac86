"""Hosts without machines: Linux namespaces that share the processor, the installed software and nothing else.

In: names. Out: hosts with an address, a name that the others know, processes, shared memory and a /tmp of their own, on
one switch that leads nowhere else. What is hidden from a host it cannot read. Everything goes with the context,
processes too. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK = "10.77.31"
INIT = """
set -e
hostname {name}
mount --make-rprivate /
for folder in /tmp /dev/shm {hidden}; do mount -t tmpfs tmpfs $folder; done
printf "{known}" > /tmp/hosts
mount --bind /tmp/hosts /etc/hosts
exec sleep infinity
"""


def why_not() -> str | None:
    """Return what is lacking here for hosts, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root, to make network namespaces"
    lacking = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if lacking:
        return f"needs {', '.join(lacking)} (iproute2, util-linux)"
    made = subprocess.run(["ip", "netns", "add", f"try{os.getpid()}"], capture_output=True, text=True)
    if made.returncode:
        return f"cannot make a network namespace: {made.stderr.strip()}"
    run("ip", "netns", "del", f"try{os.getpid()}")
    return None


def run(*command: str) -> str:
    """Run a command that must succeed and return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host: `init` is the process in whose namespaces all of its processes live."""

    name: str
    address: str
    init: int

    def start(self, command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """Start a command on the host."""
        inside = ["nsenter", "--target", str(self.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--"]
        return subprocess.Popen([*inside, *command], text=True, **more)

    def cut(self) -> None:
        """Pull the plug of its network: nothing arrives any more, and nobody is told."""
        run("ip", "-n", self.name, "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put the plug back."""
        run("ip", "-n", self.name, "link", "set", "eth0", "up")

    def processes(self) -> dict[int, str]:
        """Give the processes on this host, by their number out here, with their titles."""
        found: dict[int, str] = {}
        mine = Path(f"/var/run/netns/{self.name}").stat().st_ino
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns/net").stat().st_ino == mine:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def crash(self) -> None:
        """End every process of the host at once, as the kernel does when their first one dies."""
        with suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)

    def kill(self, title: str) -> int:
        """Kill -9 the processes whose title has these words; return how many there were."""
        chosen = [number for number, found in self.processes().items() if title in found and number != self.init]
        for number in chosen:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return len(chosen)


@contextmanager
def hosts(names: Sequence[str], *, hidden: Mapping[str, Sequence[Path]] | None = None) -> Iterator[dict[str, Host]]:
    """Make hosts on one switch; `hidden` names the folders that a host does not see."""
    made: dict[str, Host] = {}
    # So that what ends this process by a word leaves no namespaces behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        switch = f"sw{os.getpid()}"
        _add_namespace(switch, stack)
        run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "switch", "up")
        known = "127.0.0.1 localhost\\n" + "".join(f"{NETWORK}.{n} {name}\\n" for n, name in enumerate(names, start=1))
        for number, name in enumerate(names, start=1):
            space = f"{name}{os.getpid()}"
            _add_namespace(space, stack)
            _plug(space, switch, number)
            init = stack.enter_context(_init(space, name, (hidden or {}).get(name, ()), known))
            made[name] = Host(name=space, address=f"{NETWORK}.{number}", init=init)
        yield made


def _add_namespace(name: str, stack: ExitStack) -> None:
    run("ip", "netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True)
    run("ip", "-n", name, "link", "set", "lo", "up")


def _plug(space: str, switch: str, number: int) -> None:
    port = f"port{number}"
    run("ip", "-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
    run("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
    run("ip", "-n", space, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
    run("ip", "-n", space, "link", "set", "eth0", "up")


@contextmanager
def _init(space: str, name: str, hidden: Sequence[Path], known: str) -> Iterator[int]:
    """Hold the namespaces of a host open; with its init, the kernel ends all of its processes."""
    script = INIT.format(name=name, hidden=" ".join(map(str, hidden)), known=known)
    outer = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            space,
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _child(outer)
    finally:
        outer.kill()
        outer.wait()


def _child(outer: subprocess.Popen[bytes]) -> int:
    """Wait until the host has done with its mounts, which its init says by becoming `sleep`."""
    until = time.monotonic() + 10
    while time.monotonic() < until and outer.poll() is None:
        with suppress(OSError, IndexError):
            child = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0]
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
                return int(child)
        time.sleep(0.02)
    raise SystemExit("a host could not be started: its mounts were refused")
