"""Health, readiness and metrics of one service process.

Callers see ``/healthz`` only. Readiness and Prometheus metrics are on the operators' listener. CloudWatch
reads its metrics from stdout. Labels of metrics are our own names, never text that a client sent.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter as Counts
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import ceil

import orjson
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from assistant.answer.end import FAILED_CHECKS
from assistant.answer.events import AnswerEvent, Done, Problem, Token
from assistant.domain.answers import Mode, SourceAsked, Usage
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.domain.live import ElementProblem
from assistant.service.opened import ServedTenant
from assistant.service.served import ServedTenants
from assistant.service.wire import DeployedVersions, Readiness, ReadinessCheck
from assistant.tenant import deployed_names

_STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_SAMPLE_S = 1.0
"""Between two samples of the answers in progress."""
_CHECK_TIMEOUT_S = 5.0
_READINESS_MAX_AGE_S = 1.0
_DAY_S = 86_400.0

caller_is_identified: ContextVar[bool] = ContextVar("caller_is_identified", default=False)
"""Whether the caller of this request showed a valid token, or the valid token of a link."""

router = APIRouter(tags=["operation"])


@router.get("/healthz")
async def alive() -> dict[str, bool]:
    """Return that the process runs, without checking its dependencies. Load balancers use only this check."""
    return {"alive": True}


def operations_application(metrics: ServiceMetrics, *, readiness: ReadinessProbe) -> FastAPI:
    """Return the application of the operators' listener."""
    application = FastAPI(openapi_url=None, redirect_slashes=False)

    async def ready(response: Response) -> Readiness:
        latest = await readiness.latest()
        response.status_code = 200 if latest.ready else 503
        return latest

    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=_CONTENT_TYPE)

    application.add_api_route("/healthz", alive)
    application.add_api_route("/readyz", ready)
    application.add_api_route("/metrics", metrics_text)
    return application


