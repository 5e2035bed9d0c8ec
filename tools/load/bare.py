"""``bare``: the same calls by hand on asyncio's streams, and nothing else.

    python -m tools.load.bare < plan.json

No identity, no ranking, no checks, no records, no framework, no client library, no signature: embedding, as
many calls of the index as the service makes, the model's stream from AWS's framing to server-sent events.
What the service costs is measured against it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson

from tools.load.child import read_plan, run_child, say
from tools.load.stand_ins import SEARCHES

_PRELUDE = struct.Struct("!III")
_EMPTY_LINE = b"\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_HOST = b"host: stand-in\r\ncontent-type: application/json\r\n"


class Upstream:
    """Connections to the stand-ins, kept open and used again."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._idle:
            return self._idle.pop()
        return await asyncio.open_connection(self._host, self._port)

    def give_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._idle.append((reader, writer))

    async def call(self, path: bytes, body: bytes) -> bytes:
        """Return the body of a whole response."""
        reader, writer = await self.take()
        writer.write(_post(path, body))
        head = await reader.readuntil(_EMPTY_LINE)
        answer = await reader.readexactly(_content_length(head))
        self.give_back(reader, writer)
        return answer

    async def stream(self, path: bytes, body: bytes) -> AsyncIterator[bytes]:
        """Yield what each network read brings of a chunked body."""
        reader, writer = await self.take()
        writer.write(_post(path, body))
        await reader.readuntil(_EMPTY_LINE)
        rest = b""
        while True:
            rest += await reader.read(65536)
            data, rest, ended = _dechunked(rest)
            if data:
                yield data
            if ended:
                break
        self.give_back(reader, writer)


class Relay:
    """Answers questions, one after the other on each connection."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(_EMPTY_LINE)
                asked = orjson.loads(await reader.readexactly(_content_length(head)))
                await self._answer(asked["question"], writer)
        writer.close()

    async def _answer(self, question: str, writer: asyncio.StreamWriter) -> None:
        vector = await self._upstream.call(
            b"/endpoints/embedding/invocations", orjson.dumps({"inputs": [question]})
        )
        query = _query(question, vector[1:-1])
        found: list[Any] = [
            orjson.loads(await self._upstream.call(b"/bare/_search", query)) for _ in range(SEARCHES)
        ]
        passages = "\n\n".join(hit["_source"]["text"] for hit in found[-1]["hits"]["hits"])
        prompt = {"role": "user", "content": f"{passages}\n\nQuestion: {question}"}
        body = orjson.dumps({"messages": [prompt], "stream": True})
        writer.write(_STREAM_HEAD)
        frames, events = bytearray(), bytearray()
        async for data in self._upstream.stream(b"/endpoints/llm/invocations-response-stream", body):
            frames += data
            events += _payloads(frames)
            if sent := _relayed(events):
                writer.write(b"%x\r\n%s\r\n" % (len(sent), sent))
        writer.write(b"0\r\n\r\n")


def _query(question: str, vector: bytes) -> bytes:
    lexical = orjson.dumps({"match": {"text": question}})
    knn = b'{"knn":{"vector":{"vector":%s,"k":100}}}' % vector
    return b'{"size":5,"query":{"hybrid":{"queries":[%s,%s]}}}' % (lexical, knn)


def _post(path: bytes, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (path, _HOST, len(body), body)


def _content_length(head: bytes) -> int:
    start = head.lower().index(b"content-length:") + 15
    return int(head[start : head.index(b"\r\n", start)])


def _dechunked(buffer: bytes) -> tuple[bytes, bytes, bool]:
    """Return the data of the whole chunks, what is left over, and whether the last chunk came."""
    pieces: list[bytes] = []
    start = 0
    while (line_end := buffer.find(b"\r\n", start)) >= 0:
        size = int(buffer[start:line_end], 16)
        end = line_end + 2 + size
        if len(buffer) < end + 2:
            break
        if size == 0:
            return b"".join(pieces), b"", True
        pieces.append(buffer[line_end + 2 : end])
        start = end + 2
    return b"".join(pieces), buffer[start:], False


def _payloads(buffer: bytearray) -> bytes:
    """Take the whole messages out of the buffer and return their payloads, joined."""
    pieces: list[bytes] = []
    start = 0
    while len(buffer) - start >= _PRELUDE.size:
        total, headers, _ = _PRELUDE.unpack_from(buffer, start)
        if len(buffer) - start < total:
            break
        pieces.append(bytes(buffer[start + _PRELUDE.size + headers : start + total - 4]))
        start += total
    del buffer[:start]
    return b"".join(pieces)


def _relayed(events: bytearray) -> bytes:
    """Take the whole chat chunks out of the buffer and return their text as events of our own."""
    *whole, rest = bytes(events).split(b"\n\n")
    events[:] = rest
    pieces: list[bytes] = []
    for event in whole:
        if event == b"data: [DONE]":
            pieces.append(b"event: done\ndata: {}\n\n")
            continue
        chunk: Any = orjson.loads(event[6:])
        if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
            pieces.append(b"event: token\ndata: %s\n\n" % orjson.dumps({"text": text}))
    return b"".join(pieces)


async def main(plan: dict[str, Any]) -> None:
    host, port = str(plan["upstream"]).removeprefix("http://").split(":")
    relay = Relay(Upstream(host, int(port)))
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0, backlog=1024)
    say({"ready": True, "host": host, "port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


if __name__ == "__main__":
    run_child(main(read_plan()))
