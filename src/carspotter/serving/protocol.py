"""Serve an application on a bound socket; connections that bring no whole request end.

uvicorn bounds neither the size of a head nor the time it may take, and reads on for ever after an early answer: one
connection without a key could fill the memory, and some hundred stall all others. Behind a proxy that bounds both this
would not be needed. It knows no route.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from carspotter.errors import CarspotterError

HEAD_BYTES = 32 << 10
"""Most bytes of a head that is not yet whole. nginx takes 4 times 8 KiB."""
IDLE_S = 10.0
"""Longest time of a connection without a request that is being answered: until a head is whole, and after an early
answer, while the rest of its body is read and thrown away."""


def bind(app: Any, *, host: str, port: int, **options: Any) -> tuple[uvicorn.Server, socket.socket]:
    """Return a server and its listening socket, to be run with `server.run(sockets=[socket])`.

    `options` are uvicorn's. Raises CarspotterError where the port is taken, or the host is none of this machine's.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        access_log=False,
        server_header=False,
        # Anybody may send X-Forwarded-For: a rate that is counted by address would be counted by what they write.
        proxy_headers=False,
        **options,
    )
    try:
        bound = config.bind_socket()
    except (SystemExit, TypeError) as error:  # uvicorn's way to say so; its log has said why
        raise CarspotterError(f"cannot listen on {host} port {port}: {_refusal(error)}") from error
    # Connections inherit it. asyncio sets it by itself, but not where a socket was bound outside of it: an answer's
    # body would wait 40 ms for the client to acknowledge its head.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.listen(config.backlog)  # now, not when the loop runs: a client that reads the address may connect at once
    return uvicorn.Server(config), bound


def address_of(bound: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _refusal(error: BaseException) -> str:
    """Return why a socket was not bound, and what to do; TypeError is what the system says of a name that is none."""
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(cause, (socket.gaierror, TypeError)) or getattr(cause, "errno", None) == errno.EADDRNOTAVAIL:
        return "no address of this machine has that name; choose another with --host"
    return "it is taken, or not allowed; choose another with --port"


class BoundedProtocol(HttpToolsProtocol):
    """Abort a connection whose head is too long, or which has had no request for too long."""

    def __init__(self, *args: Any, **more: Any) -> None:
        """Take what uvicorn hands in."""
        super().__init__(*args, **more)
        self._head_bytes: int | None = 0  # None within a body
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time."""
        super().connection_made(transport)
        self._end_after(IDLE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._end_after(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; abort where the head passes its limit."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Take the head for whole: how long a body may take is the application's to say."""
        self._head_bytes = None
        self._end_after(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        super().on_message_complete()
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        """Begin to count the time again, unless a request that was sent behind this one is answered now."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._end_after(IDLE_S)

    def _end_after(self, seconds: float | None) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
