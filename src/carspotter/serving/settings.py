"""What a person says of a service on the command line, as one frozen record, each value checked.

In: numbers, paths and words. Out: `ServeSettings`, which every other module of this folder reads. It opens nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from carspotter.cores import cores
from carspotter.headers import FORMATS
from carspotter.pixels import MAX_PIXELS

MEGABYTE = 1 << 20
LIVE, READY = "/livez", "/readyz"
"""Routes that say whether the process lives, and whether it answers photos."""
SPARE_S = 5
"""Seconds that a server which ends gives answers beyond a request's deadline."""
_ORIGIN = re.compile(r"[a-z][a-z\d+.-]*://[^/\s]+", re.ASCII | re.IGNORECASE)
_ROOT_PATH = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What a service takes, how much of it at once, and from whom.

    `max_bytes` of a photo, `max_pixels` of it, `max_photos` of an ad, `formats` as `headers.sniff` names them. `queue`
    is the number of photos that may wait, `batch` the most that one run of the networks takes, `wait_ms` how long an
    idle worker waits for a batch to fill, `workers` the threads that recognise (0: one a core). `timeout_s` is the
    deadline of a request. `uploads` bounds the bytes of all bodies that are being received or wait. `rate` is photos
    a second for each key, with a burst of `burst` (0: four seconds' worth, at least an ad). `keys` is a file of hashed
    keys, None lets everyone in. `cors` lists the origins of foreign pages that may ask.

    `allow_urls` lets a client name a photo by URL, of `allow_hosts` only where given; `allow_networks` ("10.0.0.0/8")
    are not public and yet allowed, and then at any port. `feedback` is the folder in which photos are kept when their
    sender says whether the answer was right; without it nothing is kept. `blur` hides number plates and faces on them.
    `root_path` ("/cars") is the path below which a proxy shows the service, where the proxy does not take it away.
    """

    max_bytes: int = 20 * MEGABYTE
    max_pixels: int = MAX_PIXELS
    max_photos: int = 40
    formats: tuple[str, ...] = FORMATS
    queue: int = 64
    batch: int = 2
    wait_ms: float = 0.0
    workers: int = 0
    timeout_s: float = 15.0
    uploads: int = 256 * MEGABYTE
    rate: float = 0.0
    burst: int = 0
    keys: Path | None = None
    cors: tuple[str, ...] = ()
    allow_urls: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    feedback: Path | None = None
    blur: bool = True
    root_path: str = ""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_photos", "queue", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("wait_ms", "workers", "rate", "burst"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.timeout_s < float("inf"):
            raise ValueError(f"timeout_s is {self.timeout_s}; it must be over 0")
        if self.queue < self.max_photos:
            raise ValueError(f"queue is {self.queue}; an ad of {self.max_photos} photos (max_photos) must fit into it")
        if 0 < self.burst < self.max_photos:
            raise ValueError(f"burst is {self.burst}; an ad of {self.max_photos} photos (max_photos) must pass at once")
        if self.uploads < self.max_bytes:
            raise ValueError(f"uploads is {self.uploads} bytes; one photo of {self.max_bytes} must fit into it")
        wrong = next((origin for origin in self.cors if origin != "*" and not _ORIGIN.fullmatch(origin)), None)
        if wrong is not None:  # browsers send it so, and it would never match
            raise ValueError(f"cors has {wrong!r}; write https://shop.example, with a port if need be and no slash")
        for network in self.allow_networks:
            ip_network(network)  # a ValueError that names it
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise ValueError(f"root_path is {self.root_path!r}; write it as /cars, without a slash at its end")
        unknown = [form for form in self.formats if form not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"formats are {', '.join(self.formats) or 'none'}; allowed: {', '.join(FORMATS)}")

    @property
    def n_workers(self) -> int:
        """Return how many threads recognise: as many as asked for, or one for each core this process may use."""
        return self.workers or cores()

    @property
    def shutdown_s(self) -> int:
        """Return how long a server that ends waits for its answers: a request's deadline, and what writing takes."""
        return round(self.timeout_s) + SPARE_S

    def burst_of(self, rate: float) -> int:
        """Return how many photos a key of this rate may send at once after a rest."""
        return self.burst or max(self.max_photos, round(4 * rate))
