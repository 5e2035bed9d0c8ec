"""A service made of bytes on a socket, as one or something broken would send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from assistant.client import AssistantClient, Patience
from tests.fakes.socket_server import socket_server

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
STARTED = (
    b'id: a:1\nevent: started\ndata: {"answer_id": "a", "conversation_id": "c", "model": "m",'
    b' "index_version": "v", "trace_id": null, "later": 1}\n\n'
)
DONE = (
    b'id: a:9\nevent: done\ndata: {"finish_reason": "stop", "citations": [], "usage": {}, "timings_ms": {},'
    b' "reason": null}\n\n'
)


def token(sequence: int, text: str) -> bytes:
    return b'id: a:%d\nevent: token\ndata: {"text": "%s"}\n\n' % (sequence, text.encode())


def answer(status: int, body: object, *, headers: str = "") -> bytes:
    data = orjson.dumps(body)
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + data


def problem(status: int, code: str, *, retryable: bool, headers: str = "") -> bytes:
    body = {"title": "T", "status": status, "detail": "Ask later.", "code": code, "retryable": retryable}
    return answer(status, body, headers=headers)


@dataclass
class Served:
    """What each request gets, in order, the last one again and again; and what was asked."""

    client: AssistantClient
    requests: list[bytes] = field(default_factory=list[bytes])

    def headers(self, number: int) -> dict[str, str]:
        lines = self.requests[number].decode().lower().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def line(self, number: int) -> str:
        return self.requests[number].decode().split(" HTTP")[0]


@asynccontextmanager
async def serving(*responses: Sequence[bytes], patience: Patience | None = None) -> AsyncIterator[Served]:
    """Serve each response in its parts, then close the connection."""
    requests: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for part in responses[min(len(requests), len(responses)) - 1]:
            writer.write(part)
            await writer.drain()
        writer.close()

    quick = patience or Patience(attempts=3, first_wait_s=0.001, longest_wait_s=2.0)
    async with (
        socket_server(respond) as url,
        AssistantClient(url, token="secret", patience=quick) as client,
    ):
        yield Served(client, requests)
