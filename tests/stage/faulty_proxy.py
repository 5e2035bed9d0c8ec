"""A TCP proxy between a process and one dependency, whose faults are switched while both run.

It reads requests (HTTP/1.1) so that a fault can be of some requests only, where dependencies share an
address; what flows back is passed on as it comes, chunk by chunk. A fault holds for requests that come and
for responses that are on their way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

_PIECE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
GARBAGE = b"\x16\x03\x01\x02\x00\xff\x00garbage, and no HTTP at all\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    head: bytes
    body: bytes


class Kind(StrEnum):
    REFUSE = "refuse"
    """Nobody listens, and connections that there were are reset. Of some requests only: those are reset."""
    CUT = "cut"
    """Reset in the middle of the response."""
    STALL = "stall"
    """Accepted and never answered; a response on its way stands still."""
    HOLD = "hold"
    """Kept from the dependency until the faults are others, then passed on."""
    SLOW = "slow"
    """Each piece of the response is late."""
    GARBAGE = "garbage"
    """Bytes that are no HTTP."""
    ANSWER = "answer"
    """The proxy answers itself."""
    ALTER = "alter"
    """The body of the response is changed on its way."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    of: Callable[[Request], bool] | None = None
    """Which requests; all of them, and the listener itself, when None."""
    answer: bytes = b""
    """The whole response, by ANSWER."""
    delay_s: float = 0.0
    alter: Callable[[bytes], bytes] = bytes
    """Returns as many bytes as it is given."""

    def applies_to(self, request: Request | None) -> bool:
        return self.of is None or (request is not None and self.of(request))


def json_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a response that is well-formed, whatever its body says. ``headers`` end in CRLF each."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@dataclass(eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: asyncio.StreamWriter | None = None
    request: Request | None = None
    """The latest."""

    def reset(self) -> None:
        """End as a process does that dies: with RST to both sides."""
        for writer in (self.writer, self.upstream):
            if writer is not None and not writer.transport.is_closing():
                peer: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


