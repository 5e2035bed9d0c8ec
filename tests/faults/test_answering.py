"""What an answer needs while it is made: the two model endpoints and the passage index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import pytest

from assistant.stores.index.opensearch_client import call, open_opensearch
from tests.faults.conftest import (
    DOCUMENT,
    PARTS,
    TENANT,
    WRITTEN,
    Answered,
    FaultScene,
    Watch,
    asked,
    asking,
    called,
    ended,
    fell_back,
    refused,
)
from tests.faults.table import (
    DOCUMENTS,
    DOWN_WHILE_STREAMING,
    EMBEDDING,
    KEYS,
    LINK_SECRET,
    LLM,
    POWER,
    QUEUE,
    SEARCH,
    SLOW,
    STATES,
    WRONG_ANSWER,
    Dependency,
    tell,
)
from tests.stage.faulty_proxy import GARBAGE, Kind, json_answer
from tests.stage.running_service import eventually
from tests.stage.sagemaker_runtime import payload_part

STALLED = "accepted, never answered"
QUOTED = DOCUMENT
RELEASED = "Wait two days."


def fallen_back(code: str) -> str:
    return f"`done` `stop`, `quoted`, `fallback` `{code}`"


def broken_off(code: str) -> str:
    """Return what a client sees of a text that ended early: what was written stays the answer."""
    return f"`done` `length`, `written`, `fallback` `{code}`"


@pytest.mark.parametrize(
    ("dependency", "code"), [(EMBEDDING, "embedding_unavailable"), (SEARCH, "search_unavailable")]
)
async def test_an_endpoint_that_is_late_is_a_status(watch: Watch, dependency: Dependency, code: str) -> None:
    await watch.scene.break_(dependency, Kind.STALL)
    answer = await asked(watch.service)
    assert answer.told() == f"503 `{code}`, retryable"
    assert watch.calls_of_the_model == 0
    await tell_status(watch, dependency, SLOW, made_by=STALLED, sees=answer.told(), code=code)


def _hit(**changes: Any) -> bytes:
    hit = {"_index": "other-v1", "fields": {"row_id": ["p#0"], "kept": ["{}"], "cosine": [0.5]}} | changes
    return orjson.dumps({"timed_out": False, "hits": {"hits": [hit]}})


WRONG_VECTORS = [
    b"[[0.1,0.2,0.3,0.4,0.5,0.6,0.7]]",
    b"[]",
    b"null",
    b'{"error":"no"}',
    b"[[]]",
    b'[["a"]]',
    b"<html>",
]
WRONG_HITS = [b"{}", b'{"took":1}', b"[]", b'{"timed_out":false,"hits":{"hits":[{}]}}', b"<html>", _hit()]


@pytest.mark.parametrize(
    ("dependency", "code", "bodies", "made_by"),
    [
        (
            EMBEDDING,
            "embedding_unavailable",
            WRONG_VECTORS,
            "vectors of 7 numbers; no vectors; no JSON; no HTTP",
        ),
        (
            SEARCH,
            "search_unavailable",
            WRONG_HITS,
            "an answer without hits; hits of another index; no JSON; no HTTP",
        ),
    ],
    ids=["embedding", "search"],
)
async def test_an_endpoint_that_answers_something_else_is_a_status(
    watch: Watch, dependency: Dependency, code: str, bodies: Sequence[bytes], made_by: str
) -> None:
    for answer_bytes in [*map(json_answer, bodies), GARBAGE]:
        await watch.scene.break_(dependency, Kind.ANSWER, answer=answer_bytes)
        answer = await asked(watch.service)
        assert answer.told() == f"503 `{code}`, retryable", answer_bytes
        await tell_status(watch, dependency, WRONG_ANSWER, made_by=made_by, sees=answer.told(), code=code)
    assert watch.calls_of_the_model == 0


async def test_a_model_that_is_late_leaves_the_quote(watch: Watch) -> None:
    await watch.scene.break_(LLM, Kind.STALL)
    answer = await asked(watch.service)
    assert answer.told() == fallen_back("generation_late")
    assert answer.written == QUOTED
    assert watch.calls_of_the_model == 1
    await tell_fallback(watch, SLOW, made_by=STALLED, answer=answer, code="generation_late")


async def test_a_model_that_stands_still_in_its_text_is_waited_for_until_the_deadline(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    answer = await asked(watch.service)
    assert answer.told() == broken_off("deadline")
    assert answer.written == RELEASED
    await tell_fallback(
        watch,
        "slow in the middle of its text",
        made_by="silent after its first sentence",
        answer=answer,
        code="deadline",
    )


async def test_a_model_that_goes_down_in_its_text_leaves_what_it_wrote(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        await watch.scene.break_(LLM, Kind.REFUSE)
        answer = await stream.rest()
    go_on.set()
    assert answer.told() == broken_off("generation_interrupted")
    assert answer.written == RELEASED
    assert watch.calls_of_the_model == 1
    await tell_fallback(
        watch,
        DOWN_WHILE_STREAMING,
        made_by="its connection reset after its first sentence",
        answer=answer,
        code="generation_interrupted",
    )


def _streamed(*parts: bytes) -> bytes:
    """Return a response of the LLM endpoint that ends with these parts."""
    body = b"".join(parts)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )


def _text(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return payload_part(b"data: " + orjson.dumps(chunk) + b"\n\n")


def _damaged(part: bytes) -> bytes:
    """Return a part whose checksum is wrong."""
    return part[:-1] + bytes([part[-1] ^ 1])


NO_MODEL_ANSWERS = [
    _streamed(_damaged(_text("Wait "))),
    _streamed(b"<html>no event stream</html>" * 20),
    _streamed(payload_part(b"data: {not json}\n\n")),
    _streamed(),
    json_answer(b'{"Message":"no"}', status="500 X", headers="x-amzn-errortype: InternalFailure\r\n"),
    GARBAGE,
]


async def test_a_model_that_answers_something_else_leaves_the_quote(watch: Watch) -> None:
    for number, answer_bytes in enumerate(NO_MODEL_ANSWERS, start=1):
        await watch.scene.break_(LLM, Kind.ANSWER, answer=answer_bytes)
        answer = await asked(watch.service)
        assert answer.told() == fallen_back("generation_unavailable"), answer_bytes
        assert answer.written == QUOTED
        assert watch.calls_of_the_model == number
        await tell_fallback(
            watch,
            WRONG_ANSWER,
            made_by="a wrong checksum; no event stream; no chunks; status 500; no HTTP",
            answer=answer,
            code="generation_unavailable",
        )


@pytest.mark.parametrize(
    "end", [b"", _damaged(_text("days.")), b"garbage" * 50], ids=["cut", "checksum", "garbage"]
)
async def test_a_text_without_its_end_is_the_answer_as_far_as_it_came(watch: Watch, end: bytes) -> None:
    await watch.scene.break_(LLM, Kind.ANSWER, answer=_streamed(*map(_text, PARTS[:2]), end))
    answer = await asked(watch.service)
    assert answer.told() == broken_off("generation_interrupted")
    assert answer.written == RELEASED
    assert watch.calls_of_the_model == 1
    await tell_fallback(
        watch,
        "wrong answer in the middle of its text",
        made_by="text that ends, or goes on with a wrong checksum or garbage, before its finish reason",
        answer=answer,
        code="generation_interrupted",
    )


async def tell_status(
    watch: Watch, dependency: Dependency, fault: str, *, made_by: str, sees: str, code: str
) -> None:
    tell(
        dependency,
        fault,
        made_by=made_by,
        sees=sees,
        recorded=await watch.recorded(),
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(refused(code)),
    )


async def tell_fallback(watch: Watch, fault: str, *, made_by: str, answer: Answered, code: str) -> None:
    tell(
        LLM,
        fault,
        made_by=made_by,
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        log=await watch.logged("generation_failed"),
        figure=await watch.counted(fell_back(code)),
    )


BYSTANDERS = (EMBEDDING, SEARCH, STATES, DOCUMENTS, QUEUE, KEYS, POWER, LINK_SECRET)


async def test_an_answer_in_progress_needs_its_model_and_nothing_else(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        for dependency in BYSTANDERS:
            await watch.scene.break_(dependency, Kind.REFUSE)
        reading = asyncio.create_task(called(watch.service, "GET", "/v1/documents/wait"))
        go_on.set()
        answer = await stream.rest()
    read = await reading
    assert (answer.told(), answer.written) == ("`done` `stop`", WRITTEN)
    assert read.told() == "503 `dependency_unavailable`, retryable"
    recorded, figure = await watch.recorded(answer), await watch.counted(ended("stop"))
    assert watch.calls_of_the_model == 1
    for dependency in BYSTANDERS:
        is_shared = dependency.mark is not None
        tell(
            dependency,
            DOWN_WHILE_STREAMING,
            made_by="its connections reset" if is_shared else "nobody listens, connections reset",
            sees=answer.told() + (f"; reading a document: {read.told()}" if dependency is DOCUMENTS else ""),
            recorded=recorded,
            figure=figure,
        )


Request = Callable[[str, dict[str, Any] | None], Coroutine[Any, Any, Any]]


async def _clone(request: Request, source: str, target: str) -> None:
    """Copy an index as it is; vectors are no part of a document's source, so no other copy has them."""
    await request(f"PUT /{source}/_settings", {"index.blocks.write": True})
    await request(f"POST /{source}/_clone/{target}?wait_for_active_shards=1", None)
    for name in (source, target):
        await request(f"PUT /{name}/_settings", {"index.blocks.write": None})


