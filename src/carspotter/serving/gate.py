"""Stand before every request: give it an id, ask for its key, and note how it ended.

In: an ASGI application. Out: the same with `X-Request-ID` and safety headers on each answer, a line in the log and a
count in the metrics for each request, and 401 where a key is needed and wrong. Pages and probes of life need no key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carspotter.serving.keys import Keys
from carspotter.serving.metrics import Metrics
from carspotter.serving.problems import ProblemError, respond
from carspotter.serving.settings import LIVE, READY

log = logging.getLogger("carspotter.serve")

ANYONE = "anyone"
GONE = 499
"""nginx's status of a request whose client left before the answer; it stands in log and metrics only."""

_ROUTES = frozenset(
    (
        "/",
        "/ad",
        "/docs",
        LIVE,
        READY,
        "/metrics",
        "/openapi.json",
        "/v1/photos",
        "/v1/ads",
        "/v1/blur",
        "/v1/models",
        "/v1/taxonomy",
        "/v1/feedback",
    )
)
_PHOTOS = ("/v1/photos", "/v1/ads")
SAFETY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    # Scripts, styles and pictures of our own only; blob: and data: for the photo that the visitor chose.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
}


class Gate:
    """Wrap an application."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys | None, metrics: Metrics, room: Callable[[], ProblemError | None]
    ) -> None:
        """Take the keys that may pass (None: everyone), where to count, and what says why no photo is taken now."""
        self._app = app
        self._room = room
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state |= {
            "request_id": uuid4().hex,
            "client": ANYONE,
            "rate": None,
            "started": started,
            "code": None,
            "timeout_s": None,
            # Whose rate it is: a key's holder or, where there are no keys, an address, which stands in no log.
            "bucket": str((scope.get("client") or ("",))[0]),
        }
        status = GONE

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = state["request_id"]
                for name, value in SAFETY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            problem = self._refusal(scope)
            if problem is None:
                await self._app(scope, receive, send_on)
            else:
                state["code"] = problem.code
                await respond(problem, state["request_id"])(scope, receive, send_on)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        """Return why a request goes no further. A full queue refuses here already: under a flood each step counts."""
        if not self._may_pass(scope):
            if _key_in(Headers(scope=scope)):
                return ProblemError(401, "wrong-key", "this API key is not known here")
            return ProblemError(401, "no-key", "give your key as Authorization: Bearer KEY or X-API-Key: KEY")
        return self._room() if scope["path"] in _PHOTOS and scope["method"] == "POST" else None

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        is_open = not (path.startswith("/v1/") or path == "/metrics") or scope["method"] == "OPTIONS"
        if self._keys is None or is_open:
            return True
        entry = self._keys.find(_key_in(Headers(scope=scope)))
        if entry is None:
            return False
        scope["state"] |= {"client": entry.name, "bucket": entry.name, "rate": entry.rate}
        return True

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path, state = scope["path"], scope["state"]
        route = path if path in _ROUTES else "/static" if path.startswith("/static/") else "other"
        self._metrics.requests.labels(route, str(status)).observe(seconds)
        if state["code"]:
            self._metrics.errors.labels(state["code"]).inc()
        extra = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "code": state["code"],
            "milliseconds": round(seconds * 1000, 2),
            "client": state["client"],
            "photos": state.get("photos"),
        }
        log.log(logging.DEBUG if route in (LIVE, READY, "/metrics") else logging.INFO, "request", extra=extra)


def _key_in(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.casefold() == "bearer" else headers.get("x-api-key", "")
