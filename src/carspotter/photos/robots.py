"""What the sites that photographs come from allow: robots.txt, read once a host.

In: a photo's URL and the name of the crawler. Out: whether it may be asked, and how long to wait between two requests.
A site without the file allows all; one that cannot say is asked again with its next photo (RFC 9309).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from carspotter import storage
from carspotter.errors import MissingExtraError, StorageError
from carspotter.web_policy import DEFAULT_PORTS, UrlPolicy, status_of

if TYPE_CHECKING:
    from protego import Protego

_MAX_BYTES = 5 << 20  # ten times what RFC 9309 asks to be read


class Robots:
    """Keep the rules of each host; safe for threads, and pickled as if nothing were known."""

    def __init__(self) -> None:
        """Begin without any host."""
        self._rules: dict[str, Protego] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Robots], tuple[()]]:
        return Robots, ()

    def allows(self, url: str, policy: UrlPolicy) -> bool:
        """Return whether the policy's user agent may ask for a URL; raises StorageError where the site cannot say."""
        return bool(self._of(url, policy).can_fetch(url, policy.headers["User-Agent"]))

    def delay_s(self, url: str, policy: UrlPolicy) -> float:
        """Return the seconds that a host wants between two requests; 0 where it has not said."""
        return float(self._of(url, policy).crawl_delay(policy.headers["User-Agent"]) or 0)

    def _of(self, url: str, policy: UrlPolicy) -> Protego:
        try:
            from protego import Protego
        except ImportError as error:
            raise MissingExtraError("protego", "crawl") from error
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].casefold()
        host = host.removesuffix(f":{DEFAULT_PORTS.get(parts.scheme, 0)}")  # as redirects are told
        origin = f"{parts.scheme}://{host}"
        with self._lock:
            lock = self._locks.setdefault(origin, threading.Lock())
        with lock:
            if origin not in self._rules:
                self._rules[origin] = Protego.parse(_read(f"{origin}/robots.txt", policy))
            return self._rules[origin]


def _read(url: str, policy: UrlPolicy) -> str:
    try:
        return storage.read(url, max_bytes=_MAX_BYTES, timeout_s=policy.timeout_s, policy=policy).decode(
            errors="replace"
        )
    except StorageError as error:
        status = status_of(error)
        if status is not None and 400 <= status < 500 and status != 429:
            return ""
        raise
