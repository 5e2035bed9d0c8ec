"""One call to DynamoDB, and what goes wrong on its way. The faults are made on the socket."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from assistant.domain.errors import RecordsUnavailableError
from assistant.process.aws import open_client
from assistant.stores.dynamodb_table import DynamoDbCalls, DynamoDbRefusal, DynamoDbTable
from assistant.stores.table import ABSENT, keyed
from tests.fakes.scripted_http import Exchange, Script, scripted_http

ATTEMPTS = 3
Answer = Callable[[Exchange], Any]


async def well(exchange: Exchange) -> None:
    await exchange.respond(200, b'{"Item":{}}')


async def test_a_call_is_sent_and_its_answer_read() -> None:
    async with _calls(well) as (calls, exchanges):
        assert await calls.call("GetItem", {"TableName": "t"}) == {"Item": {}}
    (exchange,) = exchanges
    assert orjson.loads(exchange.body) == {"TableName": "t"}
    assert exchange.headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert exchange.headers["content-type"] == "application/x-amz-json-1.0"


async def test_calls_share_connections() -> None:
    async with _calls(well) as (calls, exchanges):
        for _ in range(3):
            await calls.call("GetItem", {})
    assert {exchange.connection for exchange in exchanges} == {0}


async def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with _calls_to(url) as calls:
            with pytest.raises(RecordsUnavailableError):
                await calls.call("GetItem", {})


async def stall(exchange: Exchange) -> None:
    await exchange.peer_left()


async def reset_midway(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    exchange.reset()


async def cut(exchange: Exchange) -> None:
    exchange.cut()


async def internal_error(exchange: Exchange) -> None:
    await exchange.respond(500, _refusal("InternalServerError"))


async def garbage(exchange: Exchange) -> None:
    await exchange.respond(200, b"\x00\xff garbage")


async def wrong_checksum(exchange: Exchange) -> None:
    await exchange.respond(200, b'{"Item":{}}', x_amz_crc32=str(zlib.crc32(b"another")))


async def throttled(exchange: Exchange) -> None:
    await exchange.respond(400, _refusal("ThrottlingException"))


FAULTS = [
    *(stall, reset_midway, cut, internal_error),
    *(garbage, wrong_checksum, throttled),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_that_lasts_is_an_error_after_three_attempts(fault: Script) -> None:
    async with _calls(fault) as (calls, exchanges):
        with pytest.raises(RecordsUnavailableError):
            await asyncio.wait_for(calls.call("GetItem", {}), 10)
    assert len(exchanges) == ATTEMPTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_that_passes_is_not_noticed(fault: Script) -> None:
    first: list[Exchange] = []

    async def script(exchange: Exchange) -> None:
        first.append(exchange)
        await (fault if len(first) == 1 else well)(exchange)

    async with _calls(script) as (calls, _):
        assert await calls.call("GetItem", {}) == {"Item": {}}


async def test_a_refusal_is_not_repeated() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(400, _refusal("AccessDeniedException"))

    async with _calls(script) as (calls, exchanges):
        with pytest.raises(DynamoDbRefusal) as refused:
            await calls.call("PutItem", {})
        assert refused.value.code == "AccessDeniedException"
        with pytest.raises(RecordsUnavailableError):
            await calls.ask("PutItem", {})
    assert len(exchanges) == 2


async def test_a_clock_that_is_wrong_is_put_right() -> None:
    """A signature is refused from 5 minutes of difference on; the answer's Date tells the right time."""
    right = datetime.now(UTC) + timedelta(hours=3)

    async def script(exchange: Exchange) -> None:
        signed = datetime.strptime(exchange.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(signed - right) > timedelta(minutes=5):
            body = _refusal("InvalidSignatureException")
            await exchange.respond(400, body, Date=format_datetime(right, usegmt=True))
        else:
            await well(exchange)

    async with _calls(script) as (calls, exchanges):
        for _ in range(2):
            assert await calls.call("GetItem", {}) == {"Item": {}}
    assert len(exchanges) == 3


async def test_a_transaction_whose_response_is_lost_is_sent_again_as_the_same() -> None:
    """With another token DynamoDB would find the rows that it wrote, and refuse the second one."""
    sent: list[Exchange] = []

    async def script(exchange: Exchange) -> None:
        sent.append(exchange)
        await (reset_midway if len(sent) == 1 else well)(exchange)

    async with (
        scripted_http(script) as server,
        open_client("dynamodb", region="us-east-1", endpoint_url=server.url) as client,
    ):
        table = DynamoDbTable(client, name="t")
        rows = [(keyed(("p", name)), ABSENT) for name in ("first", "second")]
        try:
            assert await table.transact(rows)
        finally:
            await table.close()
    tokens = [orjson.loads(exchange.body).get("ClientRequestToken") for exchange in server.exchanges]
    assert tokens == [tokens[0]] * 2
    assert tokens[0]


def _refusal(code: str) -> bytes:
    return orjson.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"})


@asynccontextmanager
async def _calls(script: Script) -> AsyncGenerator[tuple[DynamoDbCalls, list[Exchange]]]:
    async with scripted_http(script) as server, _calls_to(server.url) as calls:
        yield calls, server.exchanges


@asynccontextmanager
async def _calls_to(url: str) -> AsyncGenerator[DynamoDbCalls]:
    async with open_client("dynamodb", region="us-east-1", endpoint_url=url) as client:
        calls = DynamoDbCalls(client, unavailable=RecordsUnavailableError, attempt_timeout_s=0.3)
        try:
            yield calls
        finally:
            await calls.close()