class ServiceMetrics:
    """The Prometheus metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry, buckets=_STEP_BUCKETS_S)
        self.active_streams = Gauge(
            "assistant_active_streams", "Answers in progress.", ["tenant"], registry=self.registry
        )
        self.answers = counter(
            "assistant_answers",
            "Answers by how they ended: a finish reason, the code of an error, or disconnected.",
            ["tenant", "finish_reason"],
        )
        self.fallbacks = counter(
            "assistant_answer_fallbacks",
            "Answers whose written text a quote replaced, by the failed check or error.",
            ["tenant", "fallback"],
        )
        self.refused = counter(
            "assistant_answers_refused",
            "Questions answered with a status before the first event, by code.",
            ["code"],
        )
        self.internal_errors = counter(
            "assistant_internal_errors",
            "Unexpected failures, by whether the caller had a valid token: only identified callers' roll a"
            " deployment back.",
            ["caller"],
        )
        self.stalled = counter(
            "assistant_stalled_readers", "Connections closed because their reader took nothing for too long."
        )
        self.first_token = histogram(
            "assistant_first_token_seconds",
            "From the request to the first token handed to the client.",
            ["tenant"],
        )
        self.live = LiveMetrics(self.registry)
        self.step = histogram("assistant_step_seconds", "Time of one step of an answer.", ["tenant", "step"])

    def refuse(self, code: str) -> None:
        """Count a question that was answered with an error status."""
        self.refused.labels(code).inc()
        if code == AssistantError.code:
            self.count_internal_error()

    def count_internal_error(self) -> None:
        """Count an unexpected failure of the request that this task, or its parent, handles."""
        self.internal_errors.labels("identified" if caller_is_identified.get() else "anonymous").inc()

    def internal_error_count(self) -> int:
        """Return the failures in requests of identified callers: nobody without a token can raise it."""
        value = self.registry.get_sample_value("assistant_internal_errors_total", {"caller": "identified"})
        return int(value or 0)


@dataclass(slots=True, kw_only=True)
class TaskMetrics:
    """Samples the answers in progress each second, and formats the samples of an interval as one line.

    Every task writes as often as every other, with or without work, so the average of all samples is the
    average of a task. A line has at most 60 samples; the embedded metric format allows 100. CloudWatch Logs
    turns such lines into metrics without an agent or a permission of the task.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """

    service: str
    """Value of the dimension ``Service``."""
    active: Callable[[], int]
    """Returns the answers in progress now."""
    failures: Callable[[], int]
    """Returns the unexpected failures since the start of the process."""
    clock: Clock
    live: LiveMetrics
    _samples: list[int] = field(default_factory=list[int])
    _reported_failures: int = field(init=False)

    def __post_init__(self) -> None:
        self._reported_failures = self.failures()

    def sample(self) -> None:
        self._samples.append(self.active())

    def lines(self) -> bytes:
        """Return a line for the samples since the last call, if there are any, and one for each live system
        that was called since then."""
        now, sampled = self.clock.now(), b""
        if self._samples:
            samples, self._samples = self._samples, []
            sampled = embedded_line(self._values(samples, now=now), service=self.service, now=now)
        return sampled + b"".join(self.live.system_lines(service=self.service, now=now))

    def _values(self, samples: list[int], *, now: datetime) -> Values:
        """Return the metrics of one line; failures and live metrics are those since the last line."""
        failures = self.failures()
        new_failures, self._reported_failures = failures - self._reported_failures, failures
        values: Values = {
            deployed_names.ACTIVE_STREAMS: ("Count", samples),
            deployed_names.INTERNAL_ERRORS: ("Count", new_failures),
        }
        if left_out := self.live.take_left_out():
            values[deployed_names.SOURCES_LEFT_OUT] = ("Count", left_out)
        values |= self.live.take_used()
        if put_at := [at for times in self.live.credentials.values() for at in times()]:
            days = (now - min(put_at)).total_seconds() / _DAY_S
            values[deployed_names.SYSTEM_CREDENTIAL_AGE] = ("None", round(days, 2))
        return values


@asynccontextmanager
async def report_metrics(metrics: TaskMetrics | None, *, interval_s: int) -> AsyncGenerator[None]:
    """Write a line of metrics to stdout every ``interval_s`` inside the block, and the rest at its end.

    Without ``metrics`` nothing is written.
    """
    if metrics is None:
        yield
        return
    reports = asyncio.create_task(_report(metrics, samples_in_line=interval_s))
    try:
        yield
    finally:
        reports.cancel()
        await asyncio.wait([reports])
        _write(metrics.lines())


async def _report(metrics: TaskMetrics, *, samples_in_line: int) -> None:
    """Sample each second, and write a line after so many samples, until cancelled."""
    while True:
        for _ in range(samples_in_line):
            await asyncio.sleep(_SAMPLE_S)
            metrics.sample()
        _write(metrics.lines())


def _write(lines: bytes) -> None:
    if lines:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


@dataclass(slots=True)
class ReadinessProbe:
    """Checks the issuer's keys, and each tenant's records, index and models. Requests share a round of
    checks: one runs at a time, and begins a second after the last at the earliest."""

    tenants: ServedTenants
    check_keys: Callable[[], Awaitable[None]]
    deployed: DeployedVersions
    clock: Clock
    _round: asyncio.Task[Readiness] | None = None
    _round_began_s: float = float("-inf")

    async def latest(self) -> Readiness:
        """Return the state of every dependency, at most one second old."""
        now_s = self.clock.monotonic_s()
        age_s = now_s - self._round_began_s
        if self._round is None or (self._round.done() and age_s >= _READINESS_MAX_AGE_S):
            self._round_began_s = now_s
            self._round = asyncio.create_task(self._check_all())
        return await asyncio.shield(self._round)

    async def _check_all(self) -> Readiness:
        """Run all checks concurrently, each within 5 s."""
        running = [_check("keys", None, self._keys())]
        for name, tenant in self.tenants.items():
            running += [
                _check("records", name, _records(tenant)),
                _check("index", name, _index(self.tenants, name)),
                _check("models", name, _models(tenant)),
            ]
        refused = self.tenants.refused.items()
        left_out = [ReadinessCheck(name="served", tenant=name, ok=False, detail=why) for name, why in refused]
        checks = (*await asyncio.gather(*running), *left_out)
        ready, now = all(check.ok for check in checks), self.clock.now()
        return Readiness(ready=ready, checked_at=now, checks=checks, deployed=self.deployed)

    async def _keys(self) -> str:
        await self.check_keys()
        return "loaded"


class _MismatchError(Exception):
    """Two parts of a deployment do not match."""


async def _check(name: str, tenant: str | None, work: Awaitable[str]) -> ReadinessCheck:
    """Run a check within 5 s, and return its result."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return ReadinessCheck(name=name, tenant=tenant, ok=True, detail=await work)
    except TimeoutError:
        detail = f"no answer within {_CHECK_TIMEOUT_S:.0f} s"
    except (AssistantError, _MismatchError) as error:
        detail = str(error)
    return ReadinessCheck(name=name, tenant=tenant, ok=False, detail=detail)


