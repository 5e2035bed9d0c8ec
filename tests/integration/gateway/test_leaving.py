"""A client that leaves closes the container's connection at once."""

from __future__ import annotations

import asyncio

import pytest

from assistant.aws.clients import open_client
from tests.fakes.scripted_http import Exchange
from tests.integration.gateway.conftest import Serve

LEAVING_LIMIT_S = 1.0


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
        open_client(
            "sagemaker-runtime",
            region="us-east-1",
            endpoint_url=served.url,
            access_key_id="AKIDLOCAL",
            secret_access_key="x",
        ) as client,
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
