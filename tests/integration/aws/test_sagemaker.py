"""SageMaker by a scripted socket: the runtime, the embedder and the generator, and who signs their calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import aiohttp
import orjson
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import get_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    EmbeddingUnavailableError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    PassageTooLongError,
)
from assistant.models.sagemaker import (
    InvocationError,
    SageMakerEmbedder,
    SageMakerGenerator,
    SageMakerRuntime,
)
from assistant.stores.ports import ChatMessage, GenerationDelta, GenerationRequest
from assistant.tenant.deployed_names import CapturePurpose
from tests.stage.sagemaker_runtime import CONTENT_TYPE, payload_part, stream_exception
from tests.stage.servers import Exchange, Script, ScriptedServer, head, scripted_http

Runtime = Callable[[Script], AbstractAsyncContextManager[tuple[SageMakerRuntime, ScriptedServer]]]


@pytest.fixture
def runtime() -> Runtime:
    @asynccontextmanager
    async def opened(script: Script) -> AsyncGenerator[tuple[SageMakerRuntime, ScriptedServer]]:
        async with (
            scripted_http(script) as server,
            SageMakerRuntime.open(
                region="us-east-1", endpoint_url=server.url, access_key_id="AKIDLOCAL", secret_access_key="x"
            ) as client,
        ):
            yield client, server

    return opened


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20.0, clock=SystemClock())


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


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"x_amzn_ErrorType": "ThrottlingException"}, b"{}", "ThrottlingException"),
        ({"x_amzn_ErrorType": "ThrottlingException:http://internal/"}, b"", "ThrottlingException"),
        ({}, b'{"__type":"com.amazon#ServiceUnavailable"}', "ServiceUnavailable"),
        ({}, b"<html>", "status 503"),
        (
            {"x_amzn_ErrorType": "ModelError"},
            b'{"OriginalStatusCode": 413, "OriginalMessage": "{\\"error_type\\": \\"Validation\\"}"}',
            "ModelError 413 Validation",
        ),
    ],
)
async def test_a_refusal_is_named_by_its_code(
    runtime: Runtime, headers: dict[str, str], body: bytes, code: str
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(503, body, **headers)

    assert str(await failure_of(runtime, script)) == code


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


async def test_the_signature_covers_what_arrives(runtime: Runtime) -> None:
    async with runtime(well) as (client, server):
        await client.invoke("a b/c", body=b"{}", attributes="purpose=question")

    (exchange,) = server.exchanges
    authorization = exchange.headers["authorization"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    url = f"{server.url}{exchange.target}"
    again = AWSRequest("POST", url, headers={name: exchange.headers[name] for name in signed})
    again.context["timestamp"] = exchange.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDLOCAL", "x"), "sagemaker", "us-east-1")
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert exchange.target == "/endpoints/a%20b%2Fc/invocations"
    assert {"content-type", "host", "x-amz-content-sha256", "x-amzn-sagemaker-custom-attributes"} <= set(
        signed
    )
    assert exchange.headers["x-amz-content-sha256"] == sha256(exchange.body).hexdigest()
    assert authorization.endswith(f"Signature={expected}")


async def test_credentials_near_their_end_are_refreshed() -> None:
    """A task role's credentials last for hours: botocore fetches the next ones, and they sign."""

    async def fetch() -> dict[str, str]:
        return _credentials("FRESH", valid_for=timedelta(hours=6))

    ending = AioRefreshableCredentials.create_from_metadata(
        _credentials("ENDING", valid_for=timedelta(minutes=1)), refresh_using=fetch, method="test"
    )
    async with _runtime_with(ending) as (client, server):
        await client.invoke("embedding", body=b"{}")

    (exchange,) = server.exchanges
    assert "Credential=FRESH/" in exchange.headers["authorization"]
    assert exchange.headers["x-amz-security-token"] == "token of FRESH"


def _credentials(name: str, *, valid_for: timedelta) -> dict[str, str]:
    expiry = (datetime.now(UTC) + valid_for).isoformat()
    return {"access_key": name, "secret_key": "s", "token": f"token of {name}", "expiry_time": expiry}


@asynccontextmanager
async def _runtime_with(credentials: Any) -> AsyncGenerator[tuple[SageMakerRuntime, Any]]:
    session: Any = get_session()
    session._credentials = credentials
    async with scripted_http(well) as server:
        opening = session.create_client("sagemaker-runtime", region_name="us-east-1", endpoint_url=server.url)
        async with opening as client:
            runtime = SageMakerRuntime(client)
            try:
                yield runtime, server
            finally:
                await runtime.close()


DIMENSIONS = 3


async def embedding(exchange: Exchange) -> None:
    """Answer a vector that says which text it is of."""
    texts = orjson.loads(exchange.body)["inputs"]
    await exchange.respond(200, orjson.dumps([[float(text), 0.0, 1.0] for text in texts]))


def answering(body: object) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(200, body if isinstance(body, bytes) else orjson.dumps(body))

    return script


def container_error(status: int, body: str, *, times: int = 99) -> Script:
    left = times

    async def script(exchange: Exchange) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await embedding(exchange)
            return
        error = {"Message": "…", "OriginalStatusCode": status, "OriginalMessage": body}
        await exchange.respond(424, orjson.dumps(error), x_amzn_ErrorType="ModelError")

    return script


def embedder(
    client: SageMakerRuntime, *, purpose: CapturePurpose = "question", **more: Any
) -> SageMakerEmbedder:
    return SageMakerEmbedder(client, endpoint="embedding", dimensions=DIMENSIONS, purpose=purpose, **more)


