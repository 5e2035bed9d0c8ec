"""An HTTP server on a real socket that does, byte by byte, what a test's script says."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from tests.fakes.socket_server import socket_server


@dataclass
class Exchange:
    """One request, and the raw connection to answer it on."""

    connection: int
    """Number of the connection, from 0: two exchanges may share one."""
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str = "POST"

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole response; ``x_amzn_ErrorType`` is the header ``x-amzn-ErrorType``."""
        await self.write(head(status, length=len(body), **headers) + body)

    async def respond_in_chunks(self, *pieces: bytes, end: bool = True, **headers: str) -> None:
        await self.write(head(200, length=None, **headers))
        for piece in pieces:
            await self.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            await self.write(b"0\r\n\r\n")

    async def peer_left(self) -> None:
        """Wait until the peer closes the connection."""
        while await self.reader.read(65536):
            pass

    def cut(self) -> None:
        """Close the connection as a process does that ends."""
        self.writer.close()

    def reset(self) -> None:
        """Close the connection with RST, as a process does that dies."""
        peer: socket.socket = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedServer:
    url: str
    exchanges: list[Exchange] = field(default_factory=list[Exchange])


def head(status: int, *, length: int | None, **headers: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} Whatever", framing]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def scripted_http(script: Script) -> AsyncGenerator[ScriptedServer]:
    """Serve ``script`` for each request until the context is left."""
    served = ScriptedServer("")
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = next(numbers)
        while (exchange := await _read_request(reader, writer, connection)) is not None:
            served.exchanges.append(exchange)
            await script(exchange)

    async with socket_server(serve) as served.url:
        yield served


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
) -> Exchange | None:
    try:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = start.split(" ")
    return Exchange(connection, target, headers, body, reader, writer, method)