async def _lose_documents(request: Request, _alias: str, index: str) -> None:
    await _clone(request, index, f"{index}-kept")
    await request(f"POST /{index}/_delete_by_query?refresh=true", {"query": {"match_all": {}}})


async def _delete(request: Request, _alias: str, index: str) -> None:
    await _clone(request, index, f"{index}-kept")
    await request(f"DELETE /{index}", None)


async def _make_again(request: Request, alias: str, index: str) -> None:
    await request(f"DELETE /{index}?ignore_unavailable=true", None)
    await _clone(request, f"{index}-kept", index)
    await request("POST /_aliases", {"actions": [{"add": {"index": index, "alias": alias}}]})
    await request(f"DELETE /{index}-kept", None)


async def _close(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_close", None)


async def _open(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_open?wait_for_active_shards=1", None)


KINDS = {
    "documents lost from the index": (_lose_documents, _make_again, "the index without its documents"),
    "index closed": (_close, _open, "the index closed"),
    "alias gone": (_delete, _make_again, "the index deleted, and its alias with it"),
}


@pytest.mark.parametrize("fault", KINDS)
async def test_a_damaged_index_is_never_taken_for_one_that_does_not_know(watch: Watch, fault: str) -> None:
    damage, repair, made_by = KINDS[fault]
    scene: FaultScene = watch.scene
    alias = scene.aws.named("passages", TENANT)
    async with open_opensearch(url=scene.aws.opensearch_url, auth="none") as client:

        async def request(path: str, body: dict[str, Any] | None) -> Any:
            return await call(client, path, body=body, timeout_s=30.0)

        (index,) = await request(f"GET /_alias/{alias}", None)
        await damage(request, alias, index)
        try:
            answer = await asked(watch.service)
            assert answer.told() == "503 `search_unavailable`, retryable"

            async def is_not_ready() -> bool:
                return (await watch.service.operations.get("/readyz")).status_code == 503

            await eventually(is_not_ready)
        finally:
            await repair(request, alias, index)
    tell(
        SEARCH,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; `/readyz` is 503",
        recorded=await watch.recorded(answer),
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(refused("search_unavailable")),
    )
