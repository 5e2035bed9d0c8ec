"""One span a step, by the GenAI conventions, without any text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_trace_id

from assistant.domain.errors import EmbeddingUnavailableError, GenerationInterruptedError
from tests.fakes.answering import FakeEmbedder, FakeTenant, document
from tests.unit.answer.asking_and_reading import ask, prepare


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


async def test_each_step_has_a_span_under_the_answer_s(exporter: InMemorySpanExporter) -> None:
    await ask(FakeTenant.writing())
    spans = by_name(exporter)
    root = spans.pop("invoke_agent answering")
    assert root.context is not None
    assert set(spans) == {
        "embeddings all-MiniLM-L6-v2",
        "retrieval passages",
        "rank",
        "read",
        "words",
        "units",
        "choose",
        "compose",
        "prompt",
        "chat SmolLM2-135M-Instruct",
    }
    assert {span.parent.span_id for span in spans.values() if span.parent} == {root.context.span_id}


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


async def test_a_question_that_fails_before_the_stream_ends_its_spans(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(EmbeddingUnavailableError):
        await prepare(FakeTenant(embedder=FakeEmbedder(error=EmbeddingUnavailableError("down"))))
    spans = by_name(exporter)
    assert set(spans) == {"invoke_agent answering", "embeddings all-MiniLM-L6-v2"}
    assert {attribute(span, "error.type") for span in spans.values()} == {"embedding_unavailable"}
