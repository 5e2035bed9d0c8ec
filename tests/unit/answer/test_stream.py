"""The events and spans of an answer, and every way in which it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_trace_id

from assistant.answer.events import SentenceEnded, Token
from assistant.domain.answers import Certainty, FinishReason, Mode, Outcome, Support, Usage
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from tests.stage.answering import FakeTenant, Gate, Step, document
from tests.unit.answer.asking_and_reading import Asked, ask, prepare

FIRST = "Retail refills are payable on day 23 of 30."
SECOND = "Send other requests to the Claims Desk."
QUOTED = f"{FIRST} {SECOND}"
CITED = "Retail refills are payable on day 23 of 30 [1.1]."
CITED_SECOND = "Send other requests to the Claims Desk [1.2]."
REFUSED = "The documents do not answer this question."
INVENTED = "Retail refills are payable on day 25 of 30 [1.1]."
UNCITED = "Retail refills wait."


def assert_quoted(asked: Asked, *, fallback: str | None) -> None:
    """The answer is the document's own section and says why no model's text stands there."""
    assert asked.text == QUOTED
    done = asked.done
    assert (done.finish_reason, done.mode, done.fallback) == (FinishReason.STOP, Mode.QUOTED, fallback)
    assert (done.citations, done.reason) == ((1,), None)
    assert done.certainty is None


def assert_broken_off(asked: Asked, *, code: str) -> None:
    """What the model wrote before it failed stands, only as possible, and the code says why it ends there."""
    assert asked.text == FIRST
    done = asked.done
    assert (done.finish_reason, done.mode, done.fallback) == (FinishReason.LENGTH, Mode.WRITTEN, code)
    assert done.certainty is Certainty.POSSIBLY
    assert (asked.record.outcome, asked.record.error_code, asked.record.fallback) == (
        Outcome.DONE,
        code,
        code,
    )


@pytest.mark.parametrize("quotes", ["model", "tenant", "question"])
async def test_whoever_wants_quotes_calls_no_model(quotes: str) -> None:
    tenant = FakeTenant() if quotes == "model" else FakeTenant.writing()
    if quotes == "tenant":
        tenant.configure(answers={"mode": "quoted"})
    asked = await ask(tenant, **({"mode": "quoted"} if quotes == "question" else {}))
    assert_quoted(asked, fallback=None)
    assert asked.done.usage == Usage()
    assert (tenant.generator.requests, asked.prompt) == ([], None)


async def test_a_recording_that_lacks_the_prompt_leaves_the_section_without_a_notice() -> None:
    tenant = FakeTenant.writing()
    tenant.use_model(recorded="a model, 2026-11-25")
    tenant.can_answer = lambda _: False
    asked = await ask(tenant)
    assert_quoted(asked, fallback=None)
    assert asked.started.recorded_model is None
    tenant.can_answer = lambda _: True
    assert (await ask(tenant)).started.recorded_model == "a model, 2026-11-25"


async def test_sources_are_numbered_and_linked() -> None:
    transfer = document("transfer", "## Steps\n\nFax the prescription.", title="Transfer")
    tenant = FakeTenant().with_documents(transfer, document())
    first, second = (await ask(tenant)).sources.sources
    assert (first.n, first.document_id, first.title) == (1, "refill", "Refill too soon")
    assert first.url == "https://procedures.example/refill"
    assert first.document_url == "/v1/documents/refill?token=ana.0-83.hash-of-refill"
    assert (first.snippet, first.span) == (f"{FIRST} {SECOND}", (0, 83))
    assert (second.n, second.document_id, second.heading) == (2, "transfer", "Steps")


async def test_documents_that_go_away_before_they_are_read_are_no_evidence() -> None:
    tenant = FakeTenant()
    tenant.search.gone = {"refill"}
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.sources.sources) == (FinishReason.NO_EVIDENCE, ())


async def test_a_written_answer_has_one_token_and_one_sentence_a_checked_sentence() -> None:
    asked = await ask(
        FakeTenant.writing(
            "Retail refills are payable", " on day 23 of 30 [1.1]. Send other ", CITED_SECOND[11:]
        )
    )
    assert asked.names == ["started", "sources", "token", "sentence", "token", "sentence", "done"]
    assert [event.text for event in asked.events if isinstance(event, Token)] == [FIRST, f" {SECOND}"]
    assert [sentence.index for sentence in asked.sentences] == [0, 1]
    assert [asked.text[one.start : one.end] for one in asked.sentences] == [FIRST, SECOND]
    assert (asked.done.mode, asked.done.fallback) == (Mode.WRITTEN, None)
    assert (asked.done.finish_reason, asked.done.certainty) == (FinishReason.STOP, Certainty.ANSWERED)


async def test_the_section_comes_with_the_sources_while_a_model_writes() -> None:
    written, quoted = await ask(FakeTenant.writing()), await ask(FakeTenant())
    assert written.sources.section is not None
    assert written.sources.section.text == quoted.text == QUOTED
    assert quoted.sources.section is None


async def test_a_citation_of_a_unit_that_is_not_there_is_removed_and_kept_in_the_record() -> None:
    asked = await ask(FakeTenant.writing("Retail refills are payable on day 23 of 30 [1.9][7.1]."))
    assert (asked.text, asked.done.citations) == (FIRST, ())
    assert asked.record.removed_markers == ("[1.9]", "[7.1]")
    assert (asked.sentences[0].detail, asked.sentences[0].reasons) == ("check", ("no_citation",))
    assert asked.done.certainty is Certainty.POSSIBLY


async def test_a_sentence_without_a_citation_is_shown_to_check() -> None:
    asked = await ask(FakeTenant.writing(f"{CITED} {UNCITED}"))
    assert asked.text == f"{FIRST} {UNCITED}"
    assert [one.detail for one in asked.sentences] == [None, "check"]
    assert (asked.done.mode, asked.done.certainty) == (Mode.WRITTEN, Certainty.ANSWERED)


async def test_a_sentence_with_a_foreign_value_is_withheld_and_the_text_goes_on() -> None:
    asked = await ask(FakeTenant.writing(f"{CITED} {INVENTED} {CITED_SECOND}"))
    assert asked.names[2:] == ["token", "sentence", "sentence", "token", "sentence", "done"]
    assert asked.text == f"{FIRST} {SECOND}"
    withheld = asked.sentences[1]
    assert (withheld.start, withheld.end, withheld.citations) == (len(FIRST), len(FIRST), ())
    assert (withheld.detail, withheld.values, withheld.reasons) == ("withheld", ("25",), ("foreign_value",))
    done = asked.done
    assert (done.mode, done.fallback, done.certainty) == (Mode.WRITTEN, None, Certainty.POSSIBLY)
    assert asked.record.sentences[1].detail == "withheld"
    assert "25" not in asked.record.text


async def test_what_the_documents_do_not_say_makes_the_answer_possible() -> None:
    partial = "The documents do not say who pays the delivery."
    asked = await ask(FakeTenant.writing(f"{CITED} {partial}"))
    assert asked.text == f"{FIRST} {partial}"
    assert [one.support for one in asked.sentences] == [Support.SUPPORTED] * 2
    assert (asked.done.mode, asked.done.certainty) == (Mode.WRITTEN, Certainty.POSSIBLY)


async def test_done_has_finish_reason_usage_and_timings() -> None:
    done = (await ask(FakeTenant.writing())).done
    assert (done.finish_reason, done.reason) == (FinishReason.STOP, None)
    assert done.usage == Usage(prompt_tokens=50, completion_tokens=7)
    searching = {"embed", "search", "rank", "read", "words", "units", "choose", "compose"}
    assert set(done.timings_ms) == searching | {"prompt", "first_token", "generate", "total"}


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
async def test_a_sentence_that_was_cut_short_is_dropped_and_the_reason_is_passed_on(
    reason: FinishReason,
) -> None:
    asked = await ask(FakeTenant.writing(f"{CITED} Send other requests to", finish_reason=reason))
    assert asked.text == FIRST
    assert (asked.done.finish_reason, asked.done.mode) == (reason, Mode.WRITTEN)
    assert_quoted(await ask(FakeTenant.writing("Retail refills are", finish_reason=reason)), fallback=reason)


async def test_the_deadline_travels_with_the_request() -> None:
    tenant = FakeTenant.writing()
    asked = await ask(tenant)
    assert tenant.generator.deadlines == [asked.plan.call.deadline]


async def test_the_first_sentence_goes_out_before_the_second_comes() -> None:
    gate = Gate()
    use_case, prepared = await prepare(FakeTenant.writing(f"{CITED} S", gate))
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


DEBRIS = ('{"answer": "Retail refills are', "<think>Retail refills wait.", "refills " * 300)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (INVENTED, "withheld"),
        ("Die Genehmigung erteilt das Amt am 25 Mai.", "withheld"),
        (" \n", "empty_answer"),
        ("[1.1]", "empty_answer"),
        ("wait " * 20 + ".", "repetition"),
        *((text, "debris") for text in DEBRIS),
    ],
)
async def test_text_that_is_no_answer_is_not_shown_and_the_section_follows(written: str, code: str) -> None:
    tenant = FakeTenant.writing(written)
    asked = await ask(tenant)
    assert_quoted(asked, fallback=code)
    assert asked.record.fallback == code
    assert tenant.generator.open_connections == 0


@pytest.mark.parametrize(("second", "code"), [(FIRST, "repetition"), *((text, "debris") for text in DEBRIS)])
async def test_text_that_ends_in_debris_ends_there_and_is_possible(second: str, code: str) -> None:
    gate = Gate()
    tenant = FakeTenant.writing(f"{CITED}\n{second}\n", "Send", gate)
    asked = await ask(tenant)
    assert_broken_off(asked, code=code)
    assert not gate.reached.is_set()  # the rest of the model's text was not waited for
    assert tenant.generator.log == ["opened", "closed"]


@pytest.mark.parametrize(
    "parts",
    [
        ("The documents do not answer", " this question."),
        (f"**{REFUSED}**",),
        (f"{REFUSED} They speak of retail refills", " alone."),
        ("The documents do not answer this question, because they speak of retail refills alone.",),
        (f"{REFUSED} ", "Send", GenerationInterruptedError("broken")),
    ],
)
async def test_a_refusal_ends_without_text_and_leaves_the_section(parts: tuple[Step, ...]) -> None:
    asked = await ask(FakeTenant.writing(*parts))
    assert asked.names == ["started", "sources", "done"]
    done = asked.done
    assert (done.finish_reason, done.mode, done.certainty) == (FinishReason.NO_EVIDENCE, None, None)
    assert done.reason == "The documents that were read do not answer this question."
    assert asked.sources.section is not None
    assert asked.sources.section.text == QUOTED
    assert (asked.record.outcome, asked.record.text, asked.record.fallback) == (Outcome.DONE, "", None)


async def test_a_refusal_after_text_makes_it_possible() -> None:
    asked = await ask(FakeTenant.writing(f"{CITED} {REFUSED}"))
    assert asked.text == FIRST
    assert (asked.done.mode, asked.done.certainty) == (Mode.WRITTEN, Certainty.POSSIBLY)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationUnavailableError("down"), "generation_unavailable"),
        (OverloadedError("full"), "overloaded"),
        (DeadlineExceededError("late"), "deadline"),
    ],
)
async def test_a_model_that_fails_before_text_leaves_the_section(error: AssistantError, code: str) -> None:
    asked = await ask(FakeTenant.writing(error))
    assert_quoted(asked, fallback=code)
    assert (asked.record.outcome, asked.record.error_code) == (Outcome.DONE, code)


@pytest.mark.parametrize(
    "begun", [None, (), (" \n", "[1]"), ("Retail refills are",)], ids=["opening", "silent", "nothing", "half"]
)
async def test_where_no_sentence_is_released_in_time_the_section_follows(
    begun: tuple[str, ...] | None,
) -> None:
    tenant = FakeTenant.writing(*(begun or ()), Gate(), "Too late.")
    if begun is None:
        tenant.generator.opening = Gate()
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    assert_quoted(await ask(tenant), fallback="generation_late")
    assert tenant.generator.open_connections == 0


async def test_a_slow_second_sentence_is_not_late() -> None:
    gate = Gate()
    tenant = FakeTenant.writing(f"{CITED} S", gate, CITED_SECOND[1:])
    tenant.configure(limits={"first_token_timeout_s": 0.02})
    asyncio.get_running_loop().call_later(0.06, gate.opened.set)
    asked = await ask(tenant)
    assert (asked.text, asked.done.mode) == (f"{FIRST} {SECOND}", Mode.WRITTEN)


async def test_the_deadline_before_text_leaves_the_section() -> None:
    assert_quoted(await ask(FakeTenant.writing(Gate()), seconds=0.5), fallback="deadline")


async def test_the_deadline_after_text_ends_it() -> None:
    tenant = FakeTenant.writing(f"{CITED} Send", Gate())
    assert_broken_off(await ask(tenant, seconds=0.2), code="deadline")
    assert tenant.generator.open_connections == 0


async def test_a_stream_that_breaks_after_text_ends_it() -> None:
    asked = await ask(FakeTenant.writing(f"{CITED} Send", GenerationInterruptedError("broken")))
    assert_broken_off(asked, code="generation_interrupted")


async def test_a_stream_that_ends_without_its_end_is_interrupted() -> None:
    asked = await ask(FakeTenant.writing("Retail refills are", finish_reason=None))
    assert_quoted(asked, fallback="generation_interrupted")


async def test_tokens_that_broke_off_are_counted_here() -> None:
    asked = await ask(FakeTenant.writing("Refills are payable", GenerationInterruptedError("broken")))
    assert asked.prompt is not None
    assert asked.record.usage == Usage(prompt_tokens=asked.prompt.prompt_tokens, completion_tokens=3)


async def test_a_defect_reaches_the_edge_and_is_recorded() -> None:
    tenant = FakeTenant.writing(f"{FIRST} Send", RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await ask(tenant)
    [record] = map(tenant.shown, tenant.records.answers.values())
    assert (record.outcome, record.error_code, record.text) == (Outcome.FAILED, "internal", FIRST)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr("assistant.answer.call.tracer", provider.get_tracer("test"))
    yield memory
    provider.shutdown()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(name)


async def test_the_trace_id_is_streamed_and_kept(exporter: InMemorySpanExporter) -> None:
    asked = await ask(FakeTenant())
    root = by_name(exporter)["invoke_agent answering"]
    assert root.context is not None
    assert asked.started.trace_id == asked.record.trace_id == format_trace_id(root.context.trace_id)


async def test_the_chat_span_follows_the_genai_conventions(exporter: InMemorySpanExporter) -> None:
    await ask(FakeTenant.writing())
    chat = by_name(exporter)["chat SmolLM2-135M-Instruct"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": "SmolLM2-135M-Instruct",
        "gen_ai.request.max_tokens": 409,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.response.id": "inference-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.output_tokens": 7,
    }
    assert {name: attribute(chat, name) for name in expected} == expected
    assert isinstance(attribute(chat, "gen_ai.response.time_to_first_chunk"), float)


@pytest.mark.parametrize("written", ["Zebrafish are payable on day 23.", "Zebrafish are payable on day 24."])
async def test_no_span_holds_text(exporter: InMemorySpanExporter, written: str) -> None:
    tenant = FakeTenant.writing(written)
    tenant = tenant.with_documents(document(content="Zebrafish are payable on day 23."))
    await ask(tenant, "When are zebrafish payable?")
    spans = exporter.get_finished_spans()
    assert spans
    assert not any("ebrafish" in span.to_json() for span in spans)


async def test_an_answer_that_broke_off_marks_its_spans(exporter: InMemorySpanExporter) -> None:
    await ask(FakeTenant.writing("Payable", GenerationInterruptedError("the word Payable")))
    spans = by_name(exporter)
    for name in ("chat SmolLM2-135M-Instruct", "invoke_agent answering"):
        assert attribute(spans[name], "error.type") == "generation_interrupted"
        assert spans[name].status.status_code is StatusCode.ERROR
        assert "Payable" not in spans[name].to_json()
