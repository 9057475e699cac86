"""A program in a network of its own: run as `unshare -rnm python own_network.py FOLDER WORD…`, it counts look-ups.

In: a folder, and the words of the program. Out: the names that were looked up, as JSON in `FOLDER/names.json`, and the
program's exit code. Loopback is all that this network has, and what answers names there knows none.
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def raise_loopback() -> None:
    """Bring the interface of loopback up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def name_in(question: bytes) -> str:
    """Read the name that a question of the DNS asks for."""
    labels, place = [], 12
    while length := question[place]:
        labels.append(question[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels)


def answer(server: socket.socket, names: list[str]) -> None:
    """Note each name, and say that there is none of it."""
    while True:
        question, asker = server.recvfrom(512)
        names.append(name_in(question))
        server.sendto(question[:2] + b"\x81\x83" + question[4:6] + bytes(6) + question[12:], asker)


def main(folder: Path, words: list[str]) -> int:
    """Run the program, and write what it looked up."""
    raise_loopback()
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf"], check=True)
    names: list[str] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=answer, args=(server, names), daemon=True).start()
    code = subprocess.run(words, check=False).returncode
    (folder / "names.json").write_text(json.dumps(names))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
