"""How the hosts that photos come from are doing: which one asked for a pause, and which one is left alone for now.

In: what became of each request. Out: whether the next one should be made, and when. It makes no request, and what it
knows stays in one process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

# Eight failures without an answer between them are no accident; at 20 s each and four at once they take 40 s.
MAX_FAILURES = 8
# A server that restarts is back within minutes; one that is down costs one request in this time.
REST_S = 300.0


@dataclass(slots=True)
class _State:
    failures: int = 0
    why: str = ""
    left_until: float = 0.0
    paused_until: float = 0.0


class Hosts:
    """Keep the failures in a row of each host; safe for threads, and pickled as if nothing were known."""

    def __init__(self, *, max_failures: int = MAX_FAILURES, rest_s: float = REST_S) -> None:
        self.max_failures, self.rest_s = max_failures, rest_s
        self._states: dict[str, _State] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Hosts], tuple[()]]:
        return Hosts, ()

    def why_left(self, host: str) -> str | None:
        """Return the status of the failures for which a host is left alone, or None where it may be asked.

        When its rest is over one caller may ask; the host rests again until that one has an answer.
        """
        with self._lock:
            state = self._states.get(host)
            if state is None or state.failures < self.max_failures:
                return None
            now = time.monotonic()
            if now < state.left_until:
                return state.why
            state.left_until = now + self.rest_s
            return None

    def answered(self, host: str) -> None:
        """Note that a host gave an answer, be it that there is no such photo."""
        with self._lock:
            state = self._states.setdefault(host, _State())
            state.failures, state.left_until = 0, 0.0

    def failed(self, host: str, why: str) -> None:
        """Note a request without an answer; after `max_failures` in a row the host rests."""
        with self._lock:
            state = self._states.setdefault(host, _State())
            state.failures, state.why = state.failures + 1, why
            if state.failures >= self.max_failures:
                state.left_until = time.monotonic() + self.rest_s

    def pause(self, host: str, seconds: float) -> None:
        """Note that a host asked not to be asked for some seconds."""
        with self._lock:
            state = self._states.setdefault(host, _State())
            state.paused_until = max(state.paused_until, time.monotonic() + seconds)

    def pause_left_s(self, host: str) -> float:
        """Return how many seconds of a host's pause are left, 0 where it asked for none."""
        with self._lock:
            state = self._states.get(host)
            return max(state.paused_until - time.monotonic(), 0.0) if state else 0.0
