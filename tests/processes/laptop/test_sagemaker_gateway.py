"""The tests' SageMaker Runtime before a scripted container: AWS's own clients read what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from assistant.process.aws import open_client
from tests.fakes.sagemaker_gateway import sagemaker_gateway
from tests.fakes.scripted_http import Exchange, Script, ScriptedServer, scripted_http


@dataclass(frozen=True)
class Served:
    url: str
    container: ScriptedServer
    _clients: list[Any] = field(default_factory=list[Any])

    def boto3_client(self) -> Any:
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="AKIDLOCAL",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60, connect_timeout=60),
        )
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


Serve = Callable[[Script], AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def serving(script: Script) -> AsyncGenerator[Served]:
        async with (
            scripted_http(script) as container,
            sagemaker_gateway({"llm": container.url}) as url,
        ):
            served = Served(url, container)
            yield served
            served.close_clients()

    return serving


STREAM = ["data: Größe\n\n".encode(), "data: 😀\n\n".encode(), b"data: [DONE]\n\n"]


async def echo(exchange: Exchange) -> None:
    custom = exchange.headers.get("x-amzn-sagemaker-custom-attributes", "")
    await exchange.respond(
        200,
        exchange.body,
        Content_Type="application/json",
        X_Amzn_SageMaker_Custom_Attributes=f"got:{custom}",
    )


async def stream(exchange: Exchange) -> None:
    await exchange.respond_in_chunks(*STREAM, Content_Type="text/event-stream")


async def failing(exchange: Exchange) -> None:
    await exchange.respond(429, b'{"error":{"code":"queue_full"}}', Content_Type="application/json")


runtime_client = partial(
    open_client, "sagemaker-runtime", region="us-east-1", access_key_id="AKIDLOCAL", secret_access_key="x"
)


async def invoke(client: Any, **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(lambda: client.invoke_endpoint(Body=b"{}", **arguments))


def code_of(error: ClientError) -> tuple[str, int]:
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


async def test_boto3_gets_body_variant_and_attributes(serve: Serve) -> None:
    async with serve(echo) as served:
        client = served.boto3_client()
        response = await invoke(
            client,
            EndpointName="llm",
            ContentType="application/json",
            CustomAttributes="a=1",
            InferenceId="id-1",
        )
        body = await asyncio.to_thread(response["Body"].read)

    assert body == b"{}"
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["CustomAttributes"] == "got:a=1"
    assert response["ContentType"] == "application/json"
    container = served.container.exchanges[0]
    assert container.target == "/invocations"
    assert container.headers["x-amzn-sagemaker-inference-id"] == "id-1"
    assert response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-sagemaker-inference-id"] == "id-1"


async def test_aiobotocore_gets_the_stream(serve: Serve) -> None:
    async with (
        serve(stream) as served,
        runtime_client(endpoint_url=served.url) as client,
    ):
        response = await client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
        parts = [event["PayloadPart"]["Bytes"] async for event in response["Body"]]

    assert b"".join(parts) == b"".join(STREAM)


@pytest.mark.parametrize("operation", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
async def test_a_container_s_error_is_a_model_error_with_the_original(serve: Serve, operation: str) -> None:
    async with serve(failing) as served:
        call = getattr(served.boto3_client(), operation)
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(lambda: call(EndpointName="llm", Body=b"{}"))

    assert code_of(caught.value) == ("ModelError", 424)
    response: dict[str, Any] = caught.value.response  # pyright: ignore[reportAssignmentType]
    assert response["OriginalStatusCode"] == 429
    assert response["OriginalMessage"] == '{"error":{"code":"queue_full"}}'
    assert response["Message"].startswith("Received client error (429) from primary with message")


async def test_a_stream_that_the_container_cuts_is_a_model_stream_error(serve: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(*STREAM[:1], end=False)
        exchange.cut()

    parts: list[bytes] = []

    async with serve(script) as served:
        client = served.boto3_client()

        def read() -> None:
            response = client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            with closing(response["Body"]) as body:
                for event in body:
                    parts.append(event["PayloadPart"]["Bytes"])

        with pytest.raises(EventStreamError, match=r"ModelStreamError.*closed its stream early"):
            await asyncio.to_thread(read)

    assert b"".join(parts) == STREAM[0]


LEAVING_LIMIT_S = 20.0


@pytest.mark.parametrize("begun", [False, True], ids=["before the response", "in mid-stream"])
async def test_the_container_sees_its_connection_close(serve: Serve, begun: bool) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        asked.set()
        if begun:
            await exchange.respond_in_chunks(b"data: a\n\n", end=False)
        await exchange.peer_left()
        left.set()

    async with (
        serve(script) as served,
        runtime_client(endpoint_url=served.url) as client,
    ):
        if begun:
            response = await client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            response["Body"].close()
        else:
            call = client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            task = asyncio.ensure_future(call)
            await asked.wait()
            task.cancel()
            await asyncio.wait({task})
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await left.wait()