async def embed(
    runtime: Runtime, script: Script, texts: list[str], *, deadline_s: float = 20.0
) -> list[list[float]]:
    deadline = Deadline.after(deadline_s, clock=SystemClock())
    async with runtime(script) as (client, _):
        return await embedder(client).embed(texts, deadline=deadline)


async def test_vectors_come_in_the_order_of_the_texts_over_batches_as_large_as_the_server_takes(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(embedding) as (client, server):
        vectors = await embedder(client).embed([str(number) for number in range(100)], deadline=deadline)
    assert [vector[0] for vector in vectors] == [float(number) for number in range(100)]
    sizes = sorted(len(orjson.loads(exchange.body)["inputs"]) for exchange in server.exchanges)
    assert sizes == [4, 32, 32, 32]
    assert orjson.loads(server.exchanges[0].body)["truncate"] is False


async def test_at_most_two_batches_are_under_way(runtime: Runtime) -> None:
    under_way, most = 0, 0

    async def script(exchange: Exchange) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)  # give a third batch the time to come
        under_way -= 1
        await embedding(exchange)

    await embed(runtime, script, ["1"] * 200)

    assert most == 2


async def test_one_bad_batch_fails_the_whole_with_the_port_s_own_error(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        if b'"99"' in exchange.body:
            await container_error(413, '{"error":"…","error_type":"Validation"}')(exchange)
        else:
            await embedding(exchange)

    with pytest.raises(PassageTooLongError):
        await embed(runtime, script, [str(number) for number in range(100)])


async def test_an_overload_is_tried_again(runtime: Runtime) -> None:
    script = container_error(429, '{"error":"full","error_type":"Overloaded"}', times=1)

    assert await embed(runtime, script, ["4"]) == [[4.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        [[1.0, 2.0]],
        [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]],
        [["a", "b", "c"]],
        None,
    ],
)
async def test_an_answer_that_is_no_vector_of_the_model_is_unavailable(
    runtime: Runtime, answer: object
) -> None:
    with pytest.raises(EmbeddingUnavailableError):
        await embed(runtime, answering(answer), ["1"])


async def test_silence_over_the_request_s_own_limit_is_unavailable(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(Exchange.peer_left) as (client, _):
        with pytest.raises(EmbeddingUnavailableError):
            await embedder(client, request_timeout_s=0.1).embed(["1"], deadline=deadline)


@pytest.mark.parametrize("purpose", ["question", "passage"])
async def test_each_call_says_whether_it_embeds_a_question_or_passages(
    runtime: Runtime, deadline: Deadline, purpose: CapturePurpose
) -> None:
    """Signed, and repeated by SageMaker in what it captures: the redactor tells them apart by it."""
    async with runtime(embedding) as (client, server):
        await embedder(client, purpose=purpose).embed(["1"], deadline=deadline)

    (exchange,) = server.exchanges
    assert exchange.headers["x-amzn-sagemaker-custom-attributes"] == f"purpose={purpose}"
    assert "x-amzn-sagemaker-custom-attributes" in exchange.headers["authorization"]


async def test_only_texts_that_the_endpoint_embedded_are_counted(
    runtime: Runtime, deadline: Deadline
) -> None:
    counted: list[int] = []
    async with runtime(embedding) as (client, _):
        texts = [str(number) for number in range(40)]
        await embedder(client, embedded=counted.append).embed(texts, deadline=deadline)
    async with runtime(container_error(413, "too long")) as (client, _):
        with pytest.raises(EmbeddingUnavailableError):
            await embedder(client, embedded=counted.append).embed(["1"], deadline=deadline)
    assert sorted(counted) == [8, 32]


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


async def test_silence_in_mid_stream_is_interrupted(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        await silent_after(exchange, payload_part(token("x")))

    with pytest.raises(GenerationInterruptedError, match="silent"):
        await read_all(runtime, script, stall_timeout_s=0.1)


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


async def test_no_error_repeats_what_was_asked(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        original = '{"error":{"message":"cannot answer: What is code 79?","type":"bad"}}'
        body = {"Message": original, "OriginalStatusCode": 400, "OriginalMessage": original}
        await exchange.respond(424, orjson.dumps(body), x_amzn_ErrorType="ModelError")

    with pytest.raises(AssistantError) as caught:
        await read_all(runtime, script)

    assert "code 79" not in caught.value.message


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


async def test_a_cancelled_stream_closes_the_connection(runtime: Runtime, deadline: Deadline) -> None:
    endpoint, first = Endpoint(payload_part(token("a"))), asyncio.Event()
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(consume(SageMakerGenerator(client, endpoint="llm"), deadline, first))
        await first.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


def flowing(*, every_s: float, tokens: int) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(end=False, Content_Type=CONTENT_TYPE)
        for part in [payload_part(token("x"))] * tokens + [payload_part(END)]:
            await asyncio.sleep(every_s)  # the pace of a model
            await exchange.write(b"%x\r\n%b\r\n" % (len(part), part))
        await exchange.write(b"0\r\n\r\n")

    return script


async def test_the_deadline_ends_a_stream_that_still_flows(runtime: Runtime) -> None:
    with pytest.raises(DeadlineExceededError):
        await read_all(runtime, flowing(every_s=0.02, tokens=1000), deadline_s=0.5)


async def test_a_stream_far_longer_than_its_tokens_is_ended(runtime: Runtime) -> None:
    sent = list[int]()

    async def endless(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(end=False, Content_Type=CONTENT_TYPE)
        part = payload_part(token("x" * 1000))
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.write(b"%x\r\n%b\r\n" % (len(part), part))
                sent.append(len(part))

    with pytest.raises(GenerationInterruptedError, match="longer than the tokens"):
        await read_all(runtime, endless)
    assert sum(sent) < 16 * 1024 * 1024  # and what the sockets hold
