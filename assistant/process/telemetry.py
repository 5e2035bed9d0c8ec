"""Logs as JSON lines on stderr, and spans by OTLP. Each process configures both once, at its start.

Neither contains text of questions, answers or documents: fields are ids, hashes, sizes, codes and times.
Log with ``structlog.get_logger(__name__)``; trace with ``opentelemetry.trace.get_tracer(__name__)``.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import MutableMapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

import orjson
import structlog
from opentelemetry import trace

from assistant.domain.errors import AssistantError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.id_generator import IdGenerator

_LONGEST_VALUE = 300
"""Longest logged value in characters. Ids and codes are shorter; longer values are cut."""
_QUIET_LOGGERS = ("aiobotocore", "botocore", "urllib3", "asyncio", "httpx", "httpcore")
_LogEvent = MutableMapping[str, Any]
_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logging(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Write every log line of the process and its libraries as one JSON object to stderr, or ``stream``:

    {"event": "documents_live", "documents": 3, "level": "info", "logger": "…", "timestamp": "…",
    "trace_id": "…"}
    """
    for_all_lines: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
        _describe_exception,
        _cut_long_values,
    ]
    # The list is changed in place: a logger that was used before keeps the list, so it gets the new
    # processors too.
    processors = structlog.get_config()["processors"]
    processors[:] = [
        structlog.stdlib.filter_by_level,
        *for_all_lines,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.configure(
        processors=processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *for_all_lines],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET_LOGGERS:  # at DEBUG they log whole bodies: questions and answers
        logging.getLogger(name).setLevel(logging.WARNING)


def configure_tracing(service_name: str, *, otlp_endpoint: str | None) -> None:
    """Create trace ids, and send spans to ``otlp_endpoint`` (OTLP over HTTP) when it is given.

    ``otlp_endpoint`` is the collector's base URL, e.g. ``http://127.0.0.1:4318``. The queue is limited (2,048
    spans, the SDK's default) and is flushed when the process ends.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    # Without a collector spans only have ids, which logs and responses show: recording them costs 0.3 ms an
    # answer.
    sampler = ALWAYS_OFF if otlp_endpoint is None else ALWAYS_ON
    resource = Resource({"service.name": service_name})
    provider = TracerProvider(resource=resource, sampler=sampler, id_generator=_trace_ids())
    if otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = OTLPSpanExporter(endpoint=otlp_endpoint.rstrip("/") + "/v1/traces", timeout=5)
        provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", TextFreeExporter(exporter))))
    trace.set_tracer_provider(provider)


def _trace_ids() -> IdGenerator:
    """Return a generator of trace ids: 32 bits of time, then 96 random bits.

    X-Ray reads the time in an id, and drops a trace that is more than 30 days old
    (opentelemetry-collector-contrib, exporter/awsxrayexporter, README). 96 random bits are more than W3C
    Trace Context requires.
    """
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class TimedIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return (int(time.time()) << 96) | (super().generate_trace_id() & _RANDOM_BITS)

    return TimedIds()


_RANDOM_BITS = (1 << 96) - 1


class TextFreeExporter:
    """Exports spans without their events and the text of their status: the message of an exception, which
    OpenTelemetry adds to both, can contain part of a question. Other methods call ``inner``."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export([_without_exception_text(span) for span in spans])

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _without_exception_text(span: ReadableSpan) -> ReadableSpan:
    """Return a copy of the span without events and without the description of its status."""
    from opentelemetry.sdk.trace import ReadableSpan

    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=(),
        links=span.links,
        kind=span.kind,
        status=trace.Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


# Processors of structlog: each takes a line's fields, changes them and returns them; the last one returns the
# text.


def _add_trace_id(_logger: Any, _method: str, event: _LogEvent) -> _LogEvent:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event


def _describe_exception(_logger: Any, _method: str, event: _LogEvent) -> _LogEvent:
    """Replace ``exc_info`` by type and stack (the last 12 calls, "worker.py:214 run"). Only our own errors
    keep their message, because they contain no text of users.

    ``exc_info`` is an exception, a tuple as of ``sys.exc_info()``, or True for the exception that is handled
    now.
    """
    exc_info = event.pop("exc_info", None)
    if not exc_info:
        return event
    if isinstance(exc_info, BaseException):
        error, calls = exc_info, exc_info.__traceback__
    else:
        info = cast("object", exc_info if isinstance(exc_info, tuple) else sys.exc_info())
        _, error, calls = cast("_ExceptionInfo | tuple[None, None, None]", info)
    if error is not None:
        event["exception"] = type(error).__qualname__
        event["exception_at"] = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(calls)[-12:]
        ]
        if isinstance(error, AssistantError):
            event["code"], event["detail"] = error.code, error.message
    return event


def _cut_long_values(_logger: Any, _method: str, event: _LogEvent) -> _LogEvent:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            event[key] = f"{value[:_LONGEST_VALUE]}… ({len(value)} characters)"
    return event


def _render(_logger: Any, _method: str, event: _LogEvent) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
