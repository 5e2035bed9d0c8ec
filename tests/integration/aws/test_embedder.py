"""The embedder against a scripted socket."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import (
    DeadlineExceededError,
    EmbeddingUnavailableError,
    OverloadedError,
    PassageTooLongError,
)
from assistant.models.sagemaker import SageMakerEmbedder
from assistant.tenant.deployed_names import CapturePurpose
from tests.fakes.scripted_http import Exchange, Script
from tests.integration.aws.conftest import Runtime

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


async def embed(
    runtime: Runtime, script: Script, texts: list[str], *, deadline_s: float = 20.0
) -> list[list[float]]:
    deadline = Deadline.after(deadline_s, clock=SystemClock())
    async with runtime(script) as (client, _):
        embedder = SageMakerEmbedder(client, endpoint="embedding", dimensions=DIMENSIONS, purpose="question")
        return await embedder.embed(texts, deadline=deadline)


async def test_vectors_come_in_the_order_of_the_texts_over_many_batches(runtime: Runtime) -> None:
    vectors = await embed(runtime, embedding, [str(number) for number in range(100)])

    assert [vector[0] for vector in vectors] == [float(number) for number in range(100)]


async def test_no_request_holds_more_texts_than_the_server_takes(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(embedding) as (client, server):
        embedder = SageMakerEmbedder(client, endpoint="embedding", dimensions=DIMENSIONS, purpose="question")
        await embedder.embed(["1"] * 100, deadline=deadline)

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


async def test_a_text_over_the_limit_is_too_long(runtime: Runtime) -> None:
    script = container_error(
        413, '{"error":"`inputs` must have less than 256 tokens","error_type":"Validation"}'
    )

    with pytest.raises(PassageTooLongError):
        await embed(runtime, script, ["1"])


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


async def test_an_overload_that_lasts_is_overloaded(runtime: Runtime) -> None:
    with pytest.raises(OverloadedError):
        await embed(runtime, container_error(429, "{}"), ["1"], deadline_s=10.0)


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


async def test_silence_until_the_deadline_is_the_deadline(runtime: Runtime) -> None:
    with pytest.raises(DeadlineExceededError):
        await embed(runtime, Exchange.peer_left, ["1"], deadline_s=0.3)


async def test_silence_over_the_request_s_own_limit_is_unavailable(
    runtime: Runtime, deadline: Deadline
) -> None:
    async with runtime(Exchange.peer_left) as (client, _):
        embedder = SageMakerEmbedder(
            client, endpoint="embedding", dimensions=DIMENSIONS, purpose="passage", request_timeout_s=0.1
        )
        with pytest.raises(EmbeddingUnavailableError):
            await embedder.embed(["1"], deadline=deadline)


@pytest.mark.parametrize("purpose", ["question", "passage"])
async def test_each_call_says_whether_it_embeds_a_question_or_passages(
    runtime: Runtime, purpose: CapturePurpose
) -> None:
    """Signed, and repeated by SageMaker in what it captures: the redactor tells them apart by it."""
    async with runtime(embedding) as (client, server):
        embedder = SageMakerEmbedder(client, endpoint="embedding", dimensions=DIMENSIONS, purpose=purpose)
        await embedder.embed(["1"], deadline=Deadline.after(20.0, clock=SystemClock()))

    (exchange,) = server.exchanges
    assert exchange.headers["x-amzn-sagemaker-custom-attributes"] == f"purpose={purpose}"
    assert "x-amzn-sagemaker-custom-attributes" in exchange.headers["authorization"]


async def test_only_texts_that_the_endpoint_embedded_are_counted(runtime: Runtime) -> None:
    counted: list[int] = []
    deadline = Deadline.after(20.0, clock=SystemClock())
    async with runtime(embedding) as (client, _):
        embedder = SageMakerEmbedder(
            client, endpoint="embedding", dimensions=DIMENSIONS, purpose="question", embedded=counted.append
        )
        await embedder.embed([str(number) for number in range(40)], deadline=deadline)
    async with runtime(container_error(413, "too long")) as (client, _):
        embedder = SageMakerEmbedder(
            client, endpoint="embedding", dimensions=DIMENSIONS, purpose="question", embedded=counted.append
        )
        with pytest.raises(EmbeddingUnavailableError):
            await embedder.embed(["1"], deadline=deadline)
    assert sorted(counted) == [8, 32]
