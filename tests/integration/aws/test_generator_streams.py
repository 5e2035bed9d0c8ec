"""The generator against a socket that misbehaves: each fault is the error that the port names.

Leaving closes the endpoint's connection at once: the only thing that stops a generation there. One timer ends
a stream that is silent or too late, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib

import orjson
import pytest

from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from assistant.models.sagemaker import InvocationError, SageMakerGenerator, SageMakerRuntime
from assistant.stores.ports import ChatMessage, GenerationDelta, GenerationRequest
from tests.fakes.sagemaker_gateway import CONTENT_TYPE, payload_part, stream_exception
from tests.fakes.scripted_http import Exchange, Script, head, scripted_http
from tests.integration.aws.conftest import Runtime

REQUEST = GenerationRequest(
    (ChatMessage("user", "What is code 79?"),), max_tokens=20, temperature=0.0, seed=7
)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def sse(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else orjson.dumps(data)) + b"\n\n"


def token(text: str, finish_reason: str | None = None) -> bytes:
    return sse({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]})


FINISH = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
END = FINISH + sse({"choices": [], "usage": USAGE}) + sse(b"[DONE]")


async def whole(exchange: Exchange) -> None:
    parts = map(payload_part, [token("Refill "), token("too soon"), END])
    await exchange.respond_in_chunks(*parts, Content_Type=CONTENT_TYPE)


def broken(*pieces: bytes, reset: bool = False) -> Script:
    """Send pieces of a streamed response, then close the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(*pieces, end=False, Content_Type=CONTENT_TYPE)
        if reset:
            await asyncio.sleep(0.05)  # a reset discards what the peer has not read yet
            exchange.reset()
        else:
            exchange.cut()

    return script


