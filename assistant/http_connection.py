"""One connection of a local HTTP process, within bounds of bytes, time and number.

uvicorn bounds none of what comes before a request is whole: a head may have any size and take any time, and
an open connection costs its caller nothing. Bodies have their limits where they are read
(``assistant/api/limits.py``); here is the last bound of their time.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

SEND_BUFFER_BYTES = 64 * 1024
"""Of the kernel, a connection: what a reader leaves waits in the process, where it is bounded and merged.
By default it grows to 4 MiB."""
HEAD_LIMIT_BYTES = 32 * 1024
"""Of a request's line and headers; a token has 8 KiB at most. One read of the socket may come on top."""
HEAD_TIMEOUT_S = 10.0
"""From the connection's begin, or a head's first byte, to its last."""
BODY_TIMEOUT_S = 45.0
"""From a head's last byte to the body's. Who reads a body gives it up after 30 s, with a status."""
MOST_CONNECTIONS = 1000


class BoundedConnection(HttpToolsProtocol):
    """Closes what is too large (431) or too late (408), and makes room for new connections.

    When there are more than ``most_connections``, the one that has been without a request for longest is
    closed: a client that holds connections open cannot keep others out. Over TLS, the write buffer for a
    slow reader is as small as without: by default the loop would take 512 KiB.
    """

    most_connections: ClassVar[int] = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._in_head = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since_s = self.loop.time()
        self._limit_time(HEAD_TIMEOUT_S)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_in_head = self._in_head
        if was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
                return
        super().data_received(data)
        if self._in_head and not was_in_head:
            self._head_bytes = len(data)  # an upper bound: the end of another message may be in it
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
        elif not self._is_answering() and self.timeout_keep_alive_task is None and self._timer is None:
            self._limit_time(HEAD_TIMEOUT_S)  # bytes that begin no request, such as empty lines

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._timer is None:  # else it runs since the connection's begin
            self._limit_time(HEAD_TIMEOUT_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > HEAD_LIMIT_BYTES:
            self._head_bytes = size_bytes
            raise _HeadTooLargeError
        super().on_headers_complete()
        self._limit_time(BODY_TIMEOUT_S)

    def on_message_complete(self) -> None:
        self._end_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own text
        self._refuse(431 if self._head_bytes > HEAD_LIMIT_BYTES else 400)

    def _make_room(self) -> None:
        if len(self.connections) <= self.most_connections:
            return
        idle = [
            each
            for each in cast("set[BoundedConnection]", self.connections)
            if each is not self and not each._is_answering() and not each.transport.is_closing()
        ]
        min(idle, key=lambda each: each._idle_since_s, default=self).transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer with a status, unless another answer is on its way, and close."""
        if self._is_answering():
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _is_answering(self) -> bool:
        return cast("object", self.cycle) is not None and not self.cycle.response_complete

    def _limit_time(self, seconds: float) -> None:
        self._end_timer()
        self._timer = self.loop.call_later(seconds, self._is_late)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(408)


class _HeadTooLargeError(Exception):
    """Ends the parser; the connection is then refused."""


def connections(most: int) -> type[BoundedConnection]:
    """Return the class of a server's connections, ``most`` of them at once."""
    return type("Connection", (BoundedConnection,), {"most_connections": most})
