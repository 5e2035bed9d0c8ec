"""Time and one span a step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError

PROVIDER = "aws.sagemaker"
"""``gen_ai.provider.name``: every model is called through the SageMaker Runtime, locally too."""
tracer = trace.get_tracer(__name__)


class Steps:
    """The steps of one answer under its root span. Attributes never hold text."""

    def __init__(self, root: Span, *, clock: Clock) -> None:
        self.root = root
        self.timings_ms: dict[str, float] = {}
        self._clock = clock

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None when nothing is traced."""
        context = self.root.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def begin(self, span_name: str, *, kind: SpanKind, attributes: dict[str, AttributeValue]) -> Span:
        """Start a span under the root without making it current; the caller ends it."""
        return tracer.start_span(
            span_name, context=trace.set_span_in_context(self.root), kind=kind, attributes=attributes
        )

    @contextmanager
    def step(
        self,
        name: str,
        *,
        span_name: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> Generator[Span, None, None]:
        """Time one step as ``name`` with a span around it. No ``yield`` of a stream may stand inside."""
        started_s = self._clock.monotonic_s()
        span = self.begin(span_name or name, kind=kind, attributes=attributes or {})
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except AssistantError as error:
            fail_span(span, error.code)
            raise
        finally:
            self.timings_ms[name] = elapsed_ms(started_s, clock=self._clock)
            span.end()


def begin_answer(answer_id: str, *, conversation_id: str, tenant: str, clock: Clock) -> Steps:
    """Start the root span of one answer, which its stream ends."""
    root = tracer.start_span(
        "invoke_agent answering",
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "answering",
            "gen_ai.conversation.id": conversation_id,
            "assistant.answer_id": answer_id,
            "assistant.tenant": tenant,
        },
    )
    return Steps(root, clock=clock)


def elapsed_ms(since_s: float, *, clock: Clock) -> float:
    """Return the milliseconds since an instant of the monotonic clock."""
    return round((clock.monotonic_s() - since_s) * 1000, 3)


def fail_span(span: Span, code: str) -> None:
    """Mark a span as failed with a stable code; messages stay out of traces."""
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))