# Checks of one dependency each: they return its detail, or raise AssistantError or _MismatchError.
async def _records(tenant: ServedTenant) -> str:
    """Check that the store of records answers; the id need not exist."""
    await tenant.answering.records.get_answer("readiness")
    return "readable"


async def _index(tenants: ServedTenants, name: str) -> str:
    """Check that the tenant is served from its live index, that the index is of the embedding model, and
    complete; return its size."""
    tenants.require_live(name)
    tenant = tenants[name]
    info = await tenant.answering.search.info()
    model = tenant.embedding_model
    if (info.embedding_model, info.dimensions) != (model.model, model.dimensions):
        raise _MismatchError(
            f"index {info.index_version} was built with {info.embedding_model} "
            f"({info.dimensions} dimensions), the endpoint serves {model.model} ({model.dimensions})"
        )
    await tenant.answering.index_watch.require_complete()
    return f"{info.index_version}: {info.document_count} documents, {info.passage_count} passages"


async def _models(tenant: ServedTenant) -> str:
    """Check that the artifact is of the LLM that the tenant names; return its name and digest."""
    if not tenant.answering.writes_answers:  # the generation model is never called, and need not run
        return "answers are quoted; no model writes"
    served, config = tenant.answering.writer.model, tenant.answering.tenant
    if served.model_id != config.generation.model:
        raise _MismatchError(f"the tenant names {config.generation.model}, the artifact {served.model_id}")
    return f"{served.model_id} {(served.digest or 'unknown')[:12]}"


@dataclass(slots=True)
class AnswerObserver:
    """Counts one answer: ``see`` gets each of its events, then ``end`` is called once."""

    metrics: ServiceMetrics
    tenant: str
    started_s: float
    """When the request came, on the monotonic clock."""
    clock: Clock
    finish_reason: str | None = None
    first_token_s: float | None = None
    """Time from the request to the first token; None before it."""
    took_s: float | None = None
    """Time from the request to the answer's end, without a check that follows; None before it."""
    fallback: str | None = None
    """Why a quote replaced written text."""

    @property
    def model_failed(self) -> bool:
        """Whether the model was unavailable, late or interrupted; a failed check of its text is not that."""
        return self.fallback is not None and self.fallback not in FAILED_CHECKS

    def see(self, event: AnswerEvent) -> None:
        """Count one event of the answer."""
        if isinstance(event, Token):
            if self.first_token_s is None:
                self.first_token_s = self.elapsed_s()
                self.metrics.first_token.labels(self.tenant).observe(self.first_token_s)
        elif isinstance(event, Done):
            self._count(event.finish_reason.value)
            self.fallback = event.fallback
            if event.fallback is not None:
                self.metrics.fallbacks.labels(self.tenant, event.fallback).inc()
            self.metrics.live.count_sources(self.tenant, event.asked)
            kind = (
                deployed_names.WRITTEN_ANSWERS
                if event.mode is Mode.WRITTEN
                else deployed_names.QUOTED_ANSWERS
            )
            used = {kind: 1, **tokens_of(event.usage), deployed_names.ANSWER_SECONDS: self.elapsed_s()}
            self.metrics.live.use(self.tenant, used)
            for step, milliseconds in event.timings_ms.items():
                self.metrics.step.labels(self.tenant, step).observe(milliseconds / 1000)
        elif isinstance(event, Problem):
            self._count(event.code)
            if event.code == AssistantError.code:
                self.metrics.count_internal_error()

    def end(self) -> None:
        """Count the answer as disconnected unless it has ended by an event."""
        if self.finish_reason is None:
            self._count("disconnected")

    def elapsed_s(self) -> float:
        return self.clock.monotonic_s() - self.started_s

    def _count(self, finish_reason: str) -> None:
        self.finish_reason, self.took_s = finish_reason, self.elapsed_s()
        self.metrics.answers.labels(self.tenant, finish_reason).inc()


