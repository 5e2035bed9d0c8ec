"""The events of an answer, and every way in which it ends."""

from __future__ import annotations

import asyncio

import pytest

from assistant.answering.events import Token
from assistant.domain.answers import FinishReason, Outcome, Support, Usage
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from tests.fakes.answering import FakeTenant, Gate, ScriptedGenerator, passage
from tests.unit.answering.asking_and_reading import ask, prepare


def tenant_that_writes(*steps: str | Gate | Exception, finish_reason: str | None = "stop") -> FakeTenant:
    return FakeTenant(generator=ScriptedGenerator(*steps, finish_reason=finish_reason))


async def test_events_come_in_the_order_of_the_contract() -> None:
    asked = await ask(tenant_that_writes("Retail refills are payable", " on day 23 of 30."))
    assert asked.names == ["started", "sources", "token", "token", "sentence", "done"]


async def test_started_names_answer_conversation_model_and_index() -> None:
    started = (await ask(FakeTenant())).started
    assert (started.answer_id, started.conversation_id) == ("id-1", "id-2")
    assert (started.model, started.index_version) == ("model-1", "index-1")


async def test_sources_are_numbered_and_linked() -> None:
    tenant = FakeTenant().with_passages(passage("refill"), passage("transfer", title="Transfer"))
    first, second = (await ask(tenant)).sources.sources
    assert (first.n, first.document_id, first.title) == (1, "refill", "Refill too soon")
    assert first.url == "https://procedures.example/refill"
    assert first.document_url == "/v1/documents/refill?token=ana.10-93.hash-of-refill"
    assert (first.snippet, first.span) == (
        "Retail refills are payable on day 23 of 30. Send other requests to the Claims Desk.",
        (10, 93),
    )
    assert (second.n, second.document_id) == (2, "transfer")


async def test_a_supported_sentence_cites_its_passage() -> None:
    asked = await ask(tenant_that_writes("Retail refills are payable on day 23 of 30."))
    [sentence] = asked.sentences
    assert (sentence.support, sentence.citations, sentence.reasons) == (Support.SUPPORTED, (1,), ())
    assert asked.text[sentence.start : sentence.end] == "Retail refills are payable on day 23 of 30."
    assert asked.done.citations == (1,)


async def test_a_made_up_number_is_unsupported() -> None:
    asked = await ask(tenant_that_writes("Retail refills are payable on day 25 of 30."))
    [sentence] = asked.sentences
    assert (sentence.support, sentence.citations) == (Support.UNSUPPORTED, ())
    assert sentence.reasons == ("number_not_in_passage",)
    assert asked.done.citations == ()


async def test_a_sentence_ends_after_the_text_that_ends_it() -> None:
    asked = await ask(
        tenant_that_writes("Refills are payable on day 23. ", "Send others to the Claims Desk.")
    )
    assert asked.names[2:] == ["token", "token", "sentence", "sentence", "done"]
    assert [sentence.index for sentence in asked.sentences] == [0, 1]


async def test_markers_are_taken_out_also_when_split() -> None:
    asked = await ask(tenant_that_writes("Payable on day 23 [", "1", "] of 30 [7", "]."))
    assert asked.text == "Payable on day 23 of 30."
    assert asked.record.text == asked.text
    assert asked.record.removed_markers == ("[7]",)


async def test_done_has_finish_reason_usage_and_timings() -> None:
    done = (await ask(FakeTenant())).done
    assert (done.finish_reason, done.reason) == (FinishReason.STOP, None)
    assert done.usage == Usage(prompt_tokens=50, completion_tokens=7)
    assert set(done.timings_ms) == {"embed", "search", "gate", "prompt", "first_token", "generate", "total"}


async def test_length_is_passed_on() -> None:
    asked = await ask(tenant_that_writes("Retail refills are", finish_reason="length"))
    assert asked.done.finish_reason is FinishReason.LENGTH


async def test_without_evidence_no_model_is_called_and_the_sources_are_shown() -> None:
    tenant = FakeTenant().with_passages(passage(), cosine=0.1)
    asked = await ask(tenant, "Does grapefruit interact with simvastatin?")
    assert asked.names == ["started", "sources", "done"]
    assert len(asked.sources.sources) == 1
    assert asked.done.finish_reason is FinishReason.NO_EVIDENCE
    assert asked.done.reason is not None
    assert "simvastatin" in asked.done.reason
    assert tenant.generator.requests == []
    assert (asked.record.outcome, asked.record.text, asked.record.prompt_hash) == (Outcome.DONE, "", None)


async def test_an_empty_index_is_no_evidence() -> None:
    asked = await ask(FakeTenant().with_passages())
    assert asked.done.finish_reason is FinishReason.NO_EVIDENCE
    assert asked.done.reason is not None
    assert "no passage" in asked.done.reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationUnavailableError("down"), "generation_unavailable"),
        (OverloadedError("full"), "overloaded"),
        (DeadlineExceededError("late"), "deadline_exceeded"),
    ],
)
async def test_a_model_that_fails_before_text_leaves_the_sources(error: AssistantError, code: str) -> None:
    asked = await ask(tenant_that_writes(error))
    assert asked.names == ["started", "sources", "done"]
    assert (asked.done.finish_reason, asked.done.reason) == (FinishReason.SOURCES_ONLY, code)
    assert (asked.record.outcome, asked.record.error_code) == (Outcome.DONE, code)


