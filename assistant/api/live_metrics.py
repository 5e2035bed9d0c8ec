"""Metrics of live systems and sources: for Prometheus since the start, for CloudWatch since the last line.

Labels and dimensions are names of the tenant file and closed codes, never what a client or a system sent. The
number of series is bounded by the file: at most nine outcomes a system, and six states a source.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from assistant.domain.answers import SourceAsked
from assistant.domain.elements import ElementProblem
from assistant.settings import deployed_names

Values = dict[str, tuple[str, float | list[int]]]
"""Unit and value, or values, of each metric of one line."""
_READ_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""The longest ``deadline_s`` of a system is 10 s."""
_MOST_VALUES = 100
"""Values of one metric in one line: the embedded metric format's limit."""
_MOST_TIMES = 2_000
"""Calls of a system between two lines whose times are kept: the last ones."""
_FAILED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
_LEFT_OUT = frozenset({"failed", "late"})


@dataclass(slots=True)
class _Interval:
    """The calls of one system since the last line."""

    outcomes: Counts[str] = field(default_factory=Counts[str])
    times_ms: deque[int] = field(default_factory=lambda: deque[int](maxlen=_MOST_TIMES))


class LiveMetrics:
    """What one process counts of its tenants' live systems, and of the sources that answers asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        of_system = ["tenant", "system"]
        self.reads = Counter(
            "assistant_live_reads",
            "Calls of a live system by how they ended.",
            [*of_system, "outcome"],
            registry=registry,
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
        self.sources = Counter(
            "assistant_sources_asked",
            "Sources of answers by their state.",
            ["tenant", "source", "state"],
            registry=registry,
        )
        self._intervals = defaultdict[str, _Interval](_Interval)
        self._circuits: dict[tuple[str, str], Callable[[], bool]] = {}
        self._left_out = 0

    def of_tenant(self, tenant: str) -> TenantReads:
        return TenantReads(self, tenant)

    def count_read(self, tenant: str, system: str, outcome: str, *, seconds: float) -> None:
        self.reads.labels(tenant, system, outcome).inc()
        if outcome == ElementProblem.CANCELLED:
            return
        interval = self._intervals[system]
        interval.outcomes[outcome] += 1
        if outcome != ElementProblem.SYSTEM_UNAVAILABLE:  # one that fails at once must not look fast
            self.read_time.labels(tenant, system).observe(seconds)
            interval.times_ms.append(round(seconds * 1000))

    def watch_circuit(self, tenant: str, system: str, is_open: Callable[[], bool]) -> None:
        self._circuits[tenant, system] = is_open
        self.circuit_open.labels(tenant, system).set_function(lambda: float(is_open()))

    def count_sources(self, tenant: str, asked: Iterable[SourceAsked]) -> None:
        """Count the sources of one answer; none are given where the tenant has only one."""
        for source in asked:
            self.sources.labels(tenant, source.name, source.state).inc()
            self._left_out += source.kind != "live" and source.state in _LEFT_OUT

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
            if any(is_open() for (_, name), is_open in self._circuits.items() if name == system):
                values[deployed_names.LIVE_CIRCUIT_OPEN] = ("Count", 1)
            if interval.times_ms:
                values[deployed_names.LIVE_READ_TIME] = ("Milliseconds", _some_of(interval.times_ms))
            dimensions = {deployed_names.SYSTEM_DIMENSION: system}
            yield embedded_line(values, service=service, now=now, dimensions=dimensions)


@dataclass(frozen=True, slots=True)
class TenantReads:
    """``ReadObserver`` of one tenant."""

    metrics: LiveMetrics
    tenant: str

    def read_ended(self, system: str, outcome: str, *, seconds: float) -> None:
        self.metrics.count_read(self.tenant, system, outcome, seconds=seconds)

    def watch_circuit(self, system: str, is_open: Callable[[], bool]) -> None:
        self.metrics.watch_circuit(self.tenant, system, is_open)


def _counts(outcomes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    yield deployed_names.LIVE_READS, sum(outcomes.values())
    yield deployed_names.LIVE_READS_FAILED, sum(outcomes.get(problem, 0) for problem in _FAILED)
    yield deployed_names.LIVE_READS_INVALID, outcomes.get(ElementProblem.SYSTEM_INVALID, 0)
    yield deployed_names.LIVE_READS_NOT_ALLOWED, outcomes.get(ElementProblem.NOT_ALLOWED, 0)


def _some_of(values: Iterable[int]) -> list[int]:
    """Return the values, or up to 100 of them, evenly by rank, with the largest."""
    ranked = sorted(values, reverse=True)
    return ranked[:: ceil(len(ranked) / _MOST_VALUES)]


def embedded_line(
    values: Values, *, service: str, now: datetime, dimensions: Mapping[str, str] | None = None
) -> bytes:
    """Return one line in CloudWatch's embedded metric format.

    Its dimensions are the service, and ``dimensions``.
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