def tokens_of(usage: Usage) -> dict[str, float]:
    """Return the tokens of calls of the model, by metric."""
    return {
        deployed_names.PROMPT_TOKENS: usage.prompt_tokens,
        deployed_names.COMPLETION_TOKENS: usage.completion_tokens,
    }


Values = dict[str, tuple[str, float | list[int]]]
"""Metrics of one line: ``{"ActiveStreams": ("Count", [3, 4, 4])}``, name = (unit, value or values)."""
_READ_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""The longest ``deadline_s`` of a system is 10 s."""
_MOST_VALUES = 100
"""Values of one metric in one line: the embedded metric format's limit."""
_MOST_TIMES = 2_000
"""Calls of a system between two lines whose times are kept: the last ones."""
# Outcomes of a call, and states of a source, that count as failed or left out
_FAILED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
_LEFT_OUT = frozenset({"failed", "late"})


@dataclass(slots=True)
class _Interval:
    """The calls of one system since the last line."""

    outcomes: Counts[str] = field(default_factory=Counts[str])
    times_ms: deque[int] = field(default_factory=lambda: deque[int](maxlen=_MOST_TIMES))


class LiveMetrics:
    """Counts calls of tenants' live systems, sources that answers asked, and what answers used: for
    Prometheus, and for the next line of CloudWatch's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, of_system = partial(Counter, registry=registry), ["tenant", "system"]
        self.reads = counter(
            "assistant_live_reads", "Calls of a live system by how they ended.", [*of_system, "outcome"]
        )
        self.read_time = Histogram(
            "assistant_live_read_seconds",
            "Time of calls of a live system that were answered or late.",
            of_system,
            registry=registry,
            buckets=_READ_BUCKETS_S,
        )
        self.circuit_open = Gauge(
            "assistant_live_circuit_open",
            "1 while a live system that failed several times in a row is called for trials only.",
            of_system,
            registry=registry,
        )
        self.sources = counter(
            "assistant_sources_asked", "Sources of answers by their state.", ["tenant", "source", "state"]
        )
        self.used = counter(
            "assistant_used",
            "Answers by how they were made, and their tokens, embedded texts and seconds.",
            ["tenant", "what"],
        )
        # Since the last line:
        self._used = defaultdict[str, float](float)
        self._intervals = defaultdict[str, _Interval](_Interval)
        self.circuits: dict[tuple[str, str], Callable[[], bool]] = {}
        """By tenant and system: whether the circuit breaker is open, so that the system is called for trials
        only."""
        self.credentials: dict[str, Callable[[], Iterable[datetime]]] = {}
        """By tenant: when each credential of a live system that is in use was stored."""
        self._left_out = 0

    def count(self, system: str, outcome: str, *, seconds: float) -> None:
        """Count a call of a system for the next line."""
        interval = self._intervals[system]
        interval.outcomes[outcome] += 1
        if outcome != ElementProblem.SYSTEM_UNAVAILABLE:
            interval.times_ms.append(round(seconds * 1000))

    def count_sources(self, tenant: str, asked: Iterable[SourceAsked]) -> None:
        """Count the sources of one answer; none are given where the tenant has only one."""
        for source in asked:
            self.sources.labels(tenant, source.name, source.state).inc()
            self._left_out += source.state in _LEFT_OUT

    def use(self, tenant: str, amounts: Mapping[str, float]) -> None:
        """Count amounts by the names of their metrics, for Prometheus and for the next line."""
        for metric, amount in amounts.items():
            self.used.labels(tenant, metric).inc(amount)
            self._used[metric] += amount

    def take_used(self) -> Values:
        """Return what was used since the last call, without what is 0."""
        used, self._used = self._used, defaultdict[str, float](float)
        units = {deployed_names.ANSWER_SECONDS: "Seconds"}
        return {what: (units.get(what, "Count"), round(amount, 3)) for what, amount in used.items() if amount}

    def take_left_out(self) -> int:
        """Return how often a source of documents was left out since the last call."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def system_lines(self, *, service: str, now: datetime) -> Iterator[bytes]:
        """Yield a line for each system that was called since the last lines.

        A system that is not called has none: one that is switched off, or of a tenant that is paused. Counts
        of what did not happen are left out, because CloudWatch bills each metric by the hours that have data.
        """
        intervals, self._intervals = self._intervals, defaultdict[str, _Interval](_Interval)
        for system, interval in intervals.items():
            values: Values = {name: ("Count", count) for name, count in _counts(interval.outcomes) if count}
            if any(is_open() for (_, name), is_open in self.circuits.items() if name == system):
                values[deployed_names.LIVE_CIRCUIT_OPEN] = ("Count", 1)
            if interval.times_ms:
                values[deployed_names.LIVE_READ_TIME] = ("Milliseconds", _some_of(interval.times_ms))
            dimensions = {deployed_names.SYSTEM_DIMENSION: system}
            yield embedded_line(values, service=service, now=now, dimensions=dimensions)


