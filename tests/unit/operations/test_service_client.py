"""The client against real HTTP: bytes on a socket, as a service or something broken would send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from assistant.answering.events import AnswerEvent, Done, Started, Token
from assistant.domain.errors import DependencyError
from assistant.operations.service_client import RefusedByServiceError, ServiceClient

pytestmark = pytest.mark.loopback

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
STARTED = (
    b'id: a:1\nevent: started\ndata: {"answer_id": "a", "conversation_id": "c", "model": "m",'
    b' "index_version": "v", "trace_id": null, "later": 1}\n\n'
)
DONE = (
    b'event: done\ndata: {"finish_reason": "stop", "citations": [], "usage": {}, "timings_ms": {},'
    b' "reason": null}\n\n'
)


@asynccontextmanager
async def serving(*parts: bytes, seen: list[bytes] | None = None) -> AsyncIterator[ServiceClient]:
    """A server that answers any request with these parts, then closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield ServiceClient(f"http://127.0.0.1:{port}", "secret")


async def events_of(client: ServiceClient) -> list[AnswerEvent]:
    async with aclosing(client.ask("Why?")) as events:
        return [event async for event in events]


async def test_events_come_in_order_and_unknown_ones_and_fields_are_passed_over() -> None:
    parts = (
        STREAM,
        STARTED,
        b": alive\n\nevent: element\ndata: {}\n\n",
        b'event: token\ndata: {"te',
        b'xt": "Hi"}\n\n',
    )
    async with serving(*parts, DONE) as client:
        events = await events_of(client)
    assert [type(event) for event in events] == [Started, Token, Done]
    assert events[1] == Token("Hi")


async def test_the_token_goes_with_the_request() -> None:
    seen: list[bytes] = []
    async with serving(STREAM, DONE, seen=seen) as client:
        await events_of(client)
    assert b"authorization: bearer secret" in seen[0].lower()
    assert b"accept: text/event-stream" in seen[0].lower()


async def test_a_problem_before_the_first_event_is_said_in_its_own_words() -> None:
    body = (
        b'{"type": "about:blank", "title": "Too many", "status": 429, "detail": "Ask later.",'
        b' "code": "overloaded", "retryable": true}'
    )
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(head, body) as client:
        with pytest.raises(RefusedByServiceError, match=r"Ask later\. \(overloaded\)"):
            await events_of(client)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"garbage\r\n\r\n",),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\noops!",),
        (STREAM.replace(b"Connection: close", b"Content-Length: 999"), STARTED),
        (STREAM, b"event: done\ndata: {}\n\n"),
        (STREAM, b"event: token\ndata: {text\n\n"),
    ],
    ids=[
        "closed",
        "not HTTP",
        "no problem body",
        "cut in mid-stream",
        "event without fields",
        "token that is no JSON",
    ],
)
async def test_whatever_else_comes_is_a_dependency_that_failed(parts: tuple[bytes, ...]) -> None:
    async with serving(*parts) as client:
        with pytest.raises(DependencyError):
            await events_of(client)


async def test_nothing_listens_there() -> None:
    async with serving() as client:
        pass
    with pytest.raises(DependencyError, match="does not answer"):
        await events_of(client)
