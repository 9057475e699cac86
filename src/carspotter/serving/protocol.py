"""Bytes of a connection in, requests out, as uvicorn reads them; and an end to connections that send no whole head.

uvicorn bounds neither the size of a head nor the time it may take, and reads on for ever after an early answer: one
connection without a key could fill the memory and stall all others. It knows no route.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 << 10
"""Most bytes of a head that is not yet whole. nginx takes 4 times 8 KiB."""
HEAD_S = 10.0
"""Longest time from the first byte of a head, or from a connection's begin, to its end."""
READ_BYTES = 64 << 10
"""Most bytes read from a connection at once. asyncio's own 256 KiB would be held for each connection of a flood before
any is refused; uvicorn stops reading a body at 64 KiB in any case."""
DRAIN_S = 10.0
"""How long the rest of a body is read and thrown away when its request was answered before it was whole."""


class BoundedProtocol(HttpToolsProtocol):
    """Abort a connection whose head is too long or too slow, or whose unwanted body does not end."""

    def __init__(self, *args: Any, **more: Any) -> None:
        """Take what uvicorn hands in."""
        super().__init__(*args, **more)
        self._is_in_head = True
        self._has_whole_head = False
        self._head_bytes = 0
        self._until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time, and send each piece at once.

        asyncio does so by itself, but not on a socket that was bound outside of it: an answer's body would wait 40 ms
        for the client to acknowledge its head.
        """
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own transports; others choose for themselves
            transport.max_size = READ_BYTES
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._end_in(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; abort where the head passes its limit."""
        if self._is_in_head and self._until is None:
            self._end_in(HEAD_S)
        was_in_head, self._has_whole_head = self._is_in_head, False
        super().data_received(data)
        if was_in_head and not self._has_whole_head:  # all of this was head
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        """Take the head for whole."""
        self._is_in_head = False
        self._has_whole_head = True
        self._head_bytes = 0
        self._go_on()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head, which may take its time to begin: uvicorn bounds that."""
        super().on_message_complete()
        self._is_in_head = True
        self._go_on()

    def on_response_complete(self) -> None:
        """Bound the rest of a body that nobody reads any more."""
        super().on_response_complete()
        if not self._is_in_head:
            self._end_in(DRAIN_S)

    def _end_in(self, seconds: float) -> None:
        self._go_on()
        self._until = self.loop.call_later(seconds, self.transport.abort)

    def _go_on(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
