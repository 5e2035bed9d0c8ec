"""The events of an answer, and every way in which it ends."""

from __future__ import annotations

import asyncio

import pytest

from assistant.answering.events import SentenceEnded, Token
from assistant.domain.answers import Certainty, FinishReason, Mode, Outcome, Support, Usage
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from tests.fakes.answering import FakeTenant, Gate, document
from tests.unit.answering.asking_and_reading import Asked, ask, prepare

FIRST = "Retail refills are payable on day 23 of 30."
SECOND = "Send other requests to the Claims Desk."
INVENTED = "Grapefruit interacts with simvastatin."
ANYTHING = "Which grapefruit interacts with simvastatin?"


def assert_quoted(asked: Asked, *, fallback: str | None) -> None:
    """The answer is the document's own sentence and says why no model's text stands there."""
    assert asked.text == FIRST
    done = asked.done
    assert (done.finish_reason, done.mode, done.fallback) == (FinishReason.STOP, Mode.QUOTED, fallback)
    assert (done.citations, done.reason) == ((1,), None)


# Quoted


async def test_a_quoted_answer_has_one_token_and_one_sentence_a_unit() -> None:
    tenant = FakeTenant().with_documents(
        document(
            content="Retail refills are payable on day 23.\n\n## Retail\n\nRetail refills wait for day 23."
        )
    )
    asked = await ask(tenant)
    assert asked.names == ["started", "sources", "token", "sentence", "token", "sentence", "done"]
    assert asked.text == (
        "Retail refills are payable on day 23.\n\n**Retail**\n\nRetail refills wait for day 23."
    )
    assert [asked.text[one.start : one.end] for one in asked.sentences] == [
        "Retail refills are payable on day 23.",
        "Retail refills wait for day 23.",
    ]
    assert {one.support for one in asked.sentences} == {Support.SUPPORTED}


async def test_a_tenant_whose_model_does_not_write_never_calls_it() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant)
    assert_quoted(asked, fallback=None)
    assert asked.done.certainty is Certainty.ANSWERED
    assert asked.done.usage == Usage()
    assert (tenant.generator.requests, asked.prepared.prompt) == ([], None)


async def test_a_tenant_that_wants_quotes_never_calls_a_model_that_writes() -> None:
    tenant = FakeTenant.writing()
    tenant.configure(answers={"mode": "quoted"})
    assert_quoted(await ask(tenant), fallback=None)
    assert tenant.generator.requests == []


async def test_a_quote_that_the_gate_is_not_sure_of_is_possible() -> None:
    tenant = FakeTenant()
    tenant.configure(gate={"answered": 1.0, "possibly": 0.0})
    asked = await ask(tenant)
    assert_quoted(asked, fallback=None)
    assert asked.done.certainty is Certainty.POSSIBLY


async def test_started_names_answer_conversation_model_and_index() -> None:
    started = (await ask(FakeTenant())).started
    assert (started.answer_id, started.conversation_id) == ("id-1", "id-2")
    assert (started.model, started.index_version) == ("model-1", "index-1")


async def test_sources_are_numbered_and_linked() -> None:
    transfer = document("transfer", "## Steps\n\nFax the prescription.", title="Transfer")
    tenant = FakeTenant().with_documents(transfer, document())
    first, second = (await ask(tenant)).sources.sources
    assert (first.n, first.document_id, first.title) == (1, "refill", "Refill too soon")
    assert first.url == "https://procedures.example/refill"
    assert first.document_url == "/v1/documents/refill?token=ana.0-83.hash-of-refill"
    assert (first.snippet, first.span) == (f"{FIRST} {SECOND}", (0, 83))
    assert (second.n, second.document_id, second.heading) == (2, "transfer", "Steps")


async def test_without_evidence_nothing_is_written_and_the_sources_are_shown() -> None:
    tenant = FakeTenant.writing()
    asked = await ask(tenant, ANYTHING)
    assert asked.names == ["started", "sources", "done"]
    assert len(asked.sources.sources) == 1
    assert asked.done.finish_reason is FinishReason.NO_EVIDENCE
    assert asked.done.reason is not None
    assert "“simvastatin”" in asked.done.reason
    assert "“Refill too soon”" in asked.done.reason
    assert (asked.done.mode, asked.done.certainty, asked.done.also) == (None, None, ())
    assert tenant.generator.requests == []
    assert (asked.record.outcome, asked.record.text, asked.record.prompt_hash) == (Outcome.DONE, "", None)


