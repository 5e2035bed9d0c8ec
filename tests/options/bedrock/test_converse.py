"""A model of Bedrock over a real HTTP server that speaks the documented frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from assistant.domain.answers import FinishReason, Usage
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import (
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from assistant.models.opened import ModelStores, open_model_clients
from assistant.options.bedrock.converse import BedrockGenerator, BedrockRuntime
from assistant.options.bedrock.opened import open_writer
from assistant.process.settings import StoreSettings
from assistant.stores.ports import ChatMessage, GenerationDelta, GenerationRequest
from assistant.tenant.tenant import load_tenant
from tests.options.bedrock import frames
from tests.stacks.synthesized import ROOT
from tests.stage.servers import Exchange, Script, ScriptedServer, scripted_http

REQUEST = GenerationRequest(
    (
        ChatMessage("system", "Cite each sentence."),
        ChatMessage("user", "Documents: …"),
        ChatMessage("user", "What is code 79?"),
        ChatMessage("assistant", "Refill too soon [1.1]."),
        ChatMessage("user", "And who calls?"),
    ),
    max_tokens=40,
    temperature=0.0,
    seed=7,
)
CONTENT_TYPE = "application/vnd.amazon.eventstream"
REQUEST_ID = "0f3b"
LEAVING_LIMIT_S = 15.0


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20.0, clock=SystemClock())


@asynccontextmanager
async def bedrock(script: Script, **limits: float) -> AsyncGenerator[tuple[BedrockGenerator, ScriptedServer]]:
    keys = {"access_key_id": "AKIDLOCAL", "secret_access_key": "x"}
    async with (
        scripted_http(script) as server,
        BedrockRuntime.open(region="us-east-1", endpoint_url=server.url, **keys) as client,
    ):
        yield BedrockGenerator(client, model=frames.MODEL, **limits), server


def sent(*pieces: bytes, end: bool = True) -> Script:
    async def script(exchange: Exchange) -> None:
        headers = {"Content_Type": CONTENT_TYPE, "x_amzn_RequestId": REQUEST_ID}
        await exchange.respond_in_chunks(*pieces, end=end, **headers)
        if not end:
            await exchange.peer_left()

    return script


def refused(code: str, status: int) -> Script:
    async def script(exchange: Exchange) -> None:
        body = orjson.dumps({"message": "What is code 79?"})
        await exchange.respond(status, body, x_amzn_ErrorType=f"{code}:http://internal.amazon.com/")

    return script


async def read_all(script: Script, deadline: Deadline, **limits: float) -> list[GenerationDelta]:
    async with (
        bedrock(script, **limits) as (generator, _),
        generator.stream(REQUEST, deadline=deadline) as stream,
    ):
        return [delta async for delta in stream]


async def test_text_comes_as_deltas_and_the_last_has_reason_and_usage(deadline: Deadline) -> None:
    pieces = (frames.START, frames.reasoning("Let me see."), frames.text("Refill "), frames.text("too soon"))
    deltas = await read_all(sent(*pieces, frames.BLOCK_END, frames.stop("end_turn"), frames.USAGE), deadline)

    assert "".join(delta.text for delta in deltas) == "Refill too soon"
    assert deltas[-1] == GenerationDelta("", "stop", Usage(prompt_tokens=5, completion_tokens=2))


async def test_the_request_is_what_botocore_sends(deadline: Deadline) -> None:
    async with (
        bedrock(sent(frames.whole("yes"))) as (generator, server),
        generator.stream(REQUEST, deadline=deadline) as stream,
    ):
        assert stream.inference_id == REQUEST_ID
        assert stream.variant is None

    (exchange,) = server.exchanges
    body = orjson.loads(exchange.body)
    parameters = {"modelId": frames.MODEL, **body}
    report = ParamValidator().validate(parameters, frames.OPERATION.input_shape)
    assert not report.has_errors(), report.generate_report()
    theirs = create_serializer("rest-json").serialize_to_request(parameters, frames.OPERATION)
    assert orjson.loads(theirs["body"]) == body
    assert unquote(exchange.target) == unquote(str(theirs["url_path"]))
    assert body["system"] == [{"text": "Cite each sentence."}]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert len(body["messages"][0]["content"]) == 2


async def test_the_signature_is_bedrock_s_and_covers_what_arrives(deadline: Deadline) -> None:
    async with (
        bedrock(sent(frames.whole("yes"))) as (generator, server),
        generator.stream(REQUEST, deadline=deadline),
    ):
        pass

    (exchange,) = server.exchanges
    authorization = exchange.headers["authorization"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    url = f"{server.url}{exchange.target}"
    again = AWSRequest("POST", url, headers={name: exchange.headers[name] for name in signed})
    again.context["timestamp"] = exchange.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDLOCAL", "x"), "bedrock", "us-east-1")
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert exchange.target == f"/model/{frames.MODEL.replace(':', '%3A')}/converse-stream"
    assert authorization.endswith(f"Signature={expected}")


OVERLOADED = {"ThrottlingException", "ModelNotReadyException", "ServiceUnavailableException"}


@pytest.mark.parametrize(("code", "status"), frames.ERRORS.items())
async def test_each_error_is_typed_and_says_no_word_of_the_request(
    code: str, status: int, deadline: Deadline
) -> None:
    kind = OverloadedError if code in OVERLOADED else GenerationUnavailableError
    with pytest.raises(kind) as refusal:
        await read_all(refused(code, status), deadline)

    assert "79" not in refusal.value.message
    assert code in OVERLOADED or f"({code}): " in refusal.value.message


async def test_a_throttled_call_is_sent_again(deadline: Deadline) -> None:
    throttled = iter([refused("ThrottlingException", 429), sent(frames.whole("yes"))])

    async def script(exchange: Exchange) -> None:
        await next(throttled)(exchange)

    assert (await read_all(script, deadline))[0].text == "yes"


@pytest.mark.parametrize("kind", frames.EXCEPTIONS)
async def test_each_exception_before_the_text_is_typed(kind: str, deadline: Deadline) -> None:
    expected = OverloadedError if kind == "throttlingException" else GenerationUnavailableError
    with pytest.raises(expected) as fault:
        await read_all(sent(frames.START, frames.exception(kind)), deadline)

    assert "79" not in fault.value.message
    assert kind == "throttlingException" or kind in fault.value.message


@pytest.mark.parametrize("kind", frames.EXCEPTIONS)
async def test_each_exception_inside_the_text_interrupts_it(kind: str, deadline: Deadline) -> None:
    pieces = (frames.START, frames.text("Refill"), frames.exception(kind))
    async with (
        bedrock(sent(*pieces)) as (generator, _),
        generator.stream(REQUEST, deadline=deadline) as stream,
    ):
        deltas = aiter(stream)
        assert (await anext(deltas)).text == "Refill"
        with pytest.raises(GenerationInterruptedError, match=kind):
            await anext(deltas)


@pytest.mark.parametrize("reason", frames.STOP_REASONS)
async def test_each_stop_reason_is_an_ending_or_a_fault(reason: str, deadline: Deadline) -> None:
    script = sent(frames.whole("Refill too soon.", reason=reason))
    if reason in ("tool_use", "malformed_tool_use", "malformed_model_output"):
        with pytest.raises(GenerationInterruptedError, match=reason):
            await read_all(script, deadline)
        return
    last = (await read_all(script, deadline))[-1]
    expected = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
    others = {"model_context_window_exceeded": "length"}
    assert last.finish_reason == {**expected, **others}.get(reason, "content_filter")
    assert FinishReason(str(last.finish_reason))


@pytest.mark.parametrize("cut_at", ["before the stop", "before the usage"])
async def test_a_stream_that_ends_early(cut_at: str, deadline: Deadline) -> None:
    pieces = (frames.START, frames.text("Refill"), frames.BLOCK_END)
    if cut_at == "before the stop":
        with pytest.raises(GenerationInterruptedError, match="without a finish reason"):
            await read_all(sent(*pieces), deadline)
    else:  # the text is whole; only what it cost is not known
        last = (await read_all(sent(*pieces, frames.stop("end_turn")), deadline))[-1]
        assert last == GenerationDelta("", "stop", None)


async def test_bytes_that_are_no_stream_are_a_fault(deadline: Deadline) -> None:
    with pytest.raises(GenerationUnavailableError, match="corrupt"):
        await read_all(sent(b"<html>" * 20), deadline)


async def test_a_silent_stream_ends(deadline: Deadline) -> None:
    with pytest.raises(GenerationUnavailableError, match="silent"):
        await read_all(sent(frames.START, end=False), deadline, stall_timeout_s=0.1)


async def test_a_deadline_ends_a_stream() -> None:
    deadline = Deadline.after(0.3, clock=SystemClock())
    with pytest.raises(DeadlineExceededError):
        await read_all(sent(frames.START, end=False), deadline)


async def test_leaving_closes_the_connection(deadline: Deadline) -> None:
    left, first = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await sent(frames.START, frames.text("Refill"), end=False)(exchange)
        left.set()

    async def consume(generator: BedrockGenerator) -> None:
        async with generator.stream(REQUEST, deadline=deadline) as stream:
            async for _ in stream:
                first.set()

    async with bedrock(script) as (generator, _):
        task = asyncio.create_task(consume(generator))
        await first.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await left.wait()
        await asyncio.wait({task})


async def test_a_tenant_that_names_a_model_is_written_for_by_it(
    monkeypatch: pytest.MonkeyPatch, deadline: Deadline
) -> None:
    tenant = load_tenant(ROOT / "tests/company/tenants/scribe.toml")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLOCAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    async with (
        scripted_http(sent(frames.whole("Refill too soon."))) as server,
        open_model_clients(StoreSettings.model_construct(region="eu-central-1")) as clients,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.url)
        unused: Any = None
        stores = ModelStores(tenant, clients.settings, clients, clients.stack, *[unused] * 4)
        writer = await open_writer(stores)
        assert writer is not None
        async with writer.generator.stream(REQUEST, deadline=deadline) as stream:
            assert (await anext(aiter(stream))).text == "Refill too soon."

    assert unquote(server.exchanges[0].target) == "/model/eu.amazon.nova-lite-v1:0/converse-stream"
    assert writer.model.model_id == tenant.generation.model
    assert writer.model.writes_answers


async def test_other_errors_are_not_sent_again(deadline: Deadline) -> None:
    async with bedrock(refused("ModelErrorException", 424)) as (generator, server):
        with pytest.raises(GenerationUnavailableError):
            async with generator.stream(REQUEST, deadline=deadline):
                pass

        assert len(server.exchanges) == 1
