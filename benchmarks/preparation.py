"""What happens to a question before its first event, step by step, and when its first quoted text comes.

``benchmarks.retrieval`` runs this over its index. Steps are timed by the product itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import sqrt

import httpx

from assistant.answering.approved import ApprovedAnswers, LiveAnswer
from assistant.answering.ports import TextEmbedder
from assistant.answering.prepare import AnswerRequest, PrepareAnswer
from assistant.answering.rank import CosineScale
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.desk import ApprovedAnswer, ItemState
from assistant.domain.identity import Identity, Role
from assistant.local.tokens import Grant, issue_token
from assistant.settings.process import LocalIssuerSettings, ServiceSettings
from assistant.settings.tenant import TenantConfig
from assistant.text.language import language
from assistant.wiring.services import open_tenants
from benchmarks.local_embedding import TENANT, BenchLayout

APPROVED_WORDINGS = 200
STEPS = ("embed", "search", "rank", "read", "weigh", "units", "quote", "compose")
RANKING_AND_QUOTING = ("rank", "read", "weigh", "units", "quote")
_AGENT = "bench-agent"
_ISSUER = "http://issuer.bench"
_TIMEOUT_S = 30.0
_WARM_UP = 20
"""Questions that are asked first and not timed."""


@dataclass(frozen=True, slots=True)
class PreparationFigures:
    """Milliseconds; one entry a question."""

    steps: Sequence[Mapping[str, float]]
    first_text: Sequence[float]
    """Over HTTP from the request to the first ``token``, of the questions that were answered."""
    done: Sequence[float]
    cpu_ms: float
    """CPU of one preparation in this process."""
    approved_cpu_ms: float
    """CPU of looking for an approved answer where none fits."""

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        added = [sum(one.get(step, 0.0) for step in RANKING_AND_QUOTING) for one in self.steps]
        lines = ["preparation     of an answer, one at a time"]
        lines += [times_line(f"  {step}", [one.get(step, 0.0) for one in self.steps]) for step in STEPS]
        lines += [
            times_line("rank to quote", added),
            times_line("first text", self.first_text) + ", by the service over HTTP",
            times_line("  done", self.done),
            f"approved answer {self.approved_cpu_ms:.3f} ms of CPU to find none among {APPROVED_WORDINGS}"
            f" wordings: {self.approved_cpu_ms / self.cpu_ms:.1%} of a preparation's {self.cpu_ms:.1f} ms",
        ]
        return lines


def measure_preparation(
    layout: BenchLayout, settings: ServiceSettings, questions: Sequence[str]
) -> PreparationFigures:
    """Prepare an answer to each question in this process, then ask the service's own process for it."""
    steps, cpu_ms, approved_cpu_ms = asyncio.run(_in_process(settings, questions))
    first_text, done = _over_http(layout, settings, questions)
    return PreparationFigures(steps, first_text, done, cpu_ms, approved_cpu_ms)


async def _in_process(
    settings: ServiceSettings, questions: Sequence[str]
) -> tuple[list[Mapping[str, float]], float, float]:
    """Return the steps of each preparation, the CPU of one, and that of looking for an approved answer."""
    clock, identity = SystemClock(), Identity(TENANT, _AGENT, frozenset({Role.AGENT}), frozenset())
    steps: list[Mapping[str, float]] = []
    async with open_tenants(settings, generates=False) as tenants:
        services = tenants[TENANT].answering
        prepare, began_s = PrepareAnswer(services), 0.0
        for at, question in enumerate(questions):
            if at == _WARM_UP:
                began_s = time.process_time()
            request, deadline = AnswerRequest(question=question), Deadline.after(_TIMEOUT_S, clock=clock)
            made = await prepare.prepare(request, identity=identity, deadline=deadline)
            steps.append(dict(made.steps.timings_ms))
        cpu_ms = (time.process_time() - began_s) * 1000 / len(questions[_WARM_UP:])
        approved_cpu_ms = await match_cpu_ms(services.tenant, questions, embedder=services.embedder)
    return steps[_WARM_UP:], cpu_ms, approved_cpu_ms


async def match_cpu_ms(tenant: TenantConfig, questions: Sequence[str], *, embedder: TextEmbedder) -> float:
    """Return the CPU time of one search for an approved answer, in milliseconds.

    The first questions are approved, over and over with small changes, and the others are asked.
    """
    deadline = Deadline.after(_TIMEOUT_S, clock=SystemClock())
    vectors = [(await embedder.embed([question], deadline=deadline))[0] for question in questions]
    half = len(questions) // 2
    asked = list(zip(questions[half:], vectors[half:], strict=True))
    made = ApprovedAnswers.of(
        [_approved(questions[at % half], vectors[at % half], at) for at in range(APPROVED_WORDINGS)],
        language=language(tenant.language),
        scale=CosineScale.of(tenant.embedding),
    )
    today = SystemClock().now().date()
    began_s = time.process_time()
    for question, vector in asked:
        made.match(question, vector, labels=frozenset(), today=today)
    return (time.process_time() - began_s) * 1000 / len(asked)


def _approved(question: str, vector: Sequence[float], number: int) -> LiveAnswer:
    turned = [value + 0.02 * ((number * 31 + at) % 7 - 3) / 3 for at, value in enumerate(vector)]
    length = sqrt(sum(value * value for value in turned))
    answer = ApprovedAnswer(
        questions=(question,),
        vectors=(tuple(value / length for value in turned),),
        text="Approved.",
        owner="bench",
        expires_on=date.max,
        state=ItemState.LIVE,
        proposed_by="bench",
    )
    return LiveAnswer(f"bench-{number}", 1, SystemClock().now(), answer)


def _over_http(
    layout: BenchLayout, settings: ServiceSettings, questions: Sequence[str]
) -> tuple[list[float], list[float]]:
    tokens = LocalIssuerSettings(port=0, tenants_dir=layout.tenants_dir, state_dir=layout.state_dir)
    token = issue_token(Grant(TENANT, _AGENT), state_dir=layout.state_dir, issuer=_ISSUER)
    headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    with layout.started("local.issuer", tokens) as issuer:
        keys = {"issuer": _ISSUER, "jwks_url": f"{issuer.url}/jwks.json"}
        served = settings.model_copy(update=keys | {"port": 0, "quoted_tenants": (TENANT,)})
        with (
            layout.started("api", served) as service,
            httpx.Client(base_url=service.url, headers=headers, timeout=_TIMEOUT_S) as client,
        ):
            for question in questions[:_WARM_UP]:
                _asked(client, question)
            answered = [_asked(client, question) for question in questions[_WARM_UP:]]
    return [first for first, _ in answered if first is not None], [done for _, done in answered]


def _asked(client: httpx.Client, question: str) -> tuple[float | None, float]:
    """Return when the first text came, if any did, and when the answer ended."""
    began_s, first_ms = time.perf_counter(), None
    with client.stream("POST", "/v1/answers", json={"question": question}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if first_ms is None and line == "event: token":
                first_ms = (time.perf_counter() - began_s) * 1000
    return first_ms, (time.perf_counter() - began_s) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def times_line(label: str, values: Sequence[float]) -> str:
    p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
    return f"{label:<16}p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   of {len(values)}"
