"""What an answer needs while it is made: the two model endpoints and the passage index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from tests.fakes.faulty_proxy import GARBAGE, Kind, json_answer
from tests.fakes.sagemaker_gateway import payload_part
from tests.faults.asking import Answered, asked, asking, idle, warmed_up
from tests.faults.cells import DOWN_WHILE_STREAMING, LATE_IN_THE_TEXT, NO_FINISH, SLOW, WRONG_ANSWER
from tests.faults.dependencies import EMBEDDING, LLM, SEARCH, Dependency
from tests.faults.scene import DOCUMENT, PARTS, WRITTEN, FaultScene
from tests.faults.watching import Watch, fell_back, refused, tell_of

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


async def test_a_tenant_whose_answers_are_quoted_needs_no_model(scene: FaultScene) -> None:
    async with scene.service(scene.settings(quoted=True)) as service:
        await warmed_up(service)
        watch = await Watch.begun(scene, service)
        await scene.break_(LLM, Kind.STALL)
        answer = await asked(service)
        assert (answer.told(), answer.written) == ("`done` `stop`", QUOTED)
        assert await watch.recorded(answer) == "`done` `stop`"
        assert watch.calls_of_the_model == 0
        await scene.heal()


async def test_a_model_that_is_silent_before_its_first_sentence_has_ended_is_late(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(1)
    answer = await asked(watch.service)
    assert (answer.told(), answer.written) == (fallen_back("generation_late"), QUOTED)
    assert watch.calls_of_the_model == 1


async def test_a_model_that_stands_still_in_its_text_is_waited_for_until_the_deadline(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    answer = await asked(watch.service)
    assert answer.told() == broken_off("deadline")
    assert answer.written == RELEASED
    await tell_fallback(
        watch, LATE_IN_THE_TEXT, made_by="silent after its first sentence", answer=answer, code="deadline"
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
        NO_FINISH,
        made_by="text that ends, or goes on with a wrong checksum or garbage, before its finish reason",
        answer=answer,
        code="generation_interrupted",
    )


async def test_a_text_that_ends_inside_its_first_sentence_is_not_released(watch: Watch) -> None:
    await watch.scene.break_(LLM, Kind.ANSWER, answer=_streamed(_text("Wait "), _text("two ")))
    answer = await asked(watch.service)
    assert (answer.told(), answer.written) == (fallen_back("generation_interrupted"), QUOTED)


@pytest.mark.parametrize(
    ("dependency", "code"), [(EMBEDDING, "embedding_unavailable"), (SEARCH, "search_unavailable")]
)
async def test_a_response_that_is_cut_is_as_one_that_never_came(
    watch: Watch, dependency: Dependency, code: str
) -> None:
    await watch.scene.break_(dependency, Kind.CUT)
    assert (await asked(watch.service)).told() == f"503 `{code}`, retryable"


async def test_a_dependency_that_is_slow_within_its_limit_changes_nothing(watch: Watch) -> None:
    for dependency in (EMBEDDING, SEARCH, LLM):
        await watch.scene.break_(dependency, Kind.SLOW, delay_s=0.1)
    answer = await asked(watch.service)
    assert (answer.told(), answer.written) == ("`done` `stop`", WRITTEN)


async def test_agents_who_ask_while_an_endpoint_is_down_do_not_wait_for_it_in_line(watch: Watch) -> None:
    await watch.scene.break_(EMBEDDING, Kind.REFUSE)
    answers = await asyncio.gather(*(asked(watch.service) for _ in range(3)))
    assert {answer.told() for answer in answers} == {"503 `embedding_unavailable`, retryable"}
    await idle(watch.service)


async def tell_status(
    watch: Watch, dependency: Dependency, fault: str, *, made_by: str, sees: str, code: str
) -> None:
    tell_of(
        dependency,
        fault,
        made_by=made_by,
        sees=sees,
        recorded=await watch.recorded(),
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(refused(code)),
    )


async def tell_fallback(watch: Watch, fault: str, *, made_by: str, answer: Answered, code: str) -> None:
    tell_of(
        LLM,
        fault,
        made_by=made_by,
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        log=await watch.logged("generation_failed"),
        figure=await watch.counted(fell_back(code)),
    )
