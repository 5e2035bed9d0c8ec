"""From the bytes of SageMaker's event stream to events and the record: every split gives the same."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import lru_cache

import orjson
from hypothesis import given
from hypothesis import strategies as st

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import AnswerEvent, Done
from assistant.answer.prepared import PreparedAnswer
from assistant.domain.answers import AnswerRecord, Usage
from assistant.domain.errors import GenerationInterruptedError
from assistant.models.chat_server import CompletionParser
from assistant.models.sagemaker import EventStreamParser
from tests.fakes.answering import FakeTenant, ScriptedGenerator, Step
from tests.fakes.sagemaker_gateway import payload_part
from tests.unit.answer.asking_and_reading import prepare
from tests.unit.models.cutting import cut_anywhere

PIECES = [
    "Retail refills are payable on day 23 of 30 [1.1].",
    "Send other requests to the Claims Desk. [1.2]",
    "Retail refills are payable on day 25 of 30 [1.1].",
    "The documents do not answer this question.",
    "The documents do not say who pays.",
    "[1]",
    "[7.1]",
    "\n<think>",
    "Retail refills are payable on day 23",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map(" ".join)
REASONS = st.sampled_from(["stop", "length"])


@lru_cache
def asked() -> tuple[FakeTenant, PreparedAnswer]:
    tenant = FakeTenant.writing()
    _, prepared = asyncio.run(prepare(tenant, seconds=3_600.0))
    return tenant, prepared


def answered(reads: list[bytes]) -> tuple[list[AnswerEvent], AnswerRecord]:
    """Return the events and the record of an answer whose response arrives in these reads."""
    tenant, prepared = asked()
    return asyncio.run(_answered(tenant, prepared, reads))


async def _answered(
    tenant: FakeTenant, prepared: PreparedAnswer, reads: list[bytes]
) -> tuple[list[AnswerEvent], AnswerRecord]:
    completion, steps = CompletionParser(EventStreamParser()), list[Step]()
    for read in reads:
        text, failure = completion.feed(read)
        steps.append(text)
        if failure is not None:
            steps.append(GenerationInterruptedError(failure))
            break
    last = completion.last_delta()
    finish_reason = last.finish_reason if last and last.finish_reason else "stop"
    tenant.generator = ScriptedGenerator(*steps, finish_reason=finish_reason)
    use_case = AnswerQuestion(tenant.services)
    async with aclosing(use_case.stream(prepared)) as stream:
        *events, done = [event async for event in stream]
    assert isinstance(done, Done)
    told = done.model_copy(update={"timings_ms": {}, "usage": Usage()})
    return [*events, told], tenant.records.answers.pop(prepared.answer_id)


def comparable(record: AnswerRecord) -> AnswerRecord:
    """Return the record without times and usage. Of a text that failed, markers are left out:
    it may have been read on past its failure."""
    markers = record.removed_markers if record.fallback is None else ()
    return record.model_copy(
        update={
            "asked_at": None,
            "finished_at": None,
            "timings_ms": {},
            "usage": None,
            "removed_markers": markers,
        }
    )


def response(text: str, reason: str) -> bytes:
    words = text.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    chunks = [{"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


@given(text=TEXTS, reason=REASONS, data=st.data())
def test_events_and_record_are_the_same_for_every_split(text: str, reason: str, data: st.DataObject) -> None:
    sse = response(text, reason)
    whole_events, whole_record = answered([payload_part(sse)])
    parts = map(payload_part, cut_anywhere(sse, data))

    events, record = answered(cut_anywhere(b"".join(parts), data))

    assert events == whole_events
    assert comparable(record) == comparable(whole_record)


@given(text=TEXTS, data=st.data())
def test_text_before_broken_bytes_is_kept_whatever_the_split(text: str, data: st.DataObject) -> None:
    broken = payload_part(response(text, "stop").removesuffix(b"data: [DONE]\n\n")) + b"no event stream"

    events, record = answered(cut_anywhere(broken, data))

    assert events == answered([broken])[0]
    assert isinstance(events[-1], Done)
    assert record.fallback == events[-1].fallback
