"""The one timer of a stream: it ends what is silent or too late, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import DeadlineExceededError, GenerationInterruptedError
from assistant.models.sagemaker import InvocationError, SageMakerGenerator
from tests.fakes.sagemaker_gateway import CONTENT_TYPE, payload_part
from tests.fakes.scripted_http import Exchange, Script, head
from tests.integration.aws.conftest import Runtime
from tests.integration.aws.test_generator_streams import END, REQUEST, token

TOKENS = 24


def flowing(*, every_s: float, tokens: int) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(end=False, Content_Type=CONTENT_TYPE)
        for part in [payload_part(token("x"))] * tokens + [payload_part(END)]:
            await asyncio.sleep(every_s)  # the pace of a model
            await exchange.write(b"%x\r\n%b\r\n" % (len(part), part))
        await exchange.write(b"0\r\n\r\n")

    return script


async def test_a_stream_may_last_longer_than_the_longest_silence(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(flowing(every_s=0.1, tokens=TOKENS)) as (client, _):
        generator = SageMakerGenerator(client, endpoint="llm", stall_timeout_s=2.0)
        async with generator.stream(REQUEST, deadline=deadline) as stream:
            text = "".join([delta.text async for delta in stream])

    assert text == "x" * TOKENS


async def test_the_deadline_ends_a_stream_that_still_flows(runtime: Runtime) -> None:
    deadline = Deadline.after(0.5, clock=SystemClock())

    async def read() -> None:
        async with SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream:
            async for _delta in stream:
                pass

    async with runtime(flowing(every_s=0.02, tokens=1000)) as (client, _):
        with pytest.raises(DeadlineExceededError):
            await read()


async def test_time_between_two_reads_is_no_silence(runtime: Runtime, deadline: Deadline) -> None:
    async with runtime(flowing(every_s=0.0, tokens=2)) as (client, _):
        generator = SageMakerGenerator(client, endpoint="llm", stall_timeout_s=1.0)
        async with generator.stream(REQUEST, deadline=deadline) as stream:
            text = ""
            async for delta in stream:
                text += delta.text
                await asyncio.sleep(1.2)  # the answer's reader is slow, not the model

    assert text == "xx"


async def test_silence_after_a_long_flow_is_noticed(runtime: Runtime, deadline: Deadline) -> None:
    async def script(exchange: Exchange) -> None:
        parts = [payload_part(token("x"))] * 3
        await exchange.respond_in_chunks(*parts, end=False, Content_Type=CONTENT_TYPE)
        await exchange.peer_left()

    async with runtime(script) as (client, _):
        generator = SageMakerGenerator(client, endpoint="llm", stall_timeout_s=1.0)
        async with generator.stream(REQUEST, deadline=deadline) as stream:
            deltas = aiter(stream)
            await anext(deltas)
            await asyncio.sleep(1.2)  # the timer fired once while nobody read
            with pytest.raises(GenerationInterruptedError, match="silent"):
                async for _delta in deltas:
                    pass


async def test_a_stream_far_longer_than_its_tokens_is_ended(runtime: Runtime, deadline: Deadline) -> None:
    sent = list[int]()

    async def endless(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(end=False, Content_Type=CONTENT_TYPE)
        part = payload_part(token("x" * 1000))
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.write(b"%x\r\n%b\r\n" % (len(part), part))
                sent.append(len(part))

    async def read() -> None:
        async with SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream:
            async for _delta in stream:
                pass

    async with runtime(endless) as (client, _):
        with pytest.raises(GenerationInterruptedError, match="longer than the tokens"):
            await read()
    assert sum(sent) < 16 * 1024 * 1024  # and what the sockets hold


async def test_of_an_error_that_never_ends_a_bounded_part_is_read(runtime: Runtime) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.write(head(500, length=None, Content_Type="application/json"))
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async with runtime(endless) as (client, _):
        with pytest.raises(InvocationError, match="too large"):
            await client.invoke("llm", body=b"{}")
