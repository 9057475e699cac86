"""How the hosts that photos come from are doing: which one asked for a pause, and which one is left alone for now.

In: what became of each request. Out: whether the next one should be made, and when. It makes no request, and what it
knows stays in one process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

# Eight photos without an answer between them are no accident; at 20 s each and four at once they take 40 s.
MAX_FAILURES = 8
# A host that answers 5xx is there: a listing of many photos that it has lost is likelier than with one that is silent.
_ANSWERED = 4
# A server that restarts is back within a minute, for which a build waits; one that is down costs a request in REST_S.
SHORT_REST_S, SHORT_RESTS = 5.0, 3
REST_S = 300.0


@dataclass(slots=True)
class _State:
    requests: int = 0  # without an answer, in a row; each of one photo counts
    photos: int = 0
    rests: int = 0
    why: str = ""
    left_until: float = 0.0
    paused_until: float = 0.0
    turn_at: float = 0.0


class Hosts:
    """Keep the failures in a row of each host; safe for threads, and pickled as if nothing were known."""

    def __init__(
        self, *, max_failures: int = MAX_FAILURES, rest_s: float = REST_S, short_rest_s: float = SHORT_REST_S
    ) -> None:
        self.max_failures, self.rest_s, self.short_rest_s = max_failures, rest_s, short_rest_s
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
            if state is None or not state.left_until:
                return None
            now = time.monotonic()
            if now < state.left_until:
                return state.why
            state.left_until = now + self.rest_s
            return None

    def is_doubtful(self, host: str) -> bool:
        """Return whether a host has given no answer for so long that a photo is not worth a second request."""
        with self._lock:
            return self._states.setdefault(host, _State()).requests >= self.max_failures

    def answered(self, host: str) -> None:
        """Note that a host gave an answer, be it that there is no such photo or that it shows it to nobody."""
        with self._lock:
            state = self._states.setdefault(host, _State())
            state.requests = state.photos = state.rests = 0
            state.left_until = 0.0

    def failed(self, host: str, why: str, *, is_first: bool = True) -> None:
        """Note a request without an answer, the first for a photo or a further one.

        After `max_failures` photos in a row, four times as many where it answers 5xx, the host rests: some seconds,
        some more, and then for `rest_s`.
        """
        with self._lock:
            state = self._states.setdefault(host, _State())
            state.requests, state.photos, state.why = state.requests + 1, state.photos + is_first, why
            now = time.monotonic()
            most = self.max_failures * (_ANSWERED if why == "server-error" else 1)
            if state.photos < most or now < state.paused_until:  # those under way add nothing to a rest
                return
            if state.rests < SHORT_RESTS and why != "timeout":
                state.paused_until = now + self.short_rest_s * 2**state.rests
                state.rests += 1
            else:
                state.left_until = now + self.rest_s

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

    def turn_s(self, host: str, delay_s: float) -> float:
        """Take the next turn at a host that is asked every `delay_s` seconds; return how long to wait for it."""
        with self._lock:
            state = self._states.setdefault(host, _State())
            now = time.monotonic()
            turn = max(now, state.turn_at)
            state.turn_at = turn + delay_s
            return turn - now