@dataclass(frozen=True, slots=True)
class TenantReads:
    """The ``TenantObserver`` of one tenant: adds to the metrics of the process."""

    metrics: LiveMetrics
    tenant: str

    def read_ended(self, system: str, outcome: str, *, seconds: float) -> None:
        """Count a call of a live system. A cancelled one counts for Prometheus only."""
        self.metrics.reads.labels(self.tenant, system, outcome).inc()
        if outcome == ElementProblem.CANCELLED:
            return
        if outcome != ElementProblem.SYSTEM_UNAVAILABLE:  # a system that fails at once must not look fast
            self.metrics.read_time.labels(self.tenant, system).observe(seconds)
        self.metrics.count(system, outcome, seconds=seconds)

    def texts_embedded(self, count: int) -> None:
        self.metrics.use(self.tenant, {deployed_names.EMBEDDED_TEXTS: count})

    def watch_credentials(self, put_at: Callable[[], Iterable[datetime]]) -> None:
        self.metrics.credentials[self.tenant] = put_at

    def watch_circuit(self, system: str, is_open: Callable[[], bool]) -> None:
        self.metrics.circuits[self.tenant, system] = is_open
        self.metrics.circuit_open.labels(self.tenant, system).set_function(lambda: float(is_open()))


def _counts(outcomes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the metrics that calls of a system by their outcomes make: name and count."""
    yield deployed_names.LIVE_READS, sum(outcomes.values())
    yield deployed_names.LIVE_READS_FAILED, sum(outcomes.get(problem, 0) for problem in _FAILED)
    yield deployed_names.LIVE_READS_INVALID, outcomes.get(ElementProblem.SYSTEM_INVALID, 0)
    yield deployed_names.LIVE_READS_NOT_ALLOWED, outcomes.get(ElementProblem.NOT_ALLOWED, 0)


def _some_of(values: Iterable[int]) -> list[int]:
    """Return the values, or of more than 100 an even selection by rank, which has the largest."""
    ranked = sorted(values, reverse=True)
    return ranked[:: ceil(len(ranked) / _MOST_VALUES)]


def embedded_line(
    values: Values, *, service: str, now: datetime, dimensions: Mapping[str, str] | None = None
) -> bytes:
    """Return one line of JSON in CloudWatch's embedded metric format, whose dimensions are the service and
    ``dimensions``.
    """
    named = {deployed_names.DIMENSION: service, **(dimensions or {})}
    directive = {
        "Namespace": deployed_names.NAMESPACE,
        "Dimensions": [[*named]],
        "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in values.items()],
    }
    return orjson.dumps(
        {
            "_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]},
            **named,
            **{name: value for name, (_, value) in values.items()},
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )
