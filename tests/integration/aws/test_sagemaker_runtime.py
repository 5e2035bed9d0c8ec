"""Calls of the SageMaker Runtime, and what goes wrong on their way. The faults are made on the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from assistant.models.sagemaker import InvocationError, SageMakerRuntime
from assistant.process.aws import open_client
from tests.fakes.scripted_http import Exchange, Script, head, scripted_http
from tests.integration.aws.conftest import Runtime

LIMIT_S = 60.0
STREAMS_AT_ONCE = 300
OPENED_AT_ONCE = 20
"""Each connection must open within the client's 2 s, which hundreds at one instant miss on a busy machine."""


async def well(exchange: Exchange) -> None:
    await exchange.respond(200, b"[[1.0]]")


async def invoke(runtime: Runtime, script: Script) -> bytes:
    async with runtime(script) as (client, _), asyncio.timeout(LIMIT_S):
        return await client.invoke("embedding", body=b"{}")


async def failure_of(runtime: Runtime, script: Script) -> InvocationError:
    with pytest.raises(InvocationError) as caught:
        await invoke(runtime, script)
    return caught.value


async def test_a_call_is_sent_and_its_answer_read(runtime: Runtime) -> None:
    async with runtime(well) as (client, server):
        assert await client.invoke("embedding", body=b'{"inputs":["a"]}') == b"[[1.0]]"

    (exchange,) = server.exchanges
    assert (exchange.target, exchange.body) == ("/endpoints/embedding/invocations", b'{"inputs":["a"]}')
    assert exchange.headers["content-type"] == exchange.headers["accept"] == "application/json"
    assert "/us-east-1/sagemaker/aws4_request" in exchange.headers["authorization"]


async def test_a_streamed_call_names_its_schema_and_its_inference(runtime: Runtime) -> None:
    async with runtime(well) as (client, server):
        stream = await client.invoke_with_stream("llm", body=b"{}", inference_id="0a1b")
        stream.close()

    (exchange,) = server.exchanges
    assert exchange.target == "/endpoints/llm/invocations-response-stream"
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.headers["x-amzn-sagemaker-accept"] == "text/event-stream"
    assert exchange.headers["x-amzn-sagemaker-inference-id"] == "0a1b"


async def test_hundreds_of_streams_run_at_once(runtime: Runtime) -> None:
    running, all_running = 0, asyncio.Event()

    async def script(exchange: Exchange) -> None:
        nonlocal running
        await exchange.write(head(200, length=1))
        running += 1
        if running == STREAMS_AT_ONCE:
            all_running.set()
        await exchange.peer_left()

    async with runtime(script) as (client, _), asyncio.timeout(LIMIT_S):
        streams: list[aiohttp.ClientResponse] = []
        for first in range(0, STREAMS_AT_ONCE, OPENED_AT_ONCE):
            numbers = range(first, first + OPENED_AT_ONCE)
            calls = (client.invoke_with_stream("llm", body=b"{}", inference_id=str(one)) for one in numbers)
            streams += await asyncio.gather(*calls)
        await all_running.wait()
        for stream in streams:
            stream.close()


async def half_a_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.cut()


async def no_chunk_length(exchange: Exchange) -> None:
    await exchange.respond_in_chunks(b"[[1.", end=False)
    await exchange.write(b"zz\r\n0]]\r\n0\r\n\r\n")


async def half_a_body(exchange: Exchange) -> None:
    await exchange.write(head(200, length=100) + b"[[1.0")
    exchange.cut()


async def too_much(exchange: Exchange) -> None:
    await exchange.write(head(200, length=40_000_000))
    for _ in range(40):
        await exchange.write(b" " * 1_000_000)


FAULTS = [half_a_head, no_chunk_length, half_a_body, too_much]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_is_an_error_after_one_attempt(runtime: Runtime, fault: Script) -> None:
    async with runtime(fault) as (client, server), asyncio.timeout(LIMIT_S):
        with pytest.raises(InvocationError):
            await client.invoke("embedding", body=b"{}")

    assert len(server.exchanges) == 1


async def test_a_redirect_is_not_followed(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(307, b"", Location=exchange.target)

    assert (await failure_of(runtime, script)).code == "status 307"


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"x_amzn_ErrorType": "ThrottlingException"}, b"{}", "ThrottlingException"),
        ({"x_amzn_ErrorType": "ThrottlingException:http://internal/"}, b"", "ThrottlingException"),
        ({}, b'{"__type":"com.amazon#ServiceUnavailable"}', "ServiceUnavailable"),
        ({}, b"<html>", "status 503"),
    ],
)
async def test_a_refusal_is_named_by_its_code(
    runtime: Runtime, headers: dict[str, str], body: bytes, code: str
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(503, body, **headers)

    assert str(await failure_of(runtime, script)) == code


async def test_a_container_s_error_is_in_the_failure(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        body = {"OriginalStatusCode": 413, "OriginalMessage": '{"error":"…","error_type":"Validation"}'}
        await exchange.respond(424, orjson.dumps(body), x_amzn_ErrorType="ModelError")

    failure = await failure_of(runtime, script)
    assert (failure.container_status, str(failure)) == (413, "ModelError 413 Validation")


async def test_a_connection_that_the_peer_closed_while_idle_is_not_used_again(runtime: Runtime) -> None:
    closed = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await well(exchange)
        exchange.cut()
        closed.set()

    async with runtime(script) as (client, server), asyncio.timeout(LIMIT_S):
        for _ in range(3):
            assert await client.invoke("embedding", body=b"{}") == b"[[1.0]]"
            await closed.wait()
            await asyncio.sleep(0.02)  # the peer's end takes a turn of the loop to arrive
            closed.clear()

    assert [exchange.connection for exchange in server.exchanges] == [0, 1, 2]


async def test_what_may_have_been_handled_is_not_sent_again(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        if len(server.exchanges) == 1:
            await well(exchange)
        else:
            exchange.cut()  # the same connection, after the request was read

    async with runtime(script) as (client, server), asyncio.timeout(LIMIT_S):
        await client.invoke("embedding", body=b"{}")
        with pytest.raises(InvocationError):
            await client.invoke("embedding", body=b"{}")

    assert [exchange.connection for exchange in server.exchanges] == [0, 0]


async def test_an_idle_connection_is_closed_before_the_peer_would() -> None:
    left = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await well(exchange)
        await exchange.peer_left()
        left.set()

    async with _runtime_at(script, keep_alive_s=0.05) as (client, _), asyncio.timeout(LIMIT_S):
        await client.invoke("embedding", body=b"{}")
        await left.wait()


@asynccontextmanager
async def _runtime_at(script: Script, *, keep_alive_s: float) -> AsyncGenerator[tuple[SageMakerRuntime, Any]]:
    async with (
        scripted_http(script) as server,
        open_client("sagemaker-runtime", region="us-east-1", endpoint_url=server.url) as client,
    ):
        runtime = SageMakerRuntime(client, keep_alive_s=keep_alive_s)
        try:
            yield runtime, server
        finally:
            await runtime.close()
