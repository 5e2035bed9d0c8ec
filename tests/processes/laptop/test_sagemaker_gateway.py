"""The tests' SageMaker Runtime before a scripted container: AWS's own clients read what it writes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from assistant.process.aws.clients import open_client
from tests.fakes.sagemaker_gateway import sagemaker_gateway
from tests.fakes.scripted_http import Exchange, Script, ScriptedServer, head, scripted_http


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
        async with scripted_http(script) as gone:
            pass
        async with scripted_http(script) as container:
            endpoints = {"llm": container.url, "gone": gone.url}
            async with sagemaker_gateway(endpoints, cut_seed=5) as url:
                served = Served(url, container)
                yield served
                served.close_clients()

    return serving


# boto3 and aiobotocore read what the gateway writes, errors included.


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


async def test_boto3_gets_the_stream(serve: Serve) -> None:
    async with serve(stream) as served:
        client = served.boto3_client()

        def read() -> tuple[str, list[bytes]]:
            response = client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            with closing(response["Body"]) as body:
                return response["ContentType"], [event["PayloadPart"]["Bytes"] for event in body]

        content_type, parts = await asyncio.to_thread(read)

    assert content_type == "text/event-stream"
    assert b"".join(parts) == b"".join(STREAM)


async def test_aiobotocore_gets_the_stream(serve: Serve) -> None:
    async with (
        serve(stream) as served,
        runtime_client(endpoint_url=served.url) as client,
    ):
        response = await client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
        parts = [event["PayloadPart"]["Bytes"] async for event in response["Body"]]

    assert b"".join(parts) == b"".join(STREAM)


async def test_an_unknown_endpoint_is_a_validation_error(serve: Serve) -> None:
    async with serve(echo) as served:
        with pytest.raises(ClientError) as caught:
            await invoke(served.boto3_client(), EndpointName="nowhere")

    assert code_of(caught.value) == ("ValidationError", 400)
    assert re.fullmatch(
        r"Endpoint nowhere of account \d{12} not found\.", caught.value.response["Error"]["Message"]
    )


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


async def test_a_container_that_is_gone_is_service_unavailable(serve: Serve) -> None:
    async with serve(echo) as served:
        with pytest.raises(ClientError) as caught:
            await invoke(served.boto3_client(), EndpointName="gone")

    assert code_of(caught.value) == ("ServiceUnavailable", 503)


async def test_a_kept_connection_that_the_container_has_closed_is_replaced(serve: Serve) -> None:
    """llama.cpp and uvicorn close an idle connection after 5 s, perhaps just as a request goes."""
    served_on: list[int] = []

    async def script(exchange: Exchange) -> None:
        if exchange.connection == 0 and served_on:
            exchange.cut()
            return
        served_on.append(exchange.connection)
        await exchange.respond(200, b"{}")

    async with serve(script) as served:
        client = served.boto3_client()
        for _ in range(2):
            await invoke(client, EndpointName="llm")

    assert served_on == [0, 1]


async def test_a_container_that_hangs_up_is_an_internal_failure(serve: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.cut()

    async with serve(script) as served:
        with pytest.raises(ClientError) as caught:
            await invoke(served.boto3_client(), EndpointName="llm")

    assert code_of(caught.value) == ("InternalFailure", 500)


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


async def test_a_request_without_a_signature_is_403_in_aws_s_shape(serve: Serve) -> None:
    async with serve(echo) as served, httpx.AsyncClient(base_url=served.url) as client:
        response = await client.post("/endpoints/llm/invocations", content=b"{}")

    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert response.json() == {"Message": "Missing Authentication Token"}
    assert served.container.exchanges == []


async def test_a_body_over_the_limit_is_refused(serve: Serve) -> None:
    async with serve(echo) as served:
        client = served.boto3_client()
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(
                lambda: client.invoke_endpoint(EndpointName="llm", Body=b"x" * (6 * 1024 * 1024 + 1))
            )

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


async def test_health_needs_no_signature(serve: Serve) -> None:
    async with serve(echo) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/ping")).status_code == 200


# A client that leaves closes the container's connection at once.


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


# A hostile model server, and a caller who is not the service.


MIB = 1024 * 1024
PIECE = b"x" * MIB


class Endless:
    """A model server whose body never ends; it counts what the gateway took."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.sent = 0

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.write(head(self.status, length=None, Content_Type="application/json"))
        try:
            while True:
                await exchange.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                self.sent += len(PIECE)
        except ConnectionError:
            return


@pytest.mark.parametrize(
    ("status", "said", "most_bytes"),
    [
        (500, 'with message "xxx', 4 * MIB),
        (200, "The response is over 25,000,000 bytes.", 32 * MIB),
    ],
    ids=["error", "answer"],
)
async def test_of_an_answer_that_never_ends_a_bounded_part_is_read(
    serve: Serve, status: int, said: str, most_bytes: int
) -> None:
    container = Endless(status)
    async with serve(container) as served:
        with pytest.raises(ClientError) as caught:
            await invoke(served.boto3_client(), EndpointName="llm")

    assert code_of(caught.value) == ("ModelError", 424)
    assert said in str(caught.value)
    assert container.sent < most_bytes  # and what the sockets hold


async def test_a_stream_that_never_ends_is_cut_at_the_limit(serve: Serve) -> None:
    async with serve(Endless(200)) as served:
        client, sizes = served.boto3_client(), list[int]()

        def read() -> None:
            response = client.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            with closing(response["Body"]) as body:
                for event in body:
                    sizes.append(len(event["PayloadPart"]["Bytes"]))

        with pytest.raises(EventStreamError, match="over 25,000,000 bytes"):
            await asyncio.to_thread(read)
    assert 0 < sum(sizes) <= 25_000_000
