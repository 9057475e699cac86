"""Read a file of hashed API keys; say whom a key belongs to and whether it may send more now.

A line is `NAME SHA256`, after which `rate=2.5` may set a rate of its own (0: no limit); `#` begins a comment. Keys are
256 random bits, so that one round of SHA-256 keeps them safe: no word list can hold them. The comparison takes the same
time whatever the key. It knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from carspotter.errors import StorageError, typed

PREFIX = "cs_"
_LINE = re.compile(r"(?P<name>[\w.-]+)\s+(?P<digest>[0-9a-f]{64})(?:\s+rate=(?P<rate>\d+(?:\.\d+)?))?")


def new_key() -> str:
    """Make a key: 256 random bits in letters that a URL and a shell take as they are."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def add_key(path: Path, name: str) -> str:
    """Make a key for `name`, append its hash to the file, and return the key, which is not kept.

    Raises ValueError for a name that the file cannot hold or holds already, StorageError if it cannot be written.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"name {name!r}: letters, digits, dot, dash and underscore only")
    if path.exists() and name in {entry.name for entry in _entries(path)}:
        raise ValueError(f"{path} has a key named {name!r} already; take its line out, or give another name")
    key = new_key()
    try:
        ends_well = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{'' if ends_well else chr(10)}{name} {digest_of(key)}\n")
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """The holder of a key; `rate` is photos a second, None for the service's."""

    name: str
    digest: str
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The entries of a file of keys."""

    entries: tuple[KeyEntry, ...]

    def find(self, key: str) -> KeyEntry | None:
        """Return whose key it is; every entry is compared, so that the time reveals nothing."""
        digest = digest_of(key)
        found = None
        for entry in self.entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found


def read_keys(path: Path) -> Keys:
    """Read a file of keys; raises StorageError when it cannot be read, a line is wrong, or there is no key."""
    entries = _entries(path)
    if not entries:
        raise StorageError(f"{path} holds no key; make one with: carspotter key NAME --file {typed(path)}")
    return Keys(entries=tuple(entries))


def _entries(path: Path) -> list[KeyEntry]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise StorageError(
                f"{path}, line {number}: expected NAME SHA256 [rate=N]; make one with: carspotter key NAME"
            )
        rate = float(match["rate"]) if match["rate"] else None
        entries.append(KeyEntry(name=match["name"], digest=match["digest"], rate=rate))
    return entries


_MOST_BUCKETS = 10_000
"""Buckets before full ones are looked for: clients without a key are distinguished by address."""


@dataclass(slots=True, kw_only=True)
class _Bucket:
    tokens: float
    at: float
    rate: float


@dataclass(slots=True, kw_only=True)
class Rates:
    """Count photos of each client: a token bucket for each, filled `rate` times a second up to `burst(rate)`."""

    rate: float
    burst: Callable[[float], int]
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def take(self, client: str, photos: int, rate: float | None = None, *, only_look: bool = False) -> float:
        """Take this many photos; return 0 when they may pass, else the seconds to wait, and take none.

        `only_look` takes none in any case. More photos than the burst never pass: `ServeSettings` sees to that.
        """
        rate = self.rate if rate is None else rate
        if not rate:
            return 0.0
        now = self.clock()
        if len(self._buckets) > _MOST_BUCKETS:
            self._forget(now)
        burst = self.burst(rate)
        bucket = self._buckets.setdefault(client, _Bucket(tokens=burst, at=now, rate=rate))
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) * rate)
        bucket.at, bucket.rate = now, rate
        if bucket.tokens + 1e-9 < photos:
            return (photos - bucket.tokens) / rate
        bucket.tokens -= 0 if only_look else photos
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again by now: a new one would be as full."""
        left = {name: b for name, b in self._buckets.items() if b.tokens + (now - b.at) * b.rate < self.burst(b.rate)}
        self._buckets = left