def ended(*pieces: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(*pieces, Content_Type=CONTENT_TYPE)

    return script


async def silent_after(exchange: Exchange, *pieces: bytes) -> None:
    await exchange.respond_in_chunks(*pieces, end=False, Content_Type=CONTENT_TYPE)
    await exchange.peer_left()


async def read_all(runtime: Runtime, script: Script, **limits: float) -> list[GenerationDelta]:
    deadline = Deadline.after(limits.pop("deadline_s", 20.0), clock=SystemClock())
    async with runtime(script) as (client, _):
        generator = SageMakerGenerator(client, endpoint="llm", **limits)
        async with generator.stream(REQUEST, deadline=deadline) as stream:
            return [delta async for delta in stream]


async def test_text_comes_as_deltas_and_the_last_has_reason_and_usage(runtime: Runtime) -> None:
    deltas = await read_all(runtime, whole)

    assert "".join(delta.text for delta in deltas) == "Refill too soon"
    assert deltas[-1] == GenerationDelta("", "stop", Usage(prompt_tokens=5, completion_tokens=2))
    assert all(delta.finish_reason is None for delta in deltas[:-1])


async def test_the_request_is_openai_s_and_carries_the_stream_s_inference_id(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with (
        runtime(whole) as (client, server),
        SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream,
    ):
        inference_id = stream.inference_id

    exchange = server.exchanges[0]
    assert exchange.target == "/endpoints/llm/invocations-response-stream"
    assert exchange.headers["x-amzn-sagemaker-inference-id"] == inference_id
    assert orjson.loads(exchange.body) == {
        "messages": [{"role": "user", "content": "What is code 79?"}],
        "max_tokens": 20,
        "temperature": 0.0,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_whole_answer_leaves_its_connection_for_the_next(
    runtime: Runtime, deadline: Deadline
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(
            payload_part(token("yes") + END), end=False, Content_Type=CONTENT_TYPE
        )
        await asyncio.sleep(0.02)  # the response's own end comes in another read
        await exchange.write(b"0\r\n\r\n")

    async with runtime(script) as (client, server):
        generator = SageMakerGenerator(client, endpoint="llm")
        for _ in range(2):
            async with generator.stream(REQUEST, deadline=deadline) as stream:
                assert [delta async for delta in stream]

    assert [exchange.connection for exchange in server.exchanges] == [0, 0]


async def test_a_stream_that_ends_after_its_finish_reason_is_whole(runtime: Runtime) -> None:
    deltas = await read_all(runtime, ended(payload_part(token("yes")), payload_part(FINISH)))

    assert deltas[-1] == GenerationDelta("", "stop", None)


BEFORE = [
    pytest.param(ended(b"<html>Bad gateway</html>"), id="garbage instead of frames"),
    pytest.param(broken(payload_part(token("x"))[:-4]), id="cut inside the first frame"),
    pytest.param(ended(stream_exception("InternalStreamFailure", "oops")), id="exception in the stream"),
    pytest.param(ended(payload_part(sse({"error": {"code": "oom"}}))), id="error in the container's stream"),
]


@pytest.mark.parametrize("script", BEFORE)
async def test_before_the_first_text_it_is_unavailable(runtime: Runtime, script: Script) -> None:
    with pytest.raises(GenerationUnavailableError):
        await read_all(runtime, script)


AFTER = [
    pytest.param(ended(payload_part(token("x"))), id="ended without a finish reason"),
    pytest.param(broken(payload_part(token("x")), payload_part(token("y"))[:-4]), id="cut inside a frame"),
    pytest.param(broken(payload_part(token("x")), reset=True), id="reset"),
    pytest.param(
        ended(payload_part(token("x")), stream_exception("ModelStreamError", "gone")), id="exception"
    ),
    pytest.param(ended(payload_part(token("x") + sse(b"{"))), id="garbage inside the same frame"),
]


@pytest.mark.parametrize("script", AFTER)
async def test_after_the_first_text_it_is_interrupted(
    runtime: Runtime, script: Script, deadline: Deadline
) -> None:
    texts: list[str] = []

    async def read() -> None:
        async with (
            runtime(script) as (client, _),
            SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream,
        ):
            async for delta in stream:
                texts.append(delta.text)

    with pytest.raises(GenerationInterruptedError):
        await read()

    assert "".join(texts) == "x"  # what came before the fault is given


async def test_silence_before_the_first_text_is_unavailable(runtime: Runtime) -> None:
    with pytest.raises(GenerationUnavailableError, match="silent"):
        await read_all(runtime, silent_after, stall_timeout_s=0.1)


async def test_silence_in_mid_stream_is_interrupted(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        await silent_after(exchange, payload_part(token("x")))

    with pytest.raises(GenerationInterruptedError, match="silent"):
        await read_all(runtime, script, stall_timeout_s=0.1)


async def test_the_deadline_ends_the_wait_for_a_response(runtime: Runtime) -> None:
    with pytest.raises(DeadlineExceededError):
        await read_all(runtime, Exchange.peer_left, deadline_s=0.3)


async def test_a_refused_connection_is_unavailable(deadline: Deadline) -> None:
    async with scripted_http(whole) as server:
        url = server.url  # nobody listens there once the context is left

    async with SageMakerRuntime.open(
        region="us-east-1", endpoint_url=url, access_key_id="AKIDLOCAL", secret_access_key="x"
    ) as client:
        with pytest.raises(GenerationUnavailableError, match="ClientConnectorError"):
            async with SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline):
                pass


def refusing(status: int, *, times: int) -> Script:
    """Refuse as SageMaker wraps a container's status, a number of times; then answer."""
    left = times

    async def script(exchange: Exchange) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await whole(exchange)
            return
        body = {
            "Message": "…",
            "OriginalStatusCode": status,
            "OriginalMessage": '{"error":{"code":"queue_full"}}',
        }
        await exchange.respond(424, orjson.dumps(body), x_amzn_ErrorType="ModelError")

    return script


async def test_an_overload_is_tried_again_before_the_first_token(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with (
        runtime(refusing(429, times=2)) as (client, server),
        SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream,
    ):
        text = "".join([delta.text async for delta in stream])

    assert text == "Refill too soon"
    assert len(server.exchanges) == 3
    assert len({exchange.headers["x-amzn-sagemaker-inference-id"] for exchange in server.exchanges}) == 1


async def test_an_overload_that_lasts_is_overloaded(runtime: Runtime) -> None:
    with pytest.raises(OverloadedError):
        await read_all(runtime, refusing(429, times=99), deadline_s=1.0)


async def test_another_error_of_the_container_is_unavailable_at_once(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(refusing(500, times=1)) as (client, server):
        with pytest.raises(GenerationUnavailableError, match="ModelError 500"):
            async with SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline):
                pass

    assert len(server.exchanges) == 1


async def test_no_error_repeats_what_was_asked(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        original = '{"error":{"message":"cannot answer: What is code 79?","type":"bad"}}'
        body = {"Message": original, "OriginalStatusCode": 400, "OriginalMessage": original}
        await exchange.respond(424, orjson.dumps(body), x_amzn_ErrorType="ModelError")

    with pytest.raises(AssistantError) as caught:
        await read_all(runtime, script)

    assert "code 79" not in caught.value.message


# --- leaving ---
LEAVING_LIMIT_S = 15.0
"""Before the deadline of 20 s, which would close it too."""


class Endpoint:
    """Sends the given bytes, then waits for its peer to leave."""

    def __init__(self, *pieces: bytes, begin: bool = True) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._pieces = pieces
        self._begin = begin

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        if self._begin:
            await exchange.respond_in_chunks(*self._pieces, end=False, Content_Type=CONTENT_TYPE)
        await exchange.peer_left()
        self.left.set()


async def consume(generator: SageMakerGenerator, deadline: Deadline, first: asyncio.Event) -> None:
    async with generator.stream(REQUEST, deadline=deadline) as stream:
        async for _ in stream:
            first.set()


async def test_a_cancelled_wait_for_the_response_closes_the_connection(
    runtime: Runtime, deadline: Deadline
) -> None:
    endpoint = Endpoint(begin=False)
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(
            consume(SageMakerGenerator(client, endpoint="llm"), deadline, asyncio.Event())
        )
        await endpoint.asked.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


async def test_a_cancelled_stream_closes_the_connection(runtime: Runtime, deadline: Deadline) -> None:
    endpoint, first = Endpoint(payload_part(token("a"))), asyncio.Event()
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(consume(SageMakerGenerator(client, endpoint="llm"), deadline, first))
        await first.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


# --- limits ---
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
