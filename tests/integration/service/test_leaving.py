"""A client that leaves, cancels or does not read: the endpoint's connection, the record, the places."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from assistant.tenant.deployed_names import ANSWER_ENDED, FINISH_REASON, FIRST_TOKEN_MS
from tests.stage.running_service import (
    TWO_SENTENCES,
    RunningService,
    events_of,
    eventually,
    service_of_two,
)
from tests.stage.tenant_stores import stored_bodies

STREAM = "text/event-stream"
ENDPOINT_CLOSES_WITHIN_S = 8.0
"""Before the limit of 10 s on a first token, which would close it too."""
VECTORS_CLOSE_WITHIN_S = 3.5
"""Before their limit of 4 s."""
SHELVES = [
    [f"{chr(97 + shelf // 26)}{chr(97 + shelf % 26)}{chr(97 + box)}{'o' * 100}" for box in range(12)]
    for shelf in range(60)
]
"""Sixty sentences of twelve words of a hundred letters: few passages hold them all."""
LONG_DOCUMENT = " ".join(f"The shelf {' '.join(boxes)}." for boxes in SHELVES)
LONG_ANSWER = [f"The {''.join(letters)}. " for letters in product("abcdefghijklm", repeat=3)]
"""2,197 short sentences, whose events are some 900 kB."""


@pytest.fixture
def service(service: RunningService) -> RunningService:
    """Its model writes two sentences, so that a reader can leave between them."""
    service.sagemaker.texts = TWO_SENTENCES
    return service


@asynccontextmanager
async def asking(
    service: RunningService, *, accept: str = STREAM, is_slow: bool = False
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Ask on a raw socket, so that a test decides what is read and when the client leaves.

    A slow client holds some 50 kB of what it was sent and does not read.
    """
    host, port = service.url.removeprefix("http://").split(":")
    raw = socket.socket()
    if is_slow:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=16_384)
    body = orjson.dumps({"question": "How long is the wait?"})
    headers = service.headers(accept=accept) | {"host": host, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /v1/answers HTTP/1.1\r\n{head}\r\n".encode() + body)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def leaves(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_leaving_before_the_embedding_closes_that_call(service: RunningService) -> None:
    service.sagemaker.embedding_fault = "silent"
    async with asking(service) as (_, writer):
        call = await service.sagemaker.embedding()
        await leaves(writer)
        await asyncio.wait_for(call.left.wait(), VECTORS_CLOSE_WITHIN_S)


async def test_questions_of_one_tenant_hold_nothing_up_for_another(tmp_path: Path) -> None:
    """Two are prepared at a time; a third waits for its turn, and its reader may leave meanwhile."""
    async with service_of_two(tmp_path) as service, asyncio.TaskGroup() as asking:
        service.sagemaker.embedding_fault = "silent"
        first = [asking.create_task(service.ask(agent=agent)) for agent in ("ann", "bob")]
        await service.sagemaker.embedding(2)
        third = asking.create_task(service.ask(agent="cy"))
        service.sagemaker.embedding_fault = "none"
        assert (await service.ask(tenant="pharmacy")).status_code == 200
        assert {call.endpoint for call in service.sagemaker.embeddings[2:]} == {"pharmacy-embedding"}
        for task in first:
            task.cancel()
        assert (await third).status_code == 200


@pytest.mark.parametrize("accept", [STREAM, "application/json"])
async def test_leaving_before_the_first_byte_closes_the_generation(
    service: RunningService, accept: str
) -> None:
    service.sagemaker.generation_fault = "silent"
    async with asking(service, accept=accept) as (_, writer):
        call = await service.sagemaker.generation()
        await leaves(writer)
        await asyncio.wait_for(call.left.wait(), ENDPOINT_CLOSES_WITHIN_S)


@pytest.mark.parametrize("accept", [STREAM, "application/json"])
async def test_leaving_in_mid_stream_closes_the_generation(service: RunningService, accept: str) -> None:
    service.sagemaker.stall_after = 2
    async with asking(service, accept=accept) as (reader, writer):
        call = await service.sagemaker.generation()
        if accept == STREAM:
            await reader.readuntil(b"event: token")
        await leaves(writer)
        await asyncio.wait_for(call.left.wait(), ENDPOINT_CLOSES_WITHIN_S)


async def test_the_line_of_an_ended_answer_says_how_it_ended_and_when_it_began(
    service: RunningService,
) -> None:
    """Metric filters of the deployment count these very fields."""
    with capture_logs() as logged:
        async with asking(service) as (reader, _):
            await reader.readuntil(b"event: done")
        await service.idle()
        await eventually(lambda: _ended(logged))
    (line,) = [line for line in logged if line["event"] == ANSWER_ENDED]
    assert line[FINISH_REASON] == "stop"
    assert 0 <= line[FIRST_TOKEN_MS] <= line["took_ms"]


async def _ended(logged: Sequence[Mapping[str, Any]]) -> bool:
    return any(line["event"] == "answer_ended" for line in logged)


async def test_an_answer_whose_reader_left_is_recorded_as_such(service: RunningService) -> None:
    service.sagemaker.stall_after = 2
    async with asking(service) as (reader, writer):
        await reader.readuntil(b"event: token")
        await leaves(writer)
    records = service.tenants["clinic"].answering.records
    found: list[Any] = []

    async def recorded() -> bool:
        found[:] = await _all_records(service)
        return bool(found)

    await eventually(recorded)
    assert [record["outcome"] for record in found] == ["disconnected"]
    assert await records.get_answer(found[0]["answer_id"]) is not None


async def _all_records(service: RunningService, tenant: str = "clinic") -> list[dict[str, Any]]:
    file = service.state_dir / "tenants" / tenant / "records.sqlite"
    return stored_bodies(file, partition="answer#*", sort="answer") if file.exists() else []


async def test_cancelling_ends_the_stream_and_the_generation_at_once(service: RunningService) -> None:
    service.sagemaker.stall_after = 2
    async with asking(service) as (reader, _):
        answer_id = await started(reader)
        call = await service.sagemaker.generation()
        await reader.readuntil(b"event: token")
        response = await service.call("DELETE", f"/v1/answers/{answer_id}")
        assert response.status_code == 204
        await asyncio.wait_for(call.left.wait(), ENDPOINT_CLOSES_WITHIN_S)
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
        assert b"event: error" in rest
        assert b'"code":"cancelled"' in rest
    records = await _all_records(service)
    assert [(record["answer_id"], record["outcome"]) for record in records] == [(answer_id, "cancelled")]


async def test_nobody_else_cancels_a_running_answer(service: RunningService) -> None:
    service.sagemaker.stall_after = 2
    async with asking(service) as (reader, _):
        answer_id = await started(reader)
        call = await service.sagemaker.generation()
        never = await service.call("DELETE", "/v1/answers/never", agent="bob")
        for headers in (service.headers("bob"), service.headers(tenant="pharmacy")):
            response = await service.client.delete(f"/v1/answers/{answer_id}", headers=headers)
            assert (response.status_code, response.content) == (404, never.content)
        assert not call.left.is_set()


async def started(reader: asyncio.StreamReader) -> str:
    await reader.readuntil(b"event: started\ndata: ")
    return orjson.loads(await reader.readuntil(b"\n"))["answer_id"]


async def test_a_slow_reader_holds_nothing_up_and_gets_all_of_the_text(service: RunningService) -> None:
    await service.know("wait", LONG_DOCUMENT)
    service.sagemaker.texts = LONG_ANSWER
    async with asking(service, is_slow=True) as (reader, _):
        await eventually_recorded(service)  # the answer is whole before its reader has read a tenth of it
        seen = bytearray()
        while b"\n\n" not in seen.partition(b"event: done")[2]:
            seen += await asyncio.wait_for(reader.read(2**20), 60)
    events = events_of(_unchunked(bytes(seen)).decode())
    tokens = [data["text"] for name, data in events if name == "token"]
    [record] = await _all_records(service)
    assert "".join(tokens) == record["text"] == "".join(LONG_ANSWER).strip()


async def eventually_recorded(service: RunningService) -> None:
    async def recorded() -> bool:
        return bool(await _all_records(service))

    await eventually(recorded, within_s=60)


def _unchunked(raw: bytes) -> bytes:
    body = raw.partition(b"\r\n\r\n")[2]
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