async def test_an_endpoint_that_cannot_be_opened_leaves_the_sources() -> None:
    tenant = FakeTenant()
    tenant.generator.opening = GenerationUnavailableError("down")
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.done.reason) == (
        FinishReason.SOURCES_ONLY,
        "generation_unavailable",
    )


@pytest.mark.parametrize("where", ["opening", "first token"])
async def test_a_late_first_token_leaves_the_sources(where: str) -> None:
    tenant = tenant_that_writes(Gate(), "Too late.")
    if where == "opening":
        tenant.generator.opening = Gate()
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.done.reason) == (FinishReason.SOURCES_ONLY, "generation_late")
    assert tenant.generator.open_connections == 0


async def test_white_space_and_markers_alone_are_no_first_token() -> None:
    tenant = tenant_that_writes(" \n", "[1]", Gate(), "Too late.")
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    asked = await ask(tenant)
    assert (asked.names[2:], asked.done.reason) == (["done"], "generation_late")


async def test_a_slow_second_token_is_not_late() -> None:
    gate = Gate()
    tenant = tenant_that_writes("Refills ", gate, "are payable on day 23.")
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    asyncio.get_running_loop().call_later(0.06, gate.opened.set)
    asked = await ask(tenant)
    assert asked.text == "Refills are payable on day 23."


async def test_the_deadline_before_text_leaves_the_sources() -> None:
    asked = await ask(tenant_that_writes(Gate()), seconds=0.05)
    assert (asked.done.finish_reason, asked.done.reason) == (FinishReason.SOURCES_ONLY, "deadline_exceeded")


async def test_the_deadline_after_text_is_an_error() -> None:
    tenant = tenant_that_writes("Refills are", Gate())
    asked = await ask(tenant, seconds=0.1)
    assert asked.names[2:] == ["token", "error"]
    assert (asked.problem.code, asked.problem.retryable) == ("deadline_exceeded", True)
    assert (asked.record.outcome, asked.record.text) == (Outcome.FAILED, "Refills are")
    assert tenant.generator.open_connections == 0


async def test_a_stream_that_breaks_after_text_is_an_error_with_a_record() -> None:
    asked = await ask(tenant_that_writes("Refills are", GenerationInterruptedError("broken")))
    assert (asked.problem.code, asked.problem.status, asked.problem.retryable) == (
        "generation_interrupted",
        503,
        True,
    )
    assert (asked.record.outcome, asked.record.finish_reason) == (Outcome.FAILED, None)
    assert (asked.record.error_code, asked.record.text) == ("generation_interrupted", "Refills are")


async def test_a_stream_that_ends_without_its_end_is_interrupted() -> None:
    asked = await ask(tenant_that_writes("Refills are", finish_reason=None))
    assert asked.problem.code == "generation_interrupted"


async def test_an_empty_answer_leaves_the_sources() -> None:
    asked = await ask(tenant_that_writes(" \n"))
    assert (asked.done.finish_reason, asked.done.reason) == (FinishReason.SOURCES_ONLY, "empty_answer")


async def test_the_deadline_travels_with_the_request() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant)
    assert tenant.generator.deadlines == [asked.prepared.deadline]


async def test_tokens_that_broke_off_are_counted_here() -> None:
    asked = await ask(tenant_that_writes("Refills are payable", GenerationInterruptedError("broken")))
    assert asked.prepared.prompt is not None
    assert asked.record.usage == Usage(prompt_tokens=asked.prepared.prompt.prompt_tokens, completion_tokens=3)


async def test_a_defect_reaches_the_edge_and_is_recorded() -> None:
    tenant = tenant_that_writes("Refills are", RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await ask(tenant)
    [record] = tenant.records.answers.values()
    assert (record.outcome, record.error_code, record.text) == (Outcome.FAILED, "internal", "Refills are")


async def test_the_first_text_goes_out_before_the_second_comes() -> None:
    gate = Gate()
    tenant = tenant_that_writes("Refills", gate)
    use_case, prepared = await prepare(tenant)
    stream = use_case.stream(prepared)
    events = [await anext(stream) for _ in range(3)]
    assert events[-1] == Token("Refills")
    assert not gate.reached.is_set()
    await stream.aclose()


async def test_a_model_that_says_the_prompt_s_refusal_has_refused() -> None:
    tenant = tenant_that_writes("The sources do not answer", " this question.")
    tenant.configure(prompt={"answer": "answer/2"})
    asked = await ask(tenant)
    assert asked.done.finish_reason is FinishReason.REFUSED
    assert asked.text == "The sources do not answer this question."


async def test_the_same_words_are_an_answer_where_the_prompt_has_no_refusal() -> None:
    asked = await ask(tenant_that_writes("The sources do not answer this question."))
    assert asked.done.finish_reason is FinishReason.STOP
