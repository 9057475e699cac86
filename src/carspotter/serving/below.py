"""Serve below a path, as behind a proxy that passes the path on.

Pages name their files and calls by relative addresses, so that a proxy which takes the path away needs none of this.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """Take `path` ("/cars") away from what is asked for; what comes without it, as probes do, is answered too."""

    app: ASGIApp
    path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = scope.get("path", "")
        if asked == self.path:  # relative addresses need the slash
            await RedirectResponse(f"{self.path}/", status_code=308)(scope, receive, send)
            return
        if asked.startswith(f"{self.path}/"):
            raw = scope.get("raw_path")
            raw = raw.removeprefix(self.path.encode()) if raw else raw
            scope = {**scope, "path": asked.removeprefix(self.path), "raw_path": raw}
        await self.app(scope, receive, send)
