"""Log lines and spans carry ids and codes, never what somebody wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

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


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_inside_a_span_names_its_trace(lines: list[dict[str, object]]) -> None:
    assert lines[0]["event"] == "in_span"
    assert lines[0]["answer_id"] == "a1"
    assert len(str(lines[0]["trace_id"])) == 32


def test_a_trace_s_id_begins_with_its_time_as_x_ray_wants_it(lines: list[dict[str, object]]) -> None:
    began = datetime.fromtimestamp(int(str(lines[0]["trace_id"])[:8], 16), UTC)
    logged = datetime.fromisoformat(str(lines[0]["timestamp"]))
    assert timedelta() <= logged - began < timedelta(minutes=1)


def test_an_exception_is_its_type_and_place_without_its_message(lines: list[dict[str, object]]) -> None:
    ours, library = lines[1], lines[2]
    assert ours["exception"] == library["exception"] == "ValueError"
    assert ours["exception_at"]
    assert "patient" not in json.dumps(lines)


def test_an_error_of_ours_keeps_code_and_message(lines: list[dict[str, object]]) -> None:
    assert (lines[3]["code"], lines[3]["detail"]) == ("not_found", "There is no such thing.")


def test_a_long_value_is_cut(lines: list[dict[str, object]]) -> None:
    assert len(str(lines[4]["value"])) < 350


def test_libraries_that_log_bodies_are_silent_at_debug(lines: list[dict[str, object]]) -> None:
    assert len(lines) == 5


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


CONFIGURED_TWICE = """
import json, structlog
from structlog.testing import capture_logs
from assistant.process.telemetry import configure_logging
configure_logging()
log = structlog.get_logger("room")
log.info("first")
configure_logging()
with capture_logs() as lines:
    log.info("second", rows=1)
print(json.dumps(lines))
"""


def test_a_logger_that_was_used_before_follows_a_second_configuration() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURED_TWICE], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [{"rows": 1, "event": "second", "log_level": "info"}]