@dataclass(eq=False)
class FaultyProxy:
    """Passes everything on until a test changes that. Bound to one event loop."""

    upstream: str
    """``host:port``."""
    port: int = 0
    requests: list[Request] = field(default_factory=list[Request])
    """All that came, answered or not."""
    _faults: list[Fault] = field(default_factory=list[Fault])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: dict[asyncio.Task[None], _Connection] = field(
        default_factory=dict[asyncio.Task[None], _Connection]
    )
    _server: asyncio.Server | None = None
    _placeholder: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def break_by(self, *faults: Fault) -> None:
        """Have these faults from now on, and no others; the first that applies counts."""
        self._faults = list(faults)
        self._changed.set()
        self._changed = asyncio.Event()
        refusing = [fault for fault in faults if fault.kind is Kind.REFUSE]
        if any(fault.of is None for fault in refusing):
            await self._stop_listening()
        else:
            await self._listen()
        for connection in list(self._connections.values()):
            if any(fault.applies_to(connection.request) for fault in refusing):
                connection.reset()

    async def heal(self) -> None:
        await self.break_by()

    async def start(self) -> None:
        await self._listen()

    async def close(self) -> None:
        self._faults = []
        await self._stop_listening(keep_port=False)
        for connection in list(self._connections.values()):
            connection.reset()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        if self._server is None:
            listener, self._placeholder = self._placeholder or self._bound(), None
            self._server = await asyncio.start_server(self._accept, sock=listener)

    async def _stop_listening(self, *, keep_port: bool = True) -> None:
        """Refuse connections; a socket that is bound but does not listen keeps the port for us."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if keep_port:
                self._placeholder = self._bound()
        if not keep_port and self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    def _bound(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        return listener

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        task = asyncio.ensure_future(self._serve(connection))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)

    async def _serve(self, connection: _Connection) -> None:
        answering: asyncio.Task[None] | None = None
        try:
            while (request := await _read_request(connection)) is not None:
                connection.request = request
                self.requests.append(request)
                if await self._misbehaves(connection, request):
                    continue
                if connection.upstream is None:
                    host, _, port = self.upstream.partition(":")
                    upstream, connection.upstream = await asyncio.open_connection(host, int(port))
                    answering = asyncio.create_task(self._answer(connection, upstream))
                connection.upstream.write(request.head + request.body)
                await connection.upstream.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if answering is not None:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
            for writer in (connection.upstream, connection.writer):
                if writer is not None:
                    writer.close()

    def _fault_of(self, request: Request | None) -> Fault | None:
        return next((fault for fault in self._faults if fault.applies_to(request)), None)

    async def _misbehaves(self, connection: _Connection, request: Request) -> bool:
        """Do what the fault of a request says; False when it is to be passed on."""
        fault = self._fault_of(request)
        if fault is None or fault.kind in (Kind.CUT, Kind.SLOW, Kind.ALTER):
            return False
        if fault.kind is Kind.HOLD:
            await self._until_changed(connection)
            return False
        if fault.kind is Kind.STALL:
            await self._until_changed(connection)
            connection.reset()
        elif fault.kind is Kind.REFUSE:
            connection.reset()
        else:
            connection.writer.write(fault.answer if fault.kind is Kind.ANSWER else GARBAGE)
            await connection.writer.drain()
        if fault.kind is not Kind.ANSWER:
            raise ConnectionError
        return True

    async def _until_changed(self, connection: _Connection) -> None:
        """Wait until the faults are others, or the peer has left."""
        left = asyncio.ensure_future(connection.reader.read(1))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({left, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (left, changed):
                waiting.cancel()
            await asyncio.gather(left, changed, return_exceptions=True)

    async def _answer(self, connection: _Connection, upstream: asyncio.StreamReader) -> None:
        """Pass on what the dependency says."""
        try:
            in_body = False
            while data := await upstream.read(_PIECE_BYTES):
                fault = self._fault_of(connection.request)
                if fault is not None and fault.kind is Kind.SLOW:
                    await asyncio.sleep(fault.delay_s)
                elif fault is not None and fault.kind is Kind.CUT:
                    connection.writer.write(data[: max(1, len(data) // 2)])
                    await connection.writer.drain()
                    connection.reset()
                    return
                elif fault is not None and fault.kind is Kind.ALTER:
                    data, in_body = _altered(data, fault.alter, in_body=in_body)
                while (fault := self._fault_of(connection.request)) and fault.kind is Kind.STALL:
                    await self._changed.wait()
                connection.writer.write(data)
                await connection.writer.drain()
            connection.writer.close()
        except OSError:
            connection.writer.close()


def _altered(data: bytes, alter: Callable[[bytes], bytes], *, in_body: bool) -> tuple[bytes, bool]:
    """Change what belongs to the body, of the first response of a connection."""
    if in_body:
        return alter(data), True
    head, end, body = data.partition(b"\r\n\r\n")
    return head + end + alter(body), bool(end)


async def _read_request(connection: _Connection) -> Request | None:
    """Return the next request whole; None when the peer leaves instead."""
    try:
        head = await connection.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.pop("expect", "").lower() == "100-continue":
        connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        kept = [line for line in (start, *lines) if not line.lower().startswith("expect:")]
        head = "\r\n".join(kept).encode("latin-1") + b"\r\n\r\n"
    assert "transfer-encoding" not in headers, "requests in chunks are not passed on"
    body = await connection.reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = start.split(" ", 2)
    return Request(method, path, headers, head, body)


@asynccontextmanager
async def faulty_proxy(upstream_url: str) -> AsyncGenerator[FaultyProxy]:
    """Stand before ``http://host:port`` until the context is left."""
    proxy = FaultyProxy(urlsplit(upstream_url).netloc)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
