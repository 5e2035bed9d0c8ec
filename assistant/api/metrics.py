"""Metrics of one process in the format of Prometheus. Labels are names of ours, never what a client sent."""

from __future__ import annotations

from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from assistant.answering.events import AnswerEvent, Done, Problem, Token
from assistant.answering.use_case import FAILED_CHECKS
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError

_STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

caller_is_identified: ContextVar[bool] = ContextVar("caller_is_identified", default=False)
"""Whether the caller of this request showed a valid token, or the valid token of a link."""


class ServiceMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.active_streams = Gauge(
            "assistant_active_streams", "Answers in progress.", ["tenant"], registry=self.registry
        )
        self.answers = Counter(
            "assistant_answers",
            "Answers by how they ended: a finish reason, the code of an error, or disconnected.",
            ["tenant", "finish_reason"],
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "assistant_answer_fallbacks",
            "Answers whose written text a quote replaced, by the failed check or error.",
            ["tenant", "fallback"],
            registry=self.registry,
        )
        self.refused = Counter(
            "assistant_answers_refused",
            "Questions answered with a status before the first event, by code.",
            ["code"],
            registry=self.registry,
        )
        self.internal_errors = Counter(
            "assistant_internal_errors",
            "Failures that nobody expected, by whether the caller had a valid token: only identified callers'"
            " roll a deployment back.",
            ["caller"],
            registry=self.registry,
        )
        self.stalled = Counter(
            "assistant_stalled_readers",
            "Connections closed because their reader took nothing for too long.",
            registry=self.registry,
        )
        self.first_token = Histogram(
            "assistant_first_token_seconds",
            "From the request to the first token handed to the client.",
            ["tenant"],
            buckets=_STEP_BUCKETS_S,
            registry=self.registry,
        )
        self.step = Histogram(
            "assistant_step_seconds",
            "Time of one step of an answer.",
            ["tenant", "step"],
            buckets=_STEP_BUCKETS_S,
            registry=self.registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def refuse(self, code: str) -> None:
        """Count a question that was answered with a status."""
        self.refused.labels(code).inc()
        if code == AssistantError.code:
            self.count_internal_error()

    def count_internal_error(self) -> None:
        """Count a failure of the request that this task or its parent answers."""
        self.internal_errors.labels("identified" if caller_is_identified.get() else "anonymous").inc()

    def internal_error_count(self) -> int:
        """Return the failures in requests of identified callers: nobody without a token can raise it."""
        found = self.registry.get_sample_value("assistant_internal_errors_total", {"caller": "identified"})
        return int(found or 0)


class AnswerObserver:
    """Sees the events of one answer go by."""

    __slots__ = ("_clock", "_metrics", "_started_s", "_tenant", "fallback", "finish_reason", "first_token_s")

    def __init__(self, metrics: ServiceMetrics, *, tenant: str, started_s: float, clock: Clock) -> None:
        self._metrics = metrics
        self._tenant = tenant
        self._started_s = started_s
        self._clock = clock
        self.finish_reason: str | None = None
        self.first_token_s: float | None = None
        """From the request to the first token; None until there is one."""
        self.fallback: str | None = None
        """Why a quote replaced written text."""

    @property
    def model_failed(self) -> bool:
        """Whether the model could not be asked, was late or broke off; a failed check of its text is not."""
        return self.fallback is not None and self.fallback not in FAILED_CHECKS

    def see(self, event: AnswerEvent) -> None:
        if isinstance(event, Token):
            if self.first_token_s is None:
                self.first_token_s = self.elapsed_s()
                self._metrics.first_token.labels(self._tenant).observe(self.first_token_s)
        elif isinstance(event, Done):
            self._count(event.finish_reason.value)
            self.fallback = event.fallback
            if event.fallback is not None:
                self._metrics.fallbacks.labels(self._tenant, event.fallback).inc()
            for step, milliseconds in event.timings_ms.items():
                self._metrics.step.labels(self._tenant, step).observe(milliseconds / 1000)
        elif isinstance(event, Problem):
            self._count(event.code)
            if event.code == AssistantError.code:
                self._metrics.count_internal_error()

    def end(self) -> None:
        """No event comes any more."""
        if self.finish_reason is None:
            self._count("disconnected")

    def elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._started_s

    def _count(self, finish_reason: str) -> None:
        self.finish_reason = finish_reason
        self._metrics.answers.labels(self._tenant, finish_reason).inc()