async def test_an_empty_index_is_no_evidence() -> None:
    asked = await ask(FakeTenant().with_documents())
    assert asked.done.finish_reason is FinishReason.NO_EVIDENCE
    assert asked.done.reason == (
        "The knowledge base holds nothing that these filters and your access rights let through."
    )


async def test_documents_that_go_away_before_they_are_read_are_no_evidence() -> None:
    tenant = FakeTenant()
    tenant.search.gone = {"refill"}
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.sources.sources) == (FinishReason.NO_EVIDENCE, ())


async def test_a_document_of_which_nothing_can_be_quoted_leaves_the_sources() -> None:
    """All of its text is an address, which no answer repeats."""
    tenant = FakeTenant().with_documents(document(content="https://evil.example/retail-refills-payable-day"))
    tenant.configure(gate={"answered": 0.0, "possibly": 0.0})
    asked = await ask(tenant)
    assert asked.names == ["started", "sources", "done"]
    done = asked.done
    assert (done.finish_reason, done.reason) == (FinishReason.SOURCES_ONLY, "nothing_to_quote")
    assert (done.mode, done.certainty) == (None, None)


# Written


async def test_a_written_answer_has_one_token_and_one_sentence_a_checked_sentence() -> None:
    asked = await ask(
        FakeTenant.writing("Retail refills are payable", " on day 23 of 30. Send other ", SECOND[11:])
    )
    assert asked.names == ["started", "sources", "token", "sentence", "token", "sentence", "done"]
    assert [event.text for event in asked.events if isinstance(event, Token)] == [FIRST, f" {SECOND}"]
    assert [sentence.index for sentence in asked.sentences] == [0, 1]
    assert [asked.text[one.start : one.end] for one in asked.sentences] == [FIRST, SECOND]
    assert (asked.done.mode, asked.done.fallback) == (Mode.WRITTEN, None)
    assert asked.done.certainty is Certainty.ANSWERED


async def test_a_supported_sentence_cites_its_source() -> None:
    asked = await ask(FakeTenant.writing(FIRST))
    [sentence] = asked.sentences
    assert (sentence.support, sentence.citations, sentence.reasons) == (Support.SUPPORTED, (1,), ())
    assert asked.done.citations == (1,)


async def test_markers_are_taken_out_also_when_split() -> None:
    asked = await ask(FakeTenant.writing("Retail refills are payable on day 23 [", "1", "] of 30 [7", "]."))
    assert asked.text == FIRST
    assert asked.record.text == asked.text
    assert asked.record.removed_markers == ("[7]",)


async def test_done_has_finish_reason_usage_and_timings() -> None:
    done = (await ask(FakeTenant.writing())).done
    assert (done.finish_reason, done.reason) == (FinishReason.STOP, None)
    assert done.usage == Usage(prompt_tokens=50, completion_tokens=7)
    searching = {"embed", "search", "rank", "read", "weigh", "units", "quote", "compose"}
    assert set(done.timings_ms) == searching | {"prompt", "first_token", "generate", "total"}


async def test_a_sentence_that_was_cut_short_is_dropped_and_length_is_passed_on() -> None:
    asked = await ask(FakeTenant.writing(f"{FIRST} Send other requests to", finish_reason="length"))
    assert asked.text == FIRST
    assert (asked.done.finish_reason, asked.done.mode) == (FinishReason.LENGTH, Mode.WRITTEN)


async def test_the_deadline_travels_with_the_request() -> None:
    tenant = FakeTenant.writing()
    asked = await ask(tenant)
    assert tenant.generator.deadlines == [asked.prepared.deadline]


