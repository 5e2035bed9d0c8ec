"""A TCP relay between the browser and the service. A test resets connections as a broken network does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 65_536
_LIMIT_S = 10.0


class _Link:
    """A client's connection and the matching connection to the service."""

    def __init__(self, client: asyncio.StreamWriter, service: asyncio.StreamWriter) -> None:
        self.client = client
        self.service = service

    def abort(self) -> None:
        """Reset both connections."""
        self.client.transport.abort()
        self.service.transport.abort()


class Front:
    """``port`` is where clients connect; ``to_port`` is the service's."""

    def __init__(self, *, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None

    def cut(self) -> None:
        """Reset every open connection."""

        async def cut() -> None:
            for link in tuple(self._links):
                link.abort()

        self._run(cut())

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in tuple(self._links):
            link.abort()

    @contextmanager
    def running(self) -> Iterator[Front]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            self._run(self.start())
            yield self
        finally:
            self._run(self.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(timeout=_LIMIT_S)
            self._loop.close()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_service, to_service = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:  # the service is down
            writer.transport.abort()
            return
        link = _Link(writer, to_service)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward_requests(reader, link))
                group.create_task(self._forward_answers(from_service, link))
        finally:
            link.abort()
            self._links.discard(link)

    async def _forward_requests(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                link.service.write(piece)
                await link.service.drain()
        link.abort()

    async def _forward_answers(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                link.client.write(piece)
                await link.client.drain()
            else:
                link.client.close()  # all of it was sent
                return
        link.abort()
