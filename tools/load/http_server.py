"""A small HTTP/1.1 server on asyncio's protocols, and what the benchmark's processes have in common.

It knows what the benchmark sends: ``content-length`` or chunked bodies, connections that stay open.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import orjson
import uvloop

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_EXPECTS = re.compile(rb"(?i)\r\nexpect: *100-continue")
_HEAD_END = b"\r\n\r\n"
_LARGEST_BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """With the query."""
    head: bytes
    """Request line and headers, without the empty line."""
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, empty when there is none."""
        found = re.search(rb"(?i)\r\n" + name.encode() + rb": *([^\r]*)", self.head)
        return found[1].decode("latin-1") if found else ""


class MalformedError(Exception):
    """The peer speaks no HTTP that is understood here."""


class RequestReader:
    """Takes bytes as they come, cut anywhere, and gives whole requests."""

    __slots__ = ("_buffer", "expects_continue")

    def __init__(self) -> None:
        self._buffer = b""
        self.expects_continue = False
        """The peer sends its body only after ``100 Continue``; set until that body has come."""

    def feed(self, data: bytes) -> list[Request]:
        """Return the requests that ``data`` completes. Raises MalformedError."""
        self._buffer = self._buffer + data if self._buffer else data
        requests: list[Request] = []
        while self._buffer and (found := self._take()) is not None:
            requests.append(found)
        return requests

    def _take(self) -> Request | None:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        head, start = self._buffer[:end], end + len(_HEAD_END)
        taken = self._body(head, start)
        if taken is None:
            self.expects_continue = _EXPECTS.search(head) is not None
            return None
        self.expects_continue = False
        body, used = taken
        self._buffer = self._buffer[used:]
        try:
            method, path, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        except (UnicodeDecodeError, ValueError):
            raise MalformedError("no request line") from None
        return Request(method, path, head, body)

    def _body(self, head: bytes, start: int) -> tuple[bytes, int] | None:
        """Return the body and where it ends, None while it is not whole."""
        if _CHUNKED.search(head):
            return decode_chunks(self._buffer, start)
        length = _LENGTH.search(head)
        end = start + (int(length[1]) if length else 0)
        if end - start > _LARGEST_BODY_BYTES:
            raise MalformedError("a body is too large")
        return (self._buffer[start:end], end) if len(self._buffer) >= end else None


def decode_chunks(buffer: bytes, start: int) -> tuple[bytes, int] | None:
    """Return the body in chunked coding and where it ends, None while it is not whole.

    Raises MalformedError.
    """
    pieces: list[bytes] = []
    while (line_end := buffer.find(b"\r\n", start)) >= 0:
        try:
            size = int(buffer[start:line_end].split(b";")[0], 16)
        except ValueError:
            raise MalformedError("no chunk length") from None
        start = line_end + 2
        if len(buffer) < start + size + 2:
            return None
        pieces.append(buffer[start : start + size])
        start += size + 2
        if size == 0:
            return b"".join(pieces), start
    return None


class HttpConnection(asyncio.Protocol):
    """One accepted connection. ``answer`` begins to answer a request; one is in progress at a time."""

    def __init__(self, answer: Callable[[Request, HttpConnection], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer = answer
        self._reader = RequestReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            requests = self._reader.feed(data)
        except MalformedError:
            self.close()
            return
        if self._reader.expects_continue:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        for request in requests:
            self._answer(request, self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self.transport = None

    @property
    def gone(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def send(self, data: bytes) -> None:
        """Send bytes; to a peer that is gone, nothing."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


async def serve(answer: Callable[[Request, HttpConnection], None]) -> None:
    """Answer requests on a free port, which the ready line says, until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpConnection(answer), "127.0.0.1", 0, backlog=1024)
    say_ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def response(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    """Return a whole response; ``more`` holds further header lines, each with its line end."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


# --- processes of the benchmark -------------------------------------------------------------------------


def read_plan() -> dict[str, Any]:
    """Return the plan: JSON on the first line of stdin."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows is looked at by the event loop
        data = os.read(sys.stdin.fileno(), 1 << 16)
        if not data:
            raise SystemExit("no plan on stdin")
        line += data
    return orjson.loads(line)


def say_ready(port: int) -> None:
    """Print the ready line, as the service does."""
    say({"ready": True, "host": "127.0.0.1", "port": port})


def say(line: dict[str, Any]) -> None:
    """Print one line of JSON for the process that started this one."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def run_until_told(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop until the coroutine returns, SIGTERM, SIGINT, or the end of stdin."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # a pause here would be charged to who is measured
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(asyncio.CancelledError):
        runner.run(_until_told(main))


async def _until_told(main: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 1 << 16):
            loop.remove_reader(sys.stdin.fileno())
            task.cancel()

    loop.add_reader(sys.stdin.fileno(), on_stdin)
    await task