async def test_the_first_sentence_goes_out_before_the_second_comes() -> None:
    gate = Gate()
    use_case, prepared = await prepare(FakeTenant.writing(f"{FIRST} S", gate))
    stream = use_case.stream(prepared)
    events = [await anext(stream) for _ in range(4)]
    assert events[2] == Token(FIRST)
    assert isinstance(events[3], SentenceEnded)
    assert not gate.reached.is_set()
    await stream.aclose()


async def test_nothing_of_a_sentence_goes_out_before_it_ends() -> None:
    gate = Gate()
    use_case, prepared = await prepare(FakeTenant.writing(FIRST.removesuffix("."), gate))
    stream = use_case.stream(prepared)
    assert [(await anext(stream)).event for _ in range(2)] == ["started", "sources"]
    reading = asyncio.create_task(anext(stream))
    await asyncio.wait_for(gate.reached.wait(), 60)
    assert not reading.done()
    gate.opened.set()
    assert await reading == Token(FIRST.removesuffix("."))
    await stream.aclose()


# Where the model fails, the quote


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (INVENTED, "unsupported"),
        ("Retail refills are payable on day 25 of 30.", "unsupported"),
        ("Question: retail refills.", "debris"),
        ("On which day are retail refills payable?", "echo"),
        (" \n", "empty_answer"),
        ("[1]", "empty_answer"),
    ],
)
async def test_text_that_fails_its_check_is_never_shown(written: str, code: str) -> None:
    tenant = FakeTenant.writing(written)
    asked = await ask(tenant)
    assert_quoted(asked, fallback=code)
    assert asked.done.certainty is Certainty.ANSWERED
    assert asked.record.fallback == code
    assert tenant.generator.open_connections == 0


@pytest.mark.parametrize(
    ("second", "code"), [(INVENTED, "unsupported"), (FIRST, "repetition"), ("Answer: wait.", "debris")]
)
async def test_the_first_failing_sentence_ends_the_written_part_and_the_quote_follows(
    second: str, code: str
) -> None:
    gate = Gate()
    tenant = FakeTenant.writing(f"{FIRST} {second} ", "Send", gate)
    asked = await ask(tenant)
    assert asked.text == f"{FIRST}\n\n{FIRST}"
    assert [asked.text[one.start : one.end] for one in asked.sentences] == [FIRST, FIRST]
    assert [one.index for one in asked.sentences] == [0, 1]
    done = asked.done
    assert (done.finish_reason, done.mode, done.fallback) == (FinishReason.STOP, Mode.QUOTED, code)
    assert not gate.reached.is_set()  # the rest of the model's text was not waited for
    assert tenant.generator.log == ["opened", "closed"]


async def test_the_connection_is_closed_before_the_quote_is_shown() -> None:
    tenant = FakeTenant.writing(f"{INVENTED} ", "Send", Gate())
    use_case, prepared = await prepare(tenant)
    async for event in use_case.stream(prepared):
        if isinstance(event, Token):
            tenant.generator.log.append("shown")
    assert tenant.generator.log == ["opened", "closed", "shown"]


async def test_a_model_that_says_the_prompt_s_refusal_leaves_a_possible_quote() -> None:
    asked = await ask(FakeTenant.writing("The sources do not answer", " this question."))
    assert_quoted(asked, fallback="refused")
    assert asked.done.certainty is Certainty.POSSIBLY


async def test_the_same_words_are_unsupported_where_the_prompt_has_no_refusal() -> None:
    tenant = FakeTenant.writing("The sources do not answer this question.")
    tenant.use_model(prompt="answer/1")
    asked = await ask(tenant)
    assert_quoted(asked, fallback="unsupported")
    assert asked.done.certainty is Certainty.ANSWERED


async def test_an_answer_that_is_cut_in_its_first_sentence_is_none() -> None:
    asked = await ask(FakeTenant.writing("Retail refills are", finish_reason="length"))
    assert_quoted(asked, fallback="length")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationUnavailableError("down"), "generation_unavailable"),
        (OverloadedError("full"), "overloaded"),
        (DeadlineExceededError("late"), "deadline"),
    ],
)
async def test_a_model_that_fails_before_text_leaves_the_quote(error: AssistantError, code: str) -> None:
    asked = await ask(FakeTenant.writing(error))
    assert_quoted(asked, fallback=code)
    assert (asked.record.outcome, asked.record.error_code) == (Outcome.DONE, code)


