"""Log lines and spans carry ids and codes, never what somebody wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from assistant.process.telemetry import TextFreeExporter

SCRIPT = """
import logging, structlog
from assistant.domain.errors import NotFoundError
from assistant.process.telemetry import configure_logging, configure_tracing
from opentelemetry import trace
configure_logging("DEBUG")
configure_tracing("test", otlp_endpoint=None)
log = structlog.get_logger("room")
with trace.get_tracer("t").start_as_current_span("s"):
    log.info("in_span", answer_id="a1")
try:
    raise ValueError("the patient's question")
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception("library failed")
try:
    raise NotFoundError("There is no such thing.")
except NotFoundError:
    log.exception("failed")
log.info("long", value="x" * 5000)
logging.getLogger("botocore.endpoint").debug("a whole body")
"""


@pytest.fixture
def lines() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_has_its_trace_and_no_text_of_an_exception(lines: list[dict[str, object]]) -> None:
    in_span, ours, library, refused, long = lines  # and none of libraries that log bodies at DEBUG
    assert (in_span["event"], in_span["answer_id"], len(str(in_span["trace_id"]))) == ("in_span", "a1", 32)
    assert ours["exception"] == library["exception"] == "ValueError"
    assert ours["exception_at"]
    assert "patient" not in json.dumps(lines)
    assert (refused["code"], refused["detail"]) == ("not_found", "There is no such thing.")
    assert len(str(long["value"])) < 350


class Collected(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def fail_inside_a_span(provider: TracerProvider) -> None:
    with provider.get_tracer("t").start_as_current_span("step") as span:
        span.set_attribute("answer.id", "a1")
        raise ValueError("the patient's question")


def test_an_exported_span_holds_no_exception_text() -> None:
    collected = Collected()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(TextFreeExporter(collected)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="patient"):
        fail_inside_a_span(provider)
    (exported,) = collected.spans
    assert "patient" not in exported.to_json()
    assert exported.attributes == {"answer.id": "a1"}
    assert exported.status.is_ok is False
    assert exported.end_time is not None
