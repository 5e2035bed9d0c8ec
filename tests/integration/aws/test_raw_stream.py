"""A streamed response gives the same bytes as AWS's own client reads."""

from __future__ import annotations

from assistant.aws.clients import open_client
from assistant.aws.event_stream import EventStreamParser
from assistant.local.gateway import CONTENT_TYPE, payload_part
from tests.fakes.scripted_http import Exchange
from tests.integration.aws.conftest import Runtime

PAYLOADS = ["Größe".encode(), b"", b"\x00" * 70_000, "😀".encode()[:2], "😀".encode()[2:]]


async def script(exchange: Exchange) -> None:
    stream = b"".join(map(payload_part, PAYLOADS))
    pieces = [stream[start : start + 777] for start in range(0, len(stream), 777)]
    await exchange.respond_in_chunks(*pieces, Content_Type=CONTENT_TYPE)


async def test_the_raw_bytes_hold_what_the_library_decodes(runtime: Runtime) -> None:
    async with runtime(script) as (client, server):
        opening = open_client("sagemaker-runtime", region="us-east-1", endpoint_url=server.url)
        async with opening as by_aws:
            response = await by_aws.invoke_endpoint_with_response_stream(EndpointName="llm", Body=b"{}")
            by_library = [event["PayloadPart"]["Bytes"] async for event in response["Body"]]

        stream = await client.invoke_with_stream("llm", body=b"{}", inference_id="0a1b")
        parser = EventStreamParser()
        by_hand = [payload async for data in stream.content.iter_any() for payload in parser.feed(data)]

    assert by_hand == by_library == PAYLOADS