async def test_an_endpoint_that_cannot_be_opened_leaves_the_quote() -> None:
    tenant = FakeTenant.writing()
    tenant.generator.opening = GenerationUnavailableError("down")
    assert_quoted(await ask(tenant), fallback="generation_unavailable")


@pytest.mark.parametrize("where", ["opening", "first sentence"])
async def test_a_late_first_sentence_leaves_the_quote(where: str) -> None:
    tenant = FakeTenant.writing(Gate(), "Too late.")
    if where == "opening":
        tenant.generator.opening = Gate()
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    assert_quoted(await ask(tenant), fallback="generation_late")
    assert tenant.generator.open_connections == 0


@pytest.mark.parametrize(
    "begun", [(" \n", "[1]"), ("Retail refills are",)], ids=["nothing", "half a sentence"]
)
async def test_what_is_not_yet_released_does_not_count_as_in_time(begun: tuple[str, ...]) -> None:
    tenant = FakeTenant.writing(*begun, Gate(), "Too late.")
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    assert_quoted(await ask(tenant), fallback="generation_late")


async def test_a_slow_second_sentence_is_not_late() -> None:
    gate = Gate()
    tenant = FakeTenant.writing(f"{FIRST} S", gate, SECOND[1:])
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    asyncio.get_running_loop().call_later(0.06, gate.opened.set)
    asked = await ask(tenant)
    assert (asked.text, asked.done.mode) == (f"{FIRST} {SECOND}", Mode.WRITTEN)


async def test_the_deadline_before_text_leaves_the_quote() -> None:
    assert_quoted(await ask(FakeTenant.writing(Gate()), seconds=0.1), fallback="deadline")


async def test_the_deadline_after_text_ends_it_and_the_quote_follows() -> None:
    tenant = FakeTenant.writing(f"{FIRST} Send", Gate())
    asked = await ask(tenant, seconds=0.2)
    assert asked.text == f"{FIRST}\n\n{FIRST}"
    assert (asked.done.mode, asked.done.fallback) == (Mode.QUOTED, "deadline")
    assert (asked.record.outcome, asked.record.text) == (Outcome.DONE, asked.text)
    assert tenant.generator.open_connections == 0


async def test_a_stream_that_breaks_after_text_ends_it_and_the_quote_follows() -> None:
    asked = await ask(FakeTenant.writing(f"{FIRST} Send", GenerationInterruptedError("broken")))
    assert asked.text == f"{FIRST}\n\n{FIRST}"
    assert (asked.done.mode, asked.done.fallback) == (Mode.QUOTED, "generation_interrupted")
    assert (asked.record.outcome, asked.record.finish_reason) == (Outcome.DONE, FinishReason.STOP)
    assert asked.record.error_code == "generation_interrupted"


async def test_a_stream_that_ends_without_its_end_is_interrupted() -> None:
    asked = await ask(FakeTenant.writing("Retail refills are", finish_reason=None))
    assert_quoted(asked, fallback="generation_interrupted")


async def test_tokens_that_broke_off_are_counted_here() -> None:
    asked = await ask(FakeTenant.writing("Refills are payable", GenerationInterruptedError("broken")))
    assert asked.prepared.prompt is not None
    assert asked.record.usage == Usage(prompt_tokens=asked.prepared.prompt.prompt_tokens, completion_tokens=3)


async def test_a_defect_reaches_the_edge_and_is_recorded() -> None:
    tenant = FakeTenant.writing(f"{FIRST} Send", RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await ask(tenant)
    [record] = map(tenant.shown, tenant.records.answers.values())
    assert (record.outcome, record.error_code, record.text) == (Outcome.FAILED, "internal", FIRST)


async def test_what_the_model_wrote_between_two_sentences_is_not_given_out() -> None:
    """An opened comment or fence has no word of its own, so it is no sentence; it would hide the rest."""
    asked = await ask(FakeTenant.writing(f"{FIRST}\n<!--\n```\n{SECOND}"))
    assert asked.text == f"{FIRST}\n\n\n{SECOND}"
